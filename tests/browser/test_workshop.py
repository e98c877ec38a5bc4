"""All views are built, and each of their pages is opened: from the disk, without a server."""

import contextlib
import re
import shutil
import socket
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from axe_playwright_python.sync_playwright import Axe

from mbm_lab import lessons
from tests.browser import pages
from tests.browser.jupyter import assert_becomes
from tests.browser.looks import wider_than_the_screen
from workshop import rendering, views

NAMES = [path.stem for path in lessons.course_lessons()]

pytestmark = pytest.mark.filterwarnings("ignore:.*myst_parser")  # of its use of Sphinx

every_lesson = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All views, built without any network in less than five minutes."""
    folder = tmp_path_factory.mktemp("a workshop") / "all views"

    def refuse(self, address):
        raise AssertionError(f"the build asks the network: {address}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        start = time.perf_counter()
        views.build(folder)
    assert time.perf_counter() - start < 300
    return folder


@pytest.fixture(scope="module")
def context(browser):
    """Pages of the size of a slide."""
    context = browser.new_context(viewport={"width": 1280, "height": 720})
    yield context
    context.close()


@pytest.fixture(scope="module")
def page(context):
    return context.new_page()


@pytest.fixture(scope="module")
def noted(context):
    """What all these pages ask for and say."""
    return pages.watch(context)


@pytest.fixture
def opened(page, noted, built, watched):
    """Opens a file of a folder; gives the page and what has happened since."""
    watched(page)

    def go(name: str, home: str | None = None):
        page.goto("about:blank")
        noted.forget()
        page.goto(f"{home or built.as_uri()}/{name}")
        return page, noted

    return go


@contextlib.contextmanager
def telephone(page):
    """Makes the screen small for a moment."""
    page.set_viewport_size({"width": 360, "height": 740})
    try:
        yield
    finally:
        page.set_viewport_size({"width": 1280, "height": 720})


@pytest.fixture(scope="module")
def served(built):
    """The address of a small server that serves what was built."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=built))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def quiet(seen, home: str) -> bool:
    """Whether pages asked only for files of `home`, and nothing failed or was complained of."""
    assert seen.asked
    assert seen.outside(home) == []
    assert seen.failed == []
    assert seen.said == []
    return True


def test_every_view_has_every_lesson(built):
    for view, ending in (("slides", "html"), ("site", "html"), ("instructor", "ipynb"),
                         ("learner", "ipynb")):  # fmt: skip
        found = sorted(path.stem for path in (built / view).glob(f"[0-9][0-9]_*.{ending}"))
        assert found == NAMES, view


def what_is_printed(name: str) -> list[str]:
    """What the cells of a lesson print, as it is stored."""
    cells = lessons.read_notebook(lessons.find_lesson(name)).cells
    shown = [one for cell in cells for one in rendering.outputs(cell)]
    return [one.text.rstrip("\n") for one in shown if one.kind == "printed"]


@every_lesson
def test_slides_fit_and_ask_nobody(opened, built, name):
    page, seen = opened(f"slides/{name}.html")
    pages.show_all_slides(page)
    assert pages.slides_that_do_not_fit(page) == []
    assert pages.bare_equations(page) == []
    assert pages.unshown_pictures(page) == []
    assert quiet(seen, (built / "slides").as_uri())


@every_lesson
def test_pages_of_the_site_are_whole_on_large_and_small_screens(opened, built, name):
    page, seen = opened(f"site/{name}.html")
    printed = page.locator(".printed pre").all_text_contents()
    assert [text.rstrip("\n") for text in printed] == what_is_printed(name)
    assert pages.bare_equations(page) == []
    assert pages.unshown_pictures(page) == []
    with telephone(page):
        assert wider_than_the_screen(page) == []
    assert quiet(seen, (built / "site").as_uri())


def test_the_other_pages_ask_nobody_either(opened, built):
    others = [path for path in built.rglob("*.html") if path.stem not in NAMES]
    assert {"index.html", "search.html", "playground.html"} <= {path.name for path in others}
    for path in others:
        page, seen = opened(str(path.relative_to(built)))
        assert page.title()
        with telephone(page):
            assert wider_than_the_screen(page) == [], path
        assert quiet(seen, built.as_uri())


@pytest.mark.parametrize("how", ["file", "http"])
def test_the_search_finds_a_word_and_its_page_opens(opened, built, served, how):
    home = served if how == "http" else built.as_uri()
    page, seen = opened("site/index.html", home)
    page.fill(".sidebar-search", "gradient")
    page.press(".sidebar-search", "Enter")
    link = page.locator("#search-results ul.search a").first
    page.get_by_text("Search finished").wait_for()  # until then the links still move
    link.click()
    page.wait_for_url(re.compile(r"/site/(?!search)"))
    page.wait_for_selector("article h1")
    assert "gradient" in page.inner_text("article").lower()
    assert quiet(seen, home)


def test_links_between_the_pages_lead_somewhere(built):
    for path in built.rglob("*.html"):
        if path.name == "playground.html":
            continue
        for link in re.findall(r'<a [^>]*href="([^"#?]*)', path.read_text(encoding="utf-8")):
            if link and not link.startswith(("http:", "https:", "mailto:", "data:")):
                assert (path.parent / link).exists(), (path.name, link)


def test_the_speaker_sees_the_notes_in_a_second_window(opened, built):
    page, seen = opened("slides/04_fusion.html")
    page.wait_for_function("window.Reveal?.isReady()")
    assert page.locator("aside.notes").first.is_hidden()
    with page.expect_popup() as popup:
        page.keyboard.press("s")
    speaker = popup.value
    try:
        notes = speaker.locator(".speaker-controls-notes")
        notes.filter(has_text="For the instructor").wait_for()
        for frame in speaker.frames:  # the slides in it: an end while they load is a failure
            frame.wait_for_load_state()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("Reveal.getIndices().h === 1")
    finally:
        speaker.close()
    assert quiet(seen, built.as_uri())


def test_slides_can_be_printed_one_on_a_page(opened):
    page, seen = opened("slides/04_fusion.html")
    page.wait_for_function("window.Reveal?.isReady()")
    slides = page.locator(".slides > section").count()
    page.goto(page.url.partition("#")[0] + "?view=print")
    page.wait_for_function(
        "least => document.querySelectorAll('.pdf-page').length >= least", arg=slides
    )
    page.wait_for_function(
        """[...document.querySelectorAll(".pdf-page .slide")].every(
            (one) => one.scrollWidth <= 1280 && one.scrollHeight <= 720)"""
    )
    assert seen.said == []


@pytest.mark.parametrize("name", ["index", "site/00_welcome", "site/index", "slides/04_fusion"])
def test_axe_finds_nothing_serious(opened, served, name):
    page, _ = opened(f"{name}.html", served)
    if name.startswith("slides"):
        page.wait_for_function("window.Reveal?.isReady()")
        page.evaluate("Reveal.slide(4)")
    assert pages.serious(Axe().run(page)) == []


def test_the_keyboard_reaches_what_is_wider_than_a_telephone(opened, served):
    page, _ = opened("site/03_rnn.html", served)
    rule = {"runOnly": ["scrollable-region-focusable"]}
    with telephone(page):
        assert pages.serious(Axe().run(page, options=rule)) == []
        page.evaluate(
            """document.querySelectorAll("article [tabindex]")
                .forEach((one) => one.removeAttribute("tabindex"))"""
        )
        assert pages.serious(Axe().run(page, options=rule)) != []


# The checks above can fail


def test_each_check_sees_a_fault_that_is_put_into_a_page(opened, built, tmp_path):
    folder = tmp_path / "slides"
    shutil.copytree(built / "slides", folder)
    path = folder / "04_fusion.html"
    whole = path.read_text(encoding="utf-8")
    faults = {
        "needs 1280 ×": "<pre class='printed'>" + "a line\n" * 60 + "</pre>",
        "is cut off": "<div style='width: 1400px'>wide</div>",
        "12 px: too small": "<p style='font-size: 12px'>too small</p>",
    }
    for fault, element in faults.items():
        path.write_text(whole.replace("</h2>", f"</h2>{element}", 1), encoding="utf-8")
        page, _ = opened("04_fusion.html", folder.as_uri())
        pages.show_all_slides(page)
        assert any(fault in one for one in pages.slides_that_do_not_fit(page)), fault
    bad = (
        '<script src="https://cdn.invalid/require.js"></script><script>nothing()</script>'
        '<p>$\\frac{1}{2}$</p><math></math><img src="none.png" alt="">'
    )
    path.write_text(whole.replace("</h2>", f"</h2>{bad}", 1), encoding="utf-8")
    page, seen = opened("04_fusion.html", folder.as_uri())
    pages.show_all_slides(page)
    assert len(pages.bare_equations(page)) == 2
    assert len(pages.unshown_pictures(page)) == 1
    assert seen.outside(folder.as_uri()) == ["https://cdn.invalid/require.js"]
    assert_becomes(page, lambda: len(seen.failed), 2)
    assert_becomes(page, lambda: any("nothing" in one for one in seen.said), True)
    with telephone(page):
        page.set_content("<div style='width: 500px; background: red'>wide</div>")
        assert len(wider_than_the_screen(page)) == 1
    page.set_content("<img src='data:,'><p style='color: #ccc; background: #fff'>pale</p>")
    assert len(pages.serious(Axe().run(page))) >= 2
