"""The course's lessons as files: what they say of themselves, and how authors run them anew.

`notebooks/` holds the lessons with their stored outputs: the reference, which tests compare.
`copies` makes the learner's copies of them.
"""

import copy
import importlib.util
import os
import re
import time
import warnings
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mbm_lab import atomic, outputs, place, rows

NOTEBOOKS = place.COURSE / "notebooks"
MY_LESSONS = place.HOME / "my_lessons"

GLOSSARY = "glossary.md"
"""The list of all terms: it lies beside the lessons, which link to it, and beside their copies."""

WORDS_A_MINUTE = 110  # careful reading, in a language that may not be one's own
CODE_LINES_A_MINUTE = 12

NOTE = "instructor"
"""The tag of a cell of text that is for the instructor: learners' copies do not have it."""

NOTE_LINE = re.compile(r"\*\*For the instructor\*\* · (?P<minutes>\d+) minutes?\.")
EXERCISE_LINE = re.compile(r"^\*(?P<minutes>\d+) minutes?, \w+\.\*", re.MULTILINE)

TIME_LINE = re.compile(
    r"\*\*Time\*\*: (?P<read>\d+) minutes to read, (?:(?P<exercises>\d+) minutes of exercises, )?"
    r"(?P<run>\d+) seconds to run \(two-core laptop, no GPU\)\."
)


# The course's lessons


def course_lessons(notebooks: Path = NOTEBOOKS) -> list[Path]:
    """The course's notebooks in their order, `00_welcome.ipynb` first.

    Raises FileNotFoundError when the folder holds no lesson.
    """
    lessons = sorted(Path(notebooks).glob("[0-9][0-9]_*.ipynb"))
    if not lessons:
        raise FileNotFoundError(
            f"There are no lessons in {notebooks}: run this from the folder of the course, "
            "as it was downloaded."
        )
    return lessons


def find_lesson(number: str | int, notebooks: Path = NOTEBOOKS) -> Path:
    """The course's notebook with this number: `4`, `"04"` or `"04_fusion"`.

    Raises ValueError when the course has no such lesson.
    """
    wanted = Path(str(number)).name.removesuffix(".ipynb")
    for lesson in course_lessons(notebooks):
        if wanted and (wanted == lesson.stem or wanted.zfill(2) == lesson.stem[:2]):
            return lesson
    numbers = [int(lesson.stem[:2]) for lesson in course_lessons(notebooks)]
    shown = rows.shown(str(number)) if str(number).strip() else f'"{number}"'
    raise ValueError(f"There is no lesson {shown}: choose one of {_runs(numbers)}.")


def _runs(numbers: list[int]) -> str:
    """Rising numbers in words: `00 to 10 and 12`."""
    runs = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = [f"{run[0]:02} to {run[-1]:02}" if len(run) > 1 else f"{run[0]:02}" for run in runs]
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def read_notebook(path: Path) -> NotebookNode:
    """The notebook in this file. Raises ValueError when it is not a notebook, OSError when there is
    no such file."""
    if kind := rows.kind_of(path):
        raise ValueError(f"{path} is {kind}, and not a notebook: move it away.")
    wrong = (
        ValueError, KeyError, AttributeError, TypeError, IndexError, RecursionError,
        nbformat.ValidationError,
    )  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what nbformat mends in old notebooks
            notebook = nbformat.read(path, as_version=4)
        whole = isinstance(notebook.metadata, dict) and all(
            isinstance(cell.cell_type, str) and isinstance(cell.source, str)
            for cell in notebook.cells
        )
    except wrong:
        whole = False
    if not whole:
        raise ValueError(
            f"{path} is not a notebook that Jupyter can read: replace it by a whole copy."
        )
    return notebook


def title(notebook: NotebookNode) -> str:
    """The first heading of a notebook, without its `#` and the lesson's number."""
    for cell in notebook.cells:
        for line in cell.source.splitlines():
            if cell.cell_type == "markdown" and line.startswith("# "):
                return re.sub(r"^# (\d\d · )?", "", line).strip()
    return "(no title)"


def times(notebook: NotebookNode) -> tuple[int, int] | None:
    """What the lesson says of its time: (minutes to read, seconds to run), or None."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            stated = TIME_LINE.search(cell.source)
            return (int(stated["read"]), int(stated["run"])) if stated else None
    return None


def exercise_minutes(notebook: NotebookNode) -> int:
    """What the lesson says of its exercises: minutes in all, 0 if it says nothing."""
    first = notebook.cells[0].source if notebook.cells else ""
    stated = TIME_LINE.search(first)
    return int(stated["exercises"] or 0) if stated else 0


def reading_minutes(notebook: NotebookNode) -> int:
    """The minutes it takes to read a lesson, to the nearest five, from its words and code."""
    return max(5, 5 * int(_to_read(notebook.cells) / 5 + 0.5))


def _to_read(cells: list[NotebookNode]) -> float:
    """The minutes it takes to read these cells: words and lines of code, without the notes."""
    cells = [cell for cell in cells if not is_note(cell)]
    words = sum(len(cell.source.split()) for cell in cells if cell.cell_type == "markdown")
    lines = sum(code_lines(cell) for cell in cells if cell.cell_type == "code")
    return words / WORDS_A_MINUTE + lines / CODE_LINES_A_MINUTE


def code_lines(cell: NotebookNode) -> int:
    """The lines of a code cell that are not empty."""
    return sum(1 for line in cell.source.splitlines() if line.strip())


def most_seconds(lesson: Path) -> int:
    """What all cells of a lesson may take on a laptop with two cores, in seconds."""
    longer = {"11_scaling": 90, "12_real_data": 180, "13_one_model": 120, "14_what_next": 120}
    return longer.get(lesson.stem, 60)


# What is for the instructor


def is_note(cell: NotebookNode) -> bool:
    """Whether a cell is for the instructor alone."""
    return NOTE in cell.metadata.get("tags", [])


def without_notes(notebook: NotebookNode) -> NotebookNode:
    """A lesson as learners get it: a copy without notes, and without the marks of the slides."""
    notebook = copy.deepcopy(notebook)
    notebook.cells = [cell for cell in notebook.cells if not is_note(cell)]
    for cell in notebook.cells:
        cell.metadata.pop("slideshow", None)
    return notebook


def note_minutes(notebook: NotebookNode) -> list[int]:
    """The minutes that each note covers: from it to the next, reading and exercises together.

    What stands above the first note counts with it. A lesson's runs are short beside that.
    """
    parts: list[list[NotebookNode]] = [[]]
    for cell in notebook.cells:
        if is_note(cell) and any(map(is_note, parts[-1])):
            parts.append([])
        parts[-1].append(cell)
    if not any(map(is_note, parts[0])):
        return []
    return [max(1, round(_to_read(part) + sum(exercise_parts(part)))) for part in parts]


def exercise_parts(cells: list[NotebookNode]) -> list[int]:
    """The minutes of each exercise whose task is among these cells."""
    tasks = (EXERCISE_LINE.search(cell.source) for cell in cells if cell.cell_type == "markdown")
    return [int(task["minutes"]) for task in tasks if task]


def write_note_minutes(notebook: NotebookNode) -> None:
    """Writes into each note the minutes that it covers."""
    notes = [cell for cell in notebook.cells if is_note(cell)]
    for note, minutes in zip(notes, note_minutes(notebook), strict=True):
        line = f"**For the instructor** · {minutes} minute{'s' if minutes != 1 else ''}."
        note.source = NOTE_LINE.sub(line, note.source, count=1)


# Cells that need a data set or a package which not everybody has

NEEDS = "%%needs"
"""A cell that begins with this word, and names data sets (lesson 12) or packages (lesson 14), runs
only where these are."""

PACKAGES = {"keras": "run `%pip install keras` in a cell, and then this notebook from the top"}
"""Packages that a cell may need, and how to get each."""


def missing_data(source: str) -> list[str]:
    """The data sets and packages that a cell's first line asks for and that are not here."""
    words = source.partition("\n")[0].split()
    if words[:1] != [NEEDS]:
        return []
    return [name for name in words[1:] if not is_here(name)]


def is_here(name: str) -> bool:
    """Whether a package of PACKAGES, or a data set, is here. ValueError for any other name."""
    if name in PACKAGES:
        return importlib.util.find_spec(name) is not None
    from mbm_lab import downloads

    return downloads.find(name) is not None


def how_to_get(name: str) -> str:
    """What to do to have a package of PACKAGES, or a data set."""
    if name in PACKAGES:
        return PACKAGES[name]
    from mbm_lab import downloads

    return downloads.how_to_get(name)


# For authors: run the course's lessons and store what they show


def refresh(numbers: list[str] | None = None, notebooks: Path = NOTEBOOKS) -> None:
    """Runs the course's lessons from top to bottom and stores their outputs in them.

    numbers: the lessons to run (`["04"]`); when None or empty all of them. Each runs in a fresh
    kernel, on one thread of the CPU, in the folder of the notebooks. What would differ from run to
    run is left out, and so is what cells tagged `private` show, because others may not be given it;
    the seconds that the cells took are written into the notebook's metadata. A lesson that fails
    stays as it was. Raises ValueError when a cell fails, writes a warning, or needs a data set or
    package that is not here.
    """
    lessons = [find_lesson(n, notebooks) for n in numbers] if numbers else course_lessons(notebooks)
    for lesson in lessons:
        print(f"{lesson.name}: running ...", flush=True)
        notebook = read_notebook(lesson)
        for name in (name for cell in notebook.cells for name in missing_data(cell.source)):
            raise ValueError(
                f"{lesson.name} needs the {'package' if name in PACKAGES else 'data set'} {name} "
                f"to store its outputs: get it first, {how_to_get(name)}."
            )
        seconds = _execute(notebook, lesson)
        _check_outputs(notebook, lesson.name)
        write_note_minutes(notebook)
        _tidy(notebook, seconds)
        _write(notebook, lesson)
        print(f"{lesson.name}: {seconds:.0f} s, outputs stored.", flush=True)


def _execute(notebook: NotebookNode, lesson: Path) -> float:
    """Runs every cell in a fresh kernel; returns the seconds that the cells took in all."""
    from nbclient import NotebookClient  # slow to import, and only authors need it
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MBM_DEVICE": "cpu"}
    environment.pop("MPLBACKEND", None)
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=600,
        coalesce_streams=True,
        resources={"metadata": {"path": str(lesson.parent)}},
    )
    seconds = 0.0
    with client.setup_kernel(env=environment):
        for index, cell in enumerate(notebook.cells):
            start = time.perf_counter()
            try:
                client.execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                raise ValueError(
                    f"{lesson.name}: this cell fails; mend it, and store the outputs again.\n\n"
                    f"{cell.source}\n\n{error}"
                ) from None
            seconds += time.perf_counter() - start
    return seconds


def _check_outputs(notebook: NotebookNode, name: str) -> None:
    """A lesson stores no error and nothing that was written to the error stream."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error" or output.get("name") == "stderr":
                said = output.get("text") or output.get("evalue")
                raise ValueError(
                    f"{name}: this cell shows an error or a warning; mend its cause, and store the "
                    f"outputs again.\n\n{cell.source}\n\n{said}"
                )


def _tidy(notebook: NotebookNode, seconds: float) -> None:
    """Leaves out what differs from run to run, and notes the seconds."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "private" in cell.metadata.get("tags", []):
            cell.outputs = []
        if cell.cell_type == "code":
            cell.outputs = outputs.tidy(cell.outputs)
    notebook.metadata = NotebookNode(
        kernelspec={
            "display_name": "Python 3 (ipykernel)",
            "language": "python",
            "name": "python3",
        },
        language_info={"name": "python"},
        mbm={"seconds": round(seconds)},
    )


def _write(notebook: NotebookNode, path: Path) -> None:
    """Writes a notebook whole, or leaves the old file as it is."""
    atomic.write_whole(path, lambda part: nbformat.write(notebook, part))
