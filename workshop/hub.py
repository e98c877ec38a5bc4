"""`make hub`: serves the course to a classroom, until Ctrl+C; then nothing is left running.

Without more it serves this computer only, for a rehearsal. `workshop/README.md` says how to open it
to a room.
"""

from __future__ import annotations

import compileall
import contextlib
import ctypes
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from mbm_lab import lab, place
from workshop import hub_settings, limits, proxy, seats
from workshop.hub_settings import Settings

CONFIG = Path(__file__).with_name("jupyterhub_config.py")
START = "import workshop, jupyterhub.app; jupyterhub.app.main()"

DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36  # from <linux/prctl.h>


class Hub:
    """A classroom's server that runs: its process, and its log."""

    def __init__(self, settings: Settings, environ: dict[str, str]) -> None:
        """Starts it; `wait_until_up` says when it serves."""
        self.settings = settings
        self.log = settings.private / "logs" / "hub.log"
        self.run = secrets.token_hex(8)  # in the environment of all that belongs to this server
        libc = ctypes.CDLL(None)
        libc.prctl(ADOPT_ORPHANS, 1)  # what learners leave behind comes to us, not to all
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, "-f", str(CONFIG)],
                cwd=settings.private,
                env=environ | {"PYTHONPATH": str(place.COURSE), seats.RUN: self.run},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGTERM),
            )
        self.ended = threading.Event()
        threading.Thread(target=self._bury, daemon=True).start()

    def wait_until_up(self, seconds: float = 120) -> None:
        """Returns when the login page is there; raises RuntimeError if it does not come."""
        import ssl

        trusting = ssl._create_unverified_context()  # only to see whether it is there
        host = self.settings.address.replace("0.0.0.0", "127.0.0.1")
        scheme = "https" if self.settings.certificate else "http"
        page = f"{scheme}://{host}:{self.settings.port}/hub/health"
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(page, timeout=5, context=trusting).close()
                return
            time.sleep(0.2)
        last = self.log.read_text(errors="replace").splitlines()[-8:]
        raise RuntimeError(
            f"The hub did not start: look at its log, {self.log}.\n" + "\n".join(last)
        )

    def end(self) -> None:
        """Ends it, all learners' servers, and whatever they left running."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=60)
        if self.settings.root:
            for uid in limits.unix_users(self.settings.homes):
                seats.end_all(uid)
        left = [process for process in psutil.process_iter() if self._is_of_it(process)]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=5)
        self.ended.set()

    def _bury(self) -> None:
        """Takes leave of orphans that have ended, which would otherwise count as processes."""
        while not self.ended.wait(1):
            for child in psutil.Process().children():
                with contextlib.suppress(psutil.Error, ChildProcessError):
                    if child.pid != self.process.pid and child.status() == psutil.STATUS_ZOMBIE:
                        os.waitpid(child.pid, os.WNOHANG)

    def _is_of_it(self, process: psutil.Process) -> bool:
        """Whether a process is the hub or was started by it, however indirectly."""
        with contextlib.suppress(psutil.Error, OSError):
            return process.environ().get(seats.RUN) == self.run
        return False


def check(settings: Settings) -> None:
    """Raises ValueError or OSError with one sentence when the server cannot be started."""
    if not lab.is_free(settings.port, settings.address):
        raise ValueError(
            f"Another program serves at {settings.address}, port {settings.port}: end it, or let "
            "MBM_HUB_PORT name another port."
        )
    proxy.install()
    compileall.compile_dir(place.PACKAGE, quiet=2)  # learners cannot write beside the course
    seats.make_folders(settings)
    if settings.root:
        seats.make_view(settings)


@contextlib.contextmanager
def running(environ: dict[str, str] | None = None) -> Iterator[Hub]:
    """A server that runs as these variables say, and has ended afterwards, whatever happens."""
    environ = dict(os.environ) if environ is None else environ
    settings = hub_settings.read(environ)
    check(settings)
    hub = Hub(settings, environ)
    try:
        hub.wait_until_up()
        yield hub
    finally:
        hub.end()


def end_when_asked() -> None:
    """Makes Ctrl+C, and being asked to end, a KeyboardInterrupt; asking again changes nothing."""
    asked = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: object) -> None:
        for name in asked:
            signal.signal(name, signal.SIG_IGN)
        raise KeyboardInterrupt

    for name in asked:
        signal.signal(name, end)


def main() -> int:
    """Serves until Ctrl+C; returns the exit status."""
    end_when_asked()
    try:
        settings = hub_settings.read()
        if not settings.root:
            print(hub_settings.NOT_ROOT)
        print("Starting the classroom's server ...", flush=True)
        with running() as hub:
            print(f"\nIt serves at {settings.url}")
            if hub_settings.is_loopback(settings.address):
                print("Only this computer reaches it; workshop/README.md says how to open it.")
            if settings.root:
                print("Each learner is a Unix user of their own, and can only read the course.")
            print("The instructor signs in as `instructor`; learners sign up with the room's code.")
            print(f"Logs are in {hub.log.parent}. Press Ctrl+C here to end.", flush=True)
            hub.process.wait()
            print(f"The hub has ended by itself: see {hub.log}.", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        print("\nThe classroom's server has ended. The learners' files are kept.")
        return 0
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
