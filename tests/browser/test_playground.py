"""α and β in lessons 00 and 04: numbers and pixels do what the formula says."""

import re

import pytest

from mbm_lab import datasets, welcome, widgets
from tests.browser.jupyter import (
    drag,
    eventually,
    picture_of,
    reads,
    same_picture,
    settled,
    spoken,
    value_of,
    words_of,
    write_cell,
)
from tests.test_widgets import BLUE, PINK

LESSONS = ["00_welcome", "04_fusion"]
every_lesson = pytest.mark.parametrize("name", LESSONS)


@pytest.fixture(scope="module")
def mirrors():
    """The same playgrounds in this process: where their axes are, and what worse witnesses say.

    Lesson 00 shows test cards, lesson 04 validation cards.
    """
    val = datasets.load_postcards("val")[:100]
    readings = welcome.read(val, *welcome.load_readers())
    made = widgets.FusionPlayground(), widgets.FusionPlayground(val, *readings)
    return dict(zip(LESSONS, made, strict=True))


@pytest.fixture
def mirror(mirrors, name):
    return mirrors[name]


@pytest.fixture
def page(request, lesson_page, watched):
    page = watched(lesson_page(request.getfixturevalue("name")))
    page.locator(".noUi-handle").first.scroll_into_view_if_needed()
    return page


def handle_of(page, place: int):
    """α, β, picture noise, word dropout."""
    return page.locator(".noUi-handle").nth(place)


def colour_at(page, axes, x: float, y: float) -> list[int]:
    """The colour, in the picture that the browser shows, of the point (x, y) of some axes."""
    picture = picture_of(page, 1)
    column, row = axes.transData.transform((x, y))
    return picture[picture.shape[0] - 1 - round(row), round(column)].tolist()


def assert_formula(page, said, mirror) -> None:
    """v in words, the needle and the point in pixels: all as αf + βg says."""
    v = said["alpha"] * said["f"] + said["beta"] * said["g"]
    assert said["v"] == pytest.approx(v, abs=0.015)
    needle = mirror.drawing.needle.axes
    assert colour_at(page, needle, *widgets.dial_point(v, 0.5)) == pytest.approx(PINK, abs=3)
    axes = mirror.drawing.surface_axes
    assert colour_at(page, axes, said["alpha"], said["beta"]) == pytest.approx(PINK, abs=3)
    if abs(said["f"] - said["g"]) > 0.3:  # else the mark of g may lie over that of f
        f = widgets.dial_point(said["f"], 1.13)
        assert colour_at(page, needle, *f) == pytest.approx(BLUE, abs=3)


@every_lesson
@pytest.mark.parametrize(("place", "letter"), [(0, "alpha"), (1, "beta")])
def test_a_weight_by_keyboard_and_by_mouse(page, mirror, name, place, letter):
    handle = handle_of(page, place)
    for move in (
        lambda: [handle.press("ArrowLeft") for _ in range(30)],
        lambda: drag(page, handle, -40),
        lambda: drag(page, handle, 25),
        lambda: [handle.press("ArrowRight") for _ in range(4)],
    ):
        before, picture = value_of(handle), picture_of(page, 1)
        move()
        assert value_of(handle) != before
        said = settled(page, letter, handle)
        assert (picture_of(page, 1) != picture).any()
        assert_formula(page, said, mirror)


@every_lesson
def test_a_fast_drag_leaves_nothing_behind_it(page, mirror, name):
    handle = handle_of(page, 0)
    drag(page, handle, -60, steps=80)
    drag(page, handle, 60, steps=80)
    said = settled(page, "alpha", handle)
    page.wait_for_timeout(600)  # nothing comes after it
    assert spoken(page) == said
    assert_formula(page, said, mirror)


@every_lesson
def test_train_arrives_at_the_exact_best(page, mirror, name):
    for place, letter in enumerate(("alpha", "beta")):  # a long way to go, so that it can pause
        handle_of(page, place).press("Home")
        settled(page, letter, handle_of(page, place))
    page.click("button:has-text('Train')")
    page.click("button:has-text('Pause')")

    def step_now() -> int:
        return int(reads(page, "Over all", r"Training: step (\d+)")[1])

    def paused():
        before = step_now()
        page.wait_for_timeout(700)
        return step_now() == before

    eventually(page, paused)
    step = step_now()
    page.wait_for_timeout(1000)
    assert step_now() == step
    page.click("button:has-text('Train')")
    page.wait_for_selector("button:has-text('Pause')")

    def training_ended():
        return page.locator("button:text-is('Train')").count() == 1

    eventually(page, training_ended)
    said = settled(page, "alpha", handle_of(page, 0))
    assert said["alpha"] == pytest.approx(said["best_alpha"], abs=0.015)
    assert said["beta"] == pytest.approx(said["best_beta"], abs=0.015)
    assert value_of(handle_of(page, 1)) == pytest.approx(said["best_beta"], abs=0.015)
    assert_formula(page, said, mirror)


@every_lesson
def test_worse_witnesses_are_read_again_and_weigh_less(page, mirror, name):
    card = spoken(page)["card"]
    page.click("button:has-text('Next card')")

    def another_card():
        return spoken(page)["card"] != card

    eventually(page, another_card)
    mirror.show_card(int(spoken(page)["card"]) - 1)

    def readings_arrived():
        said, i = spoken(page), mirror.index
        pairs = (("f", mirror.f), ("g", mirror.g))
        close = all(abs(said[x] - float(values[i])) < 0.011 for x, values in pairs)
        return close and abs(said["best_alpha"] - mirror.best.alpha) < 0.011 and said

    for place, slider, best in ((2, "noise", "best_alpha"), (3, "dropout", "best_beta")):
        handle, before, postcard = handle_of(page, place), spoken(page), picture_of(page, 0)
        for move in (lambda h=handle: [h.press("ArrowRight") for _ in range(6)],
                     lambda h=handle: drag(page, h, 30)):  # fmt: skip
            move()
            getattr(mirror, slider).value = value_of(handle)
            mirror.settle()
            said = eventually(page, readings_arrived)
        assert value_of(handle) > 0.3
        assert said[best] < before[best] - 0.02
        assert_formula(page, said, mirror)
        if slider == "noise":
            assert not same_picture(picture_of(page, 0), postcard)
        else:
            assert "____" in page.locator(".widget-html-content p").first.text_content()
        handle.press("Home")
        getattr(mirror, slider).value = 0.0
        mirror.settle()
        assert eventually(page, readings_arrived)["best_beta"] == before["best_beta"]


@every_lesson
def test_a_switch_takes_a_witness_out(page, name):
    box = page.locator("input[type=checkbox]").first
    box.press("Space")

    def picture_is_off():
        text = words_of(page, "Over all")
        return "picture off" in text and "α" not in text.split("Best:")[1] and text

    text = eventually(page, picture_is_off)
    found = re.search(r"g = (\S+), v = (\S+) · g = (\S+),", text)
    assert float(found[3]) == pytest.approx(float(found[2]) * float(found[1]), abs=0.015)
    box.press("Space")
    spoken(page)  # as before, f and α too


@every_lesson
def test_buttons_show_other_cards(page, mirror, name):
    for button in ("Next card", "Random card", "Witnesses disagree"):
        before = spoken(page)["card"]
        page.locator(f"button:has-text('{button}')").press("Enter")

        def another_card(before=before):
            said = spoken(page)
            return said["card"] != before and said

        said = eventually(page, another_card)
        assert_formula(page, said, mirror)
        assert said["m"] == pytest.approx(
            mirror.cards.mood[int(said["card"]) - 1].item(), abs=0.006
        )
    assert abs(said["f"] - said["g"]) > 0.3


def test_an_exercise_done_wrong_then_right(lesson_page, watched):
    page = watched(lesson_page("04_fusion"))

    def answer(formula: str) -> str:
        return (
            "from mbm_lab.exercises.fusion import weighted_sum as ex\n"
            f"def my_weighted_sum(f, g, alpha, beta):\n    return {formula}\n"
            "ex.check(my_weighted_sum)"
        )

    for formula, said in (
        ("beta * f + alpha * g", "You swapped α and β"),
        ("alpha * f + beta * h", "raises NameError in the line"),
        ("alpha * f + beta * g", "The weighted sum: correct."),
    ):
        cell = write_cell(page, "my_weighted_sum", answer(formula))

        def diagnosis(cell=cell, said=said):
            return said in cell.locator(".jp-OutputArea").text_content()

        eventually(page, diagnosis)
    assert "not yet" not in cell.locator(".jp-OutputArea").text_content()
