"""A page to print: which exercises a learner solved, when, and whether the answers are right today.

The answers are the learner's own cells, in their copies of the lessons. They are run anew in a
fresh Python, in an empty folder and for a limited time: the cell, and of the cells above it only
what it needs (imports, functions, values). `answer_program` finds that. The answers of a lesson
share a Python, because its start takes longest; one that is not right there gets another, alone,
which says why. Nothing is sent anywhere.
"""

from __future__ import annotations

import ast
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from nbformat import NotebookNode

from mbm_lab import __version__, atomic, exercises, lessons, rows
from mbm_lab.exercises import progress
from mbm_lab.exercises.exercise import NOT_YET, RIGHT, UNTOUCHED, Choice, Exercise

SECONDS = 60
"""How long one answer may take."""

SECONDS_TO_START = 300
"""How long a fresh Python may take to load the course, on a computer that is busy."""

MOST_PRINTED = 10_000_000
"""So many bytes may a cell print."""

AT_ONCE = 2
"""How many answers are checked at the same time."""


class Checked(NamedTuple):
    """One exercise that was solved. solved_on: the day, or "" where none was kept; fault: why its
    cell is not right now, a sentence; "" when it is."""

    label: str
    one: Exercise | Choice
    solved_on: str
    with_solution: bool
    fault: str


def write(path: str | Path, mine: Path | None = None, tell: Callable[[str], None] = print) -> int:
    """Checks all solved exercises anew, and writes the record as one HTML page.

    path: a new file; mine: the learner's folder of lessons; tell: called with a line for each
    exercise. Returns how many of the answers are not right now. Raises FileExistsError when the
    file is there already (it is left as it is); ValueError when nothing is solved yet, and
    ValueError or OSError as `progress.load` does or when the file cannot be written.
    """
    path = rows.named(path)
    if os.path.lexists(path):
        raise FileExistsError(f"{path} is already there, and is left as it is: name a new file.")
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(
            f"There is no folder {path.absolute().parent} for {path.name}: make it, or name "
            "another."
        )
    checked = check_all(progress.load(), mine or lessons.MY_LESSONS, tell)
    html = page(checked, datetime.date.today())
    atomic.write_whole(path, lambda part: part.write_text(html, encoding="utf-8"))
    return sum(bool(one.fault) for one in checked)


def check_all(states: dict[str, dict], mine: Path, tell: Callable[[str], None]) -> list[Checked]:
    """Runs the answers of all solved exercises. Raises ValueError when there are none."""
    solved = {
        label: one
        for label, one in exercises.in_order().items()
        if states.get(one.key, {}).get("solved")
    }
    if not solved:
        raise ValueError("No exercise is solved yet: solve one, which a record needs.")
    tell(f"Checking {len(solved)} solved exercises anew. This takes a minute or two.")

    def check(number: str) -> list[Checked]:
        ones = {label: one for label, one in solved.items() if one.lesson == number}
        faults = check_answers(list(ones.values()), mine)
        checked = []
        for label, one in ones.items():
            state, fault = states[one.key], faults[one.key]
            seen = bool(state.get("solution_seen"))
            checked.append(Checked(label, one, state.get("solved_on", ""), seen, fault))
            tell(f"{label} {one.title}: {fault or 'right'}")
        return checked

    with ThreadPoolExecutor(AT_ONCE) as pool:
        numbers = sorted({one.lesson for one in solved.values()})
        return [one for lesson in pool.map(check, numbers) for one in lesson]


# --- The learner's answer


def check_answers(
    ones: list[Exercise | Choice], mine: Path, seconds: float = SECONDS
) -> dict[str, str]:
    """Runs the learner's answers to exercises of one lesson: {key: why it is not right, or ""}."""
    copy = mine / lessons.find_lesson(ones[0].lesson).name
    fault = ""
    if not copy.is_file():
        fault = f"There is no {copy.name} in the folder of lessons."
    else:
        try:
            notebook = lessons.read_notebook(copy)
        except (ValueError, OSError):
            fault = f"{copy.name} cannot be read."
    if fault:
        return {one.key: fault for one in ones}
    programs = {one.key: _programs(notebook, one) for one in ones}
    together = [program for theirs in programs.values() for program in theirs]
    right = _run(together, seconds)[0] if len(together) > 1 else set()
    faults = {}
    for one in ones:
        theirs = programs[one.key]
        if one.key in right:
            faults[one.key] = ""
        elif not theirs:
            found = answer_cells(notebook, one)
            said = "is no valid Python" if found else f"is not in {copy.name}"
            faults[one.key] = f"Its cell {said}."
        else:
            faults[one.key] = _check_alone(one, theirs[-1], seconds)
    return faults


def _programs(notebook: NotebookNode, one: Exercise | Choice) -> list[str]:
    """An exercise's cells as programs: one, or more for those who copied the cell."""
    programs = (answer_program(notebook, place) for place in answer_cells(notebook, one))
    return [program for program in programs if program is not None]


def _check_alone(one: Exercise | Choice, program: str, seconds: float) -> str:
    """Runs one answer alone; returns "" when it is right, else why it is not."""
    right, printed, ended = _run([program], seconds)
    if one.key in right:
        return ""
    return ended or _what_was_said(printed, one) or _error(printed)


def answer_cells(notebook: NotebookNode, one: Exercise | Choice) -> list[int]:
    """The places of the cells in which an exercise is imported and checked."""
    module = exercises.LESSONS[one.lesson]
    begin = re.compile(
        rf"^from mbm_lab\.exercises\.{module} import {one.name} as ex\b", re.MULTILINE
    )
    check = re.compile(r"^ex\.check\(", re.MULTILINE)
    return [
        place
        for place, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and begin.search(cell.source) and check.search(cell.source)
    ]


def answer_program(notebook: NotebookNode, place: int) -> str | None:
    """A cell as a program that runs alone; None when the cell is no valid Python.

    Before the cell stand those statements of the cells above it that give names which it needs:
    imports, functions, classes and values; for each name the last one before it is read, and what
    that needs in turn. (A function reads its names when it is called, so any above the cell.)
    Lines for IPython alone (%, !) are left out.
    """
    cell = _statements(notebook.cells[place].source)
    if cell is None:
        return None
    above = [
        statement
        for earlier in notebook.cells[:place]
        if earlier.cell_type == "code"
        for statement in _statements(earlier.source) or []
        if isinstance(statement, GIVES)
    ]
    gives = list(map(_given_names, above))
    needed = {place for place, names in enumerate(gives) if "*" in names}
    asked = [(name, len(above)) for one in cell for name in _read_names(one)]
    while asked:
        name, before = asked.pop()
        last = max((place for place in range(before) if name in gives[place]), default=None)
        if last is not None and last not in needed:
            needed.add(last)
            later = isinstance(above[last], ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            before = len(above) if later else last
            asked += [(name, before) for name in _read_names(above[last])]
    program = [*(above[place] for place in sorted(needed)), *cell]
    program.sort(key=lambda one: not _is_from_future(one))  # they must come first
    return "\n".join(map(ast.unparse, program))


def _is_from_future(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.ImportFrom) and statement.module == "__future__"


GIVES = (
    ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign,
    ast.AnnAssign,
)  # fmt: skip
"""Statements that give names."""


def _statements(source: str) -> list[ast.stmt] | None:
    """The statements of a cell; None where it is no valid Python."""
    lines = ["" if line.startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        return ast.parse("\n".join(lines)).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _given_names(statement: ast.stmt) -> set[str]:
    """The names that a statement gives."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {statement.name}
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    names = (node for target in targets for node in ast.walk(target))
    return {node.id for node in names if isinstance(node, ast.Name)}


def _read_names(statement: ast.stmt) -> set[str]:
    """The names that a statement reads, here or in the functions that it defines."""
    return {
        node.id
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


RUNNER = """
import runpy, sys, traceback
import mbm_lab.exercises.exercise
open("started", "w").close()
for name in sys.argv[1:]:
    try:
        runpy.run_path(name, run_name="__main__")
    except BaseException:
        traceback.print_exc()
"""
"""Runs programs, one after the other, as files of their own."""


def _run(programs: list[str], seconds: float) -> tuple[set[str], str, str]:
    """Runs programs that check answers, in one fresh Python and an empty folder.

    Returns the keys of the exercises that are right, what was printed, and "" or why it had to be
    ended. Progress goes into a file of its own, which says what was right.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, names = Path(name), []
        for place, program in enumerate(programs):
            names.append(f"answer_{place}.py")
            (folder / names[-1]).write_text(program + "\n", encoding="utf-8")
        with open(folder / "said.txt", "wb") as page:
            ended = _wait(_start(folder, names, page), folder, seconds * len(programs))
        try:
            states = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
            right = {key for key, state in states.items() if state.get("solved") is True}
        except (OSError, ValueError, AttributeError, RecursionError):
            right = set()
        return right, (folder / "said.txt").read_text("utf-8", errors="replace"), ended


def _start(folder: Path, names: list[str], page: IO[bytes]) -> subprocess.Popen:
    """Starts programs in a fresh Python that finds the course as this one does."""
    course = os.pathsep.join(os.path.abspath(one) for one in sys.path if one)
    settings = {
        "MBM_PROGRESS": str(folder / "progress.json"), "MPLBACKEND": "agg",
        "PYTHONIOENCODING": "utf-8", "PYTHONPATH": course,
    }  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-c", RUNNER, *names], cwd=folder, env=os.environ | settings,
        stdin=subprocess.DEVNULL, stdout=page, stderr=subprocess.STDOUT,
    )  # fmt: skip


def _wait(program: subprocess.Popen, folder: Path, seconds: float) -> str:
    """Waits until a program ends; returns "", or why it had to be ended."""
    end, started = time.monotonic() + SECONDS_TO_START, False
    try:
        while True:
            try:
                program.wait(0.1)
                return ""
            except subprocess.TimeoutExpired:
                if not started and (folder / "started").exists():
                    end, started = time.monotonic() + seconds, True
                if time.monotonic() > end:
                    return f"Its cell did not end within {seconds:.0f} seconds."
                if (folder / "said.txt").stat().st_size > MOST_PRINTED:
                    return "Its cell prints without end."
    finally:
        program.kill()
        program.wait()


def _what_was_said(printed: str, one: Exercise | Choice) -> str:
    """The first paragraph below a check's verdict, as one sentence."""
    for verdict in (NOT_YET, UNTOUCHED):
        _, found, rest = printed.partition(f"{verdict} {one.title}\n")
        if found:
            words = verdict if verdict == UNTOUCHED else ""
            for line in rest.splitlines():
                if not line.strip() or line.startswith((" ", "The smallest input")):
                    break
                words += f" {line}"
            return words.strip() or NOT_YET
    return ""


def _error(printed: str) -> str:
    """What ended a cell before its check, in a sentence."""
    lines = [line for line in printed.splitlines() if line.strip()]
    last = lines[-1].strip() if lines else "no check was made"
    return f"Its cell stops before its check: {last[:200]}"


# --- The page


def page(checked: list[Checked], today: datetime.date) -> str:
    """The record as one HTML page for A4 paper: no name, but a line to write one on."""
    from mbm_lab.report import POLICY, STYLE, Markup, tag

    every = exercises.in_order()
    right = sum(not one.fault for one in checked)
    sentence = (
        f"{len(checked)} of the course's {len(every)} exercises are solved. On {_day(today)} each "
        f"answer was run again: {right} of {len(checked)} {'is' if right == 1 else 'are'} right."
    )
    name = tag("p", "Name: ", tag("span", "", class_="line"), class_="name")
    sections = [
        tag("header", tag("p", f"MBM Lab {__version__}"), tag("h1", "A record of exercises"), name),
        tag("section", tag("p", sentence), class_="verdict"),
    ]
    for number in exercises.LESSONS:
        ones = [one for one in checked if one.one.lesson == number]
        if ones:
            sections.append(_lesson(number, ones))
    words = (
        "Made on the learner's own computer by `mbm-lab exercises --record`. Every answer is the "
        "learner's cell, run alone in a fresh Python on that day. A record is as honest as its "
        "owner: nobody watched, and nothing was sent anywhere."
    )
    sections.append(tag("footer", tag("p", words)))
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", "MBM Lab: a record of exercises"),
        Markup(f"<style>{STYLE.read_text(encoding='utf-8')}{PAPER}</style>"),
    ]
    body = tag("body", tag("main", *sections))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', *head), body, lang='en')}\n"


PAPER = """
.name { color: var(--ink); font-size: 1.2rem; margin: 1rem 0; }
.line { display: inline-block; width: min(24rem, 70%); border-bottom: 1px solid var(--ink); }
.record { width: 100%; }
.record th, .record td { text-align: left; }
.record td:nth-child(1) { width: 55%; }
.record td:nth-child(2) { width: 25%; }
tr { break-inside: avoid; }
@page { size: A4; }
"""


def _lesson(number: str, ones: list[Checked]) -> str:
    """The table of one lesson."""
    from mbm_lab.report import tag

    lesson = lessons.title(lessons.read_notebook(lessons.find_lesson(number)))
    of = len(exercises.of_lesson(number))
    heads = ("exercise", "solved on", "checked again")
    head = tag("tr", *(tag("th", text, scope="col") for text in heads))
    rows = [tag("tr", *map(_cell, _row(one))) for one in ones]
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="record")
    return tag(
        "section",
        tag("h2", f"Lesson {number} · {lesson} · {len(ones)} of {of} solved"),
        tag("div", table, class_="table", tabindex="0"),
    )


def _cell(text: str) -> str:
    from mbm_lab.report import tag

    return tag("td", text)


def _row(one: Checked) -> tuple[str, str, str]:
    """Exercise, day, and how it is now."""
    day = _day(datetime.date.fromisoformat(one.solved_on)) if one.solved_on else "(day not kept)"
    with_solution = ", after seeing the solution" if one.with_solution else ""
    now = f"not right now. {one.fault}" if one.fault else RIGHT.lower().rstrip(".")
    title = f"{one.label} · {one.one.title} ({one.one.difficulty_in_words})"
    return title, day + with_solution, now


MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip


def _day(day: datetime.date) -> str:
    """3 March 2030, in English on every computer."""
    return f"{day.day}\xa0{MONTHS[day.month - 1]}\xa0{day.year}"
