"""The slides of a lesson: one page for reveal.js, made of the cells that are marked as slides.

A mark stands in a cell's metadata, under `slideshow` (CONTRIBUTING.md says how to write one). The
sizes of letters and the place of each figure are chosen here, so that a slide is as large as it can
be and nothing is cut off; the browser test measures what came of it.
"""

from __future__ import annotations

import html
import re
import shutil
import string
import unicodedata
from dataclasses import dataclass, field
from importlib.resources import files
from math import ceil
from pathlib import Path

from nbformat import NotebookNode

from mbm_lab import lessons, plots
from workshop import equations, rendering
from workshop.rendering import Shown

WIDTH, HEIGHT = 1280, 720
"""The size of a slide in pixels. What a projector shows is this, made larger."""
SIDE, ABOVE, BELOW, TITLE = 36, 24, 40, 76
"""What is left free at the sides, above and below (where the number stands); a title's height."""
GAP = 20
"""Between two parts of a slide."""
TEXTS, AIRY = (30, 34, 38, 42, 48, 54), 0.65
"""Letters of text in pixels: the larger ones where they fill no more than this share of a slide."""
LEAST_PRINTED, LEAST_CODE, MOST, MOST_BESIDE = 18, 20, 48, 30
"""Letters in pixels: the smallest of what is printed, and of code; the largest of both, alone and
with a figure."""
EQUATION = 1.5
"""The letters of an equation of its own line, where there is room, as a share of the text's."""

LEAST_FIGURE = 120
"""The height of a figure in pixels, at least."""

LETTER = 0.605
"""The width of a letter of code, as a share of its height."""
LINE = 1.3
"""The height of a line of code, as a share of a letter's."""

PREDICTION = re.compile(r"\*\*Before you run\b[^*]*:\*\*.*?(?=\n\s*\n|\Z)", re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.*)\n*", re.MULTILINE)

HERE = Path(__file__).parent


@dataclass
class Part:
    """A part of a slide. step: the key press at which it appears, 0 for what is there at once."""

    shown: Shown
    step: int = 0


@dataclass
class Slide:
    """One idea. notes: what the speaker sees, as markdown."""

    title: str
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_first: bool = False


# What is on which slide


def slides(notebook: NotebookNode) -> list[Slide]:
    """The slides of a lesson, the title first.

    A note is for the next slide, those after the last slide for the last. Raises ValueError when a
    mark cannot be followed.
    """
    found = [_first_slide(notebook)]
    notes: list[str] = []
    for place, cell in enumerate(notebook.cells[1:]):
        mark = cell.metadata.get("slideshow") or {}
        if lessons.is_note(cell):  # the very first is about the whole lesson
            (notes if place else found[0].notes).append(cell.source)
            continue
        kind = mark.get("slide_type", "skip")
        if kind == "slide":
            found.append(Slide(_title(cell, mark), notes=notes))
            notes, step = [], 0
        elif kind == "fragment" and not found[1:]:
            raise ValueError(
                f"A fragment continues a slide, and there is none yet: mark the cell {cell.id} as "
                f"a slide.\n{cell.source}"
            )
        elif kind == "fragment":
            step += 1
        if kind in ("slide", "fragment"):
            found[-1].parts += [Part(one, step) for one in _parts(cell, mark)]
    found[-1].notes += notes
    return found


def _first_slide(notebook: NotebookNode) -> Slide:
    """Title, promise and time, as the lesson's first cell states them."""
    source = notebook.cells[0].source
    promise = re.search(r"^> (.*(?:\n> .*)*)", source, re.MULTILINE)
    minutes, _ = lessons.times(notebook) or (0, 0)
    exercises = lessons.exercise_minutes(notebook)
    time = f"{minutes} minutes to read" + (f" · {exercises} minutes of exercises" * bool(exercises))
    said = promise[1].replace("\n> ", " ") if promise else ""
    text = f"{rendering.markdown(said)}<p class='time'>{time}</p>"
    return Slide(lessons.title(notebook), [Part(Shown("text", text))], is_first=True)


def _title(cell: NotebookNode, mark: dict) -> str:
    """A slide's title: as its mark says, or the cell's own first heading."""
    if mark.get("title"):
        return mark["title"]
    if cell.cell_type == "markdown":
        if not mark.get("text") and PREDICTION.search(cell.source):
            return "Predict"
        if heading := HEADING.search(cell.source):
            return heading[1]
    raise ValueError(
        f"A slide needs a title, and the mark of the cell {cell.id} has none: add one.\n"
        f"{cell.source}"
    )


def _parts(cell: NotebookNode, mark: dict) -> list[Shown]:
    """What a marked cell brings to its slide."""
    texts = [Shown("text", rendering.markdown(mark["text"]))] if mark.get("text") else []
    if cell.cell_type == "markdown":
        if texts:
            return texts
        source = cell.source
        if prediction := PREDICTION.search(source):
            source = prediction[0]
        else:
            source = HEADING.sub("", source, count=1)
        return [Shown("text", rendering.markdown(source, cell.get("attachments")))]
    show = mark.get("show", "outputs")
    if show in ("code", "both"):
        texts.append(Shown("code", text=cell.source.strip()))
    if show in ("outputs", "both"):
        outputs = rendering.outputs(cell)
        texts += outputs
        if any(one.is_widget for one in outputs):
            texts.append(Shown("text", f"<p class='still'>{rendering.STILL}</p>"))
        if rendering.is_private(cell):
            texts.append(Shown("text", f"<p class='still'>{rendering.PRIVATE}</p>"))
    return texts


# How large, and where


def columns(line: str) -> int:
    """How many letters wide a line of code is; a Chinese character is as wide as two."""
    return sum(2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in line)


def code_lines(text: str, size: float, width: float) -> tuple[int, int]:
    """The lines that code or printed text takes in letters of this size, and how many of them
    are there because a line was too long."""
    fit = max(1, int((width - 26) / (LETTER * size)))
    lines = text.rstrip("\n").split("\n")
    broken = sum(max(1, ceil(columns(line) / fit)) for line in lines)
    return broken, broken - len(lines)


def text_height(element: str, size: float, width: float) -> float:
    """About the height of text, in letters of this size."""
    height = 0.0
    for block in re.split(r"</(?:p|li|tr|h\d|div)>|<br ?/?>", element):
        if "<td" in block or "<th" in block:
            cells = [columns(html.unescape(cell)) for cell in re.findall(r"<t[dh]>(.*?)</t", block)]
            height += ceil((sum(cells) * 0.56 * size + 40 * len(cells)) / width) * 1.35 * size + 13
        elif 'display="block"' in block:
            height += (5.4 if "<mtable" in block else 3.4) * size
        else:
            words = html.unescape(re.sub(r"<[^>]*>", "", block)).strip()
            if words:
                height += ceil(columns(words) * 0.53 * size / width) * 1.35 * size + 14
    return height


@dataclass
class Layout:
    """Where the parts of a slide stand, and how large its letters are.

    text, code: the letters of text, and of what is printed; left: how wide the rest stands at the
    left of the figures, 0 where it stands above them; area: of the figures; needs: the height of
    the rest; broken: the lines that are too long; fits: whether nothing is cut off.
    """

    text: int
    code: int
    left: int
    needs: float
    broken: int
    fits: bool
    area: float = 0.0


def layout(slide: Slide) -> Layout:
    """The layout with the largest figures; without a figure, the one with the largest letters."""
    shown = [part.shown for part in slide.parts]
    wide = sum(one.size[0] / one.size[1] for one in shown if one.kind == "figure")
    others = [one for one in shown if one.kind != "figure"]
    height = HEIGHT - ABOVE - BELOW - TITLE * (1 if len(slide.title) < 52 else 1.6)
    if slide.is_first:
        return _set(others, TEXTS[0], MOST, 0, height)
    if not wide:
        options = [
            _set(others, text, code, 0, height * (1 if text == TEXTS[0] else AIRY))
            for text in (TEXTS if any(one.kind == "text" for one in others) else TEXTS[:1])
            for code in range(LEAST_PRINTED, MOST + 1)
        ]
        fitting = [one for one in options if one.fits] or options[:1]
        return max(
            fitting,
            key=lambda one: (-one.broken, min(one.text, one.code), one.text + one.code),
        )
    options = []
    for code in range(LEAST_PRINTED, MOST_BESIDE + 1):
        for left in (0, *range(380, 800, 20)) if others else (0,):
            option = _set(others, TEXTS[0], code, left, height)
            room = (WIDTH - 2 * SIDE, height - option.needs - GAP * bool(others))
            if left:
                room = (room[0] - left - 1.5 * GAP, height)
            scale = max(0, min(room[0] / wide, room[1]))
            option.area = wide * scale * scale
            option.fits = option.fits and scale > LEAST_FIGURE
            options.append(option)
    fitting = [one for one in options if one.fits] or options[:1]
    best = max(one.area for one in fitting)
    good = [one for one in fitting if one.area >= 0.93 * best]
    return max(good, key=lambda one: (-one.broken, one.code, one.area))


def _set(others: list[Shown], text: int, code: int, left: int, height: float) -> Layout:
    """Text, code and prints below each other, in letters of these sizes."""
    needs, broken, width = GAP * max(0.0, len(others) - 1), 0, left or WIDTH - 2 * SIDE
    for one in others:
        if one.kind in ("printed", "code"):
            size = _letters(one, code)
            lines, more = code_lines(one.text, size, width)
            needs, broken = needs + lines * size * LINE + 20, broken + more
        else:
            needs += text_height(one.html, text, width) if one.kind == "text" else 64
    return Layout(text, code, left, needs, broken, needs <= height)


def _letters(one: Shown, size: int) -> int:
    """The size of the letters of a part, where printed text has `size`."""
    return max(size, LEAST_CODE) if one.kind == "code" else size


def _fitted(element: str, plan: Layout) -> str:
    """Text whose equations are as large as fits."""

    def sized(found: re.Match) -> str:
        room = (plan.left or WIDTH - 2 * SIDE) * 0.88
        size = min(EQUATION * plan.text, room / equations.width(found[0]))
        return found[0].replace("<math ", f'<math style="font-size: {size:.0f}px" ', 1)

    return re.sub(r'<math display="block".*?</math>', sized, element, flags=re.DOTALL)


# As HTML


def page(notebook: NotebookNode, name: str) -> str:
    """The slides of a lesson as one HTML page; name: of its file, "04_fusion"."""
    number, title = name[:2], lessons.title(notebook)
    template = string.Template((HERE / "slides.html").read_text(encoding="utf-8"))
    sections = "\n".join(_section(slide, number) for slide in slides(notebook))
    return template.substitute(number=number, title=html.escape(title), sections=sections)


def _section(slide: Slide, number: str) -> str:
    plan = layout(slide)
    parts = [(part.shown.kind, _element(part, plan)) for part in slide.parts]
    body = _beside(parts, plan) if plan.left else _stacked(parts)
    level = "h1" if slide.is_first else "h2"
    heading = f"<{level}>{rendering.inline(slide.title)}</{level}>"
    if slide.is_first:
        heading = f'<p class="number">Lesson {number}</p>{heading}'
    notes = "\n".join(rendering.markdown(note) for note in slide.notes)
    aside = f'<aside class="notes">{notes}</aside>' if notes else ""
    kind = ' class="first"' if slide.is_first else ""
    return f'<section{kind}><div class="slide">{heading}{body}</div>{aside}</section>'


def _beside(parts: list[tuple[str, str]], plan: Layout) -> str:
    """Figures at the right, the rest at their left."""
    figures = "".join(element for kind, element in parts if kind == "figure")
    others = "".join(element for kind, element in parts if kind != "figure")
    left = f'<div class="left" style="width: {plan.left}px">{others}</div>'
    return f'<div class="beside">{left}<div class="figures">{figures}</div></div>'


def _stacked(parts: list[tuple[str, str]]) -> str:
    """One part below the other; figures that follow each other stand in a row."""
    body, row = "", ""
    for kind, element in [*parts, ("end", "")]:
        if kind == "figure":
            row += element
            continue
        body += f'<div class="figures">{row}</div>' if row else ""
        body, row = body + element, ""
    return body


def _element(part: Part, plan: Layout) -> str:
    shown = part.shown
    also = f' fragment" data-fragment-index="{part.step}' if part.step else ""
    if shown.kind == "figure":
        return f'<figure class="shown{also}">{shown.html}</figure>'
    if shown.kind == "printed":
        text = html.escape(shown.text.rstrip("\n"))
        return f'<pre class="printed{also}" style="font-size: {plan.code}px">{text}</pre>'
    if shown.kind == "code":
        size = _letters(shown, plan.code)
        source = rendering.code(shown.text)
        return f'<div class="source{also}" style="font-size: {size}px">{source}</div>'
    text = _fitted(shown.html, plan)
    return f'<div class="{shown.kind}{also}" style="font-size: {plan.text}px">{text}</div>'


# The folder


def write(notebooks: list[Path], folder: Path) -> None:
    """Writes the slides of these lessons into a new folder, with reveal.js beside them."""
    folder.mkdir(parents=True)
    reveal = files("sphinx_revealjs") / "_static" / "revealjs"
    (folder / "reveal").mkdir()
    for name in ("dist/reset.css", "dist/reveal.css", "dist/reveal.js", "plugin/notes/notes.js",
                 "LICENSE"):  # fmt: skip
        shutil.copyfile(str(reveal / name), folder / "reveal" / Path(name).name)
    (folder / "slides.css").write_text(style_sheet(), encoding="utf-8")
    for path in notebooks:
        text = page(lessons.read_notebook(path), path.stem)
        (folder / f"{path.stem}.html").write_text(text, encoding="utf-8")


def style_sheet() -> str:
    """The look of the slides, in the colours of the course's figures."""
    colours = {"picture": plots.PICTURE, "message": plots.MESSAGE, "truth": plots.TRUTH}
    colours = "".join(f"  --{name}: {colour};\n" for name, colour in colours.items())
    css = (HERE / "slides.css").read_text(encoding="utf-8")
    return f":root {{\n{colours}}}\n\n{rendering.code_css()}\n\n{css}"
