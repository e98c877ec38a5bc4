"""JupyterHub's settings for a classroom: `make hub` uses them, or `jupyterhub -f` this file."""

# JupyterHub runs this file with `c` in it.
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mbm_lab import lab  # noqa: E402
from workshop import accounts, hub_settings, proxy, seats  # noqa: E402

settings = hub_settings.read()
seats.make_folders(settings)
view = seats.make_view(settings) if settings.root else None

c = get_config()  # noqa: F821

# Where it is reached. Only browsers come from outside; the rest stays on this computer.
c.JupyterHub.bind_url = f"{settings.url.split(':')[0]}://{settings.address}:{settings.port}"
c.JupyterHub.hub_ip = "127.0.0.1"
c.JupyterHub.hub_port = lab.free_port()
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{lab.free_port()}"
c.ConfigurableHTTPProxy.command = proxy.command()
c.ConfigurableHTTPProxy.pid_file = str(settings.private / "proxy.pid")
if settings.certificate:
    c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = str(settings.certificate), str(settings.key)

# What it keeps, where nobody else may read it.
os.umask(0o077)
c.JupyterHub.db_url = f"sqlite:///{settings.private / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(settings.private / "cookie_secret")

# Who may come in: whoever has an account, and only the room's code makes one.
c.JupyterHub.authenticator_class = accounts.RoomAuthenticator
accounts.RoomAuthenticator.door = accounts.Door(
    accounts.Accounts(
        settings.private / "accounts.json",
        accounts.unix_user_exists if settings.root else lambda name: False,
    ),
    settings.code,
    settings.password,
)
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {accounts.INSTRUCTOR}

# What each of them gets.
c.JupyterHub.spawner_class = seats.Seat
seats.Seat.settings, seats.Seat.view = settings, view
c.Spawner.cmd = [sys.executable, "-m", "workshop.learner_server"]
c.Spawner.default_url = f"/{lab.first_page()}"
c.Spawner.disable_user_config = True  # so that a broken one shuts nobody out
c.Spawner.mem_limit = settings.memory  # JupyterLab shows it; workshop.limits keeps it
c.Spawner.start_timeout, c.Spawner.http_timeout = 300, 300  # a room starts at once
c.LocalProcessSpawner.interrupt_timeout, c.LocalProcessSpawner.term_timeout = 10, 5
c.Spawner.args = [
    "--ServerApp.kernel_manager_class=workshop.learner_server.FewKernels",
    f"--FewKernels.most={settings.kernels}",
    f"--FewKernels.cull_idle_timeout={settings.idle}",
    "--FewKernels.cull_connected=True",
    f"--FewKernels.cull_interval={max(1, min(300, settings.idle // 4))}",
    f"--TerminalManager.cull_inactive_timeout={settings.idle}",
    "--log-level=WARN",
]

# What watches.
known = {name: value for name, value in os.environ.items() if name.startswith("MBM_")}
known["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
culler = [sys.executable, "-m", "jupyterhub_idle_culler", f"--timeout={settings.idle}"]
c.JupyterHub.services = [
    {"name": "guard", "command": [sys.executable, "-m", "workshop.limits"], "environment": known},
    {"name": "idle", "command": culler, "environment": known},
]
c.JupyterHub.load_roles = [
    {
        "name": "ends-idle-servers",
        "scopes": ["list:users", "read:users:activity", "read:servers", "delete:servers"],
        "services": ["idle"],
    }
]
c.JupyterHub.cleanup_servers = c.JupyterHub.cleanup_proxy = True
