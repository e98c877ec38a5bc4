"""Plans for a workshop: 90 minutes, half a day, two days. `python -m workshop.plans` prints them.

What stands in a plan is chosen here; how long it takes comes from the lessons, by the rule of the
notes for the instructor (`mbm_lab.lessons.note_minutes`): reading aloud, and the exercises that a
row names. The tables in `workshop/README.md` are this module's output; `--write` renews them.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from mbm_lab import atomic, classroom, lessons

README = Path(__file__).with_name("README.md")

SECTION = re.compile(r"^## (?:(?P<number>\d+)\. .*|Questions.*)$", re.MULTILINE)
"""The headings before which a note stands."""

START, QUESTIONS = "start", "questions"
"""The parts of a lesson before its first numbered heading, and from its questions on."""


class Row(NamedTuple):
    """A row of a plan. A lesson's row has lesson and sections, and the places of the exercises that
    are done in the room ((1, 3): 04.1 and 04.3); any other has minutes. cut: what is said instead
    when the row is left out because it is late; "" when it is not left out."""

    what: str = ""
    room: str = ""
    lesson: str = ""
    sections: tuple[str, ...] = ()
    exercises: tuple[int, ...] = ()
    minutes: int = 0
    cut: str = ""


class Plan(NamedTuple):
    """A format: its heading, its minutes in all, and its rows. What they leave is the reserve."""

    title: str
    minutes: int
    rows: tuple[Row, ...]


# What a lesson's parts take


def parts(notebook: NotebookNode) -> dict[str, list[NotebookNode]]:
    """A lesson's cells by their sections: "start", "1", "2", …, "questions"; each with its notes.

    A cell of text that holds a section's heading in its middle is divided there.
    """
    found: dict[str, list[NotebookNode]] = {START: []}
    name, notes = START, []
    for cell in notebook.cells:
        if lessons.is_note(cell):
            notes.append(cell)  # it stands before what it is about
            continue
        heads = list(SECTION.finditer(cell.source)) if cell.cell_type == "markdown" else []
        if not (heads and heads[0].start() == 0):
            found[name] += notes
            notes = []
        if not heads:
            found[name].append(cell)
            continue
        ends = [head.start() for head in heads] + [len(cell.source)]
        if ends[0]:
            found[name].append(new_markdown_cell(cell.source[: ends[0]]))
        for head, end in zip(heads, ends[1:], strict=True):
            name = head["number"] or QUESTIONS
            text = new_markdown_cell(cell.source[head.start() : end])
            found.setdefault(name, []).extend([*notes, text])
            notes = []
    return found


def minutes_of(cells: list[NotebookNode]) -> int:
    """The minutes of the notes among these cells; without any, those that a note would have."""
    if not any(map(lessons.is_note, cells)):
        cells = [new_markdown_cell("", metadata={"tags": [lessons.NOTE]}), *cells]
    return sum(lessons.note_minutes(new_notebook(cells=cells)))


def headings(notebook: NotebookNode) -> dict[str, str]:
    """The heading of each section: {"1": "By hand: three cards", …}."""
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return {
        head["number"]: head[0].partition(". ")[2]
        for head in SECTION.finditer(text)
        if head["number"]
    }


# The plans

PREDICTION = re.compile(r"\*\*Before you run\b[^*]*:\*\*")
MINUTES_A_PREDICTION = 2  # write yours down, raise hands; reading it is in the lesson's minutes

BREAK = Row("**Break**", "air", minutes=15)
LUNCH = Row("**Lunch**", "eat", minutes=60)
POLL = Row(
    "**Poll**: where are the best α and β? (`mbm-lab poll`, on the projector)",
    "everybody drags one dot, on a telephone or a laptop; then you reveal the best",
    minutes=10,
)
PLAYGROUND = Row(
    "**Playground** (`make playground`, or `playground.html` on a telephone)",
    "in pairs: worse pictures, smudged words; each time first guess where the best point goes",
    minutes=10,
    cut="“The less a witness knows, the less it weighs. Try it at home: `playground.html`.”",
)
CLOSE = Row(
    "**Close**: what to do at home, the survey's second half",
    "everybody writes; whoever likes gives you the file of `mbm-lab exercises --export`",
    minutes=10,
)


def welcome(minutes: int) -> Row:
    room = "everybody has lesson 00 open, by one of the four ways below; the survey's first half"
    return Row("**Welcome**: who we are, how a check works", room, minutes=minutes)


def talk(number: str, minutes: int, cut: str = "") -> Row:
    what = f"**The three questions** at the end of lesson {number}"
    return Row(what, "in pairs, then aloud", minutes=minutes, cut=cut)


READ = "you read aloud, everybody runs along"
PREDICT = "predictions written down, hands up, then run"
SOLVE = "the exercise alone, then the verdicts are compared"

PLANS = (
    Plan(
        "90 minutes",
        90,
        (
            welcome(5),
            Row(room=PREDICT, lesson="00", sections=("1", "2")),
            Row(
                room="you show the map",
                lesson="00",
                sections=("3",),
                cut="“The course has a lesson for every box of this map; today we do one.”",
            ),
            Row(room=SOLVE, lesson="04", sections=("1",), exercises=(1,)),
            Row(room=PREDICT, lesson="04", sections=("2",)),
            POLL,
            Row(room=PREDICT, lesson="04", sections=("3",)),
            PLAYGROUND._replace(minutes=5),
            Row(
                room=SOLVE,
                lesson="04",
                sections=("4",),
                exercises=(4,),
                cut="“A witness weighs as much as it knows and the other does not.”",
            ),
            Row(
                room=READ,
                lesson="04",
                sections=("5",),
                cut="“α alone says nothing while f can be rescaled: compare αf with βg.”",
            ),
            CLOSE._replace(minutes=5),
        ),
    ),
    Plan(
        "Half a day",
        210,
        (
            welcome(10),
            Row(room=PREDICT, lesson="00", sections=("1", "2", "3")),
            Row(room="a convolution on paper, then in code", lesson="02", sections=("1",)),
            Row(room=SOLVE, lesson="03", sections=("1",), exercises=(1,)),
            BREAK,
            Row(room=SOLVE, lesson="04", sections=("1",), exercises=(1,)),
            Row(room=PREDICT, lesson="04", sections=("2",)),
            POLL,
            Row(room=SOLVE, lesson="04", sections=("3",), exercises=(3,)),
            Row(room=SOLVE, lesson="04", sections=("4",), exercises=(4,)),
            PLAYGROUND,
            BREAK._replace(minutes=10),
            Row(
                room=READ,
                lesson="04",
                sections=("5",),
                cut="“α alone says nothing while f can be rescaled: compare αf with βg.”",
            ),
            Row(room=READ, lesson="05", sections=("1",)),
            Row(
                room=SOLVE,
                lesson="05",
                sections=("3",),
                exercises=(4,),
                cut="“A slope tells where to go; random search must try, and with every number "
                "more there is more to try.”",
            ),
            Row(
                room=PREDICT,
                lesson="05",
                sections=("4",),
                cut="“Where f and g learn, too, α and β may stay where they began.”",
            ),
            talk("04", 10, "“Take the three questions home: each has its answer in a figure.”"),
            CLOSE,
        ),
    ),
    Plan(
        "Two days: the first",
        450,
        (
            welcome(15),
            Row(room=PREDICT, lesson="00", sections=(START, "1", "2", "3", "4", QUESTIONS)),
            Row(room=SOLVE, lesson="01", sections=(START, "1"), exercises=(1,)),
            Row(room=SOLVE, lesson="01", sections=("2",), exercises=(2, 4)),
            BREAK,
            Row(
                room=READ,
                lesson="01",
                sections=("3", "4"),
                cut="“Sound and film become tensors, too: lesson 01 shows it, lessons 08 and 09 "
                "need it.”",
            ),
            Row(room=SOLVE, lesson="02", sections=(START, "1", "2"), exercises=(1,)),
            Row(room=SOLVE, lesson="02", sections=("3", "4"), exercises=(2,)),
            Row(room=SOLVE, lesson="02", sections=("5", "6", "7"), exercises=(3,)),
            LUNCH,
            Row(room=PREDICT, lesson="02", sections=("8", "9")),
            Row(
                room=SOLVE,
                lesson="02",
                sections=("10",),
                exercises=(4,),
                cut="“What happens to f when the face moves? Exercise 02.4 asks it, at home.”",
            ),
            Row(room=SOLVE, lesson="03", sections=(START, "1", "2"), exercises=(1,)),
            Row(room=SOLVE, lesson="03", sections=("3", "4"), exercises=(2,)),
            BREAK,
            Row(room=SOLVE, lesson="03", sections=("5", "6"), exercises=(3,)),
            Row(room=PREDICT, lesson="03", sections=("7",)),
            Row(
                room=SOLVE,
                lesson="03",
                sections=("8",),
                exercises=(5,),
                cut="“Without their order, words say less; lesson 03 measures how much less.”",
            ),
            talk("03", 10, "“Take the three questions home; we begin with them tomorrow.”"),
        ),
    ),
    Plan(
        "Two days: the second",
        450,
        (
            Row(
                "**Yesterday** in three sentences",
                "one sentence each from three learners; who is behind opens lesson 04 anew",
                minutes=10,
            ),
            Row(room=SOLVE, lesson="04", sections=(START, "1"), exercises=(1,)),
            Row(room=PREDICT, lesson="04", sections=("2",)),
            POLL,
            Row(room=SOLVE, lesson="04", sections=("3",), exercises=(2, 3)),
            Row(room=SOLVE, lesson="04", sections=("4", "5"), exercises=(4,)),
            PLAYGROUND,
            BREAK,
            Row(room=SOLVE, lesson="04", sections=("6", "7"), exercises=(5,)),
            Row(room=READ, lesson="05", sections=(START, "1")),
            Row(room=SOLVE, lesson="05", sections=("2",), exercises=(2,)),
            LUNCH,
            Row(room=SOLVE, lesson="05", sections=("3",), exercises=(4,)),
            Row(
                room=PREDICT,
                lesson="05",
                sections=("4",),
                cut="“Where f and g learn, too, α and β may stay where they began.”",
            ),
            Row(room=READ, lesson="05", sections=("5",)),
            Row(room=SOLVE, lesson="07", sections=(START, "1", "2", "3"), exercises=(1, 2)),
            BREAK,
            Row(
                room=READ,
                lesson="07",
                sections=("4", "5"),
                cut="“How good is a search? How often the right card is among the first k.”",
            ),
            Row(room=PREDICT, lesson="07", sections=("6", "7")),
            Row(room=SOLVE, lesson="10", sections=(START, "1", "2"), exercises=(1,)),
            Row(room=SOLVE, lesson="10", sections=("3", "4", "5"), exercises=(2,)),
            Row(
                room=PREDICT,
                lesson="10",
                sections=("6", "7"),
                cut="“It looks at the picture where the word needs it; lesson 10 shows where.”",
            ),
            CLOSE,
        ),
    ),
)


# The tables


Notebooks = dict[str, NotebookNode]
"""The course's lessons by their numbers."""


def read_lessons() -> Notebooks:
    """All lessons of the course."""
    return {path.stem[:2]: lessons.read_notebook(path) for path in lessons.course_lessons()}


def row_minutes(row: Row, notebooks: Notebooks) -> int:
    """The minutes of a row. A lesson's: reading its sections aloud, two for each prediction in
    them, and the exercises that it names."""
    if not row.lesson:
        return row.minutes
    notebook = notebooks[row.lesson]
    sections = parts(notebook)
    total = 0
    for name in row.sections:
        cells = sections[name]
        predictions = sum(len(PREDICTION.findall(cell.source)) for cell in cells)
        total += minutes_of(cells) - sum(lessons.exercise_parts(cells))
        total += MINUTES_A_PREDICTION * predictions
    in_order = lessons.exercise_parts(notebook.cells)
    return total + sum(in_order[place - 1] for place in row.exercises)


def in_words(row: Row, notebooks: Notebooks) -> str:
    """What a row is about: for a lesson's its title with a link, sections and exercises."""
    if not row.lesson:
        return row.what
    notebook = notebooks[row.lesson]
    link = _link(row.lesson, notebook)
    done = [f"{row.lesson}.{place}" for place in row.exercises]
    home = [f"{row.lesson}.{place}" for place in _places(notebook, row) - set(row.exercises)]
    said = [f"{link}, {_sections(headings(notebook), row.sections)}"]
    said += [f"with exercise {' and '.join(done)}"] if done else []
    said += [f"for home: {', '.join(sorted(home))}"] if home else []
    return "; ".join(said)


def _link(number: str, notebook: NotebookNode) -> str:
    """A lesson's number and title, with a link to its notebook."""
    name = lessons.find_lesson(number).name
    return f"[{number} · {lessons.title(notebook)}](../notebooks/{name})"


def _places(notebook: NotebookNode, row: Row) -> set[int]:
    """The places in the lesson of the exercises that stand in a row's sections."""
    places, count = set(), 0
    for name, cells in parts(notebook).items():
        for _ in lessons.exercise_parts(cells):
            count += 1
            if name in row.sections:
                places.add(count)
    return places


def _sections(named: dict[str, str], sections: tuple[str, ...]) -> str:
    """Sections in words: "section 2 (Two real witnesses)", "start and sections 1 to 3"."""
    numbers = [name for name in sections if name in named]
    if START in sections and QUESTIONS in sections:
        return "all of it"
    if len(numbers) == 1:
        said = f"section {numbers[0]} ({named[numbers[0]]})"
    else:
        said = f"sections {numbers[0]} {'to' if len(numbers) > 2 else 'and'} {numbers[-1]}"
    return f"start and {said}" if START in sections else said


def clock(minutes: int) -> str:
    """Minutes since the beginning as hours and minutes: 1:05."""
    return f"{minutes // 60}:{minutes % 60:02}"


def table(plan: Plan, notebooks: Notebooks) -> str:
    """A plan as a table of Markdown. Its last row is the reserve, what the others leave."""
    lines = [
        "| clock | what | minutes | what the room does | late? Leave it out, and say |",
        "|---|---|---|---|---|",
    ]
    now = 0
    for row in plan.rows:
        minutes = row_minutes(row, notebooks)
        lines.append(
            f"| {clock(now)} | {in_words(row, notebooks)} | {minutes} | {row.room} | {row.cut} |"
        )
        now += minutes
    reserve = "questions, what took longer, a check that nobody passed"
    lines.append(f"| {clock(now)} | **Reserve** | {plan.minutes - now} | {reserve} | |")
    lines.append(f"| {clock(plan.minutes)} | **End** | | | |")
    return "\n".join(lines)


def catch_up(notebooks: Notebooks) -> str:
    """The table of what each lesson loads, and where somebody who is late goes on."""
    lines = [
        "| lesson | stored models that it loads | “If you are lost” stands in |",
        "|---|---|---|",
    ]
    for number, notebook in notebooks.items():
        models = ", ".join(f"`{name}`" for name in classroom.MODELS[number]) or "none"
        lines.append(f"| {_link(number, notebook)} | {models} | {where_to_go_on(notebook)} |")
    return "\n".join(lines)


def where_to_go_on(notebook: NotebookNode) -> str:
    """Where somebody who is late goes on: at the cell below the lesson's "If you are lost" that
    loads something, or anywhere."""
    for name, cells in parts(notebook).items():
        for cell in cells:
            if LOST.search(cell.source) and not lessons.is_note(cell):
                return f"section {name}"
    return "go on anywhere: each section loads what it needs"


LOST = re.compile(r"^\*\*If you are lost\*\*(?!: run `mbm-lab doctor`)", re.MULTILINE)


def tables(notebooks: Notebooks) -> dict[str, str]:
    """Every table of the README by its name."""
    every = {plan.title: table(plan, notebooks) for plan in PLANS}
    return {**every, "catch up": catch_up(notebooks)}


BEGIN = "<!-- `python -m workshop.plans --write` writes this table: {} -->"
"""The line of the README below which a table stands; with its name."""

END = "<!-- end of the table -->"


def renewed(text: str, notebooks: Notebooks) -> str:
    """The README's text with every table as it is now. Raises ValueError when one has no place."""
    for name, rows in tables(notebooks).items():
        begin = BEGIN.format(name)
        before, found, after = text.partition(begin)
        _, ended, rest = after.partition(END)
        if not (found and ended):
            raise ValueError(
                f"There is no place for the table “{name}” in the README: write the line {begin} "
                f"there, and {END} below it."
            )
        text = f"{before}{begin}\n\n{rows}\n\n{END}{rest}"
    return text


def main(arguments: list[str]) -> None:
    """Prints the plans, or with --write puts them into the README."""
    notebooks = read_lessons()
    if arguments == ["--write"]:
        text = renewed(README.read_text(encoding="utf-8"), notebooks)
        atomic.write_whole(README, lambda part: part.write_text(text, encoding="utf-8"))
        print(f"Written: {README}")
        return
    for name, rows in tables(notebooks).items():
        print(f"{name}\n\n{rows}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
