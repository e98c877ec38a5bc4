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
import time
from pathlib import Path

import psutil

from mbm_lab import scaling

WORDS = ("--cards", "192", "--epochs", "4", "--batch-size", "32")


def files(out: Path) -> dict[str, bytes]:
    """What a run leaves behind: the bytes of its weights, and the names of everything."""
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    return {"names": repr(names).encode(), "weights": (out / scaling.RESULT[0]).read_bytes()}


def kill_one(after: float, rng: random.Random) -> list[int]:
    """Kills one worker of whatever torchrun this process has started, so many seconds from now.
    Returns a list that then holds its number."""
    killed: list[int] = []

    def wait() -> None:
        time.sleep(after)
        for _ in range(600):  # until a worker has been started
            with contextlib.suppress(psutil.Error):
                for started in psutil.Process(os.getpid()).children():
                    if "torch.distributed.run" in started.cmdline() and started.children():
                        chosen = rng.choice(started.children())
                        chosen.kill()
                        killed.append(chosen.pid)
                        return
            time.sleep(0.05)

    threading.Thread(target=wait, daemon=True).start()
    return killed


def main(times: int, seed: int = 0) -> int:
    """Kills so many times and prints what became of it. Returns how many runs went wrong."""
    rng, wrong = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as folder:
        alone = scaling.torchrun(2, Path(folder) / "alone", *WORDS)
        wanted = files(Path(folder) / "alone")
        print(f"left alone: {alone.wall:.1f} s")
        for k in range(times):
            out, after = Path(folder) / f"run_{k}", rng.uniform(0, alone.wall)
            killed = kill_one(after, rng)
            try:
                found = files(out) if scaling.torchrun(2, out, *WORDS) else {}
                said = "the same" if found == wanted else "NOT the same"
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                said = f"FAILED: {error}"
            wrong += said != "the same"
            print(f"killed after {after:5.2f} s: {len(killed)} killed, {said}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
