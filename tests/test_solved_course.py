"""The solved course: every stub replaced by its solution, every lesson run, every check correct.

The lessons run with little data and little training, for what they show is compared elsewhere."""

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell

from mbm_lab import exercises, lessons
from mbm_lab.exercises.exercise import Choice
from tests.test_exercises import cell_of

pytestmark = pytest.mark.slow

LITTLE = """import sys
sys.path.insert(0, {root!r})
from tests import lesson_elsewhere
little = lesson_elsewhere.short_training()
little.__enter__()"""


def solve(notebook, one) -> int:
    """Puts the solution in place of the stub; returns the cell's place."""
    place = cell_of(notebook, one)
    cell = notebook.cells[place]
    imports, _, rest = cell.source.partition("\n\n")
    last = rest.strip().rsplit("\n", 1)[-1]
    space = "\n\n" if isinstance(one, Choice) else "\n\n\n"
    more = [line for line in rest.splitlines() if line.startswith(("import ", "from "))]
    cell.source = space.join(["\n".join([imports, *more]), one.solution_source(), last])
    return place


@pytest.mark.parametrize("number", list(exercises.LESSONS))
def test_the_solved_lesson_runs_and_every_check_says_correct(number):
    lesson = lessons.find_lesson(number)
    notebook = lessons.read_notebook(lesson)
    ones = exercises.of_lesson(number)
    places = [solve(notebook, one) for one in ones]
    folder = {"metadata": {"path": str(lesson.parent)}}
    notebook.cells.insert(0, new_code_cell(LITTLE.format(root=str(lessons.REPOSITORY))))
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources=folder).execute()
    for one, place in zip(ones, places, strict=True):
        said = notebook.cells[place + 1].outputs[0].text
        assert said.startswith(f"{one.title}: correct."), said
