"""How much of the computer each learner may use, and the guard that sees to it.

Three things hold a learner: each of their processes may have so much memory of its own (asking for
more is a MemoryError); all of them together may have so many threads, so that a fork bomb soon
finds no room; and a guard adds up, every half second, what all processes of each learner hold. Over
the limit it ends the largest kernel or terminal; JupyterLab then says that the kernel has died, and
starts it again, empty. What has computed for two minutes on end is made to wait for what others
have just begun, so that an endless loop costs them little.

Memory is PSS: a page that several processes share counts in parts. The guard needs no rights in the
hub; where learners are Unix users, it must be root's to see and end their processes.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

THREADS = 400  # a learner's, all processes together; a lesson's kernel has about 20
PROCESSES = 60  # a learner's; more are a fork bomb, and what makes them is ended
LARGEST_FILE = 2_000_000_000  # bytes
LONG = 120.0  # seconds of computing after which a process has to wait for others
WAITS = 10  # how nice it is made then

LEARNER = "MBM_LEARNER"  # the variable that names the learner, in each of their processes


def hold(memory: int, unix_user: bool) -> Callable[[], None]:
    """A function that limits the process that calls it, and all that it starts, for good.

    memory: bytes that each process may have of its own. unix_user: whether all processes of the
    Unix user are this learner's, so that their number can be limited.
    """
    limits = [
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, LARGEST_FILE),
        (resource.RLIMIT_CORE, 0),
    ]
    if unix_user:
        limits.append((resource.RLIMIT_NPROC, THREADS))

    def limit() -> None:
        for what, most in limits:
            hard = resource.getrlimit(what)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(what, (most, most))

    return limit


@dataclass
class Session:
    """What a server, kernel or terminal has started: processes that end together."""

    number: int
    pids: list[int] = field(default_factory=list)
    memory: int = 0
    server: bool = False


def learners(names: dict[int, str] | None = None) -> dict[str, dict[int, Session]]:
    """The running processes of every learner: {name: {session number: Session}}.

    names: {uid: learner} where learners are Unix users; without it, a variable of each process
    names the learner.
    """
    found = defaultdict(dict)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            name = _learner(entry, names)
            if name is None or _state(entry) == "Z":
                continue
            number = os.getsid(int(entry.name))
            session = found[name].setdefault(number, Session(number))
            session.pids.append(int(entry.name))
            session.server |= b"workshop.learner_server" in (entry / "cmdline").read_bytes()
    return found


def _learner(process: Path, names: dict[int, str] | None) -> str | None:
    """Whose a process is; None if it is no learner's."""
    if names is not None:
        return names.get(process.stat().st_uid)
    prefix = f"{LEARNER}=".encode()
    for variable in (process / "environ").read_bytes().split(b"\0"):
        if variable.startswith(prefix):
            return variable.removeprefix(prefix).decode()
    return None


def _state(process: Path) -> str:
    """The letter of what a process does: Z if it has ended, and nobody has asked how."""
    return (process / "stat").read_text().rpartition(")")[2].split()[0]


def pss(pid: int) -> int:
    """Bytes of memory that a process holds, its share of what it shares included; 0 if it ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def rss(pid: int) -> int:
    """Bytes of memory that a process holds, what it shares counted whole; quick to ask."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
    except (OSError, IndexError):
        return 0


def cpu_seconds(pid: int) -> float:
    """Seconds for which a process has computed so far; 0 if it ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0


class Guard:
    """Looks again and again at what every learner's processes hold, and ends what is too much.

    memory: bytes that all processes of a learner may hold together. names: a function that gives
    {uid: learner}, or None where learners are no Unix users.
    """

    def __init__(
        self,
        memory: int,
        names: Callable[[], dict[int, str]] | None = None,
        processes: int = PROCESSES,
    ) -> None:
        self.memory, self.names, self.processes = memory, names, processes
        self.before: dict[int, tuple[float, float]] = {}  # pid: when, and CPU seconds until then
        self.busy: dict[int, float] = {}  # pid: CPU seconds on end

    def look(self) -> list[str]:
        """Looks once; returns a sentence on each thing done."""
        done = []
        everyone = self._everyone()
        for name, sessions in everyone.items():
            number = sum(len(session.pids) for session in sessions.values())
            if number > self.processes:
                victim = max(sessions.values(), key=lambda s: (not s.server, len(s.pids)))
                self._end(name, victim.number)
                done.append(f"{name} had {number} processes: the program that made most was ended.")
            elif (held := self._measure(sessions)) > self.memory:
                victim = max(sessions.values(), key=lambda s: (not s.server, s.memory))
                self._end(name, victim.number)
                done.append(
                    f"{name} held {held / 1e6:.0f} MB of {self.memory / 1e6:.0f}: the largest "
                    f"kernel ({victim.memory / 1e6:.0f} MB) was ended."
                )
        done += self._slow_down(everyone, time.monotonic())
        return done

    def _everyone(self) -> dict[str, dict[int, Session]]:
        """The running processes of every learner."""
        return learners(None if self.names is None else self.names())

    def _measure(self, sessions: dict[int, Session]) -> int:
        """The memory of a learner's sessions: exactly (PSS) where a quick look says it matters."""
        for measure in (rss, pss):
            for session in sessions.values():
                session.memory = sum(map(measure, session.pids))
            total = sum(session.memory for session in sessions.values())
            if total <= self.memory:
                break
        return total

    def _end(self, name: str, number: int) -> None:
        """Ends all processes of a session, and those that they start meanwhile."""
        for _ in range(50):
            session = self._everyone().get(name, {}).get(number)
            if session is None:
                return
            for what in (signal.SIGSTOP, signal.SIGKILL):
                for pid in session.pids:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, what)
            time.sleep(0.02)

    def _slow_down(self, everyone: dict[str, dict[int, Session]], now: float) -> list[str]:
        """Makes wait what has computed for long, and lets go what has rested."""
        done, seen = [], {}
        for name, sessions in everyone.items():
            for pid in (pid for s in sessions.values() if not s.server for pid in s.pids):
                then, seconds = self.before.get(pid, (now, 0.0))
                if pid in self.before and now - then < 5:
                    seen[pid] = (then, seconds)
                    continue
                seen[pid] = (now, cpu_seconds(pid))
                if pid not in self.before:
                    continue
                used, was = seen[pid][1] - seconds, self.busy.pop(pid, 0.0)
                if used > 0.02 * (now - then):
                    self.busy[pid] = was + used
                if was < LONG <= self.busy.get(pid, 0.0):
                    _be_nice(pid, WAITS)
                    done.append(f"{name}: process {pid} computes for long; others come first now.")
                elif was >= LONG and pid not in self.busy:
                    _be_nice(pid, 0)
        self.before = seen
        self.busy = {pid: seconds for pid, seconds in self.busy.items() if pid in seen}
        return done


def _be_nice(pid: int, value: int) -> None:
    """Makes a process, and the group in which Linux schedules its session, wait more or less."""
    with contextlib.suppress(OSError):  # it has ended, or only root may
        os.setpriority(os.PRIO_PROCESS, pid, value)
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text(str(value))


def unix_users(homes: Path) -> dict[int, str]:
    """{uid: learner} of the Unix users whose home is in this folder."""
    users = (user for user in pwd.getpwall() if Path(user.pw_dir).parent == homes)
    return {user.pw_uid: Path(user.pw_dir).name for user in users}


def main() -> None:
    """Guards until it is asked to end: the hub starts it, with the same variables as itself."""
    from workshop import hub_settings

    settings = hub_settings.read()
    names = (lambda: unix_users(settings.homes)) if settings.root else None
    guard = Guard(settings.memory, names)
    _be_nice(os.getpid(), -5)  # it must get its turn when others take all
    for asked in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked, lambda *_: sys.exit(0))
    while True:
        for sentence in guard.look():
            print(sentence, flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
