"""Every lesson has its frame and keeps its word; running it anew stores what it shows."""

import ast
import copy
import inspect
import re
import textwrap
from urllib.parse import unquote

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mbm_lab import (
    albums,
    datasets,
    doctor,
    downloads,
    exercises,
    lessons,
    outputs,
    place,
)
from mbm_lab.exercises import fusion as fusion_exercises
from mbm_lab.exercises.exercise import Exercise

LESSONS = sorted(lessons.NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
README = place.COURSE / "README.md"

OPENING = ["What you will do", "What you will learn", "What you need"]
CLOSING = ["## Recap", "## Questions", "## On your own", "## Further reading"]

MOST_BYTES = 1_500_000
MOST_CODE_LINES = 20
LEAST_ALT = 40  # characters

LOCAL_PATH = re.compile(r"(/(?:home|root|Users|tmp|work|var/folders)/|[A-Za-z]:\\\\?Users)")
WARNING = re.compile(r"\b\w*Warning\b")
MARKDOWN_IMAGE = re.compile(r"!\[(.*?)\]\(|<img\b(?![^>]*\balt=\"[^\"]+\")", re.DOTALL)

every_lesson = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)
every_page = pytest.mark.parametrize("page", LESSONS, ids=lambda path: path.stem)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def shown(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def learners(lesson):
    """A lesson without what is for the instructor."""
    return lessons.without_notes(lessons.read_notebook(lesson))


def texts(output):
    """All that an output shows as text."""
    data = output.get("data", {})
    return [output.get("text", "")] + [data[kind] for kind in data if kind.startswith("text/")]


def tags(cell):
    return cell.metadata.get("tags", [])


# The frame


@every_lesson
def test_sections_and_exercises_are_numbered_without_a_gap(lesson):
    text = "\n".join(markdown(learners(lesson)))
    sections = [int(number) for number in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)]
    assert sections == list(range(1, len(sections) + 1))
    exercises = re.findall(r"^### Exercise (\d\d)\.(\d) ", text, re.MULTILINE)
    wanted = [(lesson.stem[:2], str(place)) for place in range(1, len(exercises) + 1)]
    assert exercises == wanted


@every_lesson
def test_a_lesson_opens_with_its_frame(lesson):
    cells = markdown(learners(lesson))
    first = cells[0]
    assert first.startswith("# "), "the first cell begins with the title"
    assert re.search(r"^> \S", first, re.MULTILINE), "a quoted sentence of promise"
    assert lessons.TIME_LINE.search(first), "the line **Time**: in its exact form"
    for section in OPENING:
        assert any(section in cell for cell in cells[:4]), f"'{section}' among the first cells"


@every_lesson
def test_a_lesson_closes_with_its_frame(lesson):
    text = "\n\n".join(markdown(learners(lesson)))
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
        end = "\n".join(markdown(learners(lesson))[-3:])
        assert f"({LESSONS[place + 1].name})" in end


@every_lesson
def test_minutes_to_read_are_as_stated(lesson):
    notebook = learners(lesson)
    assert lessons.times(notebook)[0] == lessons.reading_minutes(notebook)


@every_lesson
def test_seconds_to_run_are_as_measured(lesson):
    notebook = learners(lesson)
    stated, measured = lessons.times(notebook)[1], notebook.metadata.mbm.seconds
    close = abs(stated - measured) < 5 or measured / 3 <= stated <= measured * 3
    assert close, f"it says {stated} s, but its cells took {measured} s"


@every_lesson
def test_the_readme_says_the_same_minutes_and_seconds(lesson):
    notebook = learners(lesson)
    minutes, seconds = lessons.times(notebook)
    exercises = lessons.exercise_minutes(notebook) or "–"
    rows = [row for row in README.read_text(encoding="utf-8").splitlines() if lesson.name in row]
    rows = [row for row in rows if row.startswith("|")]
    assert len(rows) == 1, f"README.md has one row of its table for {lesson.name}"
    assert rows[0].endswith(f"| {minutes} | {exercises} | {seconds} |")


# Links


def links_to_files(page):
    """The targets of all links and pictures in the text of a page that are no web addresses."""
    text = "\n".join(markdown(lessons.read_notebook(page)))
    targets = re.findall(r"\]\(([^()\s]+)\)", text)
    targets += re.findall(r"\b(?:src|href)=\"([^\"]+)\"", text)
    return [target for target in targets if not re.match(r"[a-z]+:|#", target)]


@every_page
def test_every_link_to_a_file_leads_to_one(page):
    for target in links_to_files(page):
        assert (page.parent / unquote(target.partition("#")[0])).is_file(), target


@every_page
def test_links_lead_to_the_same_from_a_learners_copy(page):
    """A copy lies in my_lessons/: a link goes to another lesson, to the glossary, which is copied,
    too, or out of the folder."""
    names = [lessons.GLOSSARY, *(path.name for path in LESSONS)]
    for target in links_to_files(page):
        assert target.startswith("../data/") or target in names, target


def test_the_map_of_lesson_00_links_to_every_other_lesson():
    text = "\n".join(markdown(lessons.read_notebook(LESSONS[0])))
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    for lesson in LESSONS[1:]:
        assert re.search(rf"\[{lesson.stem[:2]} · [^]]+\]\({lesson.name}\)", rows), lesson.name


TAGS = {"details", "/details", "summary", "/summary"}


def tags_in(text):
    """What a browser takes for HTML in a text of Markdown, outside of code and formulas."""
    text = re.sub(r"```.*?```|`[^`]*`|\$\$.*?\$\$", "", text, flags=re.DOTALL)
    return set(re.findall(r"<([A-Za-z/!][^<>]*)>", text))


@every_lesson
def test_no_word_is_lost_because_it_looks_like_html(lesson):
    """A prompt ends with <bos>: without marks of code, a browser shows "ends with"."""
    assert tags_in("ends with <bos>, as in `<bos>`, $$a<b>c$$ and a < b") == {"bos"}
    for cell in lessons.read_notebook(lesson).cells:
        if cell.cell_type == "markdown":
            assert tags_in(cell.source) <= TAGS, cell.source


@every_page
def test_no_text_counts_cells(page):
    """Numbers of cells change; a cell is named by what it does."""
    for cell in lessons.read_notebook(page).cells:
        assert not re.search(r"\b[Cc]ells? \d", cell.source), cell.source


# Predictions and exercises do not stand beside their answers


@every_lesson
def test_a_lesson_lets_its_readers_predict(lesson):
    """A cell of text asks, and the next cell is the code that answers."""
    cells = learners(lesson).cells
    asks = [place for place, cell in enumerate(cells) if "**Before you run" in cell.source]
    assert asks
    for ask in asks:
        assert cells[ask + 1].cell_type == "code", cells[ask].source


NEAR = 6  # so many cells before and after an exercise may be in view
MOST_IN_VIEW = 0.3  # the share of a solution's code that may stand there
LEAST_NODES = 5  # what has fewer names, numbers and operations is too small to give anything away


def form(expression):
    """An expression whatever its names are. (Its text is changed, not a copy of the tree: a copy
    would take along all that hangs on nodes which Python shares among trees.)"""
    names = {}

    def neutral(found):
        return f"{found[1]}'{names.setdefault(found[2], f'n{len(names)}')}'"

    text = ast.dump(expression).replace("Store()", "Load()")
    return re.sub(r"((?:Name\(id|arg\(arg)=)'([^']*)'", neutral, text)


def nodes(tree):
    """How many names, numbers and operations a piece of code has."""
    kinds = (ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Call, ast.Attribute,
             ast.Subscript, ast.Compare)  # fmt: skip
    return sum(isinstance(node, kinds) for node in ast.walk(tree))


def forms(code):
    """The forms of all expressions in a piece of text that may be code."""
    code = textwrap.dedent(re.sub(r"^[%!].*$", "", code, flags=re.MULTILINE))
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return set()
    return {form(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}


def found(node, seen):
    """How many nodes of a piece of code stand in expressions of these forms."""
    if isinstance(node, ast.expr) and nodes(node) >= LEAST_NODES and form(node) in seen:
        return nodes(node)
    return sum(found(child, seen) for child in ast.iter_child_nodes(node))


def statements(function):
    """The single statements of a function or class, docstrings left out, as code."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    simple = (ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Return, ast.Expr)
    return [
        node for node in ast.walk(tree)
        if isinstance(node, simple) and not isinstance(node.value, ast.Constant)
    ]  # fmt: skip


def share_in_view(exercise, cells, stub=""):
    """Which share of a solution's code one of these cells shows, in its source or its output.

    What the stub of the exercise shows anyway does not count.
    """
    given = forms(stub)
    wanted = statements(exercise.solution_function)
    of_all = sum(nodes(one) - found(one, given) for one in wanted)
    most = 0.0
    for cell in cells:
        if cell.cell_type == "code":
            shown = [cell.source, *(text for output in cell.outputs for text in texts(output))]
            seen = set().union(*map(forms, shown)) - given
            most = max(most, sum(found(one, seen) for one in wanted) / of_all)
    return most


def around(notebook, exercise):
    """The cells in view of an exercise, without its own three; and the source of its stub."""
    line = f"import {exercise.name} as ex\n"
    place = next(i for i, cell in enumerate(notebook.cells) if line in cell.source)
    before = notebook.cells[max(place - 1 - NEAR, 0) : place - 1]
    after = notebook.cells[place + 2 : place + 2 + NEAR]
    return before + after, notebook.cells[place].source


@every_lesson
def test_no_exercise_stands_beside_its_solution(lesson):
    number = lesson.stem[:2]
    if number not in exercises.LESSONS:
        return
    notebook = learners(lesson)
    for one in exercises.of_lesson(number):
        if isinstance(one, Exercise):
            cells, stub = around(notebook, one)
            assert share_in_view(one, cells, stub) <= MOST_IN_VIEW, one.key
            shows = re.compile(rf"source\((?:\w+\.)*{one.name}\)")
            assert not any(shows.search(cell.source) for cell in cells), f"{one.key}: shown whole"


@pytest.mark.parametrize(
    ("exercise", "code"),
    [
        (fusion_exercises.weighted_sum, "v = alpha * f + beta * g\nprint(v)"),
        (fusion_exercises.weighted_sum, "total = a * picture + b * message"),
        (
            fusion_exercises.step,
            "v = -0.9 * f + 0.6 * g\n"
            "by_hand = torch.stack([2 * ((v - m) * f).mean(), 2 * ((v - m) * g).mean()])",
        ),
        (
            fusion_exercises.best_weights,
            "centred = x - x.mean(1, keepdim=True)\n"
            "weights = torch.linalg.solve(centred @ centred.T, centred @ mood)",
        ),
    ],
)
def test_a_solution_in_view_is_found_under_other_names_too(exercise, code):
    output = new_output("display_data", data={"text/plain": code})
    for cell in (new_code_cell(code), new_code_cell("plots.source(it)", outputs=[output])):
        assert share_in_view(exercise, [new_markdown_cell("text"), cell]) > MOST_IN_VIEW
    call = "v = fusion.weighted_sum(f, g, alpha, beta)\nbest = fusion.best_weights(f, g, m)"
    assert share_in_view(exercise, [new_code_cell(call)]) == 0


# The cells


@every_lesson
def test_cells_were_run_in_order_from_a_fresh_kernel(lesson):
    cells = code_cells(learners(lesson))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


@every_lesson
def test_code_cells_are_short(lesson):
    for cell in code_cells(learners(lesson)):
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
    for output in shown(learners(lesson)):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text
        for text in texts(output):
            assert not WARNING.search(text), text
            assert not LOCAL_PATH.search(text), text


@every_lesson
def test_no_progress_bars_and_no_views_beside_a_picture_are_stored(lesson):
    stored = shown(learners(lesson))
    assert outputs.tidy(copy.deepcopy(stored)) == stored


@every_lesson
def test_pictures_have_a_text_alternative(lesson):
    notebook = learners(lesson)
    for output in shown(notebook):
        if "image/png" in output.get("data", {}):
            alt = output.metadata.get("image/png", {}).get("alt", "")
            assert len(alt) >= LEAST_ALT, f"alt text too short: {alt!r}"
    for source in markdown(notebook):
        for image in MARKDOWN_IMAGE.finditer(source):
            assert (image[1] or "").strip(), f"no alt text: {source[image.start() :][:80]}"


@every_lesson
def test_a_notebook_is_small_and_holds_nothing_of_one_run(lesson):
    notebook = learners(lesson)
    assert lesson.stat().st_size < MOST_BYTES
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mbm"}
    assert all("execution" not in cell.metadata for cell in notebook.cells)
    nbformat.validate(notebook)


def test_every_lesson_has_its_own_number():
    numbers = [lesson.stem[:2] for lesson in LESSONS]
    assert len(numbers) == len(set(numbers))
    assert numbers == [f"{n:02}" for n in range(len(LESSONS))]


def test_the_stored_report_of_the_doctor_is_that_of_a_whole_course():
    """It names Python and the device, so it is not compared; its counts must be those of today."""
    (cell,) = (c for c in code_cells(lessons.read_notebook(LESSONS[0])) if "doctor" in c.source)
    (output,) = cell.outputs
    *lines, empty, last = output.text.splitlines()
    found = dict(line.removeprefix("ok     ").split(": ", 1) for line in lines)
    assert all(line.startswith("ok     ") for line in lines)
    silent = [doctor.check_needed]  # unless something is missing
    assert len(found) == len(doctor.CHECKS) - len(silent)
    count = len(doctor.dependencies())
    assert found["packages"] == f"{count} of {count} are there, at the course's versions"
    for check in (doctor.check_data, doctor.check_weights):
        (here,) = check()
        assert found[here.what] == here.says
    assert (empty, last) == ("", "Everything is as it should be.")


# Data that not everybody has, and that may not be passed on


@every_lesson
def test_what_may_not_be_passed_on_is_not_stored(lesson):
    for cell in code_cells(learners(lesson)):
        first = cell.source.partition("\n")[0]
        if first.startswith(lessons.NEEDS):
            assert set(first.split()[1:]) <= {*downloads.DATA_SETS, *lessons.PACKAGES}, first
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
    for cell in code_cells(learners(lesson)):
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
    with pytest.raises(ValueError, match=f"^There is no lesson 7: choose one of {which}\\.$"):
        lessons.find_lesson(7, tmp_path)


@pytest.mark.parametrize("number", ["", " ", ".", "/", "..", "-4", "٤", "4.0"])
def test_what_is_no_number_is_no_lesson(notebooks, number):
    with pytest.raises(ValueError, match="There is no lesson .+: choose one of"):
        lessons.find_lesson(number, notebooks)


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
    lessons.refresh(notebooks=notebooks)
    assert code_cells(lessons.read_notebook(notebooks / "01_two.ipynb"))[0].execution_count
    notebook = nbformat.read(notebooks / "00_one.ipynb", as_version=4)
    assert notebook.cells[1].outputs[0].text == "1 3\n"
    assert notebook.cells[1].execution_count == 1
    assert "execution" not in notebook.cells[1].metadata
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mbm"}
    assert 0 <= notebook.metadata.mbm.seconds < 60
    assert {path.name for path in notebooks.iterdir()} == {"00_one.ipynb", "01_two.ipynb"}


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
