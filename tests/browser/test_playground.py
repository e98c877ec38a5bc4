"""α and β as a page of its own: `mbm-lab playground`, on every screen, by every hand."""

import json
import math
import re

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe

from mbm_lab import datasets, fusion, training, welcome, widgets
from mbm_lab.widgets import witnesses
from mbm_lab.widgets.fusion_figure import best_of, dial_point
from mbm_lab.widgets.playground import HERE
from tests.browser.fingers import drag_by_finger
from tests.browser.jupyter import eventually
from tests.browser.looks import cut_off, small_controls, wider_than_the_screen
from tests.browser.spoken import assert_formula, settled, slider, status

SCREENS = {
    "telephone": (320, 640, 1),
    "wider telephone": (360, 740, 2),
    "small window": (800, 600, 1),
    "half a screen": (960, 600, 1),
    "projector": (1280, 720, 1),
    "large projector": (1920, 1080, 1),
    "zoom 150 %": (853, 480, 1.5),
}


@pytest.fixture(scope="module")
def address(serve):
    return serve("playground")


@pytest.fixture
def open_on(browser, address, watched):
    """Opens the page on a screen of this size."""
    contexts = []

    def opened(screen="projector", **options):
        width, height, scale = SCREENS[screen]
        context = browser.new_context(
            viewport={"width": width, "height": height}, device_scale_factor=scale, **options
        )
        contexts.append(context)
        page = watched(context.new_page())
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.goto(address)
        status(page)
        return page

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def module(browser):
    """What the front end's module exports, to be called with numbers."""
    page = browser.new_page()
    source = (HERE / "playground.js").read_text(encoding="utf-8")

    def call(name, *arguments):
        return page.evaluate(
            """async ([source, name, args]) => {
                const blob = new Blob([source], { type: "text/javascript" });
                const found = await import(URL.createObjectURL(blob));
                return found[name](...args);
            }""",
            [source, name, arguments],
        )

    yield call
    page.close()


@pytest.fixture(scope="module")
def cards():
    return datasets.load_postcards("test")[:100]


@pytest.fixture(scope="module")
def readings(cards):
    return [values.double() for values in welcome.read(cards, *welcome.load_readers())]


# The module's formulas are those of the course


@pytest.mark.parametrize(("alpha", "beta"), [(0.33, 0.47), (-0.5, 1.25), (1.0, 0.0)])
def test_the_formula_is_that_of_the_course_on_every_card(module, readings, alpha, beta):
    f, g = readings
    v = module("weightedSum", f.tolist(), g.tolist(), alpha, beta)
    assert v == pytest.approx(fusion.weighted_sum(f, g, alpha, beta).tolist(), abs=1e-6)


def test_errors_steps_and_the_best_point_are_those_of_the_course(module, readings, cards):
    f, g, m = *readings, cards.mood.double()
    moments = module("moments", f.tolist(), g.tolist(), m.tolist())
    grid = torch.tensor([-0.5, 0.1, 1.25]).double()
    errors = [[module("error", moments, a, b) for a in grid.tolist()] for b in grid.tolist()]
    assert errors == [
        pytest.approx(row) for row in fusion.error_surface(f, g, m, grid, grid).tolist()
    ]
    assert module("best", moments) == pytest.approx(fusion.best_weights(f, g, m)[:2])
    path = [[-0.4, 1.0]]
    for _ in range(20):
        path.append(module("step", moments, path[-1]))
    centred = [values - values.mean() for values in (f, g, m)]
    walked = fusion.descend(*centred, start=path[0], learning_rate=0.2, steps=20)[:, :2]
    assert path == [pytest.approx(point) for point in walked.tolist()]


def test_the_best_point_of_one_witness(module, readings, cards):
    f, g, m = *readings, cards.mood.double()
    nothing = torch.zeros_like(f)
    for heard in ((f, nothing), (nothing, g), (nothing, nothing)):
        moments = module("moments", *(values.tolist() for values in (*heard, m)))
        ours = best_of(*heard, m)
        assert module("best", moments) == [x if x is None else pytest.approx(x) for x in ours]


def test_the_browser_makes_a_postcard_worse_as_python_does(module, cards):
    places = [0, 1, 2, 1_228_799, 2**31, 2**32 - 1]
    numbers = witnesses.uniform(torch.tensor(places).numpy()).tolist()
    assert [module("uniform", place) for place in places] == pytest.approx(numbers, abs=1e-12)
    numbers = witnesses.normal(torch.arange(50).numpy()).tolist()
    assert [module("normal", place) for place in range(50)] == pytest.approx(numbers, abs=1e-9)
    made = witnesses.normal(torch.arange(30_000).numpy())
    assert (made.mean(), made.std()) == pytest.approx((0, 1), abs=0.02)


# The page's own numbers are those of the course

STORED = re.compile(r"^const cards = (.*);$", re.MULTILINE)
"""The readings and cards that the page holds."""

PAIRS = [(0.33, 0.47), (-0.5, 1.25), (1.0, -0.2)]

ITS_NUMBERS = """(pairs) => {
    const find = (selector) => document.querySelector(selector);
    const numbers = (text) => (text ?? "").match(/-?\\d[\\d.e-]*/g)?.map(Number) ?? [NaN, NaN];
    const button = (name) => [...document.querySelectorAll("button")]
        .find((one) => one.textContent === name);
    const move = (input, to) => {
        input.value = to;
        input.dispatchEvent(new Event("input"));
    };
    const [alpha, beta] = document.querySelectorAll("input[type=range]");
    return pairs.map(([a, b]) => {
        move(alpha, a);
        move(beta, b);
        const v = [], r2 = [];
        for (let card = 0; card < 100; card++) {
            v.push(Number(find(".mbm-formula data").value));
            r2.push(Number(find(".mbm-r2 data").value));
            button("Next card").click();
        }
        const [x, y] = numbers(find(".mbm-star").getAttribute("transform"));
        button("One step").click();
        const dot = find(".mbm-dots").lastChild;
        const [dotX, dotY] = [Number(dot.getAttribute("cx")), Number(dot.getAttribute("cy"))];
        return { v, r2, best: [x - 0.5, 1.25 - y], step: [dotX - 0.5, 1.25 - dotY] };
    });
}"""
"""What the page shows, with all digits: v and R² as text, the star and a step of training."""


def differences(page, f, g, m, pairs=PAIRS) -> list[str]:
    """Where the page's v, R², best (α, β) or step of training, over all cards, are not those of
    `mbm_lab.fusion`, to 1e-6."""
    found = []
    for pair, shown in zip(pairs, page.evaluate(ITS_NUMBERS, pairs), strict=True):
        v = fusion.weighted_sum(f, g, *pair)
        r2 = training.r_squared(v - v.mean() + m.mean(), m)
        centred = [values - values.mean() for values in (f, g, m)]
        step = fusion.descend(*centred, start=pair, learning_rate=0.2, steps=1)[1, :2]
        ours = {
            "v": v.tolist(),
            "r2": [r2] * len(m),
            "best": list(fusion.best_weights(f, g, m)[:2]),
            "step": step.tolist(),
        }
        for name, values in ours.items():
            if shown[name] != pytest.approx(values, abs=1e-6):
                found.append(f"{name} at {pair}")
    return found


def test_every_number_of_the_page_is_that_of_the_course(open_on, readings, cards):
    page, m = open_on(), cards.mood.double()
    assert differences(page, *readings, m) == []
    for name, level in (("picture noise", 8), ("word dropout", 5)):
        for _ in range(level):
            slider(page, name).press("ArrowRight")
    worse = widgets.FusionPlayground().witnesses.read(0.4, 0.25)
    assert differences(page, *(values.double() for values in worse), m) == []
    assert page.faults == []


def formula() -> tuple[str, int]:
    """The formula's part of `playground.js`, and where it begins."""
    source = (HERE / "playground.js").read_text(encoding="utf-8")
    start, end = source.index("// --- The formula"), source.index("// --- Chance")
    return source[start:end], start


def faults() -> dict[str, tuple[int, str, str]]:
    """Small faults of the formula: each sign turned round, and what else is easily confused.

    Of each its place in `playground.js`, what stands there, and what is to stand there.
    """
    text, start = formula()
    other = {" + ": " - ", " - ": " + "}
    found = {}
    for sign in re.finditer(r" [+-] ", text):
        line = text[text.rindex("\n", 0, sign.start()) + 1 :].partition("\n")[0]
        if not line.startswith("//"):
            place = start + sign.start()
            found[f"{sign[0].strip()} at {sign.start()} in {line.strip()}"] = (
                place, sign[0], other[sign[0]],
            )  # fmt: skip
    swaps = {
        "α and β swapped": ("alpha * x + beta * g[i]", "beta * x + alpha * g[i]"),
        "α forgotten": ("alpha * x + beta", "x + beta"),
        "the mean forgotten": ("x - middle", "x"),
        "f and g swapped": ("ff: of(F, F), gg: of(G, G)", "ff: of(G, G), gg: of(F, F)"),
        "the best α and β swapped": ("c.fm * c.gg - c.gm * c.fg", "c.gm * c.ff - c.fm * c.fg"),
        "a step forgets its 2": ("a - RATE * 2", "a - RATE"),
        "another sum in the mean": ("/ values.length", "/ (values.length - 1)"),
    }
    for name, (old, new) in swaps.items():
        assert text.count(old) == 1, old
        found[name] = (start + text.index(old), old, new)
    return found


def test_every_wrong_sign_in_the_formula_is_seen(browser, address, tmp_path, readings, cards):
    page = browser.new_page()
    content = page.request.get(address).text()
    stored = STORED.search(content)[1]
    few = json.loads(stored)  # what the formula needs, so that each page is there at once
    few.update(f=few["f"][:1], g=few["g"][:1], words=[[]] * len(few["m"]), sprite="")
    content = content.replace(stored, json.dumps(few).replace("<", "\\u003c"))
    source = (HERE / "playground.js").read_text(encoding="utf-8")
    begin = content.index(source)
    file = tmp_path / "playground.html"
    wrong = faults()
    assert sum(name[0] in "+-" for name in wrong) > 15
    unseen = []
    for name, (place, old, new) in wrong.items():
        place += begin
        assert content[place : place + len(old)] == old
        file.write_text(content[:place] + new + content[place + len(old) :], encoding="utf-8")
        page.goto(file.as_uri(), wait_until="commit")
        page.wait_for_selector(".mbm-r2 data")
        if not differences(page, *readings, cards.mood.double(), PAIRS[:1]):
            unseen.append(name)
    assert unseen == []
    page.close()


# Numbers and drawing


def drawn(page) -> dict[str, list[float]]:
    """Where the point, the needle and the marks of f, g and m are drawn."""
    return page.evaluate(
        """() => {
            const at = (node, ...names) => names.map((name) => Number(node.getAttribute(name)));
            const find = (name) => document.querySelector(`.mbm-dial ${name}`);
            const numbers = /-?\\d[\\d.e-]*/g;
            const shift = (node) => node.getAttribute("transform").match(numbers).map(Number);
            return {
                point: at(document.querySelector(".mbm-point"), "cx", "cy"),
                needle: at(find(".mbm-needle"), "x2", "y2"),
                f: shift(find("polygon.mbm-f")), g: shift(find("rect.mbm-g")),
                m: shift(find("polygon.mbm-m")),
            };
        }"""
    )


def assert_drawn(page, said) -> None:
    """The drawing agrees with the words."""
    places = drawn(page)
    assert places["point"] == pytest.approx([said["alpha"] + 0.5, 1.25 - said["beta"]], abs=1e-6)
    v = said["alpha"] * said["f"] + said["beta"] * said["g"]
    for name, value, radius in (("needle", v, 0.85), ("f", said["f"], 1.16), ("g", said["g"], 1.16),
                                ("m", said["m"], 1.0)):  # fmt: skip
        x, y = dial_point(value, radius)
        assert places[name] == pytest.approx([x, -y], abs=0.03), name


def moved_from(before, page, letter: str, name: str) -> dict[str, float]:
    """What the text says as soon as a slider is elsewhere than before and the text follows it."""

    def elsewhere():
        said = settled(page, letter, name)
        return said[letter] != before[letter] and said

    return eventually(page, elsewhere)


def postcard(page) -> list[int]:
    """The postcard's pixels, as soon as it is drawn: until then all of it is grey."""
    return eventually(page, lambda: page.evaluate(DRAWN))


DRAWN = """() => {
    const canvas = document.querySelector(".mbm-card canvas");
    const pixels = [...canvas.getContext("2d").getImageData(0, 0, 64, 64).data];
    return pixels.some((one) => one !== 204 && one !== 255) && pixels;
}"""


def test_by_keyboard_mouse_and_finger(open_on):
    page = open_on(has_touch=True)
    for name, letter in (("α picture", "alpha"), ("β message", "beta")):
        range_ = slider(page, name)

        def along(share, range_=range_):
            box = range_.bounding_box()
            return box["x"] + share * box["width"], box["y"] + box["height"] / 2

        def drag():
            page.mouse.move(*along(0.5))
            page.mouse.down()
            page.mouse.move(*along(0.3), steps=10)
            page.mouse.up()

        for move in (
            lambda range_=range_: [range_.press("ArrowLeft") for _ in range(7)],
            drag,
            lambda: page.touchscreen.tap(*along(0.75)),
            lambda range_=range_: range_.press("Home"),
        ):
            before = settled(page, letter, name)
            move()
            said = moved_from(before, page, letter, name)
            assert_formula(said)
            assert_drawn(page, said)
            assert range_.get_attribute("aria-valuetext") == f"{said[letter]:.2f}"
    assert said["alpha"] == said["beta"] == -0.5
    assert page.faults == []


def test_r_squared_is_that_of_all_cards(open_on, readings, cards):
    page = open_on()
    for _ in range(40):
        slider(page, "α picture").press("ArrowLeft")
    said = settled(page, "alpha", "α picture")
    v = fusion.weighted_sum(*readings, said["alpha"], said["beta"])
    m = cards.mood.double()
    assert said["r2"] == pytest.approx(training.r_squared(v - v.mean() + m.mean(), m), abs=0.006)
    assert (said["f"], said["g"], said["m"]) == pytest.approx(
        (float(readings[0][0]), float(readings[1][0]), float(m[0])), abs=0.006
    )
    shown = page.text_content(".mbm-formula").replace("−", "-")
    numbers = [float(x) for x in re.findall(r"-?\d+\.\d\d", shown)]
    names = ("alpha", "f", "beta", "g", "v")
    assert numbers == [said[name] for name in names]
    assert f"{said['r2']:.2f}" in page.text_content(".mbm-r2").replace("−", "-")


def test_the_surface_is_darkest_where_the_error_is_largest(open_on, readings, cards):
    page = open_on()
    colours = page.evaluate(
        """() => {
            const canvas = document.querySelector(".mbm-square canvas");
            const data = canvas.getContext("2d").getImageData(0, 0, 140, 140).data;
            const sum = (_, i) => data[4 * i] + data[4 * i + 1] + data[4 * i + 2];
            return Array.from({ length: 140 * 140 }, sum);
        }"""
    )
    grid = -0.5 + (torch.arange(140) + 0.5) / 140 * 1.75
    errors = fusion.error_surface(*readings, cards.mood.double(), grid, grid).flip(0).flatten()
    order = errors.argsort()
    sums = torch.tensor(colours)[order]
    assert sums[:500].double().mean() > 1.5 * sums[-500:].double().mean()
    lightest = int(torch.tensor(colours).argmax())
    assert errors[lightest] < errors.quantile(0.1)


def test_buttons_show_other_cards(open_on, cards, readings):
    page = open_on()
    gaps = (readings[0] - readings[1]).abs()
    for button in ("Next card", "Random card", "Witnesses disagree", "Witnesses disagree"):
        before, picture = status(page)["card"], postcard(page)
        page.get_by_role("button", name=button).press("Enter")

        def another_card(before=before):
            said = status(page)
            return said["card"] != before and said

        said = eventually(page, another_card)
        card = int(said["card"]) - 1
        assert said["m"] == pytest.approx(cards.mood[card].item(), abs=0.006)
        assert page.text_content(".mbm-message") == cards.messages[card]
        label = page.get_attribute(".mbm-card canvas", "aria-label")
        assert label == f"Postcard: {cards.captions[card]}"
        assert postcard(page) != picture
    assert gaps[card] >= gaps.sort().values[90]


def test_worse_witnesses_are_those_that_python_reads(open_on, cards):
    page, python = open_on(), widgets.FusionPlayground()
    for name, setting in (("picture noise", python.noise), ("word dropout", python.dropout)):
        before = status(page)
        for _ in range(9):
            slider(page, name).press("ArrowRight")
        setting.value = 0.45

        def read_again(before=before):
            said = status(page)
            changed = said["best_alpha"] != before["best_alpha"]
            return changed and said["f"] == pytest.approx(float(python.f[0]), abs=0.006) and said

        said = eventually(page, read_again)
        best = best_of(python.f, python.g, python.m)
        assert (said["best_alpha"], said["best_beta"]) == pytest.approx(best, abs=0.006)
    shown = torch.tensor(postcard(page)).view(64, 64, 4)[..., :3] / 255
    worse = python.witnesses.noisy_images(0, 0.45).permute(1, 2, 0)
    assert (shown - worse).abs().max() < 1.01 / 255
    assert page.text_content(".mbm-message") == python.witnesses.message(0, 0.45)
    assert "____" in python.witnesses.message(0, 0.45)


def test_a_switch_takes_a_witness_out(open_on):
    page = open_on()
    page.get_by_label("use the picture").press("Space")

    def picture_is_off():
        text = page.text_content(".mbm-status")
        return "picture off" in text and text

    text = eventually(page, picture_is_off)
    found = re.search(r"v = (\S+) · g = (\S+), mood", text)
    g = float(re.search(r"message g = (\S+),", text)[1])
    assert float(found[2]) == pytest.approx(float(found[1]) * g, abs=0.011)
    assert re.search(r"Best: β = \S+\.$", text)
    assert page.locator(".mbm-star").is_hidden()
    assert page.locator(".mbm-valley").evaluate("line => line.style.display") != "none"
    page.get_by_label("use the message").press("Space")

    def nothing_is_left():
        return "v = 0 = 0.00" in page.text_content(".mbm-status")

    eventually(page, nothing_is_left)
    page.get_by_role("button", name="Reset").click()
    assert status(page)["alpha"] == 1.0
    assert page.faults == []


# Hands, and ears


def test_on_a_telephone_a_finger_does_everything(open_on):
    page = open_on("wider telephone", has_touch=True, is_mobile=True)
    for name, letter in (("α picture", "alpha"), ("β message", "beta")):
        range_ = slider(page, name)
        range_.scroll_into_view_if_needed()
        box = range_.bounding_box()
        y = box["y"] + box["height"] / 2
        start = complex(box["x"] + 0.857 * box["width"], y)  # at 1.0, where the thumb is
        before = settled(page, letter, name)
        drag_by_finger(page, start, start - 0.4 * box["width"])
        said = moved_from(before, page, letter, name)
        assert 0.1 < said[letter] < 0.5
        assert_formula(said)
        assert_drawn(page, said)
    page.get_by_role("button", name="Next card").tap()
    page.get_by_role("button", name="Best α and β").tap()

    def at_the_best():
        said = status(page)
        return said["card"] == 2 and said["alpha"] == said["best_alpha"]

    eventually(page, at_the_best)
    page.get_by_label("use the picture").tap()
    eventually(page, lambda: "picture off" in page.text_content(".mbm-status"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.faults == []


def test_the_keyboard_reaches_everything_and_shows_where_it_is(open_on):
    page = open_on("wider telephone")
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                    const one = document.activeElement;
                    const seen = getComputedStyle(one).outlineStyle !== "none";
                    return seen && (one.labels?.[0] ?? one).textContent;
                }"""
            )
        )
    assert reached == [
        "α picture", "β message", "picture noise", "word dropout", "use the picture",
        "use the message", "Next card", "Random card", "Witnesses disagree", "Best α and β",
        "Valley floor", "Train", "One step", "Reset",
    ]  # fmt: skip
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Space")  # one step
    eventually(page, lambda: "Training: step 1." in page.text_content(".mbm-status"))


def test_a_screen_reader_hears_roles_names_and_values(open_on):
    page = open_on()
    page.get_by_role("button", name="Next card").press("Enter")
    eventually(page, lambda: status(page)["card"] == 2)
    heard = page.locator("main").aria_snapshot()
    for expected in (
        'region "α and β"', 'img "Postcard: ', '- slider "α picture": "1"',
        '- slider "word dropout": "0"', '- checkbox "use the picture" [checked]',
        '- group "cards and training"', '- button "Witnesses disagree"',
        'img "Error surface. α = 1.00, β = 1.00; best: α ', 'img "Dial of moods. v = ',
        '- status: "Card 2: picture f = ',
    ):  # fmt: skip
        assert expected in heard, heard


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_drawings_stand_out_on_the_page_in_both_themes(open_on, theme):
    page = open_on(color_scheme=theme)
    contrasts = page.evaluate(
        """() => {
            const light = (colour) => {
                const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map((x) => x / 255)
                    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
                return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
            };
            const paper = light(getComputedStyle(document.body).backgroundColor);
            const of = (selector, kind) => {
                const ink = light(getComputedStyle(document.querySelector(selector))[kind]);
                return Math.max(ink, paper) / Math.min(ink, paper);
            };
            return {
                paper, f: of("polygon.mbm-f", "fill"), g: of("rect.mbm-g", "fill"),
                m: of("polygon.mbm-m", "fill"), needle: of(".mbm-needle", "stroke"),
                arc: of(".mbm-arc", "stroke"), formula: of(".mbm-formula", "color"),
                r2: of(".mbm-r2", "color"),
            };
        }"""
    )
    assert contrasts.pop("paper") > 0.9 if theme == "light" else 0.06 > contrasts.pop("paper")
    assert min(contrasts.values()) >= 3, contrasts
    assert min(contrasts["formula"], contrasts["r2"]) >= 7


# Training


def steps(page) -> int:
    """How many steps the path has."""
    return page.locator(".mbm-dots circle").count() - 1


def test_train_walks_one_visible_step_after_another(open_on):
    page = open_on()
    page.get_by_role("button", name="Valley floor").click()
    start = settled(page, "alpha", "α picture")
    assert (
        math.dist((start["alpha"], start["beta"]), (start["best_alpha"], start["best_beta"])) > 0.5
    )
    page.get_by_role("button", name="Train").click()

    def some_steps():
        return steps(page) >= 8

    eventually(page, some_steps)
    page.get_by_role("button", name="Pause").click()
    walked = steps(page)
    points = page.evaluate(
        "[...document.querySelectorAll('.mbm-dots circle')].map((dot) => "
        "[Number(dot.getAttribute('cx')), Number(dot.getAttribute('cy'))])"
    )
    way = math.dist(points[0], points[-1])
    lengths = [math.dist(*pair) for pair in zip(points, points[1:], strict=False)]
    assert max(lengths) < 0.1
    assert way > 0.05
    page.wait_for_timeout(500)
    assert steps(page) == walked
    page.get_by_role("button", name="One step").click()
    assert steps(page) == walked + 1
    said = settled(page, "alpha", "α picture")
    left = [
        math.dist((one["alpha"], one["beta"]), (one["best_alpha"], one["best_beta"]))
        for one in (start, said)
    ]
    assert left[1] < left[0]
    slider(page, "α picture").press("ArrowRight")
    assert steps(page) == -1
    page.get_by_role("button", name="Reset").click()

    def at_the_start():
        said = status(page)
        return (said["alpha"], said["beta"]) == (1.0, 1.0)

    eventually(page, at_the_start)


def test_without_motion_the_whole_path_comes_at_once_and_ends_at_the_best(open_on):
    page = open_on(reduced_motion="reduce")
    page.get_by_role("button", name="Train").click()

    def arrived():
        said = status(page)
        gaps = [abs(said[letter] - said[f"best_{letter}"]) for letter in ("alpha", "beta")]
        return max(gaps) < 0.015 and said

    assert_formula(eventually(page, arrived, seconds=5))
    assert page.get_by_role("button", name="Train").count() == 1
    assert steps(page) > 50
    assert "Training: step" in page.text_content(".mbm-status")


# Looks


@pytest.mark.parametrize("screen", SCREENS)
def test_every_screen_shows_all_of_it(open_on, screen):
    page = open_on(screen)
    for _ in range(2):  # clean, then the longest numbers and messages
        assert wider_than_the_screen(page) == []
        assert cut_off(page, ".mbm-playground") == []
        assert small_controls(page, ".mbm-playground") == []
        slider(page, "word dropout").press("End")
        slider(page, "α picture").press("Home")
        settled(page, "alpha", "α picture")


@pytest.mark.parametrize("screen", ["telephone", "projector"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(open_on, screen, theme):
    page = open_on(screen, color_scheme=theme)
    found = Axe().run(page, options={"rules": {"page-has-heading-one": {"enabled": False}}})
    assert found.violations_count == 0, found.generate_report()  # a projector needs no heading


def test_the_eye_of_these_tests_is_not_blind(open_on):
    page = open_on("half a screen")
    page.add_style_tag(
        content=".mbm-range { grid-template-columns: 3em 20em 3em !important; } "
        ".mbm-range label { overflow: hidden; white-space: nowrap; } "
        ".mbm-buttons button { min-height: 0 !important; height: 20px; } "
        ".mbm-status { width: 1000px; }"
    )
    cut = cut_off(page, ".mbm-playground")
    assert any("α picture" in text for text in cut)
    assert len(small_controls(page, ".mbm-playground")) == 8
    assert wider_than_the_screen(page)


@pytest.mark.parametrize("screen", ["projector", "large projector"])
def test_the_back_row_reads_v_and_r_squared(open_on, screen):
    page = open_on(screen)
    for line in (".mbm-formula", ".mbm-r2"):
        assert (
            page.locator(line).evaluate("line => parseFloat(getComputedStyle(line).fontSize)") >= 24
        )
    page.get_by_role("button", name="Valley floor").click()
    for _ in range(12):
        page.get_by_role("button", name="Next card").click()
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    assert page.locator("h1, h2, h3").count() == 0


def test_the_line_of_text_is_a_live_region_before_it_speaks(browser, address):
    page = browser.new_page()
    page.add_init_script("""
        new MutationObserver(() => {
            const line = document.querySelector('.mbm-status');
            if (line && globalThis.first === undefined) {
                globalThis.first = [line.textContent, line.getAttribute('role'), line.ariaLive];
                globalThis.line = line;
            }
        }).observe(document, { childList: true, subtree: true });
    """)
    page.goto(address)
    status(page)
    assert page.evaluate("first") == ["", "status", "polite"]
    slider(page, "α picture").press("Home")
    settled(page, "alpha", "α picture")
    assert page.evaluate("line === document.querySelector('.mbm-status')")
    page.close()


def test_the_page_needs_nothing_from_elsewhere(browser, tmp_path, address):
    page = browser.new_page()
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    content = page.request.get(address).text()
    assert len(content.encode()) < 2_000_000
    assert page.request.get(address + "other").status == 404
    file = tmp_path / "one file.html"
    file.write_text(content, encoding="utf-8")
    page.context.set_offline(True)
    page.goto(file.as_uri())
    assert_formula(status(page))
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "blob:", "data:"))] == []
    refused = page.evaluate("fetch('https://example.org').catch(() => 'refused')")
    assert refused == "refused"
    eventually(page, lambda: said)  # a console's messages come later
    assert "Content Security Policy" in said[0]
    page.close()


def test_the_page_stores_what_the_readers_say(cards, address, browser):
    page = browser.new_page()
    content = page.request.get(address).text()
    page.close()
    stored = json.loads(STORED.search(content)[1])
    python = widgets.FusionPlayground()
    for level in (0, 7, 16):
        f, g = python.witnesses.read(0.05 * level, 0.05 * level)
        assert stored["f"][level] == pytest.approx(f.tolist(), abs=1e-5)
        assert stored["g"][level] == pytest.approx(g.tolist(), abs=1e-5)
    assert stored["m"] == pytest.approx(cards.mood.tolist(), abs=1e-6)
