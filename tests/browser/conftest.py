"""A copy of the course, JupyterLab serving it, Chromium, and pictures of pages that fail."""

import os
import re
import shutil
import subprocess
import symtable
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from mbm_lab import lab, lessons, place
from mbm_lab.bench import CHROMIUM

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update"]  # fmt: skip
JITTER = Path(__file__).with_name("jitter.js")
FAILURES = place.COURSE / "browser-failures"


def pytest_collection_modifyitems(items):
    """Every test here is slow, and needs Chromium."""
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.slow)
            if CHROMIUM is None:
                reason = "needs Chromium: install it (Debian: apt install chromium) and run again"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and (page := getattr(item, "page", None)) is not None:
        FAILURES.mkdir(exist_ok=True)
        picture = FAILURES / f"{re.sub(r'[^0-9A-Za-z]+', '-', item.name).strip('-')}.png"
        try:
            page.screenshot(path=picture)
            report.sections.append(("the page", f"a picture of it is kept in {picture}"))
        except Exception as error:  # the browser itself may be gone
            report.sections.append(("the page", f"no picture of it: {error}"))
    return report


WHOLE = "00_welcome.ipynb"
"""The lesson that is run from top to bottom in the browser. (Without one, all of them are.)"""

TOGETHER = ("02", "03", "05", "06", "07", "08", "13")
"""The lessons whose widgets are also run one after another in one notebook, `widgets`: opening a
page and importing PyTorch takes longer than they do."""

SHORT = """from mbm_lab import training

whole_fit = training.fit
training.fit = lambda *arguments, **options: whole_fit(*arguments, **{**options, "epochs": 1})"""
"""In `widgets` a model that a lesson trains learns for one epoch: it is not what is looked at."""

ANSWERED = "ex.check(my_weighted_sum)"
"""What stands in the cell of lesson 04 in which an exercise is answered."""


def only_what_widgets_need(notebook) -> None:
    """Leaves the code cells that make or move a widget, those that make what they use, and one
    exercise."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    makers = [names_in(cell.source)[0] for cell in code if "widgets." in cell.source]
    live = set().union(*makers) - {"widgets"}
    wanted, kept = set(), []
    for cell in reversed(notebook.cells):
        if cell.cell_type == "code":
            made, used = names_in(cell.source)
            used -= made
            here = "widgets." in cell.source or ANSWERED in cell.source
            if not (here or used & live or made & wanted):
                continue
            wanted = (wanted - made) | used
        kept.append(cell)
    notebook.cells = kept[::-1]


def names_in(source: str) -> tuple[set[str], set[str]]:
    """The names that a cell makes, and those that it uses, also within its functions."""
    lines = ["" if line.startswith("%") else line for line in source.splitlines()]
    cell = symtable.symtable("\n".join(lines), "a cell", "exec")
    made = {
        name.get_name() for name in cell.get_symbols() if name.is_assigned() or name.is_imported()
    }
    used, scopes = set(), [cell]
    for scope in scopes:
        scopes += scope.get_children()
        used |= {
            name.get_name()
            for name in scope.get_symbols()
            if name.is_referenced() and (scope is cell or name.is_global())
        }
    return made, used


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A copy of the course in a path with spaces; its lessons have no stored outputs to lean on."""
    root = tmp_path_factory.mktemp("a course") / "mbm lab"
    shutil.copytree(place.COURSE / "mbm_lab", root / "mbm_lab")
    (root / "notebooks").mkdir()
    for lesson in lessons.course_lessons():
        notebook = lessons.read_notebook(lesson)
        if lesson.name != WHOLE:
            only_what_widgets_need(notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = [], None
        nbformat.write(notebook, root / "notebooks" / lesson.name)
    (root / "my_lessons").mkdir()
    nbformat.write(widgets_together(root / "notebooks"), root / "my_lessons" / "widgets.ipynb")
    try:
        (root / "data").symlink_to(place.COURSE / "data", target_is_directory=True)
    except OSError:  # Windows may forbid links
        shutil.copytree(place.COURSE / "data", root / "data")
    return root


def widgets_together(notebooks):
    """One notebook with the code of some lessons, as `only_what_widgets_need` has left it."""
    together = lessons.read_notebook(lessons.find_lesson(TOGETHER[0], notebooks))
    together.cells = [nbformat.v4.new_code_cell(SHORT)]
    for number in TOGETHER:
        cells = lessons.read_notebook(lessons.find_lesson(number, notebooks)).cells
        together.cells += [cell for cell in cells if cell.cell_type == "code"]
    for row, cell in enumerate(together.cells):
        cell.id = f"cell-{row}"
    return together


@pytest.fixture(scope="module")
def serve(course, tmp_path_factory):
    """Starts `mbm-lab lab` or `mbm-lab playground` on that copy; gives the address it prints."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(course),
        "PYTHONUNBUFFERED": "1",
        "MBM_DEVICE": "cpu",
        "JUPYTER_DATA_DIR": str(tmp_path_factory.mktemp("jupyter")),
        "JUPYTER_CONFIG_DIR": str(tmp_path_factory.mktemp("settings")),  # themes, for example
    }
    servers = []

    def start(command: str) -> str:
        port = lab.free_port()
        arguments = [sys.executable, "-m", "mbm_lab", command, "--no-browser", "--port", str(port)]
        server = subprocess.Popen(
            arguments, cwd=course, env=environment, stdout=subprocess.PIPE, text=True
        )
        servers.append(server)
        said = ""
        for line in server.stdout:
            said += line
            if "Ctrl+C" in line:
                break
        found = re.search(r"http://\S+", said)
        assert found, said
        return found[0]

    yield start
    for server in servers:
        server.terminate()
        server.communicate(timeout=60)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        if seed := os.environ.get("MBM_JITTER"):
            make_uneven(browser, int(seed))
        yield browser
        browser.close()


def make_uneven(browser, seed: int) -> None:
    """Lets whatever comes to its pages come late, and apart: as on a slow computer."""
    script = JITTER.read_text(encoding="utf-8").replace("SEED", str(seed))
    for name in ("new_context", "new_page"):
        setattr(browser, name, _uneven(getattr(browser, name), script))


def _uneven(make: Callable, script: str) -> Callable:
    def made(**options):
        one = make(**options)
        one.add_init_script(script)
        return one

    return made


@pytest.fixture(scope="module")
def open_page(browser):
    """Opens a notebook's page and waits until its kernel is connected."""
    pages = []

    def opened(address: str):
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        pages.append(page)
        page.set_default_timeout(60_000)
        page.goto(address + "&reset")
        page.wait_for_selector(".jp-NotebookPanel .jp-Cell")
        # the notebook's own mark goes idle before the kernel is connected; the status bar does not
        page.wait_for_selector(
            '[data-status="idle"].jp-Notebook-ExecutionIndicator', state="attached"
        )
        page.wait_for_function(
            "document.querySelector('#jp-main-statusbar')?.textContent.includes('| Idle')"
        )
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def lesson_page(serve, open_page, course):
    """The page of a lesson in which every cell of its copy was run; each lesson is opened once."""
    from tests.browser.jupyter import code_cells, run_all

    pages, address = {}, []

    def opened(name: str):
        if not address:
            address.append(serve("lab"))
        if name not in pages:
            page = open_page(re.sub(r"my_lessons/\S+\?", f"my_lessons/{name}.ipynb?", address[0]))
            pages[name] = page
            run_all(page, cells=len(code_cells(course / "my_lessons" / f"{name}.ipynb")))
        return pages[name]

    return opened


@pytest.fixture
def watched(request):
    """Marks a page as the one to be kept as a picture, should this test fail."""

    def watch(page):
        request.node.page = page
        return page

    return watch
