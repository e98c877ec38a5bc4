"""The glossary: each term stands in the lesson that it names, and every lesson leads to it."""

import re

import pytest

from mbm_lab import copies, lessons
from workshop import copies as notebooks_for_the_room
from workshop import site

GLOSSARY = lessons.NOTEBOOKS / lessons.GLOSSARY
LESSONS = lessons.course_lessons()
COMING = ("13_one_model.ipynb", "14_what_next.ipynb")
"""Lessons whose terms are listed already; each is read as soon as it is there."""

LINK = f"[Glossary]({lessons.GLOSSARY})"

every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)

ROW = re.compile(
    r"\| (?P<term>[^|]+) \| (?P<chinese>[^|]+) "
    r"\| \[(?P<number>\d\d)\]\((?P<file>\d\d_\w+\.ipynb)\) \| (?P<meaning>[^|]+) \|"
)
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def rows_of(text):
    """The rows of the table, below its head: all of them must have the form of a row."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    found = [ROW.fullmatch(line) for line in lines[2:]]
    assert all(found), [line for line, row in zip(lines[2:], found, strict=True) if not row]
    return found


ROWS = rows_of(GLOSSARY.read_text(encoding="utf-8"))


def text_of(lesson):
    """What a learner reads in a lesson, its links to the glossary left out."""
    notebook = lessons.without_notes(lessons.read_notebook(lesson))
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return text.replace(LINK, "")


def stands_in(term, text):
    """Whether a term is among the words of a text, in any case, also as a plural.

    What the glossary has in parentheses is no part of the term; one kind of dash is as another.
    """
    words = re.sub(r" \(.*\)$", "", term)
    plain, words = (re.sub("[–‑-]", "-", one.casefold()) for one in (text, words))
    ending = r"(?:y|ies)" if words.endswith("y") else re.escape(words[-1]) + r"(?:s|es)?"
    spaced = re.escape(words[:-1]).replace(r"\ ", r"\s+")
    return re.search(rf"(?<!\w){spaced}{ending}(?!\w)", plain) is not None


# The table


def test_the_rows_are_sorted_and_no_term_stands_twice():
    terms = [row["term"].casefold() for row in ROWS]
    assert terms == sorted(set(terms))
    assert len(terms) > 150


def test_every_row_has_chinese_and_its_own_short_meaning():
    meanings = [row["meaning"] for row in ROWS]
    assert len(set(meanings)) == len(meanings)
    for row in ROWS:
        assert CHINESE.search(row["chinese"]), row["term"]
        assert not CHINESE.search(row["term"]), row["term"]
        assert 3 <= len(row["meaning"].split()) <= 22, row["meaning"]
        assert row["meaning"][-1] not in ".;,", row["meaning"]


def test_the_number_and_the_link_of_a_row_are_those_of_one_lesson():
    names = [*(lesson.name for lesson in LESSONS), *COMING]
    for row in ROWS:
        assert row["file"] in names, row["term"]
        assert row["number"] == row["file"][:2], row["term"]


@every_lesson
def test_each_term_stands_in_the_lesson_that_is_named(lesson):
    text = text_of(lesson)
    terms = [row["term"] for row in ROWS if row["file"] == lesson.name]
    assert terms, "every lesson brings terms"
    missing = [term for term in terms if not stands_in(term, text)]
    assert missing == []


@pytest.mark.parametrize(
    ("term", "text", "there"),
    [
        ("kernel", "Two Kernels slide.", True),
        ("kernel", "subkernel, kernelled", False),
        ("modality", "many modalities", True),
        ("batch", "batches", True),
        ("early (fusion)", "early, late", True),
        ("early (fusion)", "fusion is nearly done", False),
        ("key–value cache", "a key-value\ncache", True),
        ("dot product", "the dot  product", True),
        ("dot product", "a product of dots", False),
        ("R²", "R² is 1", True),
        ("recall@k", "Recall@k", True),
        ("gate", "gates", True),
        ("gate", "negate, gated", False),
    ],
)
def test_a_term_is_found_as_a_word_and_not_within_one(term, text, there):
    assert stands_in(term, text) is there


@pytest.mark.parametrize(
    "line",
    [
        "| term | 中文 | [04](04_fusion.ipynb) |",
        "| term | 中文 | 04 | meaning |",
        "| term | 中文 | [04](04_fusion.md) | meaning |",
        "| term || [04](04_fusion.ipynb) | meaning |",
    ],
)
def test_a_row_of_another_form_is_found(line):
    with pytest.raises(AssertionError):
        rows_of(f"| a | b | c | d |\n|---|---|---|---|\n{line}")


# The links to it


@every_lesson
def test_every_lesson_ends_with_a_link_to_the_glossary(lesson):
    notebook = lessons.without_notes(lessons.read_notebook(lesson))
    lines = [line for line in notebook.cells[-1].source.splitlines() if LINK in line]
    assert lines == [f"All terms, in English and Chinese: {LINK}"]
    assert (lesson.parent / lessons.GLOSSARY).is_file()


def test_the_link_leads_to_the_glossary_from_the_learners_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "served", lambda folder: False)
    copies.prepare(lessons.NOTEBOOKS, tmp_path)
    assert (tmp_path / lessons.GLOSSARY).read_bytes() == GLOSSARY.read_bytes()
    for row in ROWS:
        assert (tmp_path / row["file"]).is_file() or row["file"] in COMING


def test_the_link_leads_to_the_glossary_from_the_notebooks_for_a_room(tmp_path):
    for write in (notebooks_for_the_room.write_learners, notebooks_for_the_room.write_instructors):
        folder = tmp_path / write.__name__
        write(LESSONS[:1], folder)
        assert (folder / lessons.GLOSSARY).read_bytes() == GLOSSARY.read_bytes()


def test_on_the_site_its_links_lead_to_the_lessons_that_are_there():
    page = site.glossary(LESSONS[:2])
    assert "[00](00_welcome.md)" in page
    assert "[01](01_preprocessing.md)" in page
    assert "| 02 |" in page
    assert ".ipynb" not in page
    assert f"\n{lessons.GLOSSARY.removesuffix('.md')}\n" in site.index(LESSONS[:2])


# The learner's copy of it


@pytest.fixture
def course(tmp_path):
    """A course with a glossary alone, and the learner's folder, which is not there yet."""
    notebooks, mine = tmp_path / "notebooks", tmp_path / "mine"
    notebooks.mkdir()
    (notebooks / lessons.GLOSSARY).write_text("old", encoding="utf-8")
    return notebooks, mine


def test_a_newer_glossary_takes_the_place_of_one_that_was_not_changed(course):
    notebooks, mine = course
    assert copies.put_glossary(notebooks, mine)
    assert not copies.put_glossary(notebooks, mine)
    (notebooks / lessons.GLOSSARY).write_text("new", encoding="utf-8")
    assert copies.put_glossary(notebooks, mine)
    assert (mine / lessons.GLOSSARY).read_text(encoding="utf-8") == "new"


def test_a_glossary_that_the_learner_changed_stays(course):
    notebooks, mine = course
    copies.put_glossary(notebooks, mine)
    (mine / lessons.GLOSSARY).write_text("my own words", encoding="utf-8")
    (notebooks / lessons.GLOSSARY).write_text("new", encoding="utf-8")
    assert not copies.put_glossary(notebooks, mine)
    assert (mine / lessons.GLOSSARY).read_text(encoding="utf-8") == "my own words"


def test_a_glossary_that_was_there_before_stays(course):
    notebooks, mine = course
    mine.mkdir()
    (mine / lessons.GLOSSARY).write_text("somebody's", encoding="utf-8")
    assert not copies.put_glossary(notebooks, mine)
    assert (mine / lessons.GLOSSARY).read_text(encoding="utf-8") == "somebody's"


def test_an_interrupted_copy_is_brought_up_to_date_later(course):
    notebooks, mine = course
    copies.put_glossary(notebooks, mine)
    (mine / copies.ORIGINS / lessons.GLOSSARY).unlink()  # as if it had not come so far
    copies.put_glossary(notebooks, mine)
    (notebooks / lessons.GLOSSARY).write_text("new", encoding="utf-8")
    assert copies.put_glossary(notebooks, mine)


def test_a_course_without_a_glossary_needs_none(course):
    notebooks, mine = course
    (notebooks / lessons.GLOSSARY).unlink()
    assert not copies.put_glossary(notebooks, mine)
    assert not mine.exists()


def test_a_glossary_that_cannot_be_written_is_one_sentence(course):
    notebooks, mine = course
    mine.write_text("a file in the way", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot be written \(.*\): make room there, or make"):
        copies.put_glossary(notebooks, mine)
