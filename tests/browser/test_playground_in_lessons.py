"""α and β in lessons 00 and 04, in JupyterLab: the browser and Python say the same."""

import itertools

import pytest
from axe_playwright_python.sync_playwright import Axe

from mbm_lab import datasets, welcome, widgets
from mbm_lab.widgets.fusion_figure import best_of
from tests.browser.jupyter import assert_becomes, eventually, write_cell
from tests.browser.looks import cut_off, small_controls
from tests.browser.spoken import assert_formula, settled, slider, status

LESSONS = ["00_welcome", "04_fusion"]
every_lesson = pytest.mark.parametrize("name", LESSONS)


@pytest.fixture(scope="module")
def mirrors():
    """The same playgrounds here: lesson 00 shows test cards, lesson 04 validation cards."""
    val = datasets.load_postcards("val")[:100]
    readings = welcome.read(val, *welcome.load_readers())
    made = widgets.FusionPlayground(), widgets.FusionPlayground(val, *readings)
    return dict(zip(LESSONS, made, strict=True))


@pytest.fixture
def page(request, lesson_page, watched):
    page = watched(lesson_page(request.getfixturevalue("name")))
    page.locator(".mbm-playground").first.scroll_into_view_if_needed()
    page.get_by_role("button", name="Reset").first.click()

    def at_the_start():
        said = status(page)
        return (said["alpha"], said["beta"]) == (1.0, 1.0)

    eventually(page, at_the_start)
    return page


times = itertools.count()


def python_says(page, code: str) -> str:
    """What a cell with this code prints: the lesson's own cell that moves the sliders is used."""
    begin = f">> {next(times)} >>"  # an earlier answer may still stand there
    cell = write_cell(page, "playground.set(", f"# playground.set(\nprint('{begin}', {code}, '<<')")

    def printed():
        text = cell.locator(".jp-OutputArea").text_content()
        return begin in text and "<<" in text and text

    said = eventually(page, printed)
    return said.partition(begin)[2].partition("<<")[0].strip()


@every_lesson
def test_the_point_is_not_on_the_star_before_the_learner_plays(lesson_page, watched, name):
    said = status(watched(lesson_page(name)))
    assert abs(said["alpha"] - said["best_alpha"]) + abs(said["beta"] - said["best_beta"]) > 0.3


@every_lesson
def test_the_browser_and_python_say_the_same(page, name):
    for label, letter in (("α picture", "alpha"), ("β message", "beta")):
        for _ in range(30):
            slider(page, label).press("ArrowLeft")
        assert_formula(settled(page, letter, label))
    line = page.text_content(".mbm-status")
    assert_becomes(page, lambda: python_says(page, "playground.said"), line, seconds=20)
    assert page.locator(".mbm-status").first.text_content() == line
    python_says(page, "playground.set(0.11, -0.22)")

    def moved_by_python():
        said = status(page)
        return (said["alpha"], said["beta"]) == (0.11, -0.22) and said

    assert_formula(eventually(page, moved_by_python))
    assert slider(page, "α picture").input_value() == "0.11"


@every_lesson
def test_worse_witnesses_are_read_again_by_the_kernel(page, mirrors, name):
    mirror = mirrors[name]
    for label, setting in (("picture noise", mirror.noise), ("word dropout", mirror.dropout)):
        for _ in range(6):
            slider(page, label).press("ArrowRight")
        setting.value = 0.3

        def read_again():
            said = status(page)
            i = int(said["card"]) - 1
            best = best_of(mirror.f, mirror.g, mirror.m)
            return (
                said["f"] == pytest.approx(float(mirror.f[i]), abs=0.006)
                and said["g"] == pytest.approx(float(mirror.g[i]), abs=0.006)
                and (said["best_alpha"], said["best_beta"]) == pytest.approx(best, abs=0.006)
                and said
            )

        assert_formula(eventually(page, read_again))
    page.get_by_role("button", name="Reset").first.click()
    mirror.noise.value = mirror.dropout.value = 0.0
    eventually(page, read_again)


@every_lesson
def test_training_walks_and_python_knows_the_steps(page, name):
    page.get_by_role("button", name="Valley floor").click()
    page.get_by_role("button", name="Train").click()
    dots = page.locator(".mbm-dots circle")
    page.wait_for_function("document.querySelectorAll('.mbm-dots circle').length > 12")
    page.get_by_role("button", name="Pause").click()
    count = dots.count()

    assert_becomes(page, lambda: python_says(page, "len(playground.path)"), str(count), seconds=20)
    python_says(page, "playground.set(0.5, 0.5)")
    assert_becomes(page, dots.count, 0)


@pytest.mark.parametrize(("width", "zoom"), [(800, 1), (960, 1), (1280, 1), (1280, 1.5)])
def test_beside_the_side_bar_all_of_it_is_seen(lesson_page, watched, width, zoom):
    page = watched(lesson_page("00_welcome"))
    page.set_viewport_size({"width": int(width / zoom), "height": int(900 / zoom)})
    page.locator(".mbm-playground").first.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    playground = page.locator(".mbm-playground").first

    def faults() -> tuple:
        outside = playground.evaluate(
            "one => one.scrollWidth - one.clientWidth + "
            "Math.max(0, one.getBoundingClientRect().right - innerWidth)"
        )
        short = slider(page, "α picture").bounding_box()["width"] < 120
        cut, small = (look(page, ".mbm-playground") for look in (cut_off, small_controls))
        return cut, small, short, outside > 0

    assert_becomes(page, faults, ([], [], False, False))
    page.set_viewport_size({"width": 1300, "height": 1000})


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_axe_finds_no_violation_in_either_theme(lesson_page, watched, theme):
    page = watched(lesson_page("00_welcome"))
    page.click("#jp-MainMenu .lm-MenuBar-itemLabel:text-is('Settings')")
    page.hover(".lm-Menu-itemLabel:text-is('Theme')")
    page.click(f".lm-Menu-itemLabel:text-is('{theme}')")
    light = "true" if theme.endswith("Light") else "false"
    page.wait_for_function(f"document.body.dataset.jpThemeLight === '{light}'")
    page.wait_for_timeout(500)
    found = Axe().run(page, context=".mbm-playground")
    assert found.violations_count == 0, found.generate_report()


def test_an_exercise_done_wrong_then_right(lesson_page, watched):
    page = watched(lesson_page("04_fusion"))

    def answer(formula: str) -> str:
        return (
            "from mbm_lab.exercises.fusion import weighted_sum as ex\n"
            f"def my_weighted_sum(f, g, alpha, beta):\n    return {formula}\n"
            "ex.check(my_weighted_sum)"
        )

    for formula, verdict, said in (
        ("beta * f + alpha * g", "Not yet.", "You swapped α and β"),
        ("alpha * f + beta * h", "Not yet.", "raises NameError in the line"),
        ("alpha * f + beta * g", "Right.", "The weighted sum"),
    ):
        cell = write_cell(page, "my_weighted_sum", answer(formula))

        def diagnosis(cell=cell, verdict=verdict, said=said):
            text = cell.locator(".jp-OutputArea").text_content()
            return verdict in text and said in text

        eventually(page, diagnosis)
