"""What an honest analyst says of a table of one's own, as one HTML page (lesson 12).

`page` writes it out of an `Analysis`; `write` puts page, model and predictions into a folder.
Whatever comes from the learner (captions, names of files and columns, classes) reaches the page
through `tag`, which escapes it: it shows as it was written, and never runs.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mbm_lab import __version__, fusion, plots, preprocessing
from mbm_lab.tables import Table
from mbm_lab.two_step import Analysis, Interval

LETTERS = "fghkl"
"""What the reading of the first modality is called, of the second, and so on."""
GREEK = "αβγδε"
"""And their weights."""
WORDS = {"image": "picture", "text": "text", "sound": "sound", "clip": "clip", "numbers": "numbers"}
"""What a modality is called in a sentence."""
LONGEST_TEXT, LONGEST_SOUND = 400, 10
"""So many letters of a row's text are shown, and so many seconds of its sound."""
MOST_CLASSES = 12
"""Up to so many classes, the page shows which is taken for which as a table of counts."""


# --- HTML in which nothing of the learner's is markup


class Markup(str):
    """HTML that `tag` made. Any other string is text, and is escaped."""


def tag(element: str, *inside: str, **attributes: str | int | None) -> Markup:
    """An HTML element around texts, which are escaped, and other elements.

    attributes: escaped, too; `class_` stands for class, and one that is None is left out.
    """
    words = [element]
    for key, value in attributes.items():
        if value is not None:
            key = key.rstrip("_").replace("_", "-")
            words.append(f'{key}="{html.escape(_visible(str(value)))}"')
    opening = f"<{' '.join(words)}>"
    return Markup(opening if element in VOID else f"{opening}{join(*inside)}</{element}>")


VOID = ("img", "meta", "source", "br")
"""Elements that hold nothing, and have no end."""


def join(*parts: str) -> Markup:
    """Texts, which are escaped, and elements, one behind the other."""
    return Markup(
        "".join(
            p if isinstance(p, Markup) else html.escape(_visible(p), quote=False) for p in parts
        )
    )


def _visible(text: str) -> str:
    """A text without what HTML may not hold: control characters and halves of characters."""
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def own(text: str, language: str | None = None) -> Markup:
    """A word of the learner's in a sentence: its direction, as that of Arabic, stays its own."""
    return tag("bdi", text, lang=language)


# --- Numbers in words


def number(value: float, digits: int = 2) -> str:
    """A number as one writes it: 1,234.50, −0.31; "–" for none."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{digits}f}"
    return text.lstrip("-") if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def with_interval(interval: Interval, digits: int = 2) -> Markup:
    """A number and the interval around it: 0.62 (0.55 to 0.69)."""
    low, high = (number(one, digits) for one in (interval.low, interval.high))
    return join(
        number(interval.value, digits), " ", tag("span", f"({low} to {high})", class_="range")
    )


def digits_for(values: Tensor) -> int:
    """How many digits after the point tell these numbers apart: two of their standard deviation."""
    spread = values.double().std(correction=0).item() if len(values) else 0.0
    return min(8, max(0, 1 - math.floor(math.log10(spread)))) if spread > 0 else 2


# --- The page


def page(analysis: Analysis, command: str = "") -> str:
    """The report as one HTML file that needs nothing else: figures and pictures are inside.

    command: what the reader types to get answers for new rows; left out when empty.
    """
    table = analysis.table
    title = join("What do ", _listed(table), " tell about ", own(table.target_name), "?")
    sections = [
        tag("header", tag("p", "A report by MBM Lab, lesson 12"), tag("h1", title)),
        _verdict(analysis),
        _data(table),
        _scores(analysis),
        _weights(analysis),
        _answers(analysis),
        _worst_rows(analysis),
        _method(analysis, command),
    ]
    head = [
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing on this page runs or loads anything, whatever stands in it.
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name="generator", content=f"MBM Lab {__version__}"),
        tag("title", f"What tells about {table.target_name}?"),
        Markup(f"<style>{STYLE.read_text(encoding='utf-8')}</style>"),
    ]
    body = tag("body", tag("main", *sections))
    return f"<!DOCTYPE html>\n{tag('html', tag('head', *head), body, lang='en')}\n"


STYLE = Path(__file__).with_name("report.css")
POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"


def _section(heading: str, *inside: str) -> Markup:
    return tag("section", tag("h2", heading), *inside)


def _verdict(analysis: Analysis) -> Markup:
    return tag("section", *(tag("p", one) for one in analysis.sentences), class_="verdict")


def _listed(table: Table) -> str:
    """The modalities in words: "picture and text"."""
    words = [WORDS[name] for name in table.modalities]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _data(table: Table) -> Markup:
    """What was read, and what was left out."""
    facts = [
        ("Rows", number(len(table), 0)),
        ("Each has", _columns(table)),
        ("Wanted", join(own(table.target_name), ", ", _spread(table))),
    ]
    if table.groups is not None:
        count = number(len(set(table.groups)), 0)
        facts.append(("Groups", f"{count}, and none is on both sides of a split"))
    if table.texts is not None and table.language == "zh":
        facts.append(("Texts", "in Chinese, cut into words by jieba"))
    inside = [tag("dl", *(_fact(*fact) for fact in facts), class_="facts")]
    if table.notes:
        notes = tag("ul", *(tag("li", note) for note in table.notes))
        inside += [tag("h3", "What was noticed while it was read"), notes]
    return _section("The data", *inside)


def _fact(name: str, value: str) -> Markup:
    return join(tag("dt", name), tag("dd", value))


def _columns(table: Table) -> Markup:
    """The modalities, each with its letter and the column that it comes from."""
    said = []
    for letter, name in zip(LETTERS, table.modalities, strict=False):
        column = table.columns.get(name)
        columns = [column] if isinstance(column, str) else column or []
        where = _with_commas([own(one) for one in columns])
        of = join(" (", where, ")") if columns else ""
        said.append(join(WORDS[name], of, ", read by ", tag("i", letter)))
    return _with_commas(said, "; ")


def _with_commas(parts: Sequence[Markup], comma: str = ", ") -> Markup:
    return Markup(html.escape(comma, quote=False).join(join(part) for part in parts))


def _spread(table: Table) -> Markup:
    """What values the target takes."""
    if not table.classes:
        m, digits = table.target.double(), digits_for(table.target)
        values = [m.min(), m.max(), m.mean(), m.std(correction=0)]
        low, high, mean, sd = (number(float(one), digits) for one in values)
        return join(f"a number from {low} to {high}; mean {mean}, standard deviation {sd}")
    counts = torch.bincount(table.target, minlength=len(table.classes)).tolist()
    often = sorted(range(len(counts)), key=lambda one: -counts[one])
    shown = [
        join(own(table.classes[i]), f" ({number(counts[i], 0)})") for i in often[:MOST_CLASSES]
    ]
    more = f" and {len(often) - len(shown)} more" if len(often) > len(shown) else ""
    return join(f"one of {len(counts)} classes: ", _with_commas(shown), more)


# --- What was found


def _scores(analysis: Analysis) -> Markup:
    """Every way to answer, with its score: a figure and a table."""
    scores = analysis.scores
    names = [_formula(analysis.table) if one.name == "v" else one.name for one in scores]
    marked = [one.name for one in scores].index("v")
    rows = []
    for place, (name, score) in enumerate(zip(names, scores, strict=True)):
        few = score.rows < len(analysis.table)
        on = tag("span", f" on {number(score.rows, 0)} rows", class_="soft") if few else ""
        cells = tag("th", name, on, scope="row"), tag("td", with_interval(score.value))
        rows.append(tag("tr", *cells, class_="v" if place == marked else None))
    alt = f"{analysis.metric} with intervals: " + "; ".join(
        f"{name} {number(one.value.value)}" for name, one in zip(names, scores, strict=True)
    )
    drawn = {name: one.value for name, one in zip(names, scores, strict=True)}
    label = f"{analysis.metric} on unseen rows"
    caption = (
        "Dots are scores, lines their 95 % intervals. The intervals of two that answer the same "
        "rows may overlap although one is surely better: the differences below say that."
    )
    heads = _heads(["answered by", analysis.metric])
    picture = figure(lambda colours: draw_scores(drawn, label, colours), alt, caption)
    both = tag("div", picture, _table(heads, rows), class_="figures")
    text = tag("p", EXPLAIN_METRIC[analysis.metric])
    return _section("Who answers how well?", text, both, _gains(analysis))


def _formula(table: Table) -> str:
    """v = αf + βg, with as many letters as the table has modalities."""
    letters = zip(GREEK, LETTERS, table.modalities, strict=False)
    return "v = " + " + ".join(f"{greek}{letter}" for greek, letter, _ in letters)


def _gains(analysis: Analysis) -> Markup:
    """By how much v is better than its rivals."""
    rows = []
    heads = ("v …", f"gain in {analysis.metric} (99 % interval)", "better?")
    for rival, gain in analysis.gains.items():
        other = f"v without the {WORDS[rival]}" if rival in WORDS else f"the {rival}"
        name = f"against {other.replace('the network:', 'the best network,')}"
        surely = "yes" if gain.low > 0 else "no, worse" if gain.high < 0 else "not shown"
        rows.append(_stacked_row(name, [with_interval(gain, 3), surely], heads))
    return _table(_heads(heads), rows, class_="stacked")


def _heads(names: Sequence[str]) -> Markup:
    return tag("tr", *(tag("th", name, scope="col") for name in names))


def _stacked_row(name: str, cells: Sequence[str], heads: Sequence[str]) -> Markup:
    """A row of a table whose cells stand one below the other on narrow pages, each with its
    head."""
    made = [tag("td", cell, data_of=head) for cell, head in zip(cells, heads[1:], strict=True)]
    return tag("tr", tag("th", name, scope="row"), *made)


EXPLAIN_METRIC = {
    "R²": "R² is the share of the target's variance that the answers explain: 1 is perfect, 0 is "
    "as good as always answering the mean, and below 0 is worse than that. Every answer was given "
    "to a row that its reading had not learned from.",
    "accuracy": "The score is the share of right answers, each given to a row that its reading had "
    "not learned from. The constant guess always answers the most frequent class.",
}


def _table(head: Markup, rows: Sequence[Markup], **attributes: str) -> Markup:
    inside = tag("table", tag("thead", head), tag("tbody", *rows), **attributes)
    return tag("div", inside, class_="table", tabindex="0")  # so that keys can scroll it


def _weights(analysis: Analysis) -> Markup:
    """α, β and so on; what each modality contributes, and what shuffling it costs."""
    names = analysis.table.modalities
    heads = ("reading", "weight", "contribution", f"{analysis.metric} lost when shuffled")
    rows = []
    for letter, greek, name in zip(LETTERS, GREEK, names, strict=False):
        values = analysis.weights[name], analysis.contributions[name], analysis.shuffled[name]
        cells = [with_interval(one) for one in values]
        rows.append(_stacked_row(f"{greek}, of {letter} ({WORDS[name]})", cells, heads))
    table = _table(_heads(heads), rows, class_="stacked")
    text = (
        f"{_formula(analysis.table)} adds the readings, each with its weight. A contribution is "
        "the standard deviation of that term: how much of v's ups and downs comes from it. "
        "Shuffling gives every row another row's reading: if that costs nothing, v does not need "
        "it. Where an interval holds 0, the table does not show that the modality helps."
    )
    return _section("What does each modality add?", tag("p", text), table)


def _valley(analysis: Analysis) -> Markup:
    f, g = (analysis.readings[name].double() for name in analysis.table.modalities)
    m = analysis.table.target.double()
    best = tuple(analysis.weights[name] for name in analysis.table.modalities)
    labels = tuple(WORDS[name] for name in analysis.table.modalities)
    alt = (
        f"A hill of R² over α and β, with its top at α = {number(best[0].value)}, "
        f"β = {number(best[1].value)}, and the intervals of both as a cross."
    )
    caption = "Each line joins pairs (α, β) of one R², as a map joins places of one height. The "
    caption += "cross shows the intervals of α and β."
    return figure(lambda colours: draw_valley(f, g, m, best, labels, colours), alt, caption)


def _answers(analysis: Analysis) -> Markup:
    """v against the truth, or which class is taken for which."""
    table = analysis.table
    if table.classes:
        return _section("Which class is taken for which?", _confusions(table, analysis.v.argmax(1)))
    if len(table.modalities) != 2:
        return _section("v against the truth", _against_truth(analysis))
    both = tag("div", _valley(analysis), _against_truth(analysis), class_="figures")
    return _section("v in two pictures", both)


def _against_truth(analysis: Analysis) -> Markup:
    m, v = analysis.table.target.double(), analysis.v.double()
    alt = (
        f"{number(len(m), 0)} points, one a row: v over the truth. Their correlation is "
        f"{number(float(np.corrcoef(m, v)[0, 1]))}."
    )
    caption = (
        "One point a row. On the dashed line v is right. A cloud that is flatter than the line is "
        "honest: where v knows little, it stays near the mean."
    )
    return figure(lambda colours: draw_answers(v, m, colours), alt, caption)


def _confusions(table: Table, answers: Tensor) -> Markup:
    """A table of counts, or of many classes the most frequent mistakes."""
    count = len(table.classes)
    counts = torch.bincount(table.target * count + answers, minlength=count**2).view(count, count)
    if count > MOST_CLASSES:
        return _frequent_mistakes(table, counts)
    head = tag("tr", tag("th", "truth ↓, answer →", scope="col"),
               *(tag("th", own(one), scope="col") for one in table.classes))  # fmt: skip
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    rows = []
    for i, name in enumerate(table.classes):
        cells = []
        for j in range(count):
            shade = min(4, math.ceil(4 * shares[i, j].item()))
            kind = " ".join([f"s{shade}"] * (shade > 0) + ["right"] * (i == j))
            cells.append(tag("td", number(counts[i, j].item(), 0), class_=kind or None))
        rows.append(tag("tr", tag("th", own(name), scope="row"), *cells))
    note = tag("p", "Each line is one true class; the framed counts are the right answers.")
    return join(note, _table(head, rows, class_="counts"))


def _frequent_mistakes(table: Table, counts: Tensor) -> Markup:
    count = len(table.classes)
    wrong = counts.clone().fill_diagonal_(0)
    often = [p for p in wrong.flatten().argsort(descending=True, stable=True).tolist()[:10]
             if wrong.flatten()[p]]  # fmt: skip
    said = [join(own(table.classes[p // count]), " taken for ", own(table.classes[p % count]),
                 f": {number(wrong.flatten()[p].item(), 0)} times") for p in often]  # fmt: skip
    return join(tag("p", "The most frequent mistakes:"), tag("ul", *(tag("li", s) for s in said)))


# --- The worst rows


def _worst_rows(analysis: Analysis) -> Markup:
    """The rows in which v is most wrong, as they are."""
    rows = tag("ol", *(_row(analysis, place) for place in analysis.worst), class_="rows")
    text = (
        f"The {len(analysis.worst)} rows in which v is most wrong. Look at them: is the table "
        "wrong, is the row unlike all others, or does it hold what these readings cannot see?"
    )
    return _section("Where it goes wrong", tag("p", text), rows)


def _row(analysis: Analysis, place: int) -> Markup:
    table = analysis.table
    said = [tag("h3", own(table.names[place])), _said_of(analysis, place)]
    if table.numbers is not None:
        said.append(_numbers_of(table, place))
    if table.sounds is not None:
        said.append(_sound_of(table.sounds[place]))
    if table.texts is not None:
        said.append(_text_of(table.texts[place], table.language))
    seen = _seen_of(table, place)
    return tag("li", *seen, tag("div", *said, class_="said"))


def _said_of(analysis: Analysis, place: int) -> Markup:
    """The truth, v, and what each reading says alone."""
    table = analysis.table
    if table.classes:

        def word(values: Tensor) -> Markup:
            return own(table.classes[int(values[place].argmax())])

        truth = own(table.classes[int(table.target[place])])
    else:
        digits = digits_for(table.target)

        def word(values: Tensor) -> Markup:
            return join(number(float(values[place]), digits))

        truth = join(number(float(table.target[place]), digits))
    readings = [
        join(tag("i", letter), " (", WORDS[name], ") ", word(analysis.readings[name]))
        for letter, name in zip(LETTERS, table.modalities, strict=False)
    ]
    first = join("truth ", tag("b", truth), ", v ", tag("b", word(analysis.v)))
    return tag("p", first, tag("br"), tag("span", _with_commas(readings), class_="soft"),
               class_="numbers")  # fmt: skip


def _numbers_of(table: Table, place: int) -> Markup:
    pairs = zip(table.number_names, table.numbers[place].tolist(), strict=True)
    said = [join(own(name), " ", f"{value:.4g}") for name, value in list(pairs)[:8]]
    more = f" and {len(table.number_names) - 8} more" if len(table.number_names) > 8 else ""
    return tag("p", _with_commas(said), more, class_="soft")


def _text_of(text: str, language: str | None) -> Markup:
    short = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT].rstrip()} …"
    return tag("blockquote", short, dir="auto", lang=language)


def _seen_of(table: Table, place: int) -> list[Markup]:
    """The row's picture, and three frames of its clip; a file that is gone by now is said."""
    shown = []
    with contextlib.suppress(ValueError, OSError):
        if table.images is not None:
            picture = _small(preprocessing.read_image(table.images[place]))
            shown.append(tag("div", _picture(picture, "the picture of this row"), class_="seen"))
        if table.clips is not None:
            clip = (preprocessing.read_clip(table.clips[place]) * 255).round().byte()
            places = np.linspace(0, len(clip) - 1, 3).round().astype(int).tolist()
            frames = [
                _picture(_small(clip[at]), f"frame {at + 1} of this row's clip") for at in places
            ]
            shown.append(tag("div", *frames, class_="seen film"))
    return shown


def _small(image: Tensor) -> Image.Image:
    """A picture (3, H, W) uint8, small enough for the page."""
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    picture.thumbnail((224, 224))
    return picture


def _picture(picture: Image.Image, alt: str) -> Markup:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return tag("img", src=_address(buffer.getvalue(), "image/jpeg"), alt=alt)


def _sound_of(path: Path) -> Markup:
    """A player for the first seconds of a row's sound."""
    try:
        sound = preprocessing.read_audio(path)[: LONGEST_SOUND * preprocessing.SAMPLE_RATE]
    except (ValueError, OSError):
        return Markup("")
    buffer = io.BytesIO()
    soundfile.write(buffer, sound.numpy(), preprocessing.SAMPLE_RATE, format="OGG", subtype="OPUS")
    source = _address(buffer.getvalue(), "audio/ogg")
    return tag("audio", controls="", src=source, aria_label="the sound of this row")


# --- How it was done


def _method(analysis: Analysis, command: str) -> Markup:
    rows = number(len(analysis.table), 0)
    how = "maximum likelihood" if analysis.table.classes else "least squares"
    steps = [
        "Each modality is turned into numbers, and a reading is learned from these alone. Every "
        "row is read by a reading that has not learned from it (out of fold), so that no reading "
        "recites.",
        f"The weights are found on these readings by {how}. The intervals say where a value "
        f"would be in 95 of 100 tables like this one: they were found by drawing the {rows} rows "
        "anew, with repetition (bootstrap; Efron, 1979).",
        "“Untrained sum” adds the readings as they are, with no weights. Fusion is worth its "
        "trouble where v is better than that, better than the best reading alone, and worse when "
        "shuffled.",
    ]
    said = [tag("p", step) for step in steps]
    if command:
        said.append(tag("p", "Answers for new rows: ", tag("code", command)))
    return tag("footer", *said, tag("p", f"MBM Lab {__version__}. This page is one file, and loads "
                                    "nothing from anywhere."))  # fmt: skip


# --- Figures: without any word of the learner's, since fonts differ

LIGHT = {"ink": "#1c1b1a", "soft": "#6b6762", "v": "#a8437b", "f": plots.PICTURE, "g": "#b34700"}
DARK = {"ink": "#eceae8", "soft": "#aaa5a0", "v": "#e6a4cb", "f": "#56b4e9", "g": "#ff9d5c"}


def figure(draw: Callable[[dict], Figure], alt: str, caption: str = "") -> Markup:
    """A figure of the page, twice: in black on light pages and on paper, in white on dark ones.

    draw(colours): returns the finished figure; colours has ink, soft, v, f and g. alt: what one
    sees, for those who cannot see it.
    """
    light, dark = (_png(draw(colours), colours) for colours in (LIGHT, DARK))
    picture = tag(
        "picture",
        tag("source", srcset=dark, media="screen and (prefers-color-scheme: dark)"),
        tag("img", src=light, alt=alt),
    )
    return tag("figure", picture, tag("figcaption", caption))


def _png(figure: Figure, colours: dict[str, str]) -> str:
    """A figure with a clear background, as the address of a picture."""
    for axes in figure.axes:
        axes.patch.set_alpha(0)
        axes.tick_params(colors=colours["ink"], which="both")
        for part in (axes.xaxis.label, axes.yaxis.label, axes.title):
            part.set_color(colours["ink"])
        for spine in axes.spines.values():
            spine.set_color(colours["soft"])
        if axes.get_legend() is not None:
            plt.setp(axes.get_legend().get_texts(), color=colours["ink"])
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, transparent=True)
    return _address(buffer.getvalue(), "image/png")


def _address(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def draw_scores(scores: dict[str, Interval], xlabel: str, colours: dict[str, str]) -> Figure:
    """Scores with their intervals, one below the other; v, or v = …, in its own colour."""
    figure = Figure(figsize=(5.0, 1.0 + 0.36 * len(scores)))
    axes = figure.subplots()
    for row, (name, interval) in enumerate(scores.items()):
        colour = colours["v"] if name.split()[0] == "v" else colours["soft"]
        axes.plot([interval.low, interval.high], [row, row], color=colour, solid_capstyle="round")
        axes.plot(interval.value, row, "o", color=colour, markersize=8)
    axes.set_yticks(range(len(scores)), [plots.plain(name) for name in scores])
    axes.set(xlabel=plots.plain(xlabel), ylim=(len(scores) - 0.4, -0.6))
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def draw_answers(v: Tensor, m: Tensor, colours: dict) -> Figure:
    """v against the truth m, one point a row; on the dashed line v is right."""
    figure = Figure(figsize=(4.8, 4.4))
    axes = figure.subplots()
    low, high = (float(f(torch.cat([v, m]))) for f in (torch.min, torch.max))
    margin = 0.04 * (high - low or 1)
    ends = [low - margin, high + margin]
    axes.plot(ends, ends, "--", color=colours["soft"], linewidth=1.5)
    shade = min(0.8, max(0.08, 60 / math.sqrt(len(m)) / 4))
    axes.plot(m, v, "o", color=colours["v"], markersize=5, alpha=shade, markeredgewidth=0)
    axes.set(xlabel="truth", ylabel="v", xlim=ends, ylim=ends, aspect="equal")
    return figure


def draw_valley(
    f: Tensor, g: Tensor, m: Tensor, best: tuple, labels: tuple, colours: dict
) -> Figure:
    """R² of v = αf + βg + intercept over α and β; best: the intervals of α and of β."""
    figure = Figure(figsize=(4.8, 4.4))
    axes = figure.subplots()
    alphas, betas = (_around(one) for one in best)
    r2 = 1 - fusion.error_surface(f, g, m, alphas, betas) / m.var(correction=0)
    top = r2.max().item()
    levels = [top - drop for drop in (0.6, 0.4, 0.25, 0.15, 0.08, 0.04, 0.02, 0.005)]
    levels = [round(level, 3) for level in levels if level > r2.min()]
    lines = axes.contour(alphas, betas, r2, levels=levels, colors=colours["soft"], linewidths=1.2)
    texts = axes.clabel(lines, fmt=lambda level: f"{level:.2f}", fontsize=9)
    plt.setp(texts, color=colours["ink"])
    alpha, beta = best
    axes.plot([alpha.low, alpha.high], [beta.value] * 2, color=colours["v"])
    axes.plot([alpha.value] * 2, [beta.low, beta.high], color=colours["v"])
    axes.plot(alpha.value, beta.value, "o", color=colours["v"], markersize=9, label="learned")
    axes.plot(1, 1, "s", color=colours["ink"], markersize=8, label="α = β = 1, untrained")
    axes.plot(1, 0, "^", color=colours["f"], markersize=9, label="f alone")
    axes.plot(0, 1, "v", color=colours["g"], markersize=9, label="g alone")
    axes.set(xlabel=f"α, weight of f ({labels[0]})", ylabel=f"β, weight of g ({labels[1]})")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.2), ncol=2)
    return figure


def _around(weight: Interval) -> Tensor:
    """Values of a weight for a picture that shows 0, 1 and the whole interval."""
    low, high = min(0.0, weight.low), max(1.0, weight.high)
    margin = 0.12 * (high - low)
    return torch.linspace(low - margin, high + margin, 81, dtype=torch.float64)
