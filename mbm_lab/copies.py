"""The learner's copies of the lessons: made, compared, brought up to date, merged, never lost.

A learner works in `my_lessons/`, in copies of the course's notebooks without their outputs. A copy
names in its metadata the text of the course that it was made from (`mbm.origin`, a fingerprint),
and that text is kept in `my_lessons/.course/`. So each copy tells by itself, wherever it was moved
or renamed, whether the learner or the course has changed since, and the two can be merged.

No file of the learner's is overwritten: before another takes its place, it is moved to a name of
its own. Text is everything here: outputs and the numbers of the cells do not count.
"""

import contextlib
import hashlib
import itertools
import json
import os
from datetime import datetime
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mbm_lab import atomic, lessons, merging, outputs
from mbm_lab.lessons import MY_LESSONS, NOTEBOOKS, course_lessons, find_lesson, read_notebook

ORIGINS = ".course"  # the folder, among the copies, of the texts that they were made from

NOT_COPIED = "not yet copied"
SAME = "as the course's"
NEWER = "not changed; `mbm-lab lab` brings the newer one"
DIFFERENT = "yours differs"
BOTH = "yours differs, and the course has a newer one"
UNKNOWN = "yours differs; which version it was made from is not known"
UNREADABLE = "yours cannot be read"

EARLIER = Path(__file__).with_name("earlier_lessons.txt")
"""Fingerprints of lessons whose copies did not yet name their origin."""


# What a copy is


def state(lesson: Path, mine: Path = MY_LESSONS) -> str:
    """How the learner's copy of a lesson stands beside the course's: one of the words above."""
    copy = Path(mine) / lesson.name
    if not copy.exists():
        return NOT_COPIED
    try:
        notebook = read_notebook(copy)
    except (ValueError, OSError):  # or a folder, or nobody may read it
        return UNREADABLE
    course = fingerprint(lessons.without_notes(read_notebook(lesson)))
    text = fingerprint(notebook)
    if text == course:
        return SAME
    known = origin(notebook)
    if text == known or (known is None and text in earlier()):
        return NEWER
    if known is None:
        return UNKNOWN
    return DIFFERENT if known == course else BOTH


def fingerprint(notebook: NotebookNode) -> str:
    """Sixteen letters that stand for the kind and the text of every cell."""
    text = json.dumps([[cell.cell_type, cell.source] for cell in notebook.cells])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def origin(notebook: NotebookNode) -> str | None:
    """The fingerprint of the course's text that a copy was made from; None if it does not say."""
    mbm = notebook.metadata.get("mbm")
    found = mbm.get("origin") if isinstance(mbm, dict) else None
    return found if isinstance(found, str) else None


def earlier() -> set[str]:
    """The fingerprints of all lessons whose copies did not yet name their origin."""
    return set(EARLIER.read_text(encoding="utf-8").split())


def overview(notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS) -> str:
    """A table of all lessons: number, title, minutes to read, seconds to run, the copy's state."""
    rows = [("lesson", "title", "read", "run", "your copy")]
    for lesson in course_lessons(notebooks):
        notebook = read_notebook(lesson)
        minutes, seconds = lessons.times(notebook) or ("?", "?")
        number, name = lesson.stem[:2], lessons.title(notebook)
        rows.append((number, name, f"{minutes} min", f"{seconds} s", state(lesson, mine)))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = []
    for number, name, read, run, copy in rows:
        lines.append(
            f"{number:<{widths[0]}}  {name:<{widths[1]}}  "
            f"{read:>{widths[2]}}  {run:>{widths[3]}}  {copy}"
        )
    return "\n".join(lines)


# Making and changing copies


def copy_missing(notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS) -> list[Path]:
    """Copies the lessons that the learner does not have yet; returns the new copies.

    A file that is already there is never touched. Raises OSError when one cannot be written.
    """
    missing = [lesson for lesson in course_lessons(notebooks) if state(lesson, mine) == NOT_COPIED]
    for lesson in missing:
        _put(learners(lesson), lesson, Path(mine))
    return [Path(mine) / lesson.name for lesson in missing]


def fresh_copy(
    number: str | int, notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS
) -> tuple[Path, Path | None]:
    """Gives a fresh copy of a lesson, and keeps the learner's old one under another name.

    Returns the fresh copy, and the file in which the old one is kept (None if there was none).
    Raises ValueError when the course has no such lesson, OSError when the copy cannot be written.
    """
    lesson = find_lesson(number, notebooks)
    return Path(mine) / lesson.name, _put(learners(lesson), lesson, Path(mine))


def merge(
    number: str | int, notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS
) -> tuple[Path, Path | None]:
    """Brings what is new in a lesson of the course into the learner's copy; keeps the old one.

    Returns the merged copy (`merging.conflicts` says where both versions stand in it) and the file
    in which the old one is kept; None, and nothing is done, if the course has nothing new. Raises
    ValueError when the course has no such lesson, or the copy is missing, cannot be read, or does
    not say what it was made from; OSError when the merged copy cannot be written.
    """
    lesson = find_lesson(number, notebooks)
    copy, now = Path(mine) / lesson.name, state(lesson, mine)
    fresh = f"`mbm-lab lessons --fresh {lesson.stem[:2]}`"
    if now in (SAME, DIFFERENT):
        return copy, None
    if now == NOT_COPIED:
        raise ValueError(f"You have no copy of {lesson.stem} yet: type {fresh}, which makes one.")
    if now == UNREADABLE:
        raise ValueError(
            f"{copy.name} cannot be read: type {fresh}, which gives another and keeps yours."
        )
    if now == NEWER:
        return fresh_copy(number, notebooks, mine)
    yours = read_notebook(copy)
    base = None if now == UNKNOWN else _stored_origin(lesson.stem, origin(yours), Path(mine))
    if base is None:
        raise ValueError(
            f"What your {lesson.stem} was made from is not known, so it cannot be merged: "
            f"type {fresh}, which gives the course's and keeps yours."
        )
    return copy, _put(merging.merge(base, yours, learners(lesson)), lesson, Path(mine))


def learners(lesson: Path) -> NotebookNode:
    """A lesson as a learner gets it: without notes, not yet run, and naming its origin.

    Its metadata are complete, so that JupyterLab, which completes them, has nothing to save.
    """
    from ipykernel.ipkernel import IPythonKernel
    from ipykernel.kernelspec import get_kernel_dict

    notebook = lessons.without_notes(read_notebook(lesson))
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    kernel = get_kernel_dict()
    notebook.metadata.kernelspec = NotebookNode(
        display_name=kernel["display_name"], language=kernel["language"], name="python3"
    )
    notebook.metadata.language_info = nbformat.from_dict(IPythonKernel.language_info)
    notebook.metadata.mbm = NotebookNode(origin=fingerprint(notebook))
    return notebook


def _store_origin(lesson: Path, mine: Path) -> None:
    """Stores the course's text of a lesson, if it is not stored: for merging, later."""
    notebook = learners(lesson)
    if _stored_origin(lesson.stem, origin(notebook), mine) is None:
        store = _origin_file(lesson.stem, origin(notebook), mine)
        _make_folder(store.parent)
        atomic.write_whole(store, lambda part: nbformat.write(notebook, part))


def _origin_file(stem: str, text: str, mine: Path) -> Path:
    """Where the course's text with this fingerprint is stored."""
    return mine / ORIGINS / f"{stem}-{text}.ipynb"


def _stored_origin(stem: str, text: str, mine: Path) -> NotebookNode | None:
    """The course's text with this fingerprint, or None if it is not stored, or damaged."""
    try:
        notebook = read_notebook(_origin_file(stem, text, mine))
    except (ValueError, OSError):
        return None
    return notebook if fingerprint(notebook) == text else None


def _put(notebook: NotebookNode, lesson: Path, mine: Path) -> Path | None:
    """Writes a copy of a lesson; what was there is moved to a name of its own, which is returned.

    When it cannot be written, what was there is there again.
    """
    copy = mine / lesson.name
    content = (nbformat.writes(notebook) + "\n").encode()
    _store_origin(lesson, mine)
    kept = _keep(copy) if copy.exists() else None
    try:
        _write_new(copy, content)
    except BaseException:  # Ctrl+C, too
        if kept is not None and not copy.exists():
            with contextlib.suppress(OSError):  # else it keeps its new name
                kept.rename(copy)
        raise
    return kept


def put_glossary(notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS) -> bool:
    """Puts the course's glossary beside the copies, which link to it; returns whether it did.

    A glossary that the learner has changed stays as it is. Raises OSError when it cannot be
    written; what was there is then untouched.
    """
    course, copy = Path(notebooks) / lessons.GLOSSARY, Path(mine) / lessons.GLOSSARY
    kept = Path(mine) / ORIGINS / lessons.GLOSSARY  # as the course last brought it
    if not course.is_file():
        return False
    text = course.read_bytes()
    try:
        there, known = (one.read_bytes() if one.is_file() else None for one in (copy, kept))
    except OSError as error:
        raise OSError(_not_written(copy, error)) from None
    if copy.exists() and there not in (text, known):
        return False
    _make_folder(kept.parent)
    for path, old in ((copy, there), (kept, known)):
        if old != text:
            atomic.write_whole(path, lambda part: part.write_bytes(text))
    return there != text


def _make_folder(folder: Path) -> None:
    """Makes a folder, and those that it is in, if they are not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(_not_written(folder, error)) from None


def _write_new(path: Path, content: bytes) -> None:
    """Writes a file that was not there; on a full disk it leaves no half of it behind."""
    try:
        with open(path, "xb") as file:  # "x": fails rather than overwrite
            file.write(content)
    except FileExistsError as error:
        raise OSError(_not_written(path, error)) from None
    except BaseException as error:  # Ctrl+C, too
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise OSError(_not_written(path, error)) from None
        raise


def _not_written(path: Path, error: OSError) -> str:
    """One sentence on a file that cannot be written."""
    todo = "make room there, or make the folder writable."
    return f"{path} cannot be written ({error.strerror}): {todo}"


def _keep(copy: Path) -> Path:
    """Moves a copy to a name that was not in use: `04_fusion (kept DATE TIME).ipynb`."""
    when = datetime.now().strftime("%Y-%m-%d %H.%M.%S")
    for number in itertools.count(1):
        again = f", {number}" if number > 1 else ""
        kept = copy.with_name(f"{copy.stem} (kept {when}{again}){copy.suffix}")
        try:
            kept.touch(exist_ok=False)  # so that nobody else takes this name
        except FileExistsError:
            continue
        except OSError as error:
            raise OSError(_not_written(kept, error)) from None
        try:
            os.replace(copy, kept)
        except OSError as error:
            with contextlib.suppress(OSError):
                kept.unlink()
            raise OSError(_not_written(kept, error)) from None
        return kept


# Before JupyterLab starts


def prepare(notebooks: Path = NOTEBOOKS, mine: Path = MY_LESSONS) -> list[str]:
    """Makes the copies ready for work; says in a sentence each what was done and what is to do.

    Missing copies are made, and those that the learner has not changed are brought up to date.
    Dead live views give way to their pictures. Files that are there are left alone while a Jupyter
    server shows them. Raises OSError when a missing copy cannot be made.
    """
    mine = Path(mine)
    said = []
    new = copy_missing(notebooks, mine)
    if new:
        said.append(f"Copied for you into my_lessons: {', '.join(copy.stem for copy in new)}.")
    try:
        put_glossary(notebooks, mine)
    except OSError as error:
        said.append(f"The glossary could not be put beside your lessons: mend this. {error}")
    states = {lesson: state(lesson, mine) for lesson in course_lessons(notebooks)}
    newer = [lesson for lesson, now in states.items() if now == NEWER]
    dead = with_dead_views(mine)
    if (newer or dead) and served(mine):
        said.append("A Jupyter server shows my_lessons, so your lessons are left as they are.")
    else:
        try:
            for lesson in states:
                _store_origin(lesson, mine)  # should someone have removed it
            for lesson in newer:
                kept = _put(learners(lesson), lesson, mine)
                said.append(
                    f"You have not changed {lesson.stem[:2]}; it was brought up to date. "
                    f"The old one: {kept.name}"
                )
            for path in dead:
                _keep_stills(path)
        except OSError as error:
            said.append(f"Your lessons could not all be brought up to date. {error}")
    for lesson, now in states.items():
        fresh = f"`mbm-lab lessons --fresh {lesson.stem[:2]}`"
        if now == BOTH:
            said.append(
                f"The course has a newer {lesson.stem[:2]} and you have changed yours: {fresh}, "
                f"or `mbm-lab lessons --merge {lesson.stem[:2]}`."
            )
        if now == UNKNOWN:
            said.append(
                f"Your {lesson.stem[:2]} differs from the course's, and what it was made from is "
                f"not known: {fresh} gives the course's, and keeps yours."
            )
    return said or ["Your lessons are in my_lessons, as you left them."]


def served(folder: Path) -> bool:
    """Whether a Jupyter server of this user shows this folder."""
    from jupyter_server.serverapp import list_running_servers

    folder = Path(folder).resolve()
    roots = [server.get("root_dir") for server in list_running_servers()]
    return any(folder.is_relative_to(Path(root).resolve()) for root in roots if root)


def with_dead_views(mine: Path = MY_LESSONS) -> list[Path]:
    """The learner's notebooks in which a live view hides the picture that is stored beside it."""
    return [path for path in sorted(Path(mine).glob("*.ipynb")) if _with_stills(path) is not None]


def _keep_stills(path: Path) -> None:
    """Takes the dead views out of a notebook, which stays trusted if it was; no more changes."""
    from nbformat.sign import NotebookNotary

    notary = NotebookNotary()
    trusted = notary.check_signature(read_notebook(path))
    text = _with_stills(path)
    atomic.write_whole(path, lambda part: part.write_text(text, encoding="utf-8", newline="\n"))
    if trusted:
        notary.sign(read_notebook(path))


def _with_stills(path: Path) -> str | None:
    """A notebook's text with its pictures alone; None if it has no dead view, or cannot be read."""
    try:
        if not path.is_file():
            return None
        text = path.read_text(encoding="utf-8")
        if outputs.LIVE not in text:
            return None
        notebook = json.loads(text)
        shown = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
        if sum(outputs.keep_still(output) for output in shown) == 0:
            return None
        read_notebook(path)  # whether Jupyter can read it
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        text.encode()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return text
