"""Lessons as notebooks for the room: the learners' copies, and the instructor's.

The instructor's hold everything: notes, stored outputs, and after each exercise its solution from
the catalogue of the exercises, in a cell tagged `solution`.
"""

from __future__ import annotations

import copy
import re
import shutil
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from mbm_lab import copies, exercises, lessons
from mbm_lab.exercises import Choice, Exercise
from mbm_lab.exercises.showing import wrap

SOLUTION = "solution"
"""The tag of a cell that holds the solution of an exercise."""

STUB = re.compile(r"from mbm_lab\.exercises\.(?P<module>\w+) import (?P<name>\w+) as ex$", re.M)


def write_learners(notebooks: list[Path], folder: Path) -> None:
    """Writes the learners' notebooks into a new folder, as `mbm-lab lab` makes them."""
    folder.mkdir(parents=True)
    _copy_glossary(folder)
    for path in notebooks:
        _write(copies.learners(path), folder / path.name)


def write_instructors(notebooks: list[Path], folder: Path) -> None:
    """Writes the instructor's notebooks into a new folder."""
    folder.mkdir(parents=True)
    _copy_glossary(folder)
    for path in notebooks:
        _write(with_solutions(lessons.read_notebook(path)), folder / path.name)


def _copy_glossary(folder: Path) -> None:
    """The lessons link to it."""
    shutil.copyfile(lessons.NOTEBOOKS / lessons.GLOSSARY, folder / lessons.GLOSSARY)


def _write(notebook: NotebookNode, path: Path) -> None:
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8", newline="\n")


def with_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy of a lesson with a solution after each exercise's stub."""
    notebook = copy.deepcopy(notebook)
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if exercise := exercise_of(cell):
            cells.append(solution_cell(cell, exercise))
    notebook.cells = cells
    return notebook


def exercise_of(cell: NotebookNode) -> Exercise | Choice | None:
    """The exercise whose answer is to be written into this cell; None for any other cell."""
    found = STUB.search(cell.source) if cell.cell_type == "code" else None
    if found is None or "\nex.check(" not in cell.source:
        return None
    number = next(n for n, module in exercises.LESSONS.items() if module == found["module"])
    (one,) = (one for one in exercises.of_lesson(number) if one.name == found["name"])
    return one


def solution_cell(stub: NotebookNode, exercise: Exercise | Choice) -> NotebookNode:
    """The solution of an exercise as a cell that can be run: it answers and checks as the stub."""
    lines = stub.source.splitlines()
    check = next(line for line in lines if line.startswith("ex.check("))
    why = "\n".join(f"# {line}" for line in wrap(exercise.why).splitlines())
    solution = exercise.solution_source()
    if isinstance(exercise, Exercise):
        check = f"ex.check({exercise.solution_function.__name__})"
    gap = "\n\n" if isinstance(exercise, Exercise) else "\n"
    source = f"{_imports(lines)}\n\n# Solution.\n{why}\n{gap}{solution}\n{gap}{check}"
    cell = new_code_cell(source, id=f"{stub.id[:40]}-solution", metadata={"tags": [SOLUTION]})
    return cell


def _imports(lines: list[str]) -> str:
    """What the stub imports."""
    return "\n".join(line for line in lines if re.match(r"(from \S+ )?import ", line))
