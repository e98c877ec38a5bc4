"""A room's poll in browsers: a wall for the instructor, telephones for everybody else."""

import json
import re

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from mbm_lab import fusion, poll
from tests.browser.fingers import drag_by_finger
from tests.browser.jupyter import eventually
from tests.browser.looks import cut_off, small_controls, wider_than_the_screen
from tests.test_poll import serving

WALL = {"viewport": {"width": 1280, "height": 720}}
TELEPHONE = {
    "viewport": {"width": 360, "height": 740},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}


@pytest.fixture(scope="module")
def rounds():
    return poll.rounds()


@pytest.fixture
def server(rounds):
    with serving(rounds=rounds) as server:
        yield server


@pytest.fixture
def open_page(browser, watched):
    """Opens an address in a browser of its own; what goes wrong there is kept in `faults`."""
    contexts = []

    def opened(address, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = watched(context.new_page())
        page.faults, page.asked = [], []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("console", lambda said: page.faults.append(said.text))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture
def wall(open_page, server):
    page = open_page(server.instructor_at, **WALL)
    page.wait_for_function("document.querySelector('.mbm-code').textContent.length === 6")
    return page


@pytest.fixture
def telephone(open_page, server):
    """A telephone that has scanned the picture on the wall."""

    def opened(**options):
        page = open_page(f"{server.pages_at}/#{server.room.key}", **{**TELEPHONE, **options})
        page.wait_for_selector(".mbm-cards img")
        return page

    return opened


def answers(server) -> list:
    return [device.answer for device in server.room.devices.values() if device.answer]


def crowd(server, points) -> None:
    """Others answer, each on a telephone of their own."""
    for alpha, beta in points:
        device = server.room.join(server.room.key, "others")
        point = {"round": server.room.number, "alpha": alpha, "beta": beta}
        server.room.answer(device, "others", point)


def says(page, selector: str, text: str):
    """Waits until these words stand there."""

    def it_is_said():
        return text in page.text_content(selector).replace("\xa0", " ").replace("−", "-")

    eventually(page, it_is_said, seconds=15)


def at(page, selector: str) -> list[float]:
    """The α and β at which something is drawn."""
    node = page.locator(selector)
    if (moved := node.get_attribute("transform")) is not None:
        x, y = (float(one) for one in re.findall(r"-?\d[\d.e-]*", moved))
    else:
        x, y = float(node.get_attribute("cx")), float(node.get_attribute("cy"))
    return [x - 0.5, 1.25 - y]


def worth(one: dict, alpha: float, beta: float) -> str:
    """A point's E and R² by the course's own functions, as the pages write them."""
    f, g, m = (torch.tensor(one[name]).double() for name in ("f", "g", "m"))
    pair = [torch.tensor([x]).double() for x in (alpha, beta)]
    error = fusion.error_surface(f, g, m, *pair).item()
    share = 1 - error / m.var(correction=0).item()
    return f"α = {alpha:.2f}, β = {beta:.2f}, E = {error:.3f}, R² = {share:.2f}"


def only_known_faults(page) -> list[str]:
    """What a page complains of, but for the question whether it has joined."""
    return [said for said in page.faults if "status of 401" not in said]


def test_from_a_finger_on_a_telephone_to_the_best_point_on_the_wall(
    wall, open_page, server, rounds
):
    phone = open_page(server.pages_at, **TELEPHONE)
    code = phone.get_by_label("The code on the wall")
    code.fill("WRONG")
    phone.get_by_role("button", name="Join").tap()
    says(phone, ".mbm-said", "This is not the code of this room")
    code.fill(wall.text_content(".mbm-code").lower())
    phone.get_by_role("button", name="Join").tap()
    says(phone, ".mbm-said", "Where you leave it is your answer.")
    shown = phone.text_content(".mbm-cards")
    for card in rounds[0]["cards"]:
        assert card["message"] in shown
        assert f"mood m = {card['m']:.2f}".replace("-", "−") in shown
    assert phone.locator(".mbm-star").is_hidden()
    assert phone.evaluate("document.querySelector('canvas').getContext('2d')"
                          ".getImageData(0, 0, 140, 140).data.every((x) => x === 0)")  # fmt: skip

    box = phone.locator(".mbm-square").bounding_box()
    corner = complex(box["x"], box["y"] + box["height"])
    start, end = (corner + box["width"] * way for way in (0.3 - 0.3j, 0.6 - 0.4j))
    drag_by_finger(phone, start, end)
    says(phone, ".mbm-said", "Your answer is taken: α = 0.55, β = 0.20")
    assert answers(server) == [(0.55, 0.2)]
    card = rounds[0]["cards"][0]
    v = fusion.weighted_sum(torch.tensor(card["f"]), torch.tensor(card["g"]), 0.55, 0.2)
    assert phone.locator(".mbm-v strong").first.text_content() == f"{v:.2f}".replace("-", "−")
    assert at(phone, ".mbm-point") == pytest.approx([0.55, 0.2], abs=1e-6)

    crowd(server, [(0.1, 0.9), (1.0, 1.0), (-0.5, 0.3)])
    says(wall, ".mbm-answered", "4 answers from 4 telephones")
    assert wall.locator(".mbm-answers circle").count() == 0
    wall.get_by_role("button", name="Show all dots").click()
    eventually(wall, lambda: wall.locator(".mbm-answers circle").count() == 4)
    assert at(wall, ".mbm-answers circle >> nth=0") == pytest.approx([0.55, 0.2], abs=1e-6)
    assert wall.locator(".mbm-star").is_hidden()
    assert wall.locator(".mbm-mean").is_hidden()
    says(phone, ".mbm-said", f"You: {worth(rounds[0], 0.55, 0.2)}.")
    assert phone.get_by_label("α picture").is_disabled()
    assert phone.locator(".mbm-star").is_hidden()

    wall.get_by_role("button", name="Show the best").click()
    mean = [sum(x) / 4 for x in zip(*answers(server), strict=True)]
    best = fusion.best_weights(*(torch.tensor(rounds[0][name]) for name in ("f", "g", "m")))
    says(wall, ".mbm-heard", f"room's mean: {worth(rounds[0], *mean)}.")
    says(wall, ".mbm-heard", f"best: {worth(rounds[0], *best[:2])}.")
    assert at(wall, ".mbm-star") == pytest.approx(best[:2], abs=1e-6)
    assert at(wall, ".mbm-mean") == pytest.approx(mean, abs=1e-6)
    seen = wall.text_content(".mbm-lines").replace("\xa0", " ")
    assert f"R² = {worth(rounds[0], *mean)[-4:]}" in seen
    says(phone, ".mbm-said", f"Best: {worth(rounds[0], *best[:2])}.")
    assert phone.locator(".mbm-star").is_visible()

    wall.get_by_label("Next:").select_option("smudged messages")
    wall.get_by_role("button", name="New round").click()
    says(phone, ".mbm-topic", "Round 2: smudged messages")
    says(wall, ".mbm-answered", "0 answers from 4 telephones")
    assert phone.locator(".mbm-star").is_hidden()
    assert phone.get_by_label("α picture").is_enabled()
    assert "____" in phone.text_content(".mbm-cards")
    assert only_known_faults(phone) == [said for said in phone.faults if "403" in said]
    assert wall.faults == []
    for page in (wall, phone):
        assert all(url.startswith((f"{server.pages_at}/", "data:")) for url in page.asked)


def test_two_windows_of_the_instructor_show_the_same_and_a_stranger_nothing(
    wall, open_page, server
):
    other = open_page(server.instructor_at, **WALL)
    crowd(server, [(0.2, 0.4)])
    wall.get_by_role("button", name="Show all dots").click()
    says(other, ".mbm-main", "Show the best")
    other.get_by_role("button", name="New round").click()
    for page in (wall, other):
        says(page, ".mbm-topic", "Round 2: worse pictures")
    assert server.room.number == 2
    stranger = open_page(f"{server.pages_at}/room#guessed", **WALL)
    says(stranger, ".mbm-trouble", "This page is the instructor's")
    assert stranger.text_content(".mbm-code") == ""
    stranger.get_by_role("button", name="New round").click()
    assert server.room.number == 2


def test_the_keyboard_alone(wall, open_page, server):
    phone = open_page(server.pages_at, **WALL)
    phone.wait_for_selector("#code")
    phone.keyboard.press("Tab")
    phone.keyboard.type(server.room.code)
    phone.keyboard.press("Enter")
    phone.wait_for_selector(".mbm-cards img")
    phone.keyboard.press("Tab")
    for key in ("ArrowRight", "ArrowRight", "ArrowUp", "Shift+ArrowUp"):
        phone.keyboard.press(key)
    eventually(phone, lambda: answers(server) == [(0.04, 0.12)])
    phone.keyboard.press("Tab")  # α
    phone.keyboard.press("End")
    phone.keyboard.press("Tab")  # β
    phone.keyboard.press("ArrowLeft")
    eventually(phone, lambda: answers(server) == [(1.25, 0.11)])
    assert phone.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    heard = phone.locator("main").aria_snapshot()
    for expected in ('slider "α picture": "1.25"', 'slider "β message": "0.11"',
                     'group "Your dot: drag it, or use the arrow keys"', 'img "Postcard: ',
                     "- status: ", 'img "The plane. Your dot: α = 1.25, β = 0.11."'):  # fmt: skip
        assert expected in heard, heard
    phone.get_by_label("β message").press("Home")
    eventually(phone, lambda: answers(server) == [(1.25, -0.5)])
    phone.reload()  # it is still the same telephone
    says(phone, ".mbm-said", "Your answer is taken: α = 1.25, β = -0.50")
    wall.keyboard.press("Tab")
    for name in ("Show all dots", "Show the best", "Take answers again"):
        says(wall, ".mbm-main", name)
        wall.keyboard.press("Enter")
    eventually(wall, lambda: server.room.phase == "open")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_pages_can_be_read_by_everyone_in_every_phase(wall, telephone, server, theme):
    phone = telephone(color_scheme=theme)
    wall.emulate_media(color_scheme=theme)
    crowd(server, [(k / 50, 1 - k / 40) for k in range(40)])
    says(wall, ".mbm-answered", "40 answers from 41 telephones")
    assert_no_violation(phone)
    assert_looks_well(phone, widths=(320, 360))
    for show in ("Show all dots", "Show the best"):
        wall.get_by_role("button", name=show).click()
        eventually(wall, lambda show=show: wall.get_by_role("button", name=show).count() == 0)
        assert_looks_well(wall, widths=(360, 1920, 1280))
        for height, width in ((720, 1280), (1080, 1920)):
            wall.set_viewport_size({"width": width, "height": height})
            assert wall.evaluate("document.documentElement.scrollHeight <= innerHeight")
            sizes = [
                wall.locator(one).evaluate("one => parseFloat(getComputedStyle(one).fontSize)")
                for one in (".mbm-code", ".mbm-count", ".mbm-lines", ".mbm-plot")
            ]
            assert min(sizes) >= height / 36  # of a projector's picture
            assert min(sizes[:2]) >= height / 18
    says(phone, ".mbm-said", "Best: ")
    assert_looks_well(phone, widths=(320, 360))
    for page in (phone, wall):
        assert_no_violation(page)
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 22)"}[theme]


def assert_looks_well(page, widths) -> None:
    """Nothing is cut off, and every control is large enough, on screens of these widths."""
    for width in widths:
        page.set_viewport_size({"width": width, "height": page.viewport_size["height"]})
        assert wider_than_the_screen(page) == []
        cut = cut_off(page, ".mbm-poll")
        assert [text for text in cut if "surface with" not in text] == []  # that is only heard
        assert small_controls(page, ".mbm-poll") == []


def assert_no_violation(page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_who_has_lost_the_network_is_told_and_comes_back(telephone, server):
    phone = telephone()
    phone.context.set_offline(True)
    says(phone, ".mbm-said", "The poll does not answer.")
    phone.context.set_offline(False)
    says(phone, ".mbm-said", "Where you leave it is your answer.")


def test_a_point_that_came_too_quickly_is_sent_again(telephone, server):
    phone = telephone()
    refused = []

    def refuse_once(route):
        if refused:
            return route.continue_()
        refused.append(route.request.post_data)
        return route.fulfill(
            status=429, headers={"Retry-After": "1"}, content_type="application/json",
            body=json.dumps({"error": "That was quick."}),
        )  # fmt: skip

    phone.route("**/answer", refuse_once)
    phone.get_by_label("α picture").press("End")
    says(phone, ".mbm-said", "Your answer is taken: α = 1.25, β = 0.00")
    assert refused
    assert answers(server) == [(1.25, 0.0)]
