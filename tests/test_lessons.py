"""Every lesson has its frame and keeps its word; running it anew stores what it shows."""

import copy
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mbm_lab import albums, datasets, downloads, lessons, outputs

LESSONS = sorted(lessons.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
README = lessons.REPOSITORY / "README.md"

OPENING = ["What you will do", "What you will learn", "What you need"]
CLOSING = ["## Recap", "## Questions", "## On your own", "## Further reading"]

MOST_BYTES = 1_500_000
MOST_CODE_LINES = 20
LEAST_ALT = 40  # characters

LOCAL_PATH = re.compile(r"(/(?:home|root|Users|tmp|work|var/folders)/|[A-Za-z]:\\\\?Users)")
WARNING = re.compile(r"\b\w*Warning\b")
MARKDOWN_IMAGE = re.compile(r"!\[(.*?)\]\(|<img\b(?![^>]*\balt=\"[^\"]+\")", re.DOTALL)

every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
every_page = pytest.mark.parametrize(
    "page", [*LESSONS, lessons.PLAYGROUND], ids=lambda path: path.stem
)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def shown(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def texts(output):
    """All that an output shows as text."""
    data = output.get("data", {})
    return [output.get("text", "")] + [data[kind] for kind in data if kind.startswith("text/")]


def tags(cell):
    return cell.metadata.get("tags", [])


# The frame


@every_lesson
def test_sections_and_exercises_are_numbered_without_a_gap(lesson):
    text = "\n".join(markdown(lessons.read_notebook(lesson)))
    sections = [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert sections == list(range(1, len(sections) + 1))
    exercises = re.findall(r"^### Exercise (\d\d)\.(\d) ", text, re.MULTILINE)
    wanted = [(lesson.stem[:2], str(place)) for place in range(1, len(exercises) + 1)]
    assert exercises == wanted


@every_lesson
def test_a_lesson_opens_with_its_frame(lesson):
    cells = markdown(lessons.read_notebook(lesson))
    first = cells[0]
    assert first.startswith("# "), "the first cell begins with the title"
    assert re.search(r"^> \S", first, re.MULTILINE), "a quoted sentence of promise"
    assert lessons.TIME_LINE.search(first), "the line **Time**: in its exact form"
    for section in OPENING:
        assert any(section in cell for cell in cells[:4]), f"'{section}' among the first cells"


@every_lesson
def test_a_lesson_closes_with_its_frame(lesson):
    text = "\n\n".join(markdown(lessons.read_notebook(lesson)))
    places = []
    for heading in CLOSING:
        found = re.search(rf"^{heading}\b", text, re.MULTILINE)
        assert found, f"no section '{heading}'"
        places.append(found.start())
    assert places == sorted(places), f"the sections come in this order: {', '.join(CLOSING)}"


@every_lesson
def test_a_lesson_links_to_the_next(lesson):
    place = LESSONS.index(lesson)
    if lesson != LESSONS[-1]:
        end = "\n".join(markdown(lessons.read_notebook(lesson))[-3:])
        assert f"({LESSONS[place + 1].name})" in end


@every_lesson
def test_minutes_to_read_are_as_stated(lesson):
    notebook = lessons.read_notebook(lesson)
    assert lessons.times(notebook)[0] == lessons.reading_minutes(notebook)


@every_lesson
def test_seconds_to_run_are_as_measured(lesson):
    notebook = lessons.read_notebook(lesson)
    stated, measured = lessons.times(notebook)[1], notebook.metadata.mbm.seconds
    close = abs(stated - measured) < 5 or measured / 3 <= stated <= measured * 3
    assert close, f"it says {stated} s, but its cells took {measured} s"


@every_lesson
def test_the_readme_says_the_same_minutes_and_seconds(lesson):
    notebook = lessons.read_notebook(lesson)
    minutes, seconds = lessons.times(notebook)
    exercises = lessons.exercise_minutes(notebook) or "–"
    rows = [row for row in README.read_text(encoding="utf-8").splitlines() if lesson.name in row]
    rows = [row for row in rows if row.startswith("|")]
    assert len(rows) == 1, f"README.md has one row of its table for {lesson.name}"
    assert rows[0].endswith(f"| {minutes} | {exercises} | {seconds} |")


# The cells


@every_lesson
def test_cells_were_run_in_order_from_a_fresh_kernel(lesson):
    cells = code_cells(lessons.read_notebook(lesson))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@every_lesson
def test_code_cells_are_short(lesson):
    for cell in code_cells(lessons.read_notebook(lesson)):
        assert len(cell.source.splitlines()) <= MOST_CODE_LINES, cell.source


@every_page
def test_few_outputs_are_not_compared_and_each_says_why(page):
    cells = code_cells(lessons.read_notebook(page))
    special = [cell for cell in cells if any(tag.startswith("nbval-") for tag in tags(cell))]
    assert len(special) <= len(cells) / 4
    for cell in special:
        of_nbval = [tag for tag in tags(cell) if tag.startswith("nbval-")]
        assert of_nbval == ["nbval-ignore-output"]
        assert cell.metadata.get("reason"), f"no reason in the metadata of:\n{cell.source}"


# What is stored


@every_lesson
def test_no_errors_warnings_or_local_paths_are_stored(lesson):
    for output in shown(lessons.read_notebook(lesson)):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        for text in texts(output):
            assert not WARNING.search(text), text
            assert not LOCAL_PATH.search(text), text


@every_lesson
def test_no_progress_bars_and_no_views_beside_a_picture_are_stored(lesson):
    stored = shown(lessons.read_notebook(lesson))
    assert outputs.tidy(copy.deepcopy(stored)) == stored


@every_lesson
def test_pictures_have_a_text_alternative(lesson):
    notebook = lessons.read_notebook(lesson)
    for output in shown(notebook):
        if "image/png" in output.get("data", {}):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt) >= LEAST_ALT, f"alt text too short: {alt!r}"
    for source in markdown(notebook):
        for image in MARKDOWN_IMAGE.finditer(source):
            assert (image[1] or "").strip(), f"no alt text: {source[image.start() :][:80]}"


@every_lesson
def test_a_notebook_is_small_and_holds_nothing_of_one_run(lesson):
    notebook = lessons.read_notebook(lesson)
    assert lesson.stat().st_size < MOST_BYTES
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mbm"}
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    nbformat.validate(notebook)


def test_every_lesson_has_its_own_number():
    numbers = [lesson.stem[:2] for lesson in LESSONS]
    assert len(numbers) == len(set(numbers))
    assert numbers[:11] == [f"{n:02}" for n in range(11)]


# Data that not everybody has, and that may not be passed on


@every_lesson
def test_what_may_not_be_passed_on_is_not_stored(lesson):
    for cell in code_cells(lessons.read_notebook(lesson)):
        first = cell.source.partition("\n")[0]
        if first.startswith(lessons.NEEDS):
            assert set(first.split()[1:]) <= set(downloads.DATA_SETS), first
        if "private" in tags(cell):
            assert "nbval-ignore-output" in tags(cell)
            assert cell.outputs == [], cell.source


def sentences_of_real_data():
    """All captions and sentences that are here, of data sets that may not be passed on."""
    found = set()
    if folder := downloads.find("flickr8k"):
        found |= {caption for _, caption in albums.read_captions(folder)}
    if downloads.find("multi30k"):
        for split in ("train", "val", "test"):
            for sentences in datasets.load_multi30k(split):
                found |= set(sentences)
    return {sentence for sentence in found if len(sentence.split()) > 4}


@pytest.mark.skipif(not downloads.find("flickr8k"), reason="needs flickr8k")
def test_no_photograph_and_no_sentence_of_real_data_is_stored():
    (lesson,) = (path for path in LESSONS if path.stem == "12_real_data")
    forbidden = sentences_of_real_data()
    assert len(forbidden) > 1000
    for cell in code_cells(lessons.read_notebook(lesson)):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                assert not cell.source.startswith("%%needs flickr8k")
            for text in texts(output):
                assert not any(sentence in text for sentence in forbidden), text


# A course of two lessons


@pytest.fixture
def notebooks(tmp_path):
    """The notebooks of a course of two lessons, in a folder with spaces."""
    notebooks = tmp_path / "a course" / "notebooks"
    notebooks.mkdir(parents=True)
    for name in ("00_one", "01_two"):
        time = "**Time**: 5 minutes to read, 2 seconds to run (two-core laptop, no GPU)."
        title = f"# {name[:2]} · Lesson {name}"
        cells = [new_markdown_cell(f"{title}\n\n{time}"), new_code_cell("print(1 + 1)")]
        nbformat.write(new_notebook(cells=cells), notebooks / f"{name}.ipynb")
    return notebooks


def edit(path, source):
    """Writes something into the code cell of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = source
    nbformat.write(notebook, path)


def test_a_lesson_is_found_by_its_number_or_name(notebooks):
    for number in (1, "1", "01", "01_two", "01_two.ipynb"):
        assert lessons.find_lesson(number, notebooks) == notebooks / "01_two.ipynb"


@pytest.mark.parametrize(
    ("numbers", "which"),
    [
        ([0, 1], "00 to 01"),
        ([0, 1, 2, 4], "00 to 02 and 04"),
        ([0, 2, 4, 5], "00, 02 and 04 to 05"),
        ([3], "03"),
    ],
)
def test_a_number_that_is_missing_is_told_which_there_are(tmp_path, numbers, which):
    for number in numbers:
        (tmp_path / f"{number:02}_x.ipynb").touch()
    with pytest.raises(ValueError, match=f"^There is no lesson 7: the lessons are {which}\\.$"):
        lessons.find_lesson(7, tmp_path)


def test_an_empty_course_is_one_sentence(tmp_path):
    with pytest.raises(FileNotFoundError, match="There are no lessons in"):
        lessons.course_lessons(tmp_path)


# Reading and running


def test_reading_minutes_count_words_and_lines_of_code():
    words = new_markdown_cell("word " * 1100)  # ten minutes
    code = new_code_cell("x = 1\n\n" * 120)  # ten minutes: empty lines do not count
    assert lessons.reading_minutes(new_notebook(cells=[words])) == 10
    assert lessons.reading_minutes(new_notebook(cells=[words, code])) == 20
    assert lessons.reading_minutes(new_notebook(cells=[])) == 5


@pytest.mark.slow
def test_refresh_stores_outputs_and_seconds_and_nothing_of_one_run(notebooks, capsys):
    edit(notebooks / "00_one.ipynb", "import os; print(os.environ['OMP_NUM_THREADS'], 1 + 2)")
    nbformat.write(new_notebook(cells=[new_code_cell("5 + 5")]), notebooks / "playground.ipynb")
    lessons.refresh(notebooks=notebooks)
    assert code_cells(lessons.read_notebook(notebooks / "playground.ipynb"))[0].execution_count
    notebook = nbformat.read(notebooks / "00_one.ipynb", as_version=4)
    assert notebook.cells[1].outputs[0].text == "1 3\n"
    assert notebook.cells[1].execution_count == 1
    assert "execution" not in notebook.cells[1].metadata
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mbm"}
    assert 0 <= notebook.metadata.mbm.seconds < 60
    assert {path.name for path in notebooks.iterdir()} == {
        "00_one.ipynb",
        "01_two.ipynb",
        "playground.ipynb",
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", ["1 / 0", "import warnings; warnings.warn('old')"], ids=["error", "warning"]
)
def test_refresh_leaves_a_lesson_that_fails_as_it_was(notebooks, source):
    edit(notebooks / "00_one.ipynb", source)
    before = (notebooks / "00_one.ipynb").read_bytes()
    with pytest.raises(ValueError, match="00_one.ipynb: this cell"):
        lessons.refresh(["00"], notebooks)
    assert (notebooks / "00_one.ipynb").read_bytes() == before


@pytest.mark.slow
def test_refresh_stores_pictures_but_no_progress_bars_and_no_live_views(notebooks):
    bar = {"text/plain": "epochs:   0%|          | 0/4", outputs.LIVE: {}}
    still = {"text/plain": "a slider", "image/png": "abc\n"}
    edit(
        notebooks / "00_one.ipynb",
        "from IPython.display import display\n"
        f"display({bar}, raw=True)\ndisplay({ {**still, outputs.LIVE: {}} }, raw=True)",
    )
    lessons.refresh(["00"], notebooks)
    (cell,) = code_cells(lessons.read_notebook(notebooks / "00_one.ipynb"))
    assert [output.data for output in cell.outputs] == [still]


@pytest.mark.slow
def test_refresh_stores_nothing_that_is_private(notebooks):
    edit(notebooks / "00_one.ipynb", "print('a photograph')")
    notebook = lessons.read_notebook(notebooks / "00_one.ipynb")
    notebook.cells[1].metadata["tags"] = ["private"]
    nbformat.write(notebook, notebooks / "00_one.ipynb")
    lessons.refresh(["00"], notebooks)
    (cell,) = code_cells(lessons.read_notebook(notebooks / "00_one.ipynb"))
    assert (cell.outputs, cell.execution_count) == ([], 1)


def test_refresh_needs_the_data_that_a_lesson_needs(notebooks, tmp_path, monkeypatch):
    edit(notebooks / "00_one.ipynb", "%%needs mnist\nprint(1)")
    monkeypatch.setenv("MBM_DATA_HOME", str(tmp_path / "nothing"))
    before = (notebooks / "00_one.ipynb").read_bytes()
    with pytest.raises(ValueError, match="needs the data set mnist to store its outputs"):
        lessons.refresh(["00"], notebooks)
    assert (notebooks / "00_one.ipynb").read_bytes() == before


def test_only_the_first_line_of_a_cell_asks_for_data(tmp_path, monkeypatch):
    monkeypatch.setenv("MBM_DATA_HOME", str(tmp_path))
    assert lessons.missing_data("%%needs mnist fsdd\nprint(1)") == ["mnist", "fsdd"]
    assert lessons.missing_data("print(1)\n%%needs mnist") == []
    assert lessons.missing_data("") == []
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    (tmp_path / "fsdd" / "recordings" / "0_theo_0.wav").touch()
    assert lessons.missing_data("%%needs mnist fsdd") == ["mnist"]
