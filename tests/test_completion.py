"""The record of exercises: the learner's own cells, run anew, and a page to print."""

import datetime
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mbm_lab import exercises, lessons
from mbm_lab.__main__ import main
from mbm_lab.exercises import completion, progress
from mbm_lab.exercises.completion import Checked

EVERY = exercises.in_order()
SUM, STEP, CHOICE = EVERY["04.1"], EVERY["04.3"], EVERY["04.4"]


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A learner's folder, with progress of its own."""
    folder = tmp_path / "my_lessons"
    folder.mkdir()
    monkeypatch.setenv("MBM_PROGRESS", str(folder / "progress.json"))
    monkeypatch.setattr(lessons, "MY_LESSONS", folder)
    return folder


def lesson(*sources):
    return new_notebook(cells=[new_code_cell(source) for source in sources])


HEAD = "from mbm_lab.exercises.fusion import weighted_sum as ex\n"
ANSWER = HEAD + "def f(f, g, alpha, beta):\n    return {}\n\nex.check(f)"

# What a program of a cell holds


def test_a_program_has_what_its_cell_needs_and_nothing_else():
    notebook = lesson(
        "import numpy as np\nimport torch, math\nfrom torch import Tensor, nn\nx = slow()",
        "%matplotlib inline\n!ls\nscale = 2\ndef helper(a):\n    return a * scale\nhelper(3)",
        "def helper(a):\n    return a * factor\nfactor = scale / 2\nfor i in range(3): print(i)",
        "this is no Python",
        "from __future__ import annotations\ny: Tensor = helper(1)",
    )
    notebook.cells.insert(0, new_markdown_cell("import nothing"))
    assert completion.answer_program(notebook, 5).splitlines() == [
        "from __future__ import annotations",
        "from torch import Tensor, nn",
        "scale = 2",
        "def helper(a):",
        "    return a * factor",
        "factor = scale / 2",
        "y: Tensor = helper(1)",
    ]
    assert completion.answer_program(notebook, 4) is None


def test_the_cell_of_every_exercise_is_found_in_its_lesson():
    for number in exercises.LESSONS:
        notebook = lessons.read_notebook(lessons.find_lesson(number))
        for one in exercises.of_lesson(number):
            (place,) = completion.answer_cells(notebook, one)
            assert completion.answer_program(notebook, place)


# Running


def check(mine, *sources, one=SUM, seconds=20.0):
    """What is said of one exercise when these are the lesson's code cells."""
    nbformat.write(lesson(*sources), mine / "04_fusion.ipynb")
    return completion.check_answers([one], mine, seconds)[one.key]


def test_a_lesson_that_is_missing_damaged_or_without_the_cell(mine):
    missing = completion.check_answers([SUM, STEP], mine)
    assert set(missing.values()) == {"There is no 04_fusion.ipynb in the folder of lessons."}
    (mine / "04_fusion.ipynb").write_text("{")
    assert completion.check_answers([SUM], mine)[SUM.key] == "04_fusion.ipynb cannot be read."
    assert check(mine, "x = 1") == "Its cell is not in 04_fusion.ipynb."
    assert check(mine, HEAD + "def (:\nex.check(f)") == "Its cell is no valid Python."


@pytest.mark.slow
def test_answers_are_run_anew_and_each_says_what_is_wrong(mine, tmp_path):
    """Two right ones, of which one was copied, and one that is not."""
    right = ANSWER.format("mine(alpha, f) + beta * g")
    source = STEP.solution_source().replace("my_step", "step")
    head = "from mbm_lab.exercises.fusion import {} as ex\n"
    cells = [
        "import torch\nfrom torch import Tensor",
        "def mine(a, b):\n    return a * b",
        ANSWER.format("..."),
        right,
        head.format("step") + source + "\n\nex.check(step)\nopen('mess', 'w').write('x')",
        head.format("worse_picture") + f'ex.check("{next(iter(CHOICE.wrong))}")',
    ]
    nbformat.write(lesson(*cells), mine / "04_fusion.ipynb")
    before = sorted(tmp_path.rglob("*"))
    faults = completion.check_answers([SUM, STEP, CHOICE], mine)
    assert faults.pop(CHOICE.key).startswith(next(iter(CHOICE.wrong.values()))[:20])
    assert faults == {SUM.key: "", STEP.key: ""}
    assert sorted(tmp_path.rglob("*")) == before, "nothing is left behind"


def waited(folder, code, seconds):
    """What is said of a program that was started in this folder."""
    (folder / "started").touch()
    with open(folder / "said.txt", "wb") as page:
        program = subprocess.Popen([sys.executable, "-S", "-c", code], stdout=page)
        said = completion._wait(program, folder, seconds)
    assert program.poll() is not None, "it is ended"
    return said


def test_a_cell_that_does_not_end_or_prints_without_end_is_ended(tmp_path, monkeypatch):
    assert waited(tmp_path, "pass", 60.0) == ""
    assert waited(tmp_path, "while True: pass", 1.0) == "Its cell did not end within 1 seconds."
    monkeypatch.setattr(completion, "MOST_PRINTED", 10_000)
    endless = "while True: print('x' * 1000)"
    assert waited(tmp_path, endless, 60.0) == "Its cell prints without end."


# What a check said


def test_the_sentence_of_a_check_is_found_in_what_was_printed():
    said = completion._what_was_said
    title = SUM.title
    text = f"mine\nNot yet. {title}\nYou forgot\nβ.\nThe smallest input that shows it: …\n"
    assert said(text, SUM) == "You forgot β."
    assert (
        said(f"Not attempted yet. {title}\nWrite it.\n\nmore", SUM)
        == "Not attempted yet. Write it."
    )
    assert said("nothing", SUM) == ""
    error = "Traceback …\nNameError: name 'x' is not defined\n"
    assert completion._error(error) == (
        "Its cell stops before its check: NameError: name 'x' is not defined"
    )


# The page and the command

TODAY = datetime.date(2030, 1, 31)


def test_the_page_says_what_when_and_how_it_is_today():
    checked = [
        Checked("04.1", SUM, "2029-12-03", False, ""),
        Checked("04.3", STEP, "", True, "You forgot <b>β</b>."),
    ]
    html = completion.page(checked, TODAY)
    text = " ".join(re.sub(r"<[^>]+>", " ", html.partition("</style>")[2]).split())
    assert f"2 of the course's {len(EVERY)} exercises are solved." in text
    assert "On 31 January 2030 each answer was run again: 1 of 2 is right." in text
    assert "04.1 · The weighted sum (easy) 3 December 2029 right" in text
    assert "(day not kept), after seeing the solution not right now. You forgot" in text
    assert "Name:" in text
    assert "nothing was sent anywhere" in text
    assert "&lt;b&gt;" in html, "what comes from the learner is no markup"
    assert not re.search(r"https?://|<script|src=", html), "it needs nothing else"
    assert "size: A4" in html


def test_nothing_solved_and_a_file_that_is_there_are_one_sentence(mine, tmp_path, capsys):
    page = tmp_path / "record.html"
    assert main(["exercises", "--record", str(page)]) == 2
    assert "No exercise is solved yet" in capsys.readouterr().err
    page.write_text("mine")
    assert main(["exercises", "--record", str(page)]) == 2
    assert "already there, and is left as it is" in capsys.readouterr().err
    assert page.read_text() == "mine"
    assert main(["exercises", "--record", str(tmp_path / "gone" / "r.html")]) == 2
    assert "There is no folder" in capsys.readouterr().err


def test_a_record_of_two_lessons(mine, tmp_path, capsys, monkeypatch):
    other = EVERY["01.1"]
    progress.record(SUM.key, tried=True, solved=True)
    progress.record(other.key, solution_seen=True)
    progress.record(other.key, tried=True, solved=True)
    asked = []

    def faults(ones, folder):
        asked.append((folder, [one.key for one in ones]))
        return {one.key: "It is gone." if one is other else "" for one in ones}

    monkeypatch.setattr(completion, "check_answers", faults)
    page = tmp_path / "record.html"
    assert main(["exercises", "--record", str(page)]) == 1, "one is not right now"
    said = capsys.readouterr().out
    assert "04.1 The weighted sum: right" in said
    assert f"01.1 {other.title}: It is gone." in said
    assert sorted(asked) == [(mine, [other.key]), (mine, [SUM.key])]
    html = page.read_text(encoding="utf-8")
    assert html.index("Lesson 01") < html.index("Lesson 04")
    shutil.rmtree(mine)
