"""The lessons with sliders, driven in real JupyterLab by a real browser (Chromium)."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from mbm_lab import lab, lessons

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course in a path with spaces; its lessons have no stored outputs to lean on."""
    root = tmp_path_factory.mktemp("a course") / "mbm lab"
    shutil.copytree(lessons.REPOSITORY / "mbm_lab", root / "mbm_lab")
    (root / "notebooks").mkdir()
    for lesson in lessons.course_lessons():
        notebook = lessons.read_notebook(lesson)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, root / "notebooks" / lesson.name)
    try:
        (root / "data").symlink_to(lessons.REPOSITORY / "data", target_is_directory=True)
    except OSError:  # Windows may forbid links
        shutil.copytree(lessons.REPOSITORY / "data", root / "data")
    return root


@pytest.fixture(scope="module")
def address(course):
    """`mbm-lab lab` serving that copy; gives the address it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(course),
        "PYTHONUNBUFFERED": "1",
        "MBM_DEVICE": "cpu",
    }
    port = lab.choose_port(None)
    command = [sys.executable, "-m", "mbm_lab", "lab", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(
        command, cwd=course, env=environment, stdout=subprocess.PIPE, text=True
    )
    said = ""
    for line in server.stdout:
        said += line
        if "Ctrl+C" in line:
            break
    found = re.search(r"http://\S+", said)
    assert found, said
    yield found[0]
    server.terminate()
    server.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def open_lesson(browser, address, tmp_path, request):
    """Opens a lesson with a connected kernel; a failed test leaves a picture of the page."""
    pages = []

    def opened(name: str):
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        pages.append(page)
        page.set_default_timeout(60_000)
        page.goto(re.sub(r"my_lessons/\S+\?", f"my_lessons/{name}.ipynb?", address) + "&reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        page.wait_for_selector('[data-status="idle"].jp-Notebook-ExecutionIndicator')
        # the notebook's own mark goes idle before the kernel is connected; the status bar does not
        page.wait_for_function(
            "document.querySelector('#jp-main-statusbar')?.innerText.includes('| Idle')"
        )
        return page

    yield opened
    for number, page in enumerate(pages):
        page.screenshot(path=tmp_path / f"{request.node.name}-{number}.png")
        page.close()


def menu(page, first: str, second: str) -> None:
    page.click(f"#jp-MainMenu .lm-MenuBar-itemLabel:text-is('{first}')")
    page.click(f".lm-Menu-itemLabel:text-is('{second}')")


def run_all(page, cells: int) -> None:
    """Runs every cell and waits until each of them has its number."""
    menu(page, "Run", "Run All Cells")
    page.wait_for_function(
        """cells => [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')]
            .filter(prompt => /\\[\\d+\\]/.test(prompt.textContent)).length === cells""",
        arg=cells,
        timeout=120_000,
    )


def code_cells(notebook: Path) -> list:
    return [cell for cell in lessons.read_notebook(notebook).cells if cell.cell_type == "code"]


def spoken(page) -> dict[str, float]:
    """The numbers in the playground's line of text."""
    text = page.text_content(".widget-html-content:has-text('picture f =')")
    found = re.search(
        r"f = (\S+), message g = (\S+), v = (\S+) · f \+ (\S+) · g = (\S+), mood m = (\S+)\.", text
    )
    return dict(zip(("f", "g", "alpha", "beta", "v", "m"), map(float, found.groups()), strict=True))


def settled(page, letter: str, handle) -> dict[str, float]:
    """What the text says as soon as it is where the slider's handle is."""
    for _ in range(300):
        said = spoken(page)
        if said[letter] == pytest.approx(float(handle.get_attribute("aria-valuetext")), abs=0.006):
            return said
        page.wait_for_timeout(100)
    raise AssertionError(
        f"the text says {said}, the handle {handle.get_attribute('aria-valuetext')}"
    )


@pytest.mark.parametrize("name", ["00_welcome", "04_fusion"])
def test_a_lesson_runs_and_its_sliders_do_what_the_formula_says(open_lesson, course, name):
    page = open_lesson(name)
    mine = course / "my_lessons" / f"{name}.ipynb"
    run_all(page, cells=len(code_cells(mine)))
    assert (
        page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count()
        == 0
    )
    plot = page.locator(".jp-OutputArea .widget-image").nth(1)
    plot.scroll_into_view_if_needed()
    for place, letter in enumerate(("alpha", "beta")):
        handle = page.locator(".noUi-handle").nth(place)
        before, picture = spoken(page), plot.get_attribute("src")
        for _ in range(20):
            handle.press("ArrowRight")
        after = settled(page, letter, handle)
        assert after[letter] > before[letter]
        v = after["alpha"] * after["f"] + after["beta"] * after["g"]
        assert after["v"] == pytest.approx(v, abs=0.015)
        assert plot.get_attribute("src") != picture


def test_a_second_start_leaves_an_edited_lesson_as_it_was(course, address):
    mine = course / "my_lessons" / "00_welcome.ipynb"
    edited = mine.read_text(encoding="utf-8").replace("# 00 · Welcome", "# 00 · My own notes")
    mine.write_text(edited, encoding="utf-8")
    command = [sys.executable, "-c", "from mbm_lab import lessons; print(lessons.copy_missing())"]
    environment = {**os.environ, "PYTHONPATH": str(course)}
    said = subprocess.run(
        command, cwd=course, env=environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "[]"
    assert mine.read_text(encoding="utf-8") == edited
    assert Path(lessons.NOTEBOOKS / "00_welcome.ipynb").read_text(encoding="utf-8") != edited
