"""What the lessons hold for the instructor: notes with true minutes, and marks of slides."""

import re

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mbm_lab import lessons

LESSONS = lessons.course_lessons()
NOTED = [
    lesson for lesson in LESSONS if any(map(lessons.is_note, lessons.read_notebook(lesson).cells))
]

every_lesson = pytest.mark.parametrize("lesson", NOTED, ids=lambda path: path.stem)

PARTS = ("**Pause**", "**Ask**", "**Expect**")
MOST_WORDS = 130  # of a note; more is not read while one teaches
MOST_SLIDE_WORDS = 40
SLIDES = ("slide", "fragment", "skip")

FIGURE = re.compile(r"(?<![\d.])\d+(?:\.\d+| ?%)")  # a number that could have been measured


def notes(notebook):
    return [cell for cell in notebook.cells if lessons.is_note(cell)]


def slides(notebook):
    marked = [cell.metadata.get("slideshow", {}) for cell in notebook.cells]
    return [mark for mark in marked if mark.get("slide_type") in ("slide", "fragment")]


def said(notebook):
    """All that a lesson says and shows, without its notes."""
    cells = [cell for cell in notebook.cells if not lessons.is_note(cell)]
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in shown]
    texts += [str(output.data.get("text/plain", "")) for output in shown if "data" in output]
    texts += [str(output.data.get("text/html", "")) for output in shown if "data" in output]
    return "\n".join([cell.source for cell in cells] + texts)


def test_every_lesson_has_notes_and_slides():
    assert NOTED == LESSONS
    for lesson in LESSONS:
        assert len(slides(lessons.read_notebook(lesson))) >= 8, lesson.name


@every_lesson
def test_notes_are_cells_of_text_with_the_minutes_that_they_cover(lesson):
    notebook = lessons.read_notebook(lesson)
    stated = [lessons.NOTE_LINE.match(note.source) for note in notes(notebook)]
    assert all(note.cell_type == "markdown" for note in notes(notebook))
    assert all(stated), "each note begins with its exact first line"
    assert [int(line["minutes"]) for line in stated] == lessons.note_minutes(notebook)


@every_lesson
def test_every_section_begins_with_a_note(lesson):
    cells = lessons.read_notebook(lesson).cells
    assert lessons.is_note(cells[1]), "a note follows the first cell"
    for before, cell in zip(cells, cells[1:], strict=False):
        if cell.cell_type == "markdown" and not lessons.is_note(cell):
            headings = re.findall(r"^## (?:\d+\. .*|Questions.*)$", cell.source, re.MULTILINE)
            for heading in headings:
                assert lessons.is_note(before), f"a note stands before '{heading}'"
                assert cell.source.startswith(heading), f"'{heading}' begins its cell"


@every_lesson
def test_notes_say_where_to_pause_what_to_ask_and_what_to_expect(lesson):
    notebook = lessons.read_notebook(lesson)
    for note in notes(notebook):
        assert any(part in note.source for part in PARTS), note.source
        assert len(note.source.split()) <= MOST_WORDS, note.source
    for part in PARTS:
        assert sum(part in note.source for note in notes(notebook)) >= 3, part
    answers = notes(notebook)[-1].source
    for number in (1, 2, 3):
        assert re.search(rf"^{number}\. ", answers, re.MULTILINE), "the last note answers all three"


@every_lesson
def test_marks_of_slides_are_complete(lesson):
    cells = lessons.read_notebook(lesson).cells
    begun = False
    for cell in cells:
        mark = cell.metadata.get("slideshow")
        if mark is None:
            continue
        assert not lessons.is_note(cell), "a note is no slide: it is what the speaker sees"
        assert set(mark) <= {"slide_type", "title", "text", "show"}
        assert mark["slide_type"] in SLIDES
        begun = begun or mark["slide_type"] == "slide"
        assert begun, "a fragment continues a slide"
        if mark["slide_type"] == "slide":
            assert cell.cell_type == "markdown" or mark.get("title"), cell.source
        assert len(mark.get("text", "").split()) <= MOST_SLIDE_WORDS, mark["text"]
        assert r"\n" not in mark.get("text", ""), "a new line is a line break, not two signs"
        assert mark.get("show", "outputs") in ("outputs", "code", "both", "nothing")


@every_lesson
def test_notes_and_slides_state_no_number_that_the_lesson_does_not_have(lesson):
    notebook = lessons.read_notebook(lesson)
    texts = [note.source for note in notes(notebook)]
    texts += [f"{mark.get('title', '')} {mark.get('text', '')}" for mark in slides(notebook)]
    lesson_says = said(notebook)
    for text in texts:
        for figure in FIGURE.findall(text):
            assert figure in lesson_says, f"{figure} in: {text}"


# The minutes


def a_note(minutes=0):
    note = new_markdown_cell(f"**For the instructor** · {minutes} minutes. **Ask** why.")
    note.metadata["tags"] = [lessons.NOTE]
    return note


def words(number):
    return new_markdown_cell(" ".join(["word"] * number))


def test_a_note_covers_what_comes_until_the_next():
    cells = [words(110), a_note(), words(330), new_code_cell("a = 1\n" * 24), a_note(), words(220)]
    assert lessons.note_minutes(new_notebook(cells=cells)) == [6, 2]


def test_exercises_count_with_the_minutes_that_they_state():
    task = new_markdown_cell("### Exercise 04.1 · Add\n\n*12 minutes, hard.* Write a sum.")
    assert lessons.note_minutes(new_notebook(cells=[a_note(), task])) == [12]
    assert lessons.exercise_parts([task, words(3), task]) == [12, 12]


def test_a_lesson_without_notes_has_no_minutes_of_notes():
    assert lessons.note_minutes(new_notebook(cells=[words(500)])) == []


def test_the_words_of_a_note_are_not_minutes_to_read():
    long = a_note()
    long.source += " word" * 5000
    notebook = new_notebook(cells=[words(1100), long])
    assert lessons.reading_minutes(notebook) == 10
    assert lessons.note_minutes(notebook) == [10]


def test_the_minutes_are_written_into_the_notes():
    notebook = new_notebook(cells=[a_note(5), words(110), a_note(7), words(330)])
    lessons.write_note_minutes(notebook)
    first, second = notes(notebook)
    assert first.source == "**For the instructor** · 1 minute. **Ask** why."
    assert second.source == "**For the instructor** · 3 minutes. **Ask** why."
