"""The solved course: every stub replaced by its solution, every lesson run, every check correct."""

import pytest
from nbclient import NotebookClient

from mbm_lab import exercises, lessons
from mbm_lab.exercises.exercise import Choice
from tests.test_exercises import cell_of

pytestmark = pytest.mark.slow


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
    NotebookClient(notebook, kernel_name="python3", timeout=120, resources=folder).execute()
    for one, place in zip(ones, places, strict=True):
        said = notebook.cells[place].outputs[0].text
        assert said.startswith(f"{one.title}: correct."), said
