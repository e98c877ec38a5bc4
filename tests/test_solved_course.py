"""The solved course: every stub replaced by its solution, every lesson run, every check correct,
and all of it on a make-believe GPU, where no cell may mix devices."""

import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mbm_lab import exercises, lessons, place
from mbm_lab.exercises.fusion import weighted_sum
from tests import lesson_elsewhere

pytestmark = pytest.mark.slow


def test_every_solution_is_correct_and_no_lesson_mixes_devices():
    """In a process of its own, with little training: what lessons show is compared elsewhere."""
    command = [sys.executable, "-m", "tests.lesson_elsewhere", *lessons.course_lessons()]
    done = subprocess.run(command, cwd=place.COURSE, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed otherwise" not in done.stdout
    assert done.stdout.count(".ipynb: ") == len(lessons.course_lessons())


def test_a_wrong_solution_and_a_cell_that_mixes_devices_are_found(tmp_path, monkeypatch):
    answer = (
        "from mbm_lab.exercises.fusion import weighted_sum as ex\n\n\n"
        "def my_weighted_sum(f, g, alpha, beta):\n    return ...\n\n\nex.check(my_weighted_sum)"
    )
    cells = [
        "import torch\nfrom torch import Tensor\n\nfrom mbm_lab.device import pick_device",
        "torch.ones(2).to(pick_device()) + torch.ones(2)",
        "raise KeyError('a fault of another kind')",
        answer,
        "from mbm_lab.exercises.fusion import weighted_sum as ex\n\n# ex.hint()",
    ]
    path = tmp_path / "04_small.ipynb"
    nbformat.write(new_notebook(cells=list(map(new_code_cell, cells))), path)
    monkeypatch.setattr(exercises, "of_lesson", lambda number: [weighted_sum])
    found = [(one.cell, one.mixes) for one in lesson_elsewhere.run(path)]
    assert found == [(1, True), (2, False)]
    wrong = "def my_weighted_sum(f, g, alpha, beta):\n    return beta * f + alpha * g"
    monkeypatch.setattr(type(weighted_sum), "solution_source", lambda self: wrong)
    found = lesson_elsewhere.run(path)
    assert [(one.cell, one.mixes) for one in found] == [(1, True), (2, False), (3, False)]
