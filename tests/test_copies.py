"""The learner's copies: made, compared, brought up to date, merged; and nothing is ever lost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as some
import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mbm_lab import __main__, copies, lessons, merging, outputs, place

TIME = "**Time**: 5 minutes to read, 2 seconds to run (two-core laptop, no GPU)."
NAMES = ("00_one", "01_two")


def publish(notebooks, name, *sources):
    """Writes a version of a lesson of the course: its title, then code cells, which were run."""
    notebooks.mkdir(parents=True, exist_ok=True)
    cells = [new_markdown_cell(f"# {name[:2]} · Lesson {name}\n\n{TIME}", id="title")]
    for number, source in enumerate(sources, start=1):
        shown = [new_output("stream", text=f"what {source} shows\n")]
        cell = new_code_cell(source, id=f"cell{number}", outputs=shown, execution_count=number)
        cells.append(cell)
    nbformat.write(new_notebook(cells=cells), notebooks / f"{name}.ipynb")


@pytest.fixture
def course(tmp_path):
    """A course of two lessons, in a folder with spaces; and the folder for the copies."""
    notebooks = tmp_path / "a course" / "notebooks"
    for name in NAMES:
        publish(notebooks, name, "print(1)", "print(2)", "print(3)")
    return notebooks, tmp_path / "a course" / "my lessons"


@pytest.fixture(autouse=True)
def nobody_serves(monkeypatch):
    monkeypatch.setattr(copies, "served", lambda folder: False)


def sources(path):
    return [cell.source for cell in lessons.read_notebook(path).cells[1:]]


def edit(path, cell, source):
    """Writes something into a cell of a notebook, as a learner does, who also runs it."""
    notebook = lessons.read_notebook(path)
    notebook.cells[cell].source = source
    notebook.cells[cell].outputs = [new_output("stream", text="seen")]
    notebook.cells[cell].execution_count = 7
    nbformat.write(notebook, path)


def visible(mine):
    return sorted(path.name for path in mine.iterdir() if not path.name.startswith("."))


def state(course, name="00_one"):
    notebooks, mine = course
    return copies.state(notebooks / f"{name}.ipynb", mine)


# Copies


def test_missing_lessons_are_copied_and_nothing_is_overwritten(course):
    notebooks, mine = course
    names = [f"{name}.ipynb" for name in NAMES]
    assert [copy.name for copy in copies.copy_missing(notebooks, mine)] == names
    edit(mine / names[0], 1, "mine")
    before = (mine / names[0]).read_bytes()
    (mine / names[1]).unlink()
    assert [copy.name for copy in copies.copy_missing(notebooks, mine)] == names[1:]
    assert copies.copy_missing(notebooks, mine) == []
    assert (mine / names[0]).read_bytes() == before


@pytest.mark.parametrize("lesson", lessons.course_lessons(), ids=lambda path: path.stem)
def test_a_copy_has_the_lessons_text_and_was_not_run(lesson, tmp_path):
    copy, _ = copies.fresh_copy(lesson.stem, mine=tmp_path)
    notebook = lessons.read_notebook(copy)
    reference = lessons.without_notes(lessons.read_notebook(lesson))
    nbformat.validate(notebook)
    assert not any(map(lessons.is_note, notebook.cells))
    for mine, stored in zip(notebook.cells, reference.cells, strict=True):
        assert (mine.id, mine.source, mine.metadata) == (stored.id, stored.source, stored.metadata)
        if mine.cell_type == "code":
            assert (mine.outputs, mine.execution_count) == ([], None)


def test_a_note_for_the_instructor_is_in_no_copy_and_changes_none(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    notebook = lessons.read_notebook(notebooks / "00_one.ipynb")
    note = new_markdown_cell("**For the instructor** · 1 minute. Ask.", id="note")
    note.metadata["tags"] = [lessons.NOTE]
    notebook.cells.insert(1, note)
    notebook.cells[2].metadata["slideshow"] = {"slide_type": "slide"}
    nbformat.write(notebook, notebooks / "00_one.ipynb")
    assert state(course) == copies.SAME
    copy, _ = copies.fresh_copy(0, notebooks, mine)
    assert sources(copy) == ["print(1)", "print(2)", "print(3)"]
    assert not any("slideshow" in cell.metadata for cell in lessons.read_notebook(copy).cells)


def test_a_copys_metadata_are_those_that_jupyterlab_would_write(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    metadata = lessons.read_notebook(mine / "00_one.ipynb").metadata
    assert metadata.kernelspec == {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    }
    assert metadata.language_info == {
        "codemirror_mode": {"name": "ipython", "version": 3},
        "file_extension": ".py",
        "mimetype": "text/x-python",
        "name": "python",
        "nbconvert_exporter": "python",
        "pygments_lexer": "ipython3",
        "version": ".".join(map(str, sys.version_info[:3])),
    }


def test_a_fresh_copy_keeps_the_old_one(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    kept = []
    for number in ("00", 0, "00_one"):
        edit(mine / "00_one.ipynb", 1, f"mine, {len(kept)}")
        fresh, old = copies.fresh_copy(number, notebooks, mine)
        assert sources(fresh) == ["print(1)", "print(2)", "print(3)"]
        kept.append(old)
    assert len(set(kept)) == 3
    for number, old in enumerate(kept):
        assert sources(old)[0] == f"mine, {number}"
        assert re.fullmatch(
            r"00_one \(kept \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d(, \d)?\)\.ipynb", old.name
        )


def test_a_fresh_copy_of_a_lesson_that_was_never_copied(course):
    notebooks, mine = course
    fresh, old = copies.fresh_copy(1, notebooks, mine)
    assert fresh.exists()
    assert old is None


def test_the_overview_lists_every_lesson_with_its_times(course):
    notebooks, mine = course
    copies.fresh_copy(1, notebooks, mine)
    lines = copies.overview(notebooks, mine).splitlines()
    assert len(lines) == 3
    assert re.fullmatch(r"00 +Lesson 00_one +5 min +2 s +not yet copied", lines[1])
    assert re.fullmatch(r"01 +Lesson 01_two +5 min +2 s +as the course's", lines[2])


# How a copy stands beside the course's


def test_text_counts_and_outputs_do_not(course):
    notebooks, mine = course
    copy = mine / "00_one.ipynb"
    assert state(course) == copies.NOT_COPIED
    copies.copy_missing(notebooks, mine)
    assert state(course) == copies.SAME
    edit(copy, 1, "print(1)")
    assert state(course) == copies.SAME
    edit(copy, 1, "print(1 + 2)")
    assert state(course) == copies.DIFFERENT
    copy.write_text("{ not a notebook", encoding="utf-8")
    assert state(course) == copies.UNREADABLE
    copy.unlink()
    copy.mkdir()
    assert state(course) == copies.UNREADABLE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": 3}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}',
        b'{"nbformat": 4, "nbformat_minor": 5, "cells": []}',
        b'{"nbformat": 4, "nbformat_minor": 5, "metadata": 1, "cells": []}',
        b'{"nbformat": 99, "metadata": {}, "cells": []}',
    ],
)
def test_whatever_stands_in_a_copy_lab_starts_and_leaves_it_alone(course, content):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    publish(notebooks, "00_one", "print('new')")
    (mine / "00_one.ipynb").write_bytes(content)
    assert state(course) == copies.UNREADABLE
    copies.prepare(notebooks, mine)
    assert (mine / "00_one.ipynb").read_bytes() == content


@pytest.mark.parametrize("mbm", [None, 3, {}, {"origin": 7}, {"origin": "../../x"}])
def test_whatever_a_copy_says_of_its_origin_it_counts_as_the_learners(course, mbm):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    notebook = lessons.read_notebook(mine / "00_one.ipynb")
    notebook.metadata["mbm"] = mbm
    nbformat.write(notebook, mine / "00_one.ipynb")
    before = (mine / "00_one.ipynb").read_bytes()
    publish(notebooks, "00_one", "print('new')")
    assert state(course) in (copies.UNKNOWN, copies.BOTH)
    copies.prepare(notebooks, mine)
    with pytest.raises(ValueError, match="is not known"):
        copies.merge(0, notebooks, mine)
    assert (mine / "00_one.ipynb").read_bytes() == before


def test_a_newer_lesson_is_told_from_a_changed_copy(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    publish(notebooks, "00_one", "print(1)", "print('new')")
    assert state(course) == copies.NEWER
    edit(mine / "00_one.ipynb", 1, "mine")
    assert state(course) == copies.BOTH
    assert state(course, "01_two") == copies.SAME


def test_a_copy_that_was_kept_still_knows_its_origin(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 1, "mine")
    publish(notebooks, "00_one", "print(1)", "print('new')")
    fresh, kept = copies.fresh_copy(0, notebooks, mine)
    kept.replace(fresh)  # the learner wants the old one after all
    assert state(course) == copies.BOTH


def older_copy(course, monkeypatch, *sources):
    """A copy of lesson 00 as the course made it before copies named their origin: a plain file."""
    notebooks, mine = course
    publish(notebooks, "00_one", "print(1)", "print('old')")
    mine.mkdir()
    copy = mine / "00_one.ipynb"
    copy.write_bytes((notebooks / "00_one.ipynb").read_bytes())
    text = copies.fingerprint(lessons.read_notebook(copy))
    monkeypatch.setattr(copies, "earlier", lambda: {text})
    publish(notebooks, "00_one", "print(1)", "print('new')")
    return copy


def test_an_older_copy_that_was_not_changed_is_brought_up_to_date(course, monkeypatch):
    notebooks, mine = course
    copy = older_copy(course, monkeypatch)
    assert state(course) == copies.NEWER
    before = copy.read_bytes()
    copies.prepare(notebooks, mine)
    assert sources(copy) == ["print(1)", "print('new')"]
    (kept,) = mine.glob("* (kept *).ipynb")
    assert kept.read_bytes() == before


def test_an_older_copy_that_was_changed_is_left_alone(course, monkeypatch):
    notebooks, mine = course
    copy = older_copy(course, monkeypatch)
    edit(copy, 1, "mine")
    before = copy.read_bytes()
    assert state(course) == copies.UNKNOWN
    said = " ".join(copies.prepare(notebooks, mine))
    assert "Your 00 differs" in said
    assert "`mbm-lab lessons --fresh 00`" in said
    with pytest.raises(ValueError, match="is not known.*--fresh 00"):
        copies.merge(0, notebooks, mine)
    assert copy.read_bytes() == before


def test_the_lessons_published_before_copies_named_their_origin_are_known():
    known = copies.earlier()
    assert len(known) > 100
    assert all(re.fullmatch("[0-9a-f]{16}", text) for text in known)


# What is said before JupyterLab starts


def test_what_lab_says_and_does(course):
    notebooks, mine = course
    assert copies.prepare(notebooks, mine) == ["Copied for you into my_lessons: 00_one, 01_two."]
    assert copies.prepare(notebooks, mine) == ["Your lessons are in my_lessons, as you left them."]
    publish(notebooks, "00_one", "print('new')")
    publish(notebooks, "01_two", "print('new')")
    edit(mine / "01_two.ipynb", 1, "mine")
    mine_before = (mine / "01_two.ipynb").read_bytes()
    old_before = (mine / "00_one.ipynb").read_bytes()
    done, to_do = copies.prepare(notebooks, mine)
    assert done.startswith(
        "You have not changed 00; it was brought up to date. The old one: 00_one"
    )
    assert to_do == (
        "The course has a newer 01 and you have changed yours: `mbm-lab lessons --fresh 01`, "
        "or `mbm-lab lessons --merge 01`."
    )
    assert sources(mine / "00_one.ipynb") == ["print('new')"]
    (kept,) = mine.glob("00_one (kept *).ipynb")
    assert kept.read_bytes() == old_before
    assert (mine / "01_two.ipynb").read_bytes() == mine_before
    assert copies.prepare(notebooks, mine) == [to_do]


def test_nothing_is_changed_while_a_server_shows_the_folder(course, monkeypatch):
    notebooks, mine = course
    copies.prepare(notebooks, mine)
    publish(notebooks, "00_one", "print('new')")
    before = {path: path.read_bytes() for path in mine.glob("*.ipynb")}
    monkeypatch.setattr(copies, "served", lambda folder: True)
    (said,) = copies.prepare(notebooks, mine)
    assert said == "A Jupyter server shows my_lessons, so your lessons are left as they are."
    assert {path: path.read_bytes() for path in mine.glob("*.ipynb")} == before


def test_a_server_that_shows_the_folder_is_seen(tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    mine = tmp_path / "course" / "my_lessons"
    mine.mkdir(parents=True)
    (tmp_path / "runtime").mkdir()
    assert not copies.served(mine)
    for root, seen in ((mine.parent, True), (mine, True), (tmp_path / "other", False)):
        server = {"pid": os.getpid(), "root_dir": str(root)}
        (tmp_path / "runtime" / "jpserver-1.json").write_text(json.dumps(server))
        assert copies.served(mine) == seen


# Merging


def test_a_merge_brings_what_is_new_and_keeps_the_answers(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    copy = mine / "00_one.ipynb"
    edit(copy, 2, "print(2)  # my answer")
    publish(notebooks, "00_one", "print('new')", "print(2)", "print(3)", "print(4)")
    before = copy.read_bytes()
    merged, kept = copies.merge(0, notebooks, mine)
    assert merged == copy
    assert kept.read_bytes() == before
    assert sources(copy) == ["print('new')", "print(2)  # my answer", "print(3)", "print(4)"]
    notebook = lessons.read_notebook(copy)
    nbformat.validate(notebook)
    assert all(cell.outputs == [] for cell in notebook.cells[1:])
    assert merging.conflicts(notebook) == []
    assert state(course) == copies.DIFFERENT
    assert copies.merge(0, notebooks, mine) == (copy, None)
    publish(notebooks, "00_one", "print('newest')", "print(2)", "print(3)", "print(4)")
    copies.merge(0, notebooks, mine)
    assert sources(copy)[:2] == ["print('newest')", "print(2)  # my answer"]


def merged(course, base, yours, theirs):
    """What a merge makes of lesson 00, whose second code cell these three have."""
    notebooks, mine = course
    publish(notebooks, "00_one", "print(1)", base, "print(3)")
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 2, yours)
    publish(notebooks, "00_one", *filter(None, ["print(1)", theirs, "print(3)"]))
    copies.merge(0, notebooks, mine)
    return lessons.read_notebook(mine / "00_one.ipynb")


ANSWER = "def f(x):\n    # your answer\n    return {}\n\nex.check(f)"


def test_changes_of_other_lines_of_a_cell_are_both_there(course):
    notebook = merged(
        course,
        ANSWER.format("..."),
        ANSWER.format("x + 1"),
        "# new\n" + ANSWER.format("..."),
    )
    assert notebook.cells[2].source == "# new\n" + ANSWER.format("x + 1")
    assert merging.conflicts(notebook) == []


def test_a_conflict_shows_both_versions_of_the_lines(course):
    notebook = merged(course, ANSWER.format("..."), ANSWER.format("x + 1"), ANSWER.format("None"))
    assert notebook.cells[2].source.split("\n") == [
        "def f(x):",
        "    # your answer",
        "<<<<<<< yours",
        "    return x + 1",
        "=======",
        "    return None",
        ">>>>>>> the course's",
        "",
        "ex.check(f)",
    ]
    assert merging.conflicts(notebook) == [(3, "00 · Lesson 00_one")]


def test_a_conflict_of_whole_cells_shows_both(course):
    notebook = merged(course, "print(2)", "mine = 'another thing'", "import torch\ntorch.ones(7)")
    assert [cell.source for cell in notebook.cells[2:-1]] == [
        "<<<<<<< yours",
        "mine = 'another thing'",
        "=======",
        "import torch\ntorch.ones(7)",
        ">>>>>>> the course's",
    ]
    assert merging.conflicts(notebook) == [(3, "00 · Lesson 00_one")]


def test_a_cell_that_the_course_took_away_stays_if_it_was_changed(course):
    notebook = merged(course, ANSWER.format("..."), ANSWER.format("x + 1"), None)
    assert notebook.cells[2].source == f"{merging.COURSE_DELETED}\n{ANSWER.format('x + 1')}"
    assert len(merging.conflicts(notebook)) == 1


def test_the_command_says_how_many_conflicts_there_are_and_where(course, monkeypatch, capsys):
    notebooks, mine = course
    notebook = merged(course, ANSWER.format("..."), ANSWER.format("x + 1"), ANSWER.format("None"))
    assert merging.report(notebook).split("\n") == [
        "In 1 place you and the course changed the same. Look for <<<<<<< and decide:",
        "  cell 3, in: 00 · Lesson 00_one",
    ]
    publish(notebooks, "01_two", "print('new')", "print(2)", "print(3)")
    edit(mine / "01_two.ipynb", 3, "mine")
    monkeypatch.setattr(copies.merge, "__defaults__", (notebooks, mine))
    monkeypatch.setattr(lessons.find_lesson, "__defaults__", (notebooks,))
    assert __main__.main(["lessons", "--merge", "00", "01"]) == 0
    assert re.fullmatch(
        r"There is nothing new for 00_one.ipynb.\n"
        r"Merged: 01_two.ipynb\n"
        r"Your old one: 01_two \(kept .*\).ipynb\n"
        r"Nothing of yours stood in the way of what is new.\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("origin", "yours", "course", "text"),
    [
        ("a b c", "a b c", "a b c", "a b c"),
        ("a b c", "A b c", "a b C", "A b C"),
        ("a b c", "a c", "a b c d", "a c d"),
        ("a b c", "a X c", "a X c", "a X c"),
        ("a b c", "a X c", "a Y c", "a < X = Y > c"),
        ("a b c", "a c", "a Y c", "a < = Y > c"),
        ("a b", "a b X", "a b Y", "a b < X = Y >"),
        ("a b c d e", "X b c d Y", "Z b c d e", "< X = Z > b c d Y"),
        ("a", "X a", "a Y", "X a Y"),
    ],
)
def test_texts_are_merged_line_by_line(origin, yours, course, text):
    found = merging.merge_text(*(words.replace(" ", "\n") for words in (origin, yours, course)))
    marks = {merging.YOURS: "<", merging.MIDDLE: "=", merging.COURSE: ">"}
    assert " ".join(marks.get(line, line) for line in found.split("\n")) == text


TEXT = some.lists(some.sampled_from(["a = 1", "b = 2", "", "print(a)", "# note"]), max_size=4)
CELLS = some.lists(some.tuples(some.booleans(), TEXT.map("\n".join)), max_size=5)


def notebook_of(cells):
    return new_notebook(
        cells=[new_code_cell(text) if code else new_markdown_cell(text) for code, text in cells]
    )


@pytest.mark.slow
@given(CELLS, CELLS, CELLS)
@settings(max_examples=100, deadline=None)
def test_any_three_notebooks_merge_into_a_valid_one_that_has_every_line(origin, yours, course):
    try:
        notebook = merging.merge(*map(notebook_of, (origin, yours, course)))
    except ValueError as error:
        assert "nothing was changed" in str(error)  # noqa: PT017
        return
    nbformat.validate(notebook)
    lines = {line for cell in notebook.cells for line in cell.source.split("\n")}
    before = {line for _, text in origin for line in text.split("\n")}
    for side in (yours, course):  # what either has added is there
        assert {line for _, text in side for line in text.split("\n")} - before <= lines


@pytest.mark.slow
def test_merging_needs_no_git():
    program = (
        "from nbformat.v4 import new_code_cell, new_notebook; from mbm_lab import merging;"
        "a, b, c = (new_notebook(cells=[new_code_cell(f'x = 1\\ny = {n}')]) for n in '123');"
        "print(merging.merge(a, b, c).cells[0].source)"
    )
    environment = {**os.environ, "PATH": "", "GIT_PYTHON_REFRESH": "error"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        cwd=place.COURSE,
    )
    assert done.stdout.split("\n")[:2] == ["x = 1", merging.YOURS], done.stderr


def test_a_copy_without_its_origin_is_not_merged(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 1, "mine")
    (stored,) = (mine / copies.ORIGINS).glob("00_one-*")
    stored.write_text("{ damaged", encoding="utf-8")
    publish(notebooks, "00_one", "print('new')")
    before = (mine / "00_one.ipynb").read_bytes()
    assert state(course) == copies.BOTH
    with pytest.raises(ValueError, match="is not known.*--fresh 00"):
        copies.merge(0, notebooks, mine)
    assert (mine / "00_one.ipynb").read_bytes() == before


def test_an_origin_that_was_removed_is_stored_again(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 1, "mine")
    for stored in (mine / copies.ORIGINS).iterdir():
        stored.write_text("{ damaged", encoding="utf-8")
    copies.prepare(notebooks, mine)
    publish(notebooks, "00_one", "print(1)", "print(2)", "print(3)", "print('new')")
    copies.merge(0, notebooks, mine)
    assert sources(mine / "00_one.ipynb") == ["mine", "print(2)", "print(3)", "print('new')"]


def test_what_cannot_be_merged_is_one_sentence(course):
    notebooks, mine = course
    with pytest.raises(ValueError, match="You have no copy of 00_one yet: .*--fresh 00"):
        copies.merge(0, notebooks, mine)
    copies.copy_missing(notebooks, mine)
    (mine / "00_one.ipynb").write_text("{ not a notebook", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be read: .*--fresh 00"):
        copies.merge(0, notebooks, mine)
    assert (mine / "00_one.ipynb").read_text(encoding="utf-8") == "{ not a notebook"


def test_a_wrong_number_among_several_changes_nothing(course, monkeypatch, capsys):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    monkeypatch.setattr(copies.fresh_copy, "__defaults__", (notebooks, mine))
    monkeypatch.setattr(copies.merge, "__defaults__", (notebooks, mine))
    monkeypatch.setattr(lessons.find_lesson, "__defaults__", (notebooks,))
    for option in ("--fresh", "--merge"):
        assert __main__.main(["lessons", option, "00", "11"]) == 2
        assert capsys.readouterr().err == (
            "mbm-lab: There is no lesson 11: choose one of 00 to 01.\n"
        )
    assert visible(mine) == ["00_one.ipynb", "01_two.ipynb"]


# Dead views


def with_view(path, data):
    """Gives a notebook's second cell an output, as JupyterLab saves it."""
    notebook = lessons.read_notebook(path)
    notebook.cells[1].outputs = [new_output("display_data", data=data)]
    nbformat.write(notebook, path)


def test_a_picture_comes_in_the_place_of_a_dead_view(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    view = {outputs.LIVE: {"model_id": "1", "version_major": 2}, "text/plain": "Slider"}
    with_view(mine / "00_one.ipynb", {**view, "image/png": "abc\n"})
    with_view(mine / "01_two.ipynb", view)  # no picture: the view stays
    (mine / "02 mine.ipynb").write_text(f'{{"cells": 3, "{outputs.LIVE}": 0}}', encoding="utf-8")
    files = {path: path.read_text(encoding="utf-8") for path in mine.glob("*.ipynb")}
    wanted = lessons.read_notebook(mine / "00_one.ipynb")
    del wanted.cells[1].outputs[0].data[outputs.LIVE]
    files[mine / "00_one.ipynb"] = nbformat.writes(wanted) + "\n"
    copies.prepare(notebooks, mine)
    assert {path: path.read_text(encoding="utf-8") for path in mine.glob("*.ipynb")} == files


# Faults


class Faults:
    """Lets the disk fail: from the `first` change of a file on, for so `many` changes."""

    def __init__(self):
        self.folder = self.first = None
        self.many = self.seen = 0

    def arm(self, folder, first, many):
        self.folder, self.first, self.many, self.seen = str(folder), first, many, 0

    def disarm(self):
        self.folder = None

    def __call__(self, event, arguments):
        if self.folder is None or not event.startswith(("open", "os.", "pathlib.")):
            return
        if event == "open":
            path, mode, flags = arguments
            changes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        else:
            path = arguments[0] if arguments else None
            changes = event in ("os.rename", "os.mkdir", "os.remove", "os.utime", "os.truncate")
        if not changes or not str(path).startswith(self.folder):
            return
        self.seen += 1
        if self.first <= self.seen < self.first + self.many:
            raise OSError(28, "No space left on device", str(path))


FAULTS = Faults()
sys.addaudithook(FAULTS)  # there is no way to remove one
FOREVER = 10**6


def everything(mine):
    """All that stands in the learner's notebooks."""
    return "\n".join(path.read_text(encoding="utf-8") for path in mine.rglob("*") if path.is_file())


DEEDS = {
    "copy": lambda notebooks, mine: copies.copy_missing(notebooks, mine),
    "fresh": lambda notebooks, mine: copies.fresh_copy(0, notebooks, mine),
    "merge": lambda notebooks, mine: copies.merge(0, notebooks, mine),
    "lab": lambda notebooks, mine: copies.prepare(notebooks, mine),
}


@pytest.mark.parametrize("many", [1, FOREVER], ids=["once", "from then on"])
@pytest.mark.parametrize("deed", DEEDS)
def test_whichever_change_of_a_file_fails_nothing_is_lost(tmp_path, deed, many):
    """Also a crash: from then on, nothing can be changed, so nothing is cleared away either."""
    failed = 0
    for first in range(1, 50):
        notebooks, mine = tmp_path / str(first) / "notebooks", tmp_path / str(first) / "mine"
        for name in NAMES:
            publish(notebooks, name, "print(1)", "print(2)")
        copies.copy_missing(notebooks, mine)
        edit(mine / "00_one.ipynb", 1, "my answer")
        publish(notebooks, "00_one", "print(1)", "print('new')")
        publish(notebooks, "01_two", "print(1)", "print('new')")
        if deed == "copy":
            (mine / "01_two.ipynb").unlink()
        said = "there is room"
        FAULTS.arm(mine, first, many)
        try:
            DEEDS[deed](notebooks, mine)
        except OSError as error:
            said = str(error)
        finally:
            FAULTS.disarm()
        assert re.search("room|full", said), said
        assert "my answer" in everything(mine)
        if FAULTS.seen < first:
            break
        failed += 1
        copies.prepare(notebooks, mine)  # and the next start goes well
        for name in NAMES:
            lessons.read_notebook(mine / f"{name}.ipynb")
        assert "my answer" in everything(mine)
    assert failed >= 3


@pytest.mark.skipif(sys.platform == "win32", reason="no limits to a file's size there")
def test_on_a_full_disk_the_copy_stays_and_no_half_file_is_left(course):
    import resource

    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 1, "my answer")
    before = {path: path.read_bytes() for path in mine.rglob("*.ipynb")}
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, most))
    try:
        with pytest.raises(OSError, match="cannot be written .*: make room there"):
            copies.fresh_copy(0, notebooks, mine)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert {path: path.read_bytes() for path in mine.rglob("*.ipynb")} == before


def test_a_folder_that_cannot_be_made_is_one_sentence(course):
    notebooks, mine = course
    mine.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="cannot be written .*: make room there, or make"):
        copies.copy_missing(notebooks, mine)


def test_a_folder_that_cannot_be_written_to_does_not_keep_lab_from_starting(course):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    publish(notebooks, "00_one", "print('new')")
    FAULTS.arm(mine, 1, FOREVER)
    try:
        (said,) = copies.prepare(notebooks, mine)
    finally:
        FAULTS.disarm()
    assert said.startswith("Your lessons could not all be brought up to date. ")


def test_ctrl_c_while_a_copy_is_written_brings_the_old_one_back(course, monkeypatch):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 1, "mine")
    before = (mine / "00_one.ipynb").read_bytes()

    def stop(path, content):
        raise KeyboardInterrupt

    monkeypatch.setattr(copies, "_write_new", stop)
    with pytest.raises(KeyboardInterrupt):
        copies.fresh_copy(0, notebooks, mine)
    assert visible(mine) == ["00_one.ipynb", "01_two.ipynb"]
    assert (mine / "00_one.ipynb").read_bytes() == before


def test_what_jupyterlab_saves_in_between_is_not_overwritten(course, monkeypatch):
    notebooks, mine = course
    copies.copy_missing(notebooks, mine)
    edit(mine / "00_one.ipynb", 1, "first answer")
    keep = copies._keep

    def keep_and_save(copy):
        kept = keep(copy)
        copy.write_text("second answer", encoding="utf-8")
        return kept

    monkeypatch.setattr(copies, "_keep", keep_and_save)
    with pytest.raises(OSError, match="cannot be written"):
        copies.fresh_copy(0, notebooks, mine)
    assert (mine / "00_one.ipynb").read_text(encoding="utf-8") == "second answer"
    assert "first answer" in everything(mine)


# Any order of events

LESSON = some.integers(0, len(NAMES) - 1)
CELL = some.integers(1, 3)


class LearnersLife(RuleBasedStateMachine):
    """A learner, the course and the disk do whatever they like, in any order."""

    folder: Path

    def __init__(self):
        super().__init__()
        self.root = self.folder / str(len(list(self.folder.iterdir())))
        self.notebooks, self.mine = self.root / "notebooks", self.root / "mine"
        self.written, self.count = set(), 0
        for name in NAMES:
            publish(self.notebooks, name, "print(1)", "print(2)", "print(3)")
        copies.copy_missing(self.notebooks, self.mine)

    def new_text(self, who):
        self.count += 1
        return f"{who} wrote text {self.count}."

    def forget_what_is_gone(self):
        here = everything(self.mine)
        self.written = {text for text in self.written if text in here}

    @rule(lesson=LESSON, cell=CELL)
    def write(self, lesson, cell):
        """Adds to a cell of the copy; what stood there before is still there."""
        copy, text = self.mine / f"{NAMES[lesson]}.ipynb", self.new_text("learner")
        try:
            notebook = lessons.read_notebook(copy)
        except (ValueError, OSError):
            return
        if not notebook.cells:
            return
        cell = notebook.cells[min(cell, len(notebook.cells) - 1)]
        cell.source += f"\n# {text}"
        nbformat.write(notebook, copy)
        self.written.add(text)

    @rule(lesson=LESSON, cell=CELL)
    def delete_a_cell(self, lesson, cell):
        copy = self.mine / f"{NAMES[lesson]}.ipynb"
        try:
            notebook = lessons.read_notebook(copy)
        except (ValueError, OSError):
            return
        del notebook.cells[cell : cell + 1]
        nbformat.write(notebook, copy)
        self.forget_what_is_gone()

    @rule(lesson=LESSON)
    def delete_the_copy(self, lesson):
        (self.mine / f"{NAMES[lesson]}.ipynb").unlink(missing_ok=True)
        self.forget_what_is_gone()

    @rule(lesson=LESSON)
    def damage_the_copy(self, lesson):
        copy, text = self.mine / f"{NAMES[lesson]}.ipynb", self.new_text("learner")
        copy.write_text("{ " + text, encoding="utf-8")
        self.written.add(text)
        self.forget_what_is_gone()

    @rule()
    def damage_the_origins(self):
        for stored in (self.mine / copies.ORIGINS).iterdir():
            stored.write_text("{", encoding="utf-8")
            break
        self.forget_what_is_gone()

    @rule(lesson=LESSON, cells=some.lists(some.sampled_from(["print(1)", "print(2)", "new"])))
    def publish(self, lesson, cells):
        publish(self.notebooks, NAMES[lesson], *cells, f"# {self.new_text('course')}")

    def attempt(self, deed, lesson, first):
        """Does something, and lets a change of a file fail, this one or all from then on."""
        FAULTS.arm(self.mine, *first) if first else FAULTS.disarm()
        try:
            deed()
        except (OSError, ValueError):
            pass
        finally:
            FAULTS.disarm()

    FAULT = some.none() | some.tuples(some.integers(1, 8), some.sampled_from([1, FOREVER]))

    @rule(lesson=LESSON, fault=FAULT)
    def fresh(self, lesson, fault):
        self.attempt(lambda: copies.fresh_copy(lesson, self.notebooks, self.mine), lesson, fault)

    @rule(lesson=LESSON, fault=FAULT)
    def merge(self, lesson, fault):
        self.attempt(lambda: copies.merge(lesson, self.notebooks, self.mine), lesson, fault)

    @rule(fault=FAULT)
    def lab(self, fault):
        self.attempt(lambda: copies.prepare(self.notebooks, self.mine), None, fault)

    @invariant()
    def nothing_is_lost(self):
        here = everything(self.mine)
        assert {text for text in self.written if text not in here} == set()

    @invariant()
    def kept_files_are_no_lessons(self):
        assert [path.stem for path in lessons.course_lessons(self.notebooks)] == list(NAMES)


@pytest.mark.slow
def test_in_whatever_order_things_happen_nothing_of_the_learners_is_lost(tmp_path):
    LearnersLife.folder = tmp_path
    run_state_machine_as_test(
        LearnersLife,
        settings=settings(
            max_examples=25,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
