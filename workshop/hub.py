"""`make hub`: serves the course to a classroom, until Ctrl+C; then nothing is left running.

Without more it serves this computer only, for a rehearsal. `workshop/README.md` says how to open it
to a room.
"""

from __future__ import annotations

import compileall
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

from mbm_lab import lab, place
from workshop import hub_settings, proxy, seats
from workshop.hub_settings import Settings

CONFIG = Path(__file__).with_name("jupyterhub_config.py")

DIE_WITH_PARENT, ADOPT_ORPHANS = 1, 36  # from <linux/prctl.h>


class Hub:
    """A classroom's server that runs: its process, and its log."""

    def __init__(self, settings: Settings, environ: dict[str, str]) -> None:
        """Starts it; `wait_until_up` says when it serves."""
        self.settings = settings
        self.log = settings.private / "logs" / "hub.log"
        libc = ctypes.CDLL(None)
        libc.prctl(ADOPT_ORPHANS, 1)  # what learners leave running comes to us, to be ended
        with open(self.log, "ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
                cwd=settings.private,
                env=environ | {"PYTHONPATH": str(place.COURSE)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(DIE_WITH_PARENT, signal.SIGTERM),
            )

    def wait_until_up(self, seconds: float = 120) -> None:
        """Returns when the login page is there; raises RuntimeError if it does not come."""
        import ssl

        trusting = ssl._create_unverified_context()  # only to see whether it is there
        host = self.settings.address.replace("0.0.0.0", "127.0.0.1").replace("::", "[::1]")
        scheme = "https" if self.settings.certificate else "http"
        page = f"{scheme}://{host}:{self.settings.port}/hub/health"
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.process.poll() is None:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(page, timeout=5, context=trusting).close()
                return
            time.sleep(0.2)
        last = self.log.read_text(errors="replace").splitlines()[-8:]
        raise RuntimeError("The hub did not start. Its log ends:\n" + "\n".join(last))

    def end(self) -> None:
        """Ends it, all learners' servers, and whatever they left running."""
        running = psutil.Process().children(recursive=True)
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=60)
        running += psutil.Process().children(recursive=True)
        mine = {p for p in running if p.is_running() and self._is_of_it(p)}
        for process in mine:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(mine, timeout=5)

    def _is_of_it(self, process: psutil.Process) -> bool:
        """Whether a process is the hub or was started by it, however indirectly."""
        with contextlib.suppress(psutil.Error):
            return process.pid == self.process.pid or "JUPYTERHUB_" in str(process.environ())
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


def main() -> int:
    """Serves until Ctrl+C; returns the exit status."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, end)
    try:
        settings = hub_settings.read()
        if not settings.root:
            print(hub_settings.NOT_ROOT)
        print("Starting the classroom's server ...", flush=True)
        with running() as hub:
            print(f"\nIt serves at {settings.url}")
            if hub_settings.is_loopback(settings.address):
                print("Only this computer reaches it; workshop/README.md says how to open it.")
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
