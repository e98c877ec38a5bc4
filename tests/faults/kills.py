"""Runs that are killed: `python -m tests.faults.kills 100 [--seed N]`, and their faults.

One process imports PyTorch and trains nothing itself; each run is a fork of it, which gets SIGKILL
at a random moment, or ends at once at one of its own file operations. Another fork resumes the run,
and is killed again. At the end the weights must have the bits of a run that nobody disturbed.
"""

import argparse
import functools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from mbm_lab import place
from tests.faults import BYSTANDERS, Fault, contents, put

KILLS = 10
"""In `make test`."""

EPOCHS = 4


def faults(seed: int) -> Iterator[Fault]:
    if not hasattr(os, "fork"):
        return
    for number in range(KILLS):
        yield Fault("kills", f"kill {number + 1} of a run", lambda _, n=number: ended(seed)[n], (),
                    None, lambda said: said == "the same bits")  # fmt: skip
    yield Fault("kills", "an end at each file operation", lambda _: ended(seed)[-1], (), None,
                lambda said: said == "the same bits")  # fmt: skip


@functools.cache
def ended(seed: int) -> list[str]:
    """How each kill ended, and last the ends at file operations, from a process of its own."""
    command = [sys.executable, "-m", "tests.faults.kills", str(KILLS), "--seed", str(seed)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=place.COURSE)
    if done.returncode:
        return [done.stderr[-400:]] * (KILLS + 1)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.kills", description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print how each ended, as a list")
    options = parser.parse_args()
    start = time.perf_counter()
    kills = killed(options.kills, random.Random(options.seed))
    exits = at_each_operation()
    if options.json:
        print(json.dumps([*kills, next((one for one in exits if one != SAME), SAME)]))
        return 0
    for what, results in (("kills at random moments", kills), ("ends at file operations", exits)):
        print(f"{len(results)} {what}: {results.count(SAME)} ended with the same bits")
        for odd in sorted(set(results) - {SAME}):
            print(f"  {odd}")
    print(f"{time.perf_counter() - start:.0f} s")
    return int({*kills, *exits} != {SAME})


SAME = "the same bits"


# --- A run in a process of its own


def train(folder: Path, epochs: int = EPOCHS) -> str:
    """Begins the run, or resumes it; what it ends with."""
    import torch

    from mbm_lab import identity
    from tests import small_runs

    torch.set_num_threads(1)
    resume = (folder / "state.pt").exists()
    model = small_runs.small_model(9 if resume else 0)
    history = small_runs.train(
        model, epochs=epochs, batch_size=32, checkpoint=folder, resume=resume, one_cycle=True
    )
    return identity.digest(model.state_dict(), history.train_loss, history.val_loss)


def fork(action: Callable[[], str], answer: Path) -> int:
    """Starts a copy of this process that does this, writes what it gave, and ends."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            answer.write_text(action())
            code = 0
        except BaseException:
            answer.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    return pid


def finished(folder: Path, epochs: int = EPOCHS) -> str:
    """Runs to the end; what it ends with, or the error."""
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / "answer"
        _, status = os.waitpid(fork(lambda: train(folder, epochs), answer), 0)
        said = answer.read_text() if answer.exists() else ""
        return said if status == 0 else f"failed: {said[-600:]}"


def compared(folder: Path, expected: str, epochs: int = EPOCHS) -> str:
    """Resumes a run that was cut off, and says whether all is as if nothing had happened."""
    got = finished(folder, epochs)
    if got != expected:
        return got if got.startswith("failed") else "other bits"
    held = contents(folder)
    if {name: held.get(name) for name in BYSTANDERS} != BYSTANDERS:
        return "a file of the user's was changed"
    if len(held) != 3 + len(BYSTANDERS):
        return f"these files are left: {sorted(set(held) - set(BYSTANDERS))}"
    return SAME


def new_folder(place: str) -> Path:
    folder = Path(place) / "run"
    folder.mkdir()
    put(folder, BYSTANDERS)
    return folder


# --- Killed at random moments


def killed(count: int, draw: random.Random) -> list[str]:
    """Kills runs so many times, most of them several times; how the run of each kill ended."""
    prepare()
    results: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = new_folder(place)
        expected = finished(folder)
    with tempfile.TemporaryDirectory() as place:
        start = time.perf_counter()
        finished(new_folder(place))
        takes = time.perf_counter() - start
    while len(results) < count:
        with tempfile.TemporaryDirectory() as place:
            folder = new_folder(place)
            wanted = min(draw.randrange(1, 5), count - len(results))
            deaths = 0
            for _ in range(wanted):
                pid = fork(lambda folder=folder: train(folder), Path(place) / "answer")
                time.sleep(draw.uniform(0, 0.7 * takes))
                os.kill(pid, signal.SIGKILL)
                deaths += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
            results += [compared(folder, expected)] * deaths
    return results


def prepare() -> None:
    """Imports what a run needs, once; a forward pass warms it up, and no slope is computed. A kill
    leaves the disk alone, so no run waits for it."""
    os.fsync = lambda file: None
    import torch
    import torch._dynamo

    from mbm_lab import training
    from tests import small_runs

    with torch.no_grad():
        training.predict(small_runs.small_model(), small_runs.small_task()[0])


# --- Ended at each file operation

OPERATIONS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate")


def at_each_operation(epochs: int = 2) -> list[str]:
    """A run that ends before its first file operation, its second …; how each, resumed, ended."""
    prepare()
    with tempfile.TemporaryDirectory() as place:
        expected = finished(new_folder(place), epochs)
    results = []
    while True:
        with tempfile.TemporaryDirectory() as place:
            folder = new_folder(place)

            def run(folder=folder):
                end_at(len(results), folder)
                return train(folder, epochs)

            _, status = os.waitpid(fork(run, Path(place) / "answer"), 0)
            if os.waitstatus_to_exitcode(status) != 77:  # it came to its own end
                return results
            results.append(compared(folder, expected, epochs))


def end_at(number: int, folder: Path) -> None:
    """This process ends before its file operation of this number, in or below the folder."""
    left = [number]

    def watch(event, arguments):
        if event in OPERATIONS and str(arguments[0]).startswith(str(folder)):
            if left[0] == 0:
                os._exit(77)
            left[0] -= 1

    sys.addaudithook(watch)


if __name__ == "__main__":
    sys.exit(main())
