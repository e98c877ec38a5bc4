"""A learner's seat at a classroom's server: a Unix user, a home that is theirs alone, and limits.

Where the server is root's, each learner is a Unix user (`mbm-ann`), made when they first come, and
their programs run as that user. They see the computer through a view of their own: course and
environment can only be read, others' processes are not to be seen, and where a closed folder (such
as /root) stands between them and the course, it is empty but for the way there.

Elsewhere each learner has a folder; all belong to the one who started the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from jupyterhub.spawner import LocalProcessSpawner

from mbm_lab import lab, place
from workshop import limits
from workshop.hub_settings import PREFIX, Settings

# Of what every learner's programs find around them, this is taken over from the server's.
RUN = "MBM_HUB_RUN"  # names the run of the server to which a process belongs
KEPT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "MBM_DATA_HOME", "MBM_DEVICE", RUN, "TZ")

# From <linux/mount.h> and <sched.h>.
NEW_VIEW = 0x20000
READ_ONLY, REMOUNT, BIND, MOVE, RECURSIVE, PRIVATE = 1, 32, 4096, 8192, 16384, 1 << 18

SHARED_MEMORY = "size=256m,mode=1777"  # a learner's /dev/shm


def needed() -> list[Path]:
    """The folders that every learner's programs read: the course, the environment, Python."""
    python = Path(sys.executable).resolve().parents[1]
    folders = {place.COURSE, Path(sys.prefix), Path(sys.base_prefix), python}
    for entry in sys.path:
        if Path(entry).name == "site-packages" and Path(entry).is_dir():
            folders.add(Path(entry))
    folders |= {folder.resolve() for folder in folders}
    return sorted(f for f in folders if not any(f.is_relative_to(o) for o in folders if o != f))


def closed(path: Path) -> Path | None:
    """The first folder on the way to a path that other users may not pass, or None."""
    for folder in reversed([path, *path.parents]):
        if not folder.stat().st_mode & 0o001:
            return folder
    return None


class View:
    """What a learner's programs see of the computer's files; made anew for each of them.

    Raises OSError when called in a process that may not make a view (no CAP_SYS_ADMIN).
    """

    def __init__(self, settings: Settings) -> None:
        self.read_only = [path for path in needed() if not path.is_relative_to("/usr")]
        self.stage = settings.private / "stage"
        self.ways: dict[Path, list[Path]] = {}
        for path in [*self.read_only, settings.homes, settings.shared]:
            if (shut := closed(path)) is not None:
                self.ways.setdefault(shut, []).append(path)
        self.steps = [self.stage / str(i) for i in range(sum(map(len, self.ways.values())))]
        for step in self.steps:
            step.mkdir(parents=True, exist_ok=True)
        self.libc = ctypes.CDLL(None, use_errno=True)

    def enter(self) -> None:
        """Moves the process that calls it, which must be root's, into a view of its own."""
        if self.libc.unshare(NEW_VIEW) != 0:
            raise OSError(ctypes.get_errno(), "no view of one's own")
        os.umask(0o022)
        self._mount("none", "/", RECURSIVE | PRIVATE)
        for path in self.read_only:
            self._mount(path, path, BIND | RECURSIVE)
            self._mount("none", path, BIND | REMOUNT | READ_ONLY)
        steps = iter(self.steps)
        for shut, paths in self.ways.items():
            staged = [(next(steps), path) for path in paths]
            for step, path in staged:
                self._mount(path, step, BIND | RECURSIVE)
            self._mount("tmpfs", shut, 0, "tmpfs", "size=1m,mode=755")
            for step, path in staged:
                path.mkdir(parents=True, exist_ok=True)
                self._mount(step, path, MOVE)
        with contextlib.suppress(OSError):  # some containers forbid it; then others' names are seen
            self._mount("proc", "/proc", 0, "proc", "hidepid=invisible")
        with contextlib.suppress(OSError):
            self._mount("tmpfs", "/dev/shm", 0, "tmpfs", SHARED_MEMORY)

    def _mount(self, source: object, target: object, flags: int, kind="none", data="") -> None:
        arguments = (str(part).encode() for part in (source, target, kind))
        if self.libc.mount(*arguments, ctypes.c_ulong(flags), data.encode() or None) != 0:
            raise OSError(ctypes.get_errno(), f"{target} cannot be shown to learners")


def as_user(uid: int, gid: int, view: View | None, hold: Callable[[], None]) -> Callable[[], None]:
    """A function that makes the process that calls it a learner's, for good: `preexec_fn`."""

    def become() -> None:
        if view is not None:
            view.enter()
        hold()
        os.umask(0o077)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)

    return become


def make_view(settings: Settings) -> View | None:
    """The view for learners' programs; None where a process may not have one, and none is needed.

    Raises ValueError with one sentence when learners could not run the course, or change it.
    """
    nobody = pwd.getpwnam("nobody")
    view = View(settings)
    for attempt in (view, None):
        become = as_user(nobody.pw_uid, nobody.pw_gid, attempt, lambda: None)
        command = [sys.executable, "-c", "import mbm_lab.place, workshop, jupyterhub"]
        environment = {**environment_of("nobody", Path("/nonexistent"), settings)}
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                command, env=environment, cwd="/", preexec_fn=become, check=True, timeout=120,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            if attempt is None and (open_ones := writable_by_others()):
                raise ValueError(
                    f"Every user of this computer may change {open_ones[0]}: `chmod -R go-w` the "
                    "course and its environment, so that no learner changes another's course."
                )
            return attempt
    shut = next((folder for path in needed() if (folder := closed(path))), place.COURSE)
    raise ValueError(
        f"Learners' programs cannot read the course or its Python, because {shut} is closed to "
        "other users: move both to a folder that all may read (such as /opt), or `chmod o+x` it."
    )


def writable_by_others() -> list[Path]:
    """What every user may change among the folders and files of the course."""
    tops = [place.COURSE, *(place.COURSE / name for name in ("mbm_lab", "notebooks", "data"))]
    tops += [place.COURSE / "workshop", Path(sys.prefix)]
    found = [top for top in tops if top.stat().st_mode & 0o002]
    for folder in ("mbm_lab", "notebooks", "workshop"):
        found += [f for f in (place.COURSE / folder).rglob("*") if f.stat().st_mode & 0o002]
    return found


def environment_of(name: str, home: Path, settings: Settings) -> dict[str, str]:
    """The variables that a learner's programs find: their own folder, one thread, the course."""
    kept = {variable: os.environ[variable] for variable in KEPT if variable in os.environ}
    return kept | {
        "HOME": str(home),
        "JUPYTER_CONFIG_PATH": str(settings.shared),
        "MBM_HOME": str(home),
        limits.LEARNER: name,
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PATH": os.pathsep.join([f"{sys.prefix}/bin", "/usr/local/bin", "/usr/bin", "/bin"]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(place.COURSE),
        "SHELL": "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh",
        "TMPDIR": str(home / ".tmp"),
        "USER": name,
    }


def make_unix_user(name: str, homes: Path) -> pwd.struct_passwd:
    """The Unix user of a learner, made if there is none; their home is closed to all others.

    Raises ValueError when a Unix user of this name has another home, and so is not this learner.
    """
    home = homes / name
    if not _exists(PREFIX + name):
        command = ["useradd", "--no-create-home", "--home-dir", str(home), "--user-group"]
        subprocess.run([*command, "--shell", "/bin/bash", PREFIX + name], check=True)
    user = pwd.getpwnam(PREFIX + name)
    if Path(user.pw_dir) != home or user.pw_uid == 0:
        raise ValueError(f"The Unix user {PREFIX}{name} is somebody else's: choose another name.")
    if not home.is_dir():
        home.mkdir(mode=0o700)
        os.chown(home, user.pw_uid, user.pw_gid)
    return user


def remove_unix_user(name: str) -> None:
    """Removes the Unix user of a learner, and ends their processes; the home stays."""
    if _exists(PREFIX + name):
        end_all(pwd.getpwnam(PREFIX + name).pw_uid)
        command = ["userdel", "--force", PREFIX + name]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def end_all(uid: int) -> None:
    """Ends every process of a Unix user, and those that they start meanwhile."""
    for _ in range(50):
        sessions = limits.learners({uid: "this"}).get("this", {})
        pids = [pid for session in sessions.values() for pid in session.pids]
        if not pids:
            return
        for what in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, what)
        time.sleep(0.02)


def make_folders(settings: Settings) -> None:
    """Makes the server's folders: learners can reach their own home, and nobody the private one."""
    settings.folder.mkdir(parents=True, exist_ok=True)
    for folder, mode in (
        (settings.folder, 0o711),
        (settings.homes, 0o711),
        (settings.shared, 0o755),
        (settings.private, 0o700),
        (settings.private / "logs", 0o700),
    ):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
    shutil.rmtree(settings.shared, ignore_errors=True)
    settings.shared.mkdir()
    lab.write_settings(settings.shared)
    for path in [settings.shared, *settings.shared.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


class Seat(LocalProcessSpawner):
    """Starts and ends one learner's server."""

    settings: Settings  # this and the next are set before the hub starts
    view: View | None = None
    making = asyncio.Lock()  # one Unix user at a time: their list is one file

    @property
    def home(self) -> Path:
        """The learner's folder."""
        return self.settings.homes / self.user.name

    async def start(self) -> tuple[str, int]:
        """Starts the learner's server, in their own home; raises ValueError if it is not theirs."""
        if self.settings.root:
            async with self.making:
                await asyncio.to_thread(make_unix_user, self.user.name, self.settings.homes)
        else:
            self.home.mkdir(mode=0o700, exist_ok=True)
        log = self.settings.private / "logs" / f"{self.user.name}.log"
        with open(log, "ab") as output:
            self.popen_kwargs = {"cwd": "/", "stdout": output, "stderr": output}
            return await super().start()

    async def stop(self, now: bool = False) -> None:
        """Ends the learner's server, and whatever they have left running."""
        await super().stop(now)
        if self.settings.root and _exists(PREFIX + self.user.name):
            await asyncio.to_thread(end_all, pwd.getpwnam(PREFIX + self.user.name).pw_uid)

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """What the learner's server does before it is the learner's."""
        hold = limits.hold(self.settings.memory, self.settings.root)
        if not self.settings.root:
            return lambda: (hold(), os.umask(0o077))
        user = pwd.getpwnam(PREFIX + name)
        return as_user(user.pw_uid, user.pw_gid, self.view, hold)

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """The variables of the learner's server: of the hub's own, only those it must know."""
        own = {name: value for name, value in env.items() if name.startswith("JUPYTERHUB_")}
        kept = {name: env[name] for name in ("MEM_LIMIT", "CPU_LIMIT") if name in env}
        return own | kept | environment_of(self.user.name, self.home, self.settings)
