"""What a learner meets first: a lesson that was opened and not touched, a notebook opened again."""

import base64
import io
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image

from mbm_lab import outputs
from tests.browser.jupyter import menu

DIRTY = ".lm-TabBar-tab.jp-mod-dirty"


@pytest.fixture(scope="module")
def address(serve, course):
    """The address of JupyterLab, which finds a notebook of the learner's that had a live view."""
    png = io.BytesIO()
    Image.new("RGB", (30, 20), "red").save(png, "png")
    data = {
        outputs.LIVE: {"model_id": "gone", "version_major": 2, "version_minor": 0},
        outputs.STILL: base64.b64encode(png.getvalue()).decode(),
        "text/plain": "a slider",
    }
    cell = new_code_cell("1", outputs=[new_output("display_data", data=data)])
    (course / "my_lessons").mkdir(exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = new_notebook(cells=[cell], metadata={"kernelspec": kernel})
    nbformat.write(notebook, course / "my_lessons" / "saved.ipynb")
    return serve("lab")


def name_of(address, name):
    return re.sub(r"my_lessons/\S+\?", f"my_lessons/{name}.ipynb?", address)


def test_a_lesson_that_was_not_touched_closes_without_a_question(address, open_page, watched):
    page = watched(open_page(name_of(address, "04_fusion")))
    page.wait_for_timeout(2000)  # JupyterLab may take its time to change what it opened
    assert page.locator(DIRTY).count() == 0
    menu(page, "File", "Close Tab")
    page.wait_for_selector(".jp-NotebookPanel", state="detached")
    assert page.locator(".jp-Dialog").count() == 0


def test_a_lesson_that_was_touched_does_ask(address, open_page, watched):
    page = watched(open_page(name_of(address, "04_fusion")))
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.type("# mine")
    page.wait_for_selector(DIRTY, state="attached")
    menu(page, "File", "Close Tab")
    page.wait_for_selector(".jp-Dialog:has-text('Save your work')")


def test_a_notebook_opened_again_shows_the_picture_of_its_widget(address, open_page, watched):
    page = watched(open_page(name_of(address, "saved")))
    page.wait_for_selector(".jp-RenderedImage img[src^='data:image/png']")
    assert page.locator("text=Error displaying widget").count() == 0
