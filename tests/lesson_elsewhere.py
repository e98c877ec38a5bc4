"""Runs a solved lesson on a make-believe GPU (`tests/elsewhere.py`): which cells mix devices?

    python -m tests.lesson_elsewhere notebooks/04_fusion.ipynb

Every stub of an exercise is replaced by its solution, and its check must say "Right.".
Every code cell runs, in order, in one shell of IPython inside this process; `pick_device()` gives
the make-believe GPU. Devices do not depend on how long one trains or on how much, so all is cut
short: the first 640 postcards of a split, 64 with sounds, read once and unwatched; a table of
64 rows; one epoch of training, with the first 64 examples; one seed of the stored models; one
process where a lesson starts several. The exit status is 1 if a cell mixes devices. A cell that
fails for another reason is listed too: it may need what a failed cell did not make. So is a
solution that its check does not call right.
"""

from __future__ import annotations

import copy
import functools
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from torch.utils.data import DataLoader

from mbm_lab import (
    costs,
    datasets,
    exercises,
    lessons,
    one_model,
    real_data,
    scaling,
    stored,
    training,
    what_next,
)
from mbm_lab.exercises.exercise import Choice, Exercise
from tests import elsewhere
from tests.test_exercises import cell_of

CARDS, EXAMPLES = 640, 64

_loaded: dict[str, datasets.Postcards] = {}  # what lessons of this process have read


@dataclass
class Failure:
    """A cell that failed, or mixed devices and caught the error.

    cell: its place in the notebook, counted from 0, texts included.
    """

    cell: int
    first_line: str
    error: str
    mixes: bool

    def __str__(self) -> str:
        kind = "mixes devices" if self.mixes else "failed otherwise"
        return f"[{self.cell}] {self.first_line}\n    {kind}: {self.error}"


def run(lesson: Path) -> list[Failure]:
    """Runs all code cells of a lesson; returns those that fail."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    failures = []
    notebook = lessons.read_notebook(lesson)
    number = lesson.name[:2]
    ones = exercises.of_lesson(number) if number in exercises.LESSONS else []
    answers = {solve(notebook, one): one for one in ones}
    with tempfile.TemporaryDirectory() as folder:
        settings = {"MPLBACKEND": "agg", "MBM_PROGRESS": str(Path(folder) / "progress.json")}
        settings["KERAS_TORCH_DEVICE"] = "cpu"  # it moves tensors by itself
        with mock.patch.dict(os.environ, settings), chdir(lesson.parent), short_training():
            shell = InteractiveShell.instance()
            with elsewhere.course():
                for place, cell in enumerate(notebook.cells):
                    if cell.cell_type != "code":
                        continue
                    elsewhere.refused.clear()
                    with capture_output() as shown:
                        error = shell.run_cell(cell.source).error_in_exec
                    if "raises-exception" in cell.metadata.get("tags", []):
                        error = None
                    refused = elsewhere.refused[:1]
                    if place in answers and error is None:
                        title = answers[place].title
                        if not shown.stdout.startswith(f"Right. {title}"):
                            error = AssertionError(f"the solution is not right: {shown.stdout}")
                    if refused or error is not None:
                        said = refused or [f"{type(error).__name__}: {error}"]
                        first_line = cell.source.partition("\n")[0]
                        last_line = said[0].strip().splitlines()[-1]
                        failures.append(Failure(place, first_line, last_line, bool(refused)))
            InteractiveShell.clear_instance()
    return failures


def solve(notebook, one: Exercise | Choice) -> int:
    """Puts the solution in place of the stub; returns the cell's place."""
    place = cell_of(notebook, one)
    cell = notebook.cells[place]
    imports, _, rest = cell.source.partition("\n\n")
    last = rest.strip().rsplit("\n", 1)[-1]
    space = "\n\n" if isinstance(one, Choice) else "\n\n\n"
    more = [line for line in rest.splitlines() if line.startswith(("import ", "from "))]
    cell.source = space.join(["\n".join([imports, *more]), one.solution_source(), last])
    return place


@contextmanager
def short_training() -> Iterator[None]:
    """Little data, read once and unwatched; one epoch, few examples and steps; one seed for all."""
    cards = _once(datasets.load_postcards, _few_cards)
    digits = _once(datasets.load_spoken_digits, _few_digits)
    table = functools.partial(real_data.example_table, EXAMPLES)
    with (
        mock.patch.object(stored, "SEEDS", stored.SEEDS[:1]),
        mock.patch.object(training, "fit", _short(training.fit)),
        mock.patch.object(one_model, "STEPS", 2),
        mock.patch.object(what_next, "few", _two_of_each(what_next.few)),
        mock.patch.object(what_next, "STRENGTHS", what_next.STRENGTHS[:1]),
        mock.patch.object(training, "least_loss", _two_steps(training.least_loss)),
        mock.patch.object(datasets, "load_postcards", cards),
        mock.patch.object(real_data, "example_table", table),
        mock.patch.object(datasets, "load_spoken_digits", digits),
        mock.patch.object(scaling, "torchrun", _on_the_cpu(_alone)),
        mock.patch.object(scaling, "communication", lambda numbers: [n / 1e9 for n in numbers]),
        # A real GPU is measured with matrices that a CPU takes long to multiply.
        mock.patch.object(costs, "measure_machine", return_value=costs.Machine(1e11, 1e10, 1e11)),
        mock.patch.object(costs, "what_helps", _at_once(costs.what_helps)),
        mock.patch.object(costs, "compile_trial", _not_compiled),
    ):
        yield


def _short(fit: Callable) -> Callable:
    @functools.wraps(fit)
    def short_fit(model, inputs, targets=None, loss=None, *, val=None, epochs=10, **options):
        if isinstance(inputs, DataLoader):  # as long as the loop by hand beside it
            return fit(model, inputs, loss=loss, val=val, epochs=epochs, **options)
        if val is not None:
            val = _few(val[0]), val[1][:EXAMPLES]
        return fit(
            model, _few(inputs), targets[:EXAMPLES], loss,
            val=val, epochs=min(epochs, 1), **{**options, "progress": False},
        )  # fmt: skip

    return short_fit


def _two_of_each(few: Callable) -> Callable:
    """`what_next.few` with two examples of each class, however many are asked for."""
    return lambda target, per_class, seed=0: few(target, min(per_class, 2), seed)


def _two_steps(search: Callable) -> Callable:
    return lambda *args, **options: search(*args, **{**options, "steps": 2})


def _at_once(trials: Callable) -> Callable:
    return lambda *args, **options: trials(*args, **{**options, "seconds": 0.01})


def _not_compiled(layers, x) -> tuple[costs.Trial, float]:
    return costs.Trial("torch.compile", math.nan, math.nan, "left out"), math.nan


def _alone(processes, out, *words, kill_after=None) -> scaling.Run:
    """In the place of `scaling.torchrun`: one process, which need not be started."""
    assert scaling.main(["--out", str(out), *words]) == 0
    return scaling.Run(0.1, 0.2, "", int(kill_after is not None))


def _on_the_cpu(start: Callable) -> Callable:
    """What other processes do, which know nothing of a make-believe GPU."""

    @functools.wraps(start)
    def start_there(*args, **options):
        with mock.patch.dict(os.environ, {"MBM_DEVICE": "cpu"}), elsewhere.outside():
            return start(*args, **options)

    return start_there


def _once(load: Callable, shorten: Callable) -> Callable:
    @functools.wraps(load)
    def load_once(*args, **kwargs):
        asked = repr((load.__name__, args, kwargs))
        if asked not in _loaded:
            with elsewhere.outside():
                _loaded[asked] = shorten(load(*args, **kwargs))
        return copy.copy(_loaded[asked])

    return load_once


def _few_cards(cards: datasets.Postcards) -> datasets.Postcards:
    """Sounds take long to compute with, so of these there are fewer cards."""
    heard = cards.voices is not None or cards.notes is not None
    return cards[: EXAMPLES if heard else CARDS]


def _few_digits(digits: datasets.SpokenDigits) -> datasets.SpokenDigits:
    """Every fifth training recording: all digits and speakers are among them."""
    some = slice(None, None, 5 if len(digits.names) > CARDS else 1)
    return datasets.SpokenDigits(
        digits.names[some], digits.sounds[some], digits.digits[some], digits.speakers[some]
    )


def _few(inputs: training.Inputs) -> training.Inputs:
    if isinstance(inputs, dict):
        return {name: values[:EXAMPLES] for name, values in inputs.items()}
    return inputs[:EXAMPLES]


def main(paths: list[str]) -> int:
    """Prints what fails in these lessons; returns the exit status."""
    mixtures = 0
    for path in map(Path, paths):
        start = time.process_time()
        failures = run(path.resolve())
        print(f"{path.name}: {time.process_time() - start:.0f} s", flush=True)
        for failure in failures:
            print(failure, flush=True)
        mixtures += sum(failure.mixes for failure in failures)
    return int(mixtures > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
