"""workshop/README.md: the plans' minutes are those of the lessons' notes, and add up."""

import copy
import re

import pytest
from nbformat.v4 import new_markdown_cell, new_notebook

from mbm_lab import classroom, lessons, place, stored
from workshop import plans

TEXT = plans.README.read_text(encoding="utf-8")
NOTEBOOKS = plans.read_lessons()


def rows(plan, text=TEXT):
    """The rows of a plan's table in the README: lists of texts."""
    begin = plans.BEGIN.format(plan.title)
    table = text.partition(begin)[2].partition(plans.END)[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def in_minutes(clock):
    hours, minutes = clock.split(":")
    return 60 * int(hours) + int(minutes)


every_plan = pytest.mark.parametrize("plan", plans.PLANS, ids=lambda plan: plan.title)


def test_the_tables_are_as_the_lessons_are_now():
    assert plans.renewed(TEXT, NOTEBOOKS) == TEXT, "python -m workshop.plans --write renews them"


def test_a_place_that_is_missing_is_an_error():
    with pytest.raises(ValueError, match="no place for the table “90 minutes”"):
        plans.renewed(TEXT.replace(plans.BEGIN.format("90 minutes"), ""), NOTEBOOKS)


@every_plan
def test_the_minutes_add_up_to_the_clock_and_to_the_format(plan):
    table = rows(plan)
    assert len(table) == len(plan.rows) + 2
    now = 0
    for clock, _, minutes, _, _ in table[:-1]:
        assert in_minutes(clock) == now
        now += int(minutes)
    assert in_minutes(table[-1][0]) == now == plan.minutes
    reserve = int(table[-2][2])
    assert reserve >= plan.minutes / 20, "a plan without a reserve is late"
    assert sum(bool(row[-1]) for row in table) >= 2, "too little can be left out"


def counted(row):
    """A lesson's row in minutes, from what its text in the README says, counted anew."""
    number = re.search(r"\.\./notebooks/(\d\d)", row[1])[1]
    notebook = NOTEBOOKS[number]
    every = plans.parts(notebook)
    named = re.search(r"sections? (\d+)(?: (?:to|and) (\d+))?", row[1])
    if "all of it" in row[1]:
        wanted = list(every)
    else:
        first, last = int(named[1]), int(named[2] or named[1])
        wanted = [str(section) for section in range(first, last + 1)]
        wanted += ["start"] if "start and" in row[1] else []
    cells = [cell for name in wanted for cell in every[name]]
    text = "\n".join(cell.source for cell in cells if not lessons.is_note(cell))
    home = re.findall(r"\d\d\.(\d)", row[1].partition("for home")[2])
    minutes = lessons.exercise_parts(notebook.cells)
    read = sum(plans.minutes_of(every[name]) for name in wanted)
    left_out = sum(minutes[int(place) - 1] for place in home)
    return read - left_out + 2 * len(re.findall(r"\*\*Before you run\b[^*]*:\*\*", text))


@every_plan
def test_each_row_has_the_minutes_of_its_sections(plan):
    taught = [row for row in rows(plan) if "../notebooks/" in row[1]]
    assert len(taught) >= 6
    for row in taught:
        assert int(row[2]) == counted(row), row[1]


@pytest.mark.parametrize("number", NOTEBOOKS)
def test_the_parts_of_a_lesson_have_the_minutes_of_its_notes(number):
    notebook = NOTEBOOKS[number]
    every = plans.parts(notebook)
    if any(map(lessons.is_note, notebook.cells)):
        assert sum(map(plans.minutes_of, every.values())) == sum(lessons.note_minutes(notebook))
    words = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    divided = [c.source for cells in every.values() for c in cells if c.cell_type == "markdown"]
    assert sum(len(text.split()) for text in words) == sum(len(text.split()) for text in divided)


def test_when_a_lesson_changes_its_table_changes():
    longer = copy.deepcopy(NOTEBOOKS["04"])
    place = next(i for i, cell in enumerate(longer.cells) if cell.source.startswith("## 2. "))
    longer.cells.insert(place + 1, new_markdown_cell(" ".join(["word"] * 330)))
    changed = plans.renewed(TEXT, {**NOTEBOOKS, "04": longer})
    assert changed != TEXT
    before, after = (rows(plans.PLANS[0], text) for text in (TEXT, changed))
    longer_by = [
        int(new[2]) - int(old[2]) for old, new in zip(before, after, strict=True) if old[2]
    ]
    assert sorted(one for one in longer_by if one) == [-3, 3], "a section, and the reserve"


def test_a_heading_inside_of_a_cell_begins_a_part():
    cell = new_markdown_cell("end of one\n\n## 2. Two\n\nmore\n\n## Recap\n\n## Questions\n\n1.")
    every = plans.parts(new_notebook(cells=[new_markdown_cell("# 04 · Title"), cell]))
    assert list(every) == ["start", "2", "questions"]
    assert every["2"][0].source == "## 2. Two\n\nmore\n\n## Recap\n\n"


def test_an_exercise_is_done_in_a_section_that_its_row_has():
    for plan in plans.PLANS:
        for row in plan.rows:
            if row.lesson:
                assert set(row.exercises) <= plans._places(NOTEBOOKS[row.lesson], row), row


# Catching up


def test_every_model_that_a_lesson_loads_is_named_and_there():
    for number, notebook in NOTEBOOKS.items():
        code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
        loaded = set(re.findall(r'stored\.load\("(\w+)"', code))
        loaded |= set(classroom.READERS) if "load_readers" in code and number != "03" else set()
        assert loaded <= set(classroom.MODELS[number]), number
        for name in classroom.MODELS[number]:
            assert f"`{name}`" in TEXT
            assert (stored.WEIGHTS / f"{name}_0.safetensors").is_file()


# The text


def test_every_link_of_the_handbook_leads_somewhere():
    anchors = {
        re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-")
        for head in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (place.COURSE / "workshop" / target).exists(), target


def test_every_command_of_the_handbook_is_one():
    from mbm_lab.__main__ import _parser

    makefile = (place.COURSE / "Makefile").read_text(encoding="utf-8")
    for name in set(re.findall(r"`?make (\w+)", TEXT)) - {"an"}:
        assert f"\n{name}:" in makefile, name
    known = _parser().format_help()
    for name in set(re.findall(r"mbm-lab (\w+)", TEXT)):
        assert re.search(rf"\n    {name}\s", known), name
