"""`make playground`: the page for the projector, without menus and code."""

import re

import pytest
import torch

from mbm_lab import lessons, widgets
from tests.browser.jupyter import drag, eventually, picture_of, settled, spoken
from tests.test_widgets import PINK

HIDDEN = ("#jp-top-panel", "#jp-menu-panel", ".jp-NotebookPanel-toolbar", ".jp-SideBar",
          ".jp-InputArea-editor", ".jp-InputPrompt", "#jp-main-statusbar")  # fmt: skip


@pytest.fixture(scope="module")
def page(serve, open_page):
    address = serve("playground")
    assert re.search(r"/doc/tree/my_lessons/playground\.ipynb\?token=", address)
    return open_page(address)


def assert_bare(page) -> None:
    for selector in HIDDEN:
        shown = page.locator(f"{selector}:visible").evaluate_all(
            "all => all.filter(one => !one.closest('.jp-MarkdownCell')).length"
        )
        assert shown == 0, selector


def test_the_page_starts_by_its_button_and_shows_nothing_else(page, watched):
    watched(page)
    eventually(page, lambda: page.locator("#jp-top-panel:visible").count() == 0)
    assert_bare(page)
    before = page.locator(".jp-OutputArea-output").last.text_content()
    assert before.strip() == lessons.NOT_YET_LIVE
    page.click("button:has-text('Start')")
    page.wait_for_selector(".noUi-handle")
    assert page.locator(".jp-Dialog").count() == 0
    assert_bare(page)
    widest = page.locator(".widget-image").nth(1).bounding_box()
    assert widest["width"] > 800
    assert widest["y"] + widest["height"] < 1000  # all of it is seen at once


def test_sliders_and_training_do_what_the_formula_says(page, watched):
    watched(page)
    drawing = widgets.FusionFigure(*(torch.randn(9) for _ in range(3)), dpi=110)
    for place, letter in enumerate(("alpha", "beta")):
        handle = page.locator(".noUi-handle").nth(place)
        for _ in range(15):
            handle.press("ArrowLeft")
        settled(page, letter, handle)
        drag(page, handle, 12)
        said = settled(page, letter, handle)
        v = said["alpha"] * said["f"] + said["beta"] * said["g"]
        assert said["v"] == pytest.approx(v, abs=0.015)
        picture = picture_of(page, 1)
        column, row = drawing.surface_axes.transData.transform((said["alpha"], said["beta"]))
        colour = picture[picture.shape[0] - 1 - round(row), round(column)].tolist()
        assert colour == pytest.approx(PINK, abs=3)
    page.click("button:has-text('Train')")

    def arrived():
        said = spoken(page)
        return all(
            abs(said[letter] - said[f"best_{letter}"]) < 0.015 for letter in ("alpha", "beta")
        )

    eventually(page, arrived)
