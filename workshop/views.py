"""Four views of the lessons, built from `notebooks/`: `make workshop`.

    python -m workshop.views [FOLDER] [--only slides site …] [--lessons 04 05 …]

`learner/` and `instructor/` hold notebooks, `slides/` a page a lesson for the projector, `site/`
the web site. Everything in them works without the internet.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import os
import shutil
import string
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mbm_lab import lessons
from workshop import copies, site, slides

FOLDER = Path("build") / "workshop"
MARKER = ".made-by-make-workshop"
"""A file in each folder that this command has made: such a folder may be replaced, no other."""

VIEWS: dict[str, Callable[[list[Path], Path], None]] = {
    "learner": copies.write_learners,
    "instructor": copies.write_instructors,
    "slides": slides.write,
    "site": site.write,
}
"""Each view: the name of its folder, and what writes it."""

LINKS = (
    ("slides", "slides", "html"),
    ("web page", "site", "html"),
    ("instructor's notebook", "instructor", "ipynb"),
    ("learners' notebook", "learner", "ipynb"),
)
"""What the first page leads to for each lesson: in words, the folder, the ending."""


def build(folder: Path, only: list[str] | None = None, numbers: list[str] | None = None) -> None:
    """Builds the views into a folder; the folder that was there gives way only to a whole new one.

    only: the views to build, all where it is None or empty; the others stay as they were. numbers:
    the lessons ("04"), all where it is None or empty. Raises ValueError when there is no such
    lesson or view, or a lesson cannot be shown; FileExistsError when the folder holds something
    else; OSError when nothing can be written there.
    """
    folder = Path(folder).absolute()
    refuse_strange(folder)
    for name in only or ():
        if name not in VIEWS:
            raise ValueError(f"There is no view {name}: choose from {', '.join(VIEWS)}.")
    chosen = [lessons.find_lesson(n) for n in numbers] if numbers else lessons.course_lessons()
    new = folder.with_name(f".{folder.name}.{os.getpid()}.new")
    try:
        new.mkdir(parents=True)
        (new / MARKER).touch()
        for name, write in VIEWS.items():
            start = time.perf_counter()
            if only and name not in only:
                if (folder / name).exists():
                    shutil.copytree(folder / name, new / name)
                continue
            write(chosen, new / name)
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        (new / "index.html").write_text(index(chosen), encoding="utf-8")
        replace(folder, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def index(notebooks: list[Path]) -> str:
    """The page that leads to all views."""
    rows = []
    for path in notebooks:
        name, title = path.stem, html.escape(lessons.title(lessons.read_notebook(path)))
        links = [
            f'<a href="{view}/{name}.{kind}" aria-label="{name[:2]}: {what}">{what}</a>'
            for what, view, kind in LINKS
        ]
        cells = "".join(f"<td>{link}</td>" for link in links)
        rows.append(f'<tr><th scope="row">{name[:2]} · {title}</th>{cells}</tr>')
    template = (Path(__file__).parent / "index.html").read_text(encoding="utf-8")
    return string.Template(template).substitute(rows="\n".join(rows))


def refuse_strange(folder: Path) -> None:
    """Raises FileExistsError when a folder is not empty, and this command has not made it."""
    if folder.is_dir() and ((folder / MARKER).exists() or not any(folder.iterdir())):
        return
    if folder.exists():
        raise FileExistsError(
            f"{folder} is not a folder that this command has made, so it is left alone: name "
            "another folder, or move this one away."
        )


def replace(folder: Path, new: Path) -> None:
    """Puts a new folder in the place of the old one."""
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        with contextlib.suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _in_a_sentence(error: ValueError | OSError, folder: Path) -> str:
    """What went wrong, and what to do."""
    if isinstance(error, OSError) and error.strerror:
        why = f"{folder} cannot be written ({error.strerror})"
        return f"{why}: make room there, or name another folder."
    return str(error)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m workshop.views", description="Build slides, a web site, and notebooks."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER, help="build/workshop")
    parser.add_argument("--only", nargs="+", metavar="VIEW", help=f"of {', '.join(VIEWS)}")
    parser.add_argument("--lessons", nargs="+", metavar="NUMBER", help="for authors: only these")
    given = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        build(given.folder, given.only, given.lessons)
    except (ValueError, OSError) as error:
        print(_in_a_sentence(error, given.folder), file=sys.stderr)
        return 1
    print(f"Everything is in {given.folder} ({time.perf_counter() - start:.0f} s).")
    return 0


if __name__ == "__main__":
    sys.exit(main())
