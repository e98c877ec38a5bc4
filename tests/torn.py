"""A worker is killed at a random moment of a run of two, again and again: the weights must be those
of a run that was left alone, and nothing half-written may stay.

    .venv/bin/python -m tests.torn 20
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil

from mbm_lab import scaling

WORDS = ("--cards", "192", "--epochs", "4", "--batch-size", "32")


def files(out: Path) -> dict[str, bytes]:
    """What a run leaves behind: the bytes of its weights, and the names of everything."""
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return {"names": repr(names).encode(), "weights": (out / scaling.RESULT[0]).read_bytes()}


@contextlib.contextmanager
def one_killed(after: float, rng: random.Random) -> Iterator[list[int]]:
    """In this block, so many seconds after it begins, one worker of whatever torchrun this process
    has started is killed, as soon as there is one. Gives a list that then holds its number."""
    killed: list[int] = []
    over = threading.Event()

    def wait() -> None:
        over.wait(after)
        while not over.wait(0.05):
            with contextlib.suppress(psutil.Error):
                for started in psutil.Process(os.getpid()).children():
                    if "torch.distributed.run" in started.cmdline() and started.children():
                        chosen = rng.choice(started.children())
                        chosen.kill()
                        killed.append(chosen.pid)
                        return

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield killed
    finally:
        over.set()
        waiting.join()


def main(times: int, seed: int = 0) -> int:
    """Kills so many times and prints what became of it. Returns how many runs went wrong."""
    rng, wrong = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        alone = scaling.torchrun(2, Path(folder) / "alone", *WORDS)
        wanted = files(Path(folder) / "alone")
        print(f"left alone: {alone.wall:.1f} s")
        for k in range(times):
            out, after = Path(folder) / f"run_{k}", rng.uniform(0, 0.95 * alone.wall)
            with one_killed(after, rng) as killed:
                try:
                    scaling.torchrun(2, out, *WORDS)
                    said = "the same" if files(out) == wanted else "NOT the same"
                except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                    said = f"FAILED: {error}"
            wrong += said != "the same"
            print(f"killed after {after:5.2f} s: {len(killed)} killed, {said}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
