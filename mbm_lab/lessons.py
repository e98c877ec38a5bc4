"""The lessons as files: the course's own notebooks, and the learner's copies of them.

`notebooks/` holds the course's lessons with their stored outputs: the reference, which tests
compare. A learner works in `my_lessons/`, in copies that are made once and never overwritten.
"""

import os
import re
import time
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mbm_lab import atomic

REPOSITORY = Path(__file__).resolve().parents[1]
NOTEBOOKS = REPOSITORY / "notebooks"
MY_LESSONS = REPOSITORY / "my_lessons"
PLAYGROUND = NOTEBOOKS / "playground.ipynb"  # no lesson: a page for the projector

NOT_COPIED = "not yet copied"
SAME = "as the course's"
DIFFERENT = "yours differs"
UNREADABLE = "yours cannot be read"

WORDS_A_MINUTE = 110  # careful reading, in a language that may not be one's own
CODE_LINES_A_MINUTE = 12

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


def _pages(notebooks: Path) -> list[Path]:
    """Every notebook of the course: the lessons, and the page for the projector if it is there."""
    return [*course_lessons(notebooks), *Path(notebooks).glob(PLAYGROUND.name)]


def find_lesson(number: str | int, notebooks: Path = NOTEBOOKS) -> Path:
    """The course's notebook with this number: `4`, `"04"` or `"04_fusion"`.

    Raises ValueError when the course has no such lesson.
    """
    wanted = Path(str(number)).name.removesuffix(".ipynb")
    for lesson in course_lessons(notebooks):
        if wanted == lesson.stem or wanted.zfill(2) == lesson.stem[:2]:
            return lesson
    first, last = course_lessons(notebooks)[0], course_lessons(notebooks)[-1]
    raise ValueError(
        f"There is no lesson {str(number)!r}: lessons have the numbers "
        f"{first.stem[:2]} to {last.stem[:2]}."
    )


def read_notebook(path: Path) -> NotebookNode:
    """The notebook in this file. Raises ValueError when it is not a notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except (ValueError, KeyError, AttributeError, nbformat.ValidationError):
        raise ValueError(f"{path} is not a notebook that Jupyter can read.") from None


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
    words = sum(len(c.source.split()) for c in notebook.cells if c.cell_type == "markdown")
    lines = sum(code_lines(cell) for cell in notebook.cells if cell.cell_type == "code")
    minutes = words / WORDS_A_MINUTE + lines / CODE_LINES_A_MINUTE
    return max(5, 5 * int(minutes / 5 + 0.5))


def code_lines(cell: NotebookNode) -> int:
    """The lines of a code cell that are not empty."""
    return sum(1 for line in cell.source.splitlines() if line.strip())


# The learner's copies

LIVE = "application/vnd.jupyter.widget-view+json"
NOT_YET_LIVE = "A live picture appears here as soon as this is run."


def state(lesson: Path, mine: Path = MY_LESSONS) -> str:
    """How the learner's copy of a lesson stands beside the course's.

    Only what was written counts: outputs and the numbers of the cells do not.
    """
    copy = Path(mine) / lesson.name
    if not copy.exists():
        return NOT_COPIED
    try:
        same = _sources(read_notebook(lesson)) == _sources(read_notebook(copy))
    except ValueError:
        return UNREADABLE
    return SAME if same else DIFFERENT


def copy_missing(notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS) -> list[Path]:
    """Copies the lessons that the learner does not have yet; returns the new copies.

    A file that is already there is never touched.
    """
    missing = [page for page in _pages(notebooks) if state(page, mine) == NOT_COPIED]
    return [_copy(lesson, Path(mine)) for lesson in missing]


def fresh_copy(
    number: str | int, notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS
) -> tuple[Path, Path | None]:
    """Gives a fresh copy of a lesson, and keeps the learner's old one under another name.

    Returns the fresh copy, and the file in which the old one is kept (None if there was none).
    Raises ValueError when the course has no such lesson, OSError when the copy cannot be written.
    """
    lesson = find_lesson(number, notebooks)
    copy = Path(mine) / lesson.name
    kept = None
    if copy.exists():
        kept = _name_to_keep(copy)
        copy.rename(kept)
    try:
        return _copy(lesson, Path(mine)), kept
    except OSError:
        if kept is not None:
            kept.rename(copy)
        raise


def overview(notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS) -> str:
    """A table of all lessons: number, title, minutes to read, seconds to run, the copy's state."""
    rows = [("lesson", "title", "read", "run", "your copy")]
    for lesson in course_lessons(notebooks):
        notebook = read_notebook(lesson)
        minutes, seconds = times(notebook) or ("?", "?")
        number, name = lesson.stem[:2], title(notebook)
        rows.append((number, name, f"{minutes} min", f"{seconds} s", state(lesson, mine)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for number, name, read, run, copy in rows:
        lines.append(
            f"{number:<{widths[0]}}  {name:<{widths[1]}}  "
            f"{read:>{widths[2]}}  {run:>{widths[3]}}  {copy}"
        )
    return "\n".join(lines)


def _sources(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Kind and text of every cell."""
    return [(cell.cell_type, cell.source) for cell in notebook.cells]


def _copy(lesson: Path, mine: Path) -> Path:
    """Copies a lesson into a folder where no file of this name is.

    A stored widget is dead until its cell runs, and Jupyter would show an error in its place: the
    copy says instead that it will appear there.
    """
    copy = mine / lesson.name
    notebook = read_notebook(lesson)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if LIVE in output.get("data", {}):
                output.data = {"text/plain": NOT_YET_LIVE}
    content = (nbformat.writes(notebook) + "\n").encode()
    try:
        mine.mkdir(parents=True, exist_ok=True)
        with open(copy, "xb") as file:  # "x": fails rather than overwrite
            _write_or_remove(file, content, copy)
    except OSError as error:
        raise OSError(
            f"{copy} cannot be written ({error.strerror}): make room there, or make the folder "
            "writable."
        ) from None
    return copy


def _write_or_remove(file, content: bytes, path: Path) -> None:
    """Writes all of the content; on a full disk it leaves no half of it behind."""
    try:
        file.write(content)
        file.flush()
    except OSError:
        path.unlink()
        raise


def _name_to_keep(copy: Path) -> Path:
    """A name, not in use, under which an old copy is kept: `04_fusion (kept DATE TIME).ipynb`."""
    when = datetime.now().strftime("%Y-%m-%d %H.%M.%S")
    kept = copy.with_name(f"{copy.stem} (kept {when}){copy.suffix}")
    number = 2
    while kept.exists():
        kept = copy.with_name(f"{copy.stem} (kept {when}, {number}){copy.suffix}")
        number += 1
    return kept


def most_seconds(lesson: Path) -> int:
    """What all cells of a lesson may take on a laptop with two cores, in seconds."""
    return 180 if lesson.stem == "12_real_data" else 60


# Cells that need a data set which not everybody has

NEEDS = "%%needs"
"""A cell that begins with this word and names data sets runs only where these are (lesson 12)."""


def missing_data(source: str) -> list[str]:
    """The data sets that a cell's first line asks for and that are not here."""
    words = source.partition("\n")[0].split()
    if words[:1] != [NEEDS]:
        return []
    from mbm_lab import downloads

    return [name for name in words[1:] if downloads.find(name) is None]


# For authors: run the course's lessons and store what they show


def refresh(numbers: list[str] | None = None, notebooks: Path = NOTEBOOKS) -> None:
    """Runs the course's lessons from top to bottom and stores their outputs in them.

    numbers: the lessons to run (`["04"]`); when None or empty all of them, and the page for the
    projector. Each runs in a fresh
    kernel, on one thread of the CPU, in the folder of the notebooks. What would differ from run to
    run is left out, and so is what cells tagged `private` show, because others may not be given it;
    the seconds that the cells took are written into the notebook's metadata. A lesson that fails
    stays as it was. Raises ValueError when a cell fails, writes a warning, or needs a data set that
    is not here.
    """
    lessons = [find_lesson(n, notebooks) for n in numbers] if numbers else _pages(notebooks)
    for lesson in lessons:
        print(f"{lesson.name}: running ...", flush=True)
        notebook = read_notebook(lesson)
        for name in (name for cell in notebook.cells for name in missing_data(cell.source)):
            raise ValueError(f"{lesson.name} needs the data set {name} to store its outputs.")
        seconds = _execute(notebook, lesson)
        _check_outputs(notebook, lesson.name)
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
                    f"{lesson.name}: this cell fails.\n\n{cell.source}\n\n{error}"
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
                    f"{name}: this cell shows an error or a warning.\n\n{cell.source}\n\n{said}"
                )


def _tidy(notebook: NotebookNode, seconds: float) -> None:
    """Leaves out what differs from run to run, and notes the seconds."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "private" in cell.metadata.get("tags", []):
            cell.outputs = []
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
