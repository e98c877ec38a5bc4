"""The views of the lessons, as they are written: who sees what, and that nothing is changed."""

import ast
import base64
import copy
import functools
import html
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mbm_lab import exercises, lessons
from mbm_lab.exercises import Choice
from workshop import copies, equations, rendering, site, slides, views

NAMES = [path.stem for path in lessons.course_lessons()]


class Views:
    """All lessons as they are, and in each view; the site's are the pages that Sphinx gets."""

    def __init__(self, folder: Path):
        paths = lessons.course_lessons()
        copies.write_learners(paths, folder / "learner")
        copies.write_instructors(paths, folder / "instructor")
        slides.write(paths, folder / "slides")
        self.pictures = folder / "pictures"
        self.pictures.mkdir()
        self.lessons = {path.stem: lessons.read_notebook(path) for path in paths}
        self.learner, self.instructor = (
            {path.stem: nbformat.read(folder / view / path.name, 4) for path in paths}
            for view in ("learner", "instructor")
        )
        self.slides = {
            path.stem: (folder / "slides" / f"{path.stem}.html").read_text(encoding="utf-8")
            for path in paths
        }
        self.site = {
            name: site.page(lessons.without_notes(notebook), name, self.pictures)
            for name, notebook in self.lessons.items()
        }


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return Views(tmp_path_factory.mktemp("views"))


# Exercises and solutions


@functools.cache
def answers(source: str) -> dict[str, str]:
    """What a cell defines, by name and as code: without descriptions, comments and annotations."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic command
        return {}
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            said = node.body and isinstance(node.body[0], ast.Expr)
            if said and isinstance(node.body[0].value, ast.Constant):
                node.body = node.body[1:]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found[node.name] = ast.dump(node)
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            found[node.target.id] = ast.dump(node.value)
    return found


@functools.cache
def solutions(lesson: str) -> dict:
    """The exercises of a lesson by name, and what each one's solution defines."""
    found = {one.name: one for one in exercises.of_lesson(lesson)}
    return {name: (one, answers(one.solution_source())) for name, one in found.items()}


def solved(sources: list[str], lesson: str) -> list[str]:
    """The exercises of a lesson whose solution is among these pieces of code."""
    asked, found = "", []
    for source in sources:
        if stub := copies.STUB.search(source):
            asked = stub["name"]
        written = answers(source)
        for one, right in solutions(lesson).values():
            if isinstance(one, Choice) and one.name != asked:
                continue  # the same letter answers several
            found += [one.key for name, code in right.items() if written.get(name) == code]
    return found


def code_of(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def code_of_page(text: str) -> list[str]:
    """The code cells of a page of the site, as Sphinx gets it."""
    return re.findall(r"^`{4,}\{code-block\} ipython3\n(.*?)\n`{4,}$", text, re.M | re.S)


def code_of_slides(page: str) -> list[str]:
    blocks = re.findall(r'<div class="code"><pre>(.*?)</pre>', page, re.DOTALL)
    return [html.unescape(re.sub(r"<[^>]*>", "", block)) for block in blocks]


def asked_in(sources: list[str]) -> set[str]:
    """The exercises whose stubs are here."""
    return {found["name"] for one in sources if (found := copies.STUB.search(one))}


def by_number(view: dict, number: str):
    return next(view[name] for name in view if name.startswith(number))


@pytest.mark.slow
@pytest.mark.parametrize("number", exercises.LESSONS)
def test_learners_get_each_task_and_its_stub_without_the_solution(built, number):
    theirs = by_number(built.learner, number)
    names = {one.name for one in exercises.of_lesson(number)}
    titles = "\n".join(cell.source for cell in theirs.cells if cell.cell_type == "markdown")
    assert asked_in(code_of(theirs)) == names
    assert all(one.title in titles for one in exercises.of_lesson(number))
    assert solved(code_of(theirs), number) == []
    assert not any("solution" in cell.metadata.get("tags", []) for cell in theirs.cells)


@pytest.mark.slow
@pytest.mark.parametrize("number", exercises.LESSONS)
def test_neither_the_site_nor_the_slides_show_a_solution(built, number):
    page = code_of_page(by_number(built.site, number))
    assert asked_in(page) == {one.name for one in exercises.of_lesson(number)}
    assert solved(page, number) == []
    assert solved(code_of_slides(by_number(built.slides, number)), number) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", exercises.LESSONS)
def test_the_instructor_gets_each_solution_right_after_its_stub(built, number):
    cells = by_number(built.instructor, number).cells
    keys = [one.key for one in exercises.of_lesson(number)]
    assert sorted(solved(code_of(by_number(built.instructor, number)), number)) == sorted(keys)
    for before, cell in zip(cells, cells[1:], strict=False):
        if copies.SOLUTION in cell.metadata.get("tags", []):
            assert asked_in([before.source]) == asked_in([cell.source])
            assert copies.SOLUTION not in before.metadata.get("tags", [])
    assert sum(copies.SOLUTION in cell.metadata.get("tags", []) for cell in cells) == len(keys)


@pytest.mark.slow
def test_a_solution_in_a_learners_notebook_would_be_seen_however_it_is_written(built):
    notebook = copy.deepcopy(by_number(built.learner, "04"))
    place = next(i for i, cell in enumerate(notebook.cells) if "worse_picture" in cell.source)
    (choice,) = (one for one in exercises.of_lesson("04") if isinstance(one, Choice))
    notebook.cells[place].source = notebook.cells[place].source.replace("...", f"'{choice.answer}'")
    solution = solutions("04")["weighted_sum"][0].solution_source()
    told = re.sub(r": (Tensor|float)|-> Tensor", "", ast.unparse(ast.parse(solution)))
    assert told != solution
    notebook.cells.append(new_code_cell(f"# told\n{told}"))
    assert set(solved(code_of(notebook), "04")) == {"04.weighted_sum", choice.key}


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", ["01.cut", "04.weighted_sum_module", "04.worse_picture", "09.collapse"]
)
def test_a_solution_cell_is_right_when_it_is_run(built, key, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MBM_PROGRESS", str(tmp_path / "progress.json"))
    number, name = key.split(".")
    (cell,) = (
        cell
        for cell in by_number(built.instructor, number).cells
        if asked_in([cell.source]) == {name} and copies.SOLUTION in cell.metadata.get("tags", [])
    )
    exec("import torch\nfrom torch import Tensor, nn\n" + cell.source, {})
    assert "Right." in capsys.readouterr().out


# Notes


def lines_of(note: str) -> list[str]:
    """The parts of a note that nobody could take for something else."""
    return [line for line in note.splitlines() if len(line) > 30 or "instructor" in line]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_notes_are_the_instructors_and_on_slides_the_speakers_alone(built, name):
    notes = [cell.source for cell in built.lessons[name].cells if lessons.is_note(cell)]
    everything = "\n".join(cell.source for cell in built.learner[name].cells)
    asides = re.findall(r'<aside class="notes">(.*?)</aside>', built.slides[name], re.DOTALL)
    shown = re.sub(r'<aside class="notes">.*?</aside>', "", built.slides[name], flags=re.DOTALL)
    spoken = "\n".join(asides)
    instructors = [cell.source for cell in built.instructor[name].cells]
    for note in notes:
        assert note in instructors
        assert rendering.markdown(note) in spoken
        for line in lines_of(note):
            assert line not in everything
            assert line not in built.site[name]
            assert rendering.markdown(line).strip() not in shown
    assert "instructor**" not in everything + built.site[name] + shown


@pytest.mark.slow
def test_views_carry_no_marks_of_slides(built):
    for notebook in built.learner.values():
        assert not any("slideshow" in cell.metadata for cell in notebook.cells)
    assert "slide_type" not in "".join(built.site.values())


# Nothing is changed


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_view_shows_what_is_stored_in_the_lesson(built, name):
    lesson = built.lessons[name]
    theirs = [cell for cell in built.instructor[name].cells
              if copies.SOLUTION not in cell.metadata.get("tags", [])]  # fmt: skip
    assert theirs == lesson.cells
    assert all(cell.outputs == [] for cell in built.learner[name].cells if "outputs" in cell)
    assert [c.source for c in built.learner[name].cells] == [
        cell.source for cell in lesson.cells if not lessons.is_note(cell)
    ]
    pictures, printed = set(), set()
    for shown in (one for cell in lesson.cells for one in rendering.outputs(cell)):
        if shown.kind == "figure":
            pictures.add(re.search(r'base64,([^"]*)"', shown.html)[1])
        if shown.kind == "printed":
            printed.add(shown.text.rstrip("\n"))
            assert shown.text.rstrip("\n") in built.site[name]
    on_slides = built.slides[name]
    assert set(re.findall(r'image/png;base64,([^"]*)"', on_slides)) <= pictures | attached(lesson)
    for text in re.findall(r'<pre class="printed[^>]*>(.*?)</pre>', on_slides, re.DOTALL):
        assert html.unescape(text) in printed
    assert built.site[name].count('<div class="figure">') >= len(pictures)


def attached(notebook) -> set[str]:
    return {
        "".join(data)
        for cell in notebook.cells
        for kinds in cell.get("attachments", {}).values()
        for data in kinds.values()
    }


@pytest.mark.slow
def test_every_picture_of_the_site_has_its_words(built):
    for name, page in built.site.items():
        for element in re.findall(r"<img [^>]*>", page):
            words = re.search(r'alt="([^"]*)"', element)
            assert len(html.unescape(words[1])) >= 40, (name, element)
            assert (built.pictures / re.search(r'pictures/([^"]*)"', element)[1]).stat().st_size


@pytest.mark.slow
def test_a_widget_is_a_picture_and_one_sentence(built):
    made = sum(
        rendering.is_widget(output)
        for lesson in built.lessons.values()
        for cell in lesson.cells
        for output in cell.get("outputs", [])
    )
    assert made >= 10
    assert "".join(built.site.values()).count(rendering.STILL) == made
    assert rendering.WIDGET not in "".join([*built.site.values(), *built.slides.values()])


@pytest.mark.slow
def test_what_may_not_be_passed_on_is_said_to_be_missing(built):
    lesson = next(one for name, one in built.lessons.items() if name.startswith("12"))
    missing = sum(map(rendering.is_private, lesson.cells))
    assert missing
    assert by_number(built.site, "12").count(rendering.PRIVATE) == missing


@pytest.mark.slow
def test_notebooks_are_whole_and_each_cell_has_its_own_name(built):
    for notebook in [*built.learner.values(), *built.instructor.values()]:
        nbformat.validate(notebook)
        names = [cell.id for cell in notebook.cells]
        assert len(names) == len(set(names))


# Equations


@pytest.mark.slow
def test_every_equation_of_the_course_can_be_converted(built):
    texts = [cell.source for lesson in built.lessons.values() for cell in lesson.cells
             if cell.cell_type == "markdown"]  # fmt: skip
    texts += [cell.metadata.get("slideshow", {}).get("text", "")
              for lesson in built.lessons.values() for cell in lesson.cells]  # fmt: skip
    found = 0
    for text in texts:
        page = rendering.markdown(text)
        found += page.count("<math")
        prose = re.sub(r"<(math|code|pre).*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
        assert "$" not in prose, prose
        assert not re.search(r"\\[A-Za-z]", prose), prose
    assert found >= 32


def test_an_equation_that_cannot_be_converted_is_named():
    with pytest.raises(ValueError, match=r"\\unheard is unknown: write a = \\unheard b"):
        equations.mathml(r"a = \unheard b")
    with pytest.raises(ValueError, match="cannot be converted"):
        rendering.markdown(r"$$\frac{1}{$$")


def test_equations_become_elements_with_their_letters():
    line = equations.mathml(r"\overline{v - m}", display=True)
    assert line.startswith('<math display="block">')
    assert "border-top" in line
    assert "―" not in line
    assert "<mi>α</mi>" in equations.mathml(r"\alpha f(x)")
    assert "$5 and $6" in rendering.markdown("It costs $5 and $6.")
    wide = equations.mathml(r"\begin{pmatrix}1&2\\3&4\end{pmatrix} = \frac{a}{b+c+d}", True)
    assert equations.width(equations.mathml("a", True)) < 1 < 4 < equations.width(wide) < 12


# Slides


def lesson_of(*cells):
    first = new_markdown_cell(
        "# 04 · Fusion\n\n> You will add.\n\n**Time**: 75 minutes to read, 33 minutes of "
        "exercises, 30 seconds to run (two-core laptop, no GPU)."
    )
    return new_notebook(cells=[first, *cells])


def marked(cell, kind="slide", **mark):
    cell.metadata["slideshow"] = {"slide_type": kind, **mark}
    return cell


def prints(text, source="print(v)"):
    return new_code_cell(source, outputs=[new_output("stream", name="stdout", text=text)])


def shows(width, height, alt="A figure that is described in forty letters or more."):
    head = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4) + height.to_bytes(4) + b"\x08\x02\0"
    data = {"image/png": base64.b64encode(head).decode(), "text/plain": alt}
    return new_code_cell(
        "figure", outputs=[new_output("display_data", data, metadata={"image/png": {"alt": alt}})]
    )


def note(text):
    return new_markdown_cell(text, metadata={"tags": [lessons.NOTE]})


def test_the_first_slide_is_title_promise_and_time():
    (first,) = slides.slides(lesson_of(new_markdown_cell("## 1. Not marked")))
    page = slides.page(lesson_of(), "04_fusion")
    assert first.is_first
    for said in ("Lesson 04", "<h1>Fusion</h1>", "You will add.",
                 "75 minutes to read · 33 minutes of exercises"):  # fmt: skip
        assert said in page


def test_a_slide_shows_what_its_mark_says():
    code = prints("v = 0.35\n", "v = 1\nprint(v)")
    for show, sees in {"outputs": ["printed"], "code": ["source"], "both": ["source", "printed"],
                       "nothing": []}.items():  # fmt: skip
        cell = marked(copy.deepcopy(code), title="The sum", text="It is **one** number.", show=show)
        page = slides.page(lesson_of(cell), "04_fusion")
        assert "<h2>The sum</h2>" in page
        assert "It is <strong>one</strong> number." in page
        assert re.findall(r'<\w+ class="(source|printed)"', page) == sees


def test_a_cell_of_text_becomes_its_prediction_its_text_or_itself():
    cell = new_markdown_cell("## 2. A guess\n\nWords.\n\n**Before you run:** which?\n\nMore.")
    guess = slides.slides(lesson_of(marked(copy.deepcopy(cell))))[1]
    assert guess.title == "Predict"
    assert "which?" in guess.parts[0].shown.html
    assert "More" not in guess.parts[0].shown.html
    own = slides.slides(lesson_of(marked(copy.deepcopy(cell), text="Guess!")))[1]
    assert (own.title, own.parts[0].shown.html) == ("2. A guess", "<p>Guess!</p>\n")
    whole = slides.slides(lesson_of(marked(new_markdown_cell("## 2. Two\n\nWords.\n\nMore."))))[1]
    assert whole.title == "2. Two"
    assert whole.parts[0].shown.html == "<p>Words.</p>\n<p>More.</p>\n"


def test_fragments_come_one_after_the_other_on_the_same_slide():
    cells = [marked(new_markdown_cell("## One"), text="a"), new_markdown_cell("not marked"),
             marked(prints("b"), "fragment"), marked(prints("c"), "fragment")]  # fmt: skip
    (_, slide) = slides.slides(lesson_of(*cells))
    assert [part.step for part in slide.parts] == [0, 1, 2]
    page = slides.page(lesson_of(*cells), "04_fusion")
    assert re.findall(r'fragment" data-fragment-index="(\d)"', page) == ["1", "2"]


def test_a_mark_that_cannot_be_followed_is_named():
    with pytest.raises(ValueError, match="needs a title"):
        slides.slides(lesson_of(marked(prints("a"))))
    with pytest.raises(ValueError, match="there is none yet"):
        slides.slides(lesson_of(marked(prints("a"), "fragment")))


def test_each_note_goes_to_the_next_slide_and_what_is_left_to_the_last():
    cells = [note("whole"), note("one"), marked(new_markdown_cell("## One")), note("two"),
             new_markdown_cell("skipped"), note("three"), marked(new_markdown_cell("## Two")),
             marked(new_markdown_cell("## Three")), note("last")]  # fmt: skip
    found = slides.slides(lesson_of(*cells))
    assert [one.notes for one in found] == [["whole"], ["one"], ["two", "three"], ["last"]]


def test_the_words_below_a_figure_are_not_said_twice():
    cell = marked(shows(800, 400), title="A figure")
    words = '<details class="mbm-words"><summary>This figure in words</summary>A.</details>'
    cell.outputs.append(new_output("display_data", {"text/html": f"<style>p{{}}</style>{words}"}))
    page = slides.page(lesson_of(cell), "04_fusion")
    assert page.count("described in forty letters") == 1
    assert "in words" not in page


def layout_of(*cells):
    slide = slides.slides(lesson_of(*cells))[1]
    return slides.layout(slide)


def test_little_is_written_large_and_much_is_written_so_that_it_fits():
    little = layout_of(marked(prints("v = 0.35"), title="One"))
    much = layout_of(marked(prints("\n".join(["a line of numbers"] * 22)), title="One"))
    too_much = layout_of(marked(prints("a line\n" * 40), title="One"))
    assert little.code == slides.MOST
    assert slides.LEAST_PRINTED <= much.code < little.code
    assert (little.fits, much.fits, too_much.fits) == (True, True, False)
    broken = layout_of(marked(prints("x" * 80), title="One"))
    assert broken.broken == 0
    words = layout_of(marked(new_markdown_cell("## One"), text="Few words."))
    assert words.text == slides.TEXTS[-1]


def test_a_figure_stands_where_it_is_largest():
    def beside(width, height):
        text = marked(new_markdown_cell("## One"), text="A sentence of a dozen words. " * 3)
        return layout_of(text, marked(shows(width, height), "fragment"))

    assert beside(500, 500).left > 0
    assert beside(1200, 300).left == 0
    assert beside(500, 500).area > 0


# The command


@pytest.fixture
def two_views(monkeypatch):
    """A build of two small views instead of all; what they write can be changed."""
    said = {"learner": "first", "site": "first"}

    def writer(name):
        def write(paths, folder):
            folder.mkdir()
            (folder / "page.html").write_text(said[name])
            if said[name] == "fails":
                raise ValueError("This lesson cannot be shown.")

        return write

    monkeypatch.setattr(views, "VIEWS", {name: writer(name) for name in said})
    return said


def test_an_unfinished_build_leaves_the_good_one(two_views, tmp_path, capsys):
    folder = tmp_path / "a" / "workshop"
    assert views.main([str(folder)]) == 0
    two_views.update(learner="second", site="fails")
    assert views.main([str(folder)]) == 1
    assert "This lesson cannot be shown." in capsys.readouterr().err
    assert (folder / "learner" / "page.html").read_text() == "first"
    assert [one.name for one in folder.parent.iterdir()] == ["workshop"]
    two_views["site"] = "third"
    assert views.main([str(folder), "--only", "site"]) == 0
    assert (folder / "learner" / "page.html").read_text() == "first"
    assert (folder / "site" / "page.html").read_text() == "third"
    assert (folder / "index.html").exists()
    assert [one.name for one in folder.parent.iterdir()] == ["workshop"]


def test_a_folder_of_somebody_else_is_left_alone(two_views, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert views.main([str(tmp_path)]) == 1
    assert "left alone" in capsys.readouterr().err
    assert views.main([str(tmp_path / "mine.txt")]) == 1
    assert [one.name for one in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "empty").mkdir()
    assert views.main([str(tmp_path / "empty")]) == 0


def test_a_folder_that_cannot_be_made_is_one_sentence(two_views, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert views.main([str(tmp_path / "file" / "inside")]) == 1
    said = capsys.readouterr().err
    assert said.startswith(str(tmp_path / "file" / "inside"))
    assert said.endswith("make room there, or name another folder.\n")


def test_a_view_or_lesson_that_is_not_there_is_one_sentence(two_views, tmp_path, capsys):
    assert views.main([str(tmp_path / "new"), "--only", "film"]) == 1
    assert views.main([str(tmp_path / "new"), "--lessons", "99"]) == 1
    said = capsys.readouterr().err.strip().split("\n")
    assert said[0] == "There is no view film: choose from learner, site."
    assert said[1].startswith("There is no lesson 99")
    assert list(tmp_path.iterdir()) == []


def test_the_first_page_leads_to_every_lesson_in_every_view():
    page = views.index(lessons.course_lessons())
    for path in lessons.course_lessons():
        for view, ending in (("slides", "html"), ("site", "html"), ("instructor", "ipynb"),
                             ("learner", "ipynb")):  # fmt: skip
            assert f'href="{view}/{path.stem}.{ending}"' in page
    assert 'href="site/playground.html"' in page
