"""What a learner does in JupyterLab, as functions: open, run, read, press, drag, write."""

import base64
import io

import numpy as np
from PIL import Image

from mbm_lab import lessons


def menu(page, first: str, second: str) -> None:
    page.click(f"#jp-MainMenu .lm-MenuBar-itemLabel:text-is('{first}')")
    page.click(f".lm-Menu-itemLabel:text-is('{second}')")


def run_all(page, cells: int) -> None:
    """Runs every cell, waits until each of them has its number, and sees that none has failed."""
    menu(page, "Run", "Run All Cells")
    page.wait_for_function(
        """cells => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
            .filter(prompt => /\\[\\d+\\]/.test(prompt.textContent)).length === cells""",
        arg=cells,
        timeout=400_000,
    )
    errors = page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']")
    assert errors.count() == 0, errors.first.text_content()


def code_cells(notebook) -> list:
    return [cell for cell in lessons.read_notebook(notebook).cells if cell.cell_type == "code"]


AS_BASE64 = """async image => {
    const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ''));
}"""


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def same_picture(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and float(np.abs(one - other).mean()) < 0.5


def eventually(page, check, seconds: float = 60):
    """What `check` returns, as soon as it returns something true."""
    for _ in range(int(seconds * 10)):
        found = check()
        if found:
            return found
        page.wait_for_timeout(100)
    raise AssertionError(f"{check.__name__} was not true within {seconds} seconds")


def assert_becomes(page, read, wanted, seconds: float = 60) -> None:
    """Waits until what is read is what is wanted; what still differs in the end is shown."""
    found = read()
    for _ in range(int(seconds * 10)):
        if found == wanted:
            return
        page.wait_for_timeout(100)
        found = read()
    assert found == wanted


def panel_of(page, containing: str):
    """The last small widget whose line of text contains this."""
    return page.locator(f".mbm-panel:has(.mbm-line:has-text('{containing}'))").last


def line_of(panel) -> str:
    """A small widget's line of text. (Not inner_text: cells out of sight have none.)"""
    return panel.locator(".mbm-line").text_content()


def image_in(panel, number: int) -> np.ndarray:
    """A picture that a small widget shows at this moment, as pixels."""
    data = panel.locator(".mbm-picture img").nth(number).evaluate(AS_BASE64)
    return pixels(base64.b64decode(data))


def shown_value(slider) -> float:
    """The value that a native slider tells screen readers."""
    return float(slider.get_attribute("aria-valuetext"))


def pull(page, slider, pixels_right: int, steps: int = 12) -> None:
    """Drags the thumb of a native slider with the mouse, in many small steps."""
    slider.scroll_into_view_if_needed()
    box, thumb = slider.bounding_box(), 16
    share = slider.evaluate("one => (one.value - one.min) / (one.max - one.min)")
    x = box["x"] + thumb / 2 + share * (box["width"] - thumb)
    y = box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + pixels_right, y, steps=steps)
    page.mouse.up()


def write_cell(page, containing: str, code: str):
    """Writes new code into the cell that holds this text, runs it, and returns the cell."""
    cell = page.locator(f".jp-CodeCell:has(.cm-content:has-text('{containing}'))").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Control+Enter")
    return cell
