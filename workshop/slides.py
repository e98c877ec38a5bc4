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
from workshop import rendering
from workshop.rendering import Shown

WIDTH, HEIGHT = 1280, 720
"""The size of a slide in pixels. What a projector shows is this, made larger."""
SIDE, ABOVE, BELOW, TITLE = 36, 24, 40, 76
"""What is left free at the sides, above and below (where the number stands); a title's height."""
GAP = 20
"""Between two parts of a slide."""
TEXT, LEAST_PRINTED, LEAST_CODE, MOST = 30, 18, 20, 28
"""Letters in pixels: text; the smallest of what is printed, and of code; the largest of both."""

LETTER = 0.605
"""The width of a letter of code, as a share of its height."""
LINE = 1.3
"""The height of a line of code, as a share of a letter's."""

PREDICTION = re.compile(r"\*\*Before you run\b[^*]*:\*\*.*?(?=\n\s*\n|\Z)", re.DOTALL)
HEADING = re.compile(r"^#{1,6} (.*)\n*", re.MULTILINE)

HERE = Path(__file__).parent


@dataclass
class Part:
    """A part of a slide. fragment: whether it appears at the next key press."""

    shown: Shown
    fragment: bool = False


@dataclass
class Slide:
    """One idea. notes: what the speaker sees, as markdown."""

    title: str
    parts: list[Part] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    is_first: bool = False


# What is on which slide


def slides(notebook: NotebookNode) -> list[Slide]:
    """The slides of a lesson, the title first. Raises ValueError when a mark cannot be followed."""
    found = [_first_slide(notebook)]
    notes: list[str] = []
    for cell in notebook.cells[1:]:
        mark = cell.metadata.get("slideshow") or {}
        if lessons.is_note(cell):
            notes.append(cell.source)
            continue
        kind = mark.get("slide_type", "skip")
        if kind == "slide":
            found.append(Slide(_title(cell, mark), notes=notes))
            notes = []
        elif kind == "fragment" and not found[1:]:
            raise ValueError(f"A fragment continues a slide, and there is none yet: {cell.source}")
        if kind in ("slide", "fragment"):
            found[-1].parts += [Part(one, kind == "fragment") for one in _parts(cell, mark)]
    if notebook.cells[1:] and lessons.is_note(notebook.cells[1]):
        first_note = notebook.cells[1].source
        for slide in found[1:]:
            slide.notes = [note for note in slide.notes if note is not first_note]
        found[0].notes = [first_note]
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
    raise ValueError(f"A slide needs a title; this cell's mark has none: {cell.source}")


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


def code_height(text: str, size: float, width: float) -> float:
    """The height of code or of printed text, in letters of this size; long lines are broken."""
    fit = max(1, int((width - 24) / (LETTER * size)))
    lines = sum(max(1, ceil(columns(line) / fit)) for line in text.rstrip("\n").split("\n"))
    return lines * size * LINE + 20


def text_height(element: str, width: float) -> float:
    """About the height of text, in its letters."""
    height = 0.0
    for block in re.split(r"</(?:p|li|tr|h\d)>|<br ?/?>", element):
        if "<math" in block and 'display="block"' in block:
            height += 3.4 * TEXT
        else:
            words = html.unescape(re.sub(r"<[^>]*>", "", block)).strip()
            if words:
                height += ceil(columns(words) * 0.5 * TEXT / width) * 1.35 * TEXT + 14
    return height


@dataclass
class Layout:
    """Where the parts of a slide stand. beside: figures at the right, the rest at the left, `left`
    pixels wide; size: the letters of what is printed and of code; area: of the figures."""

    beside: bool
    size: int
    left: int = 0
    area: float = 0.0
    fits: bool = True


def layout(slide: Slide) -> Layout:
    """The layout with the largest figures; without a figure, the one with the largest letters."""
    shown = [part.shown for part in slide.parts]
    figures = [one for one in shown if one.kind == "figure"]
    others = [one for one in shown if one.kind != "figure"]
    width = WIDTH - 2 * SIDE
    height = HEIGHT - ABOVE - BELOW - (TITLE if len(slide.title) < 58 else 2 * TITLE - 24)
    if not figures:
        return max(
            (_stacked(others, size, width, height) for size in range(LEAST_PRINTED, MOST + 1)),
            key=lambda one: (one.fits, one.size if one.fits else -one.size),
        )
    wide, high = sum(one.size[0] / one.size[1] for one in figures), 1.0
    options = []
    for size in range(LEAST_PRINTED, MOST - 3):
        below = _stacked(others, size, width, height)
        room = height - below.area - GAP * bool(others)
        below.area = _area(wide, high, width, room)
        below.fits = below.fits and room > 160
        options.append(below)
        for left in range(380, 800, 20) if others else ():
            side = _stacked(others, size, left, height)
            room = width - left - 1.5 * GAP
            options.append(
                Layout(True, size, left, _area(wide, high, room, height), side.fits)
            )
    best = max(one.area for one in options if one.fits) if any(o.fits for o in options) else 0
    good = [one for one in options if one.fits and one.area >= 0.94 * best] or options
    return max(good, key=lambda one: (one.fits, one.size, one.area))


def _stacked(others: list[Shown], size: int, width: float, height: float) -> Layout:
    """Text, code and prints below each other; `area` is the height that they need."""
    needs = 0.0
    for one in others:
        if one.kind in ("printed", "code"):
            needs += code_height(one.text, _letters(one, size), width)
        else:
            needs += text_height(one.html, width) if one.kind == "text" else 2 * TEXT
    needs += GAP * max(0, len(others) - 1)
    return Layout(False, size, area=needs, fits=needs <= height)


def _letters(one: Shown, size: int) -> int:
    """The size of the letters of a part, where printed text has `size`."""
    return max(size, LEAST_CODE) if one.kind == "code" else size


def _area(wide: float, high: float, width: float, height: float) -> float:
    """The area that a figure of these proportions has in a room."""
    scale = min(width / wide, max(height, 0) / high)
    return wide * high * scale * scale


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
    if plan.beside:
        figures = "".join(element for kind, element in parts if kind == "figure")
        others = "".join(element for kind, element in parts if kind != "figure")
        body = (
            f'<div class="beside"><div class="left" style="width: {plan.left}px">{others}</div>'
            f'<div class="figures">{figures}</div></div>'
        )
    else:
        body, row = "", ""
        for kind, element in [*parts, ("end", "")]:
            if kind == "figure":
                row += element
                continue
            body += f'<div class="figures">{row}</div>' if row else ""
            body, row = body + element, ""
    level = "h1" if slide.is_first else "h2"
    heading = f"<{level}>{rendering.inline(slide.title)}</{level}>"
    if slide.is_first:
        heading = f'<p class="number">Lesson {number}</p>{heading}'
    notes = "\n".join(rendering.markdown(note) for note in slide.notes)
    aside = f'<aside class="notes">{notes}</aside>' if notes else ""
    kind = ' class="first"' if slide.is_first else ""
    return f'<section{kind}><div class="slide">{heading}{body}</div>{aside}</section>'


def _element(part: Part, plan: Layout) -> str:
    shown = part.shown
    also = " fragment" if part.fragment else ""
    if shown.kind == "figure":
        return f'<figure class="{also.strip()}">{shown.html}</figure>'
    if shown.kind == "printed":
        size = f"font-size: {plan.size}px"
        text = html.escape(shown.text.rstrip("\n"))
        return f'<pre class="printed{also}" style="{size}">{text}</pre>'
    if shown.kind == "code":
        size = f"font-size: {_letters(shown, plan.size)}px"
        return f'<div class="source{also}" style="{size}">{rendering.code(shown.text)}</div>'
    return f'<div class="{shown.kind}{also}">{shown.html}</div>'


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
    return f":root {{\n{colours}}}\n\n{css}\n{rendering.code_css()}\n"
