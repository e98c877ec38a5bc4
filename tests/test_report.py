"""report.py: a page that runs nothing, and whose every number is recomputed here in plain code."""

import html
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from mbm_lab import datasets, report, tables, two_step
from mbm_lab.two_step import Analysis, Interval, Score
from tests.small_tables import write_table

EVIL = "<img src=x onerror=alert(1)>\"'&amp; $\\frac{ 猫 \x00"
SHOWN = EVIL.replace("\x00", "\ufffd")

TAGS = {
    "html": {"lang"}, "head": set(), "meta": {"charset", "name", "content", "http-equiv"},
    "title": set(), "style": set(), "body": set(), "main": set(), "header": set(), "footer": set(),
    "section": {"class"}, "h1": set(), "h2": set(), "h3": set(), "p": {"class"}, "b": set(),
    "i": set(), "bdi": {"lang"}, "br": set(), "span": {"class"}, "code": set(), "ul": set(),
    "ol": {"class"}, "li": set(), "dl": {"class"}, "dt": set(), "dd": set(),
    "div": {"class", "tabindex"}, "table": {"class"}, "thead": set(), "tbody": set(),
    "tr": {"class"}, "th": {"scope"}, "td": {"class", "data-of"}, "figure": set(),
    "figcaption": set(), "picture": set(), "source": {"srcset", "media"},
    "img": {"src", "alt"}, "audio": {"controls", "src", "aria-label"},
    "blockquote": {"dir", "lang"},
}  # fmt: skip
"""Everything that may stand in a page, with its attributes."""


class Page(HTMLParser):
    """A page as a browser reads it: refuses what may not stand there, and keeps the rest.

    texts: everything that is shown; cells: those of all tables, row by row; images: (src, alt).
    """

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.rows, self.images, self.headings = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], "every element ends"
        self.said = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        assert tag in TAGS, f"<{tag}> stands in the page"
        assert {name for name, _ in attributes} <= TAGS[tag], f"<{tag}> has {attributes}"
        found = dict(attributes)
        for name in ("src", "srcset"):
            if name in found:
                assert re.fullmatch(r"data:(image/png|image/jpeg|audio/ogg);base64,[\w+/=]+",
                                    found[name])  # fmt: skip
        if tag == "img":
            assert found["alt"].strip()
            self.images.append((found["src"], found["alt"]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")
        if tag not in report.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            return
        self.texts.append(data)
        if "h2" in self.open:
            self.headings.append(data)
        if self.open and "tr" in self.open and self.rows[-1]:
            self.rows[-1][-1] += data

    def handle_comment(self, data):
        raise AssertionError(f"a comment stands in the page: {data}")

    def handle_decl(self, data):
        assert data == "DOCTYPE html"

    handle_pi = unknown_decl = handle_comment

    def row(self, first):
        """The table row that begins so: the numbers of each of its other cells."""
        (found,) = [row for row in self.rows if row and row[0] == first]
        return [numbers(cell) for cell in found[1:]]


def numbers(text):
    return [float(n.replace(",", "").replace("−", "-")) for n in re.findall(r"[−\d][\d,.]*", text)]


def analysed(table, generator, **changes):
    """An analysis made by hand, whose numbers are drawn."""
    m, count = len(table.modalities), len(table.classes)
    shape = (len(table), count) if count else (len(table),)
    drawn = [torch.rand(shape, generator=generator) for _ in range(m + 1)]
    some = Interval(0.5, 0.25, 0.75)
    each = dict.fromkeys(table.modalities, some)
    scores = [Score(name, some, len(table)) for name in ("constant guess", "untrained sum", "v")]
    found = {
        "table": table, "readings": dict(zip(table.modalities, drawn, strict=False)),
        "v": drawn[m], "weights": each, "intercept": torch.zeros(()), "scores": scores,
        "metric": "accuracy" if count else "R²", "gains": each | {"constant guess": some},
        "shuffled": each, "contributions": each, "worst": [0, 1], "sentences": ["It helps."],
        "folds": torch.zeros(len(table)), "model": None,
    }  # fmt: skip
    return Analysis(**(found | changes))


@pytest.fixture
def quick_figures(monkeypatch):
    """Figures are drawn, and their texts kept, but no picture is made of them."""
    texts = []

    def png(figure, colours):
        found = figure.findobj(lambda part: hasattr(part, "get_text"))
        texts.extend(part.get_text() for part in found)
        return report._address(b"png", "image/png")

    monkeypatch.setattr(report, "_png", png)
    return texts


# --- Nothing of the learner's runs


def evil_table(tmp_path, classes):
    n, root = 12, datasets.POSTCARDS
    picture, voice, clip = (next(iter(sorted((root / part).iterdir())))
                            for part in ("images", "voices", "clips"))  # fmt: skip
    missing = Path(tmp_path) / EVIL.replace("/", "").replace("\x00", "")
    return tables.Table(
        folder=Path(EVIL.replace("\x00", "")), names=[EVIL] * n, lines=list(range(n)),
        images=[picture, missing] * 6, texts=[EVIL * 30, "مرحبا"] * 6, sounds=[voice, missing] * 6,
        clips=[clip, missing] * 6, numbers=torch.full((n, 9), float("nan")),
        number_names=[EVIL] * 9, target=torch.arange(n) % 3 if classes else torch.arange(n) * 1e5,
        target_name=EVIL, classes=[EVIL, EVIL + "2", "=1+1"] if classes else [],
        groups=[EVIL] * n, language=EVIL, notes=[EVIL, EVIL],
        columns={"image": EVIL, "text": EVIL, "sound": EVIL, "clip": EVIL, "numbers": [EVIL] * 9},
    )  # fmt: skip


@pytest.mark.parametrize("classes", [False, True])
def test_nothing_that_a_learner_wrote_is_markup(tmp_path, classes, quick_figures):
    found = analysed(evil_table(tmp_path, classes), torch.Generator(), sentences=[EVIL] * 3)
    page = Page(report.page(found, EVIL))
    count = "".join(page.texts).count(SHOWN)
    assert count > 40, "it is all there, as it was written"
    assert "\x00" not in report.page(found, EVIL)
    assert not any("onerror" in text for text in quick_figures), "and in no figure"
    assert sum(alt == "the picture of this row" for _, alt in page.images) == 1
    assert sum("clip" in alt for _, alt in page.images) == 3, "and files that are gone are not"


def test_many_classes_become_a_list_of_mistakes(tmp_path, quick_figures):
    n = 60
    names = [f"{EVIL}{i}" for i in range(20)]
    table = tables.Table(folder=tmp_path, names=["x"] * n, lines=[0] * n, texts=["a"] * n,
                         target=torch.arange(n) % 20, classes=names, target_name="t")  # fmt: skip
    v = torch.nn.functional.one_hot(torch.where(table.target == 7, 8, table.target), 20).float()
    page = Page(report.page(analysed(table, torch.Generator(), v=v)))
    assert f"{SHOWN}7 taken for {SHOWN}8 : 3 times".replace("  ", " ") in page.said
    assert page.said.count("taken for") == 2  # the heading says it, too
    assert "and 8 more" in page.said


@pytest.mark.parametrize("seed", range(20))
def test_any_text_at_all_is_shown_and_not_run(seed):
    draw = random.Random(seed)
    pieces = ["<", ">", "&", '"', "'", "/", "<!--", "-->", "]]>", "<script>", "</p>", "</bdi>",
              "&lt;", "\u202e", "\ud800", "\x07", "\x85", "猫", "a", " ", "\n", "`"]  # fmt: skip
    text = "".join(draw.choice(pieces) for _ in range(30))
    picture = report.tag("img", src="data:image/png;base64,AA", alt=text + "x")
    made = report.tag("p", report.own(text), picture)
    page = Page(made)
    shown = report._visible(text)
    assert "".join(page.texts) == shown
    assert page.images[0][1] == shown + "x"
    made.encode()  # is UTF-8


# --- What it says is so


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A table with pictures and texts, its analysis, and its page."""
    folder = tmp_path_factory.mktemp("told")
    write_table(folder, rows=90, seed=3)
    analysis = two_step.analyse(tables.load_table(folder, target="stars"))
    text = report.page(analysis)
    return analysis, Page(text), text


def test_every_number_of_the_page_follows_from_the_readings(told):
    analysis, page, _ = told
    m, v = analysis.table.target.double().numpy(), analysis.v.double().numpy()
    f, g = (analysis.readings[name].double().numpy() for name in ("image", "text"))
    n, draw = len(m), np.random.default_rng(5)

    def r2(answer, rows=slice(None)):
        truth = m[rows]
        return 1 - ((truth - answer[rows]) ** 2).sum() / ((truth - m.mean()) ** 2).sum()

    def weights(rows=slice(None)):
        columns = np.stack([f[rows], g[rows], np.ones(n)], 1)
        return np.linalg.lstsq(columns, m[rows], rcond=None)[0][:2]

    def is_said(said, value, drawn, digits=2, confidence=0.95):
        assert said[0] == pytest.approx(value, abs=0.51 * 10**-digits)
        for bound, share in zip(said[1:], (1 - confidence, 1 + confidence), strict=True):
            wanted = np.quantile(drawn, share / 2)
            assert bound == pytest.approx(wanted, abs=0.15 * np.ptp(drawn) + 0.51 * 10**-digits)

    again = [draw.integers(0, n, n) for _ in range(400)]
    mean = np.full(n, m.mean())
    answers = {"constant guess": mean, "picture alone": f, "text alone": g,
               "untrained sum": f + g - m.mean(), "v = αf + βg": v}  # fmt: skip
    for name, answer in answers.items():
        (said,) = page.row(name)
        is_said(said, r2(answer), [r2(answer, rows) for rows in again])
    for name in ("constant guess", "untrained sum"):
        said, _ = page.row(f"against the {name}")
        gains = [r2(v, rows) - r2(answers[name], rows) for rows in again]
        is_said(said, r2(v) - r2(answers[name]), gains, 3, 0.99)
    alpha, beta = weights()
    drawn = np.array([weights(rows) for rows in again])
    for place, (first, reading, weight) in enumerate(
        (("α, of f (picture)", f, alpha), ("β, of g (text)", g, beta))
    ):
        said, contribution, shuffled = page.row(first)
        is_said(said, weight, drawn[:, place])
        pairs = zip(drawn[:, place], again, strict=True)
        spreads = [abs(w) * reading[rows].std() for w, rows in pairs]
        is_said(contribution, weight * reading.std(), spreads)
        terms = {"f": alpha * f, "g": beta * g}
        rest = terms["g"] if place == 0 else terms["f"]
        lost = [r2(v) - r2(weight * draw.permutation(reading) + rest
                           + (m - alpha * f - beta * g).mean()) for _ in range(50)]  # fmt: skip
        assert shuffled[0] == pytest.approx(np.mean(lost), abs=0.1)
    spread = f"a number from {m.min():.1f} to {m.max():.1f}; mean {m.mean():.1f}, "
    assert f"{spread}standard deviation {m.std():.1f}" in page.said  # of which two digits count
    assert f"R² {r2(v):.2f}" in analysis.sentences[0]
    assert analysis.sentences[0] in page.said


def test_the_ten_worst_rows_are_those_that_v_misses_most(told):
    analysis, page, _ = told
    table = analysis.table
    miss = (analysis.v - table.target).abs()
    worst = miss.argsort(descending=True)[:10].tolist()
    found = re.findall(r"(\d{3}\.png) truth (\S+) , v (\S+) f \(picture\)  ?(\S+), ", page.said)
    assert [name for name, *_ in found] == [table.names[place] for place in worst]
    for place, (_, truth, v, f) in zip(worst, found, strict=True):
        assert numbers(truth)[0] == pytest.approx(float(table.target[place]), abs=0.051)
        assert numbers(v)[0] == pytest.approx(float(analysis.v[place]), abs=0.051)
        reading = float(analysis.readings["image"][place])
        assert numbers(f)[0] == pytest.approx(reading, abs=0.051)
        assert table.texts[place] in page.said
    assert sum(alt == "the picture of this row" for _, alt in page.images) == 10


def test_the_counts_of_classes_are_those_of_the_answers(tmp_path, quick_figures):
    generator = torch.Generator().manual_seed(2)
    n, names = 80, ["cat", "dog", "猫"]
    table = tables.Table(folder=tmp_path, names=["x"] * n, lines=[0] * n, texts=["a"] * n,
                         target=torch.randint(0, 3, (n,), generator=generator), classes=names,
                         target_name="animal")  # fmt: skip
    found = analysed(table, generator)
    page = Page(report.page(found))
    answers = found.v.argmax(1).tolist()
    pairs = list(zip(table.target.tolist(), answers, strict=True))
    for i, name in enumerate(names):
        assert page.row(name) == [[pairs.count((i, j))] for j in range(3)]
        assert f"{name} ({table.target.tolist().count(i)})" in page.said.replace(" (", " (")
    shown = found.worst[0]
    assert f"truth {names[table.target[shown]]} , v {names[answers[shown]]}" in page.said


def test_the_page_is_one_file_for_every_reader(told):
    _, page, text = told
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert "default-src 'none'" in html.unescape(text)
    assert 'content="width=device-width, initial-scale=1"' in text
    assert len(text) < 3_000_000
    assert len([alt for _, alt in page.images if len(alt) > 40]) == 3, "each figure in words"
    assert text.count("prefers-color-scheme: dark") == 4, "the style, and a dark twin of each"
    assert page.headings == ["The data", "Who answers how well?", "What does each modality add?",
                             "v in two pictures", "Where it goes wrong"]  # fmt: skip


def test_a_figure_shows_what_it_is_given():
    some = {"a$b": Interval(0.1, 0.0, 0.2), "v = αf": Interval(0.6, 0.5, 0.7)}
    axes = report.draw_scores(some, "R²", report.LIGHT).axes[0]
    drawn = [line.get_xdata().tolist() for line in axes.lines]
    assert [values for values in drawn if len(values) == 2] == [[0.0, 0.2], [0.5, 0.7]]
    assert axes.lines[-1].get_color() == report.LIGHT["v"] != axes.lines[0].get_color()
    assert [label.get_text() for label in axes.get_yticklabels()] == [r"a\$b", "v = αf"]
    v, m = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])
    axes = report.draw_answers(v, m, report.DARK).axes[0]
    assert axes.lines[1].get_xydata().tolist() == [[3, 1], [5, 2]]
    assert axes.get_xlim() == axes.get_ylim()
    f, g, noise = torch.randn(3, 200, generator=torch.Generator().manual_seed(0)).double()
    best = Interval(0.8, 0.7, 0.9), Interval(-1.5, -2.0, -1.0)
    m = 0.8 * f - 1.5 * g + 0.1 * noise
    axes = report.draw_valley(f, g, m, best, ("picture", "text"), report.LIGHT).axes[0]
    assert axes.get_ylim()[0] < -2.0
    contour = max(axes.collections, key=lambda one: len(getattr(one, "levels", [])))
    top = contour.get_paths()[-1].vertices.mean(0)
    assert top == pytest.approx([0.8, -1.5], abs=0.1), "the hill's top is where α and β are best"


def test_numbers_are_written_as_people_write_them():
    assert [report.number(x, d) for x, d in
            ((1234.5, 1), (-0.314, 2), (-0.001, 2), (float("nan"), 2), (7, 0))] == [
        "1,234.5", "−0.31", "0.00", "–", "7"]  # fmt: skip
    for spread, digits in ((0.0, 2), (0.3, 2), (12.0, 0), (5.0, 1), (40_000.0, 0), (0.004, 4)):
        assert report.digits_for(torch.tensor([0.0, 2 * spread])) == digits
