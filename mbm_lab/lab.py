"""`mbm-lab lab`: opens the lessons in JupyterLab."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import zmq

from mbm_lab import copies, doctor, lessons, place

FIRST_PORT = 8888

# Ctrl+C reaches every program of a terminal's group. JupyterLab has a group of its own: this
# program ends it, and it says nothing itself, however early it is.
_APART = (
    {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    if os.name == "nt"
    else {"start_new_session": True}
)


def start(port: int | None = None, ip: str = "127.0.0.1", browser: bool = True) -> int:
    """Makes the learner's copies ready, checks, and runs JupyterLab until Ctrl+C.

    port: the port to serve on; None takes the first free one from 8888. ip: the address to serve
    on; `0.0.0.0` lets other computers in, too. browser: whether to open a browser, if there is a
    screen. Returns the exit status. Raises ValueError when the port is taken, the address is not
    this computer's, or Jupyter cannot write what it needs.
    """
    port = choose_port(port, ip)
    for finding in doctor.check_jupyter():
        if finding.ok is False:
            raise ValueError(f"JupyterLab cannot start: {finding.says}; {finding.todo}")
    asked = []  # to end: what loads PyTorch may swallow the error that Ctrl+C raises

    def end(number: int, frame: object) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    _on_ctrl_c(end)
    if place.HOME != place.COURSE:
        print(f"Your folder is {place.HOME}.", flush=True)
    for said in copies.prepare():
        print(said, flush=True)
    print(checked(doctor.examine()))
    if asked:
        raise KeyboardInterrupt
    if is_everywhere(ip):
        print(
            "Anybody in your network who has the address below, with its token, can open your "
            "lessons and run programs here with your rights. Without --ip only this computer can."
        )
    browser = browser and has_screen()
    print("Starting JupyterLab ...", flush=True)
    with tempfile.TemporaryDirectory() as settings:
        return _serve(port, ip, browser, first_page(), Path(settings))


def checked(findings: list[doctor.Finding]) -> str:
    """What the doctor found, in short: only what is not as it should be."""
    wrong = [finding for finding in findings if finding.ok is not True]
    if not wrong:
        return "Checked: everything is as it should be."
    return "\n".join(line for finding in wrong for line in doctor.lines(finding))


def choose_port(port: int | None, ip: str = "127.0.0.1") -> int:
    """The port that is asked for, or the first free one from 8888.

    Raises ValueError when another program serves on the port that is asked for, when there is no
    such port, when none of the hundred ports from 8888 is free, and when this computer has no such
    address.
    """
    check_is_ours(ip, "--ip")
    if port is not None:
        if not 1 <= port <= 65535 or not is_free(port, ip):
            raise ValueError(f"Port {port} cannot be used here: leave out --port, or name another.")
        return port
    for candidate in range(FIRST_PORT, FIRST_PORT + 100):
        if is_free(candidate, ip):
            return candidate
    raise ValueError("No port from 8888 to 8987 is free: name another one with --port.")


def free_port() -> int:
    """A port of this computer on which nothing serves, chosen by the system."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def own_address() -> str | None:
    """This computer's address in its network, or None without one. Nothing is sent: a socket of
    this kind only asks the system which way it would take."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # an address for documentation: nobody is there
            return asking.getsockname()[0]
        except OSError:
            return None


def check_is_ours(ip: str, option: str) -> None:
    """Raises ValueError when this computer has no such address. option: what names it."""
    try:
        with socket.socket(family(ip)) as server:
            server.bind((ip, 0))
        if ip:
            return
    except (OSError, UnicodeError, ValueError):
        pass
    known = ", ".join(filter(None, ["127.0.0.1 (this computer alone)", own_address()]))
    said = repr(ip) if len(ip) <= 60 else f"'{ip[:60]}…'"
    raise ValueError(
        f"This computer has no address {said}: {option} takes {known}; 0.0.0.0 means all. "
        "Name one of these."
    )


def family(ip: str) -> socket.AddressFamily:
    """Of which kind a server on this address is: IPv6, or IPv4. Raises OSError for a name that
    nobody knows."""
    return socket.getaddrinfo(ip or None, 0, type=socket.SOCK_STREAM)[0][0]


def is_everywhere(ip: str) -> bool:
    """Whether a server on this address serves on all of this computer's addresses."""
    return ip in ("0.0.0.0", "::")


def in_url(ip: str) -> str:
    """An address as it stands in a URL: of all of this computer's addresses, that by which others
    reach it."""
    if is_everywhere(ip):
        return own_address() or "localhost"
    return "localhost" if ip == "127.0.0.1" else f"[{ip}]" if ":" in ip else ip


def is_free(port: int, ip: str = "127.0.0.1") -> bool:
    """Whether a server can listen on this port."""
    with socket.socket(family(ip)) as server:
        if os.name != "nt":  # there, the option would allow two servers on one port
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((ip, port))
        except (OSError, OverflowError):
            return False
    return True


def first_page() -> str:
    """The page to open: the learner's copy of the first lesson."""
    return f"lab/tree/my_lessons/{lessons.course_lessons()[0].name}"


def has_screen() -> bool:
    """Whether a browser can be shown here: not over SSH, and not on Linux without a display."""
    if "SSH_CONNECTION" in os.environ:
        return False
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _serve(port: int, ip: str, browser: bool, page: str, settings: Path) -> int:
    """Runs JupyterLab as a program of its own, and ends it when asked to."""
    token = secrets.token_hex(24)
    write_settings(settings)
    asked = []  # to end while JupyterLab is being started: an error then would leave it alone
    _on_ctrl_c(lambda number, frame: asked.append(number))
    server = subprocess.Popen(
        _command(port, ip, browser, page), env=_environment(token, settings), **_APART
    )
    try:
        _on_ctrl_c(signal.default_int_handler)
        if asked:
            raise KeyboardInterrupt
        host = f"http://{in_url(ip)}:{port}"
        _announce(server, host, page, token)
        return server.wait()
    except KeyboardInterrupt:
        _end(server)
        print(f"\nJupyterLab has ended. Your lessons are in {lessons.MY_LESSONS}.")
        return 0


def _on_ctrl_c(handler: Callable) -> None:
    """What to do on Ctrl+C; the same when this program, or its terminal, is asked to end."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):  # Windows has not all of them
            signal.signal(getattr(signal, name), handler)


def _environment(token: str, settings: Path) -> dict[str, str]:
    """What JupyterLab finds around it: its settings, and `mbm-lab` in its terminals."""
    return {
        **os.environ,
        "JUPYTER_TOKEN": token,
        "JUPYTER_CONFIG_PATH": _before("JUPYTER_CONFIG_PATH", settings),
        "PATH": _before("PATH", sysconfig.get_path("scripts")),
    }


def _before(variable: str, folder: str | Path) -> str:
    """A list of folders in the environment, with another folder before them."""
    return os.pathsep.join(filter(None, [str(folder), os.environ.get(variable)]))


def _command(port: int, ip: str, browser: bool, page: str) -> list[str]:
    """The command that starts JupyterLab."""
    command = [
        *(sys.executable, "-m", "jupyterlab", "-y"),
        *("--log-level=ERROR", "--LabApp.log_level=ERROR"),
        f"--ServerApp.root_dir={place.HOME}",
        f"--LabApp.default_url=/{page}",
        f"--ip={ip}",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return command


def write_settings(settings: Path) -> None:
    """Settings for this run.

    No pop-up asks about Jupyter's news, and nbdime, which merges lessons, adds no buttons. What
    goes between JupyterLab and its kernels is encrypted where it can be; otherwise each kernel
    would warn of eavesdropping. A terminal is no login shell, which would forget where `mbm-lab`
    is (on Windows it never is one).
    """
    unwanted = ("@jupyterlab/apputils-extension:announcements", "nbdime-jupyterlab")
    page = {"disabledExtensions": dict.fromkeys(unwanted, True)}
    server = {}
    if zmq.has("curve"):
        server["KernelManager"] = {"transport_encryption": "auto"}
    if os.name != "nt":
        shell = os.environ.get("SHELL") or "/bin/sh"
        server["ServerApp"] = {"terminado_settings": {"shell_command": [shell]}}
    (settings / "labconfig").mkdir()
    for name, content in (
        ("labconfig/page_config.json", page),
        ("jupyter_server_config.json", server),
    ):
        (settings / name).write_text(json.dumps(content), encoding="utf-8")


def _announce(server: subprocess.Popen, address: str, page: str, token: str) -> None:
    """Prints the address as soon as the server answers there."""
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"{address}/api", timeout=5).close()
        except OSError:
            time.sleep(0.2)
            continue
        print("\nThe lessons are at this address; if no browser shows it, open it yourself:")
        print(f"\n    {address}/{page}?token={token}\n")
        print("Press Ctrl+C here to end.", flush=True)
        return


def _end(server: subprocess.Popen) -> None:
    """Ends the server and its kernels; it gets ten seconds to do so."""
    server.terminate()
    try:
        server.wait(timeout=10)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        server.kill()
        server.wait()
