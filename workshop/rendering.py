"""What lessons are made of, as HTML: text with equations, code, and stored outputs.

Slides and the web site show the same things, so both take them from here.
"""

from __future__ import annotations

import base64
import html
import re
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from workshop import equations

STYLE = "a11y-high-contrast-light"
"""The colours of code: all of them can be read on white (from the package accessible-pygments)."""

WIDGET = ": run this cell to make it live."
"""How the stored text of a widget ends; its stored picture stands beside it."""
STILL = "This is a picture of a widget: run the lesson to move it."
PRIVATE = "What this cell shows may not be passed on: run the lesson to see it."

ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
WORDS = re.compile(r'<details class="mbm-words">.*?</details>', re.DOTALL)
"""The description below each figure (`plots.show`); the picture has it as its alt text, too."""
STYLE_SHEET = re.compile(r"<style>.*?</style>", re.DOTALL)


# Text and code


def _equation(tex: str, options: dict) -> str:
    return equations.mathml(tex, display=options["display_mode"])


def _code_block(self, tokens: list[Token], index: int, options: dict, env: dict) -> str:
    token = tokens[index]
    return code(token.content, token.info.strip() or "text")


def _reader() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    reader.use(dollarmath_plugin, allow_digits=False, allow_space=False, allow_labels=False,
               renderer=_equation)  # fmt: skip
    reader.add_render_rule("fence", _code_block)
    return reader


READER = _reader()


def markdown(text: str, attachments: dict | None = None) -> str:
    """Text of a lesson as HTML; attached pictures become part of it.

    Links to lessons lead to their pages. Raises ValueError when an equation cannot be converted.
    """
    for name, kinds in (attachments or {}).items():
        for kind, data in kinds.items():
            text = text.replace(f"attachment:{name}", f"data:{kind};base64,{''.join(data)}")
    text = re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.html", text)
    return READER.render(text)


def inline(text: str) -> str:
    """One line of text (a title) as HTML."""
    return READER.renderInline(text)


def code(source: str, language: str = "ipython3") -> str:
    """Code as HTML, in colours; `code_css` says which."""
    aliases = {"python": "ipython3", "py": "ipython3"}
    lexer = get_lexer_by_name(aliases.get(language, language))
    return highlight(source, lexer, HtmlFormatter(cssclass="code", nowrap=False))


def code_css() -> str:
    """The style sheet of `code`."""
    return HtmlFormatter(style=STYLE).get_style_defs(".code")


# Stored outputs


@dataclass
class Shown:
    """A stored output. kind: "printed" (its text is `text`), "code" (its source is `text`),
    "figure", or "sound" (its element is `html`); size: a figure's width and height in pixels."""

    kind: str
    html: str = ""
    text: str = ""
    size: tuple[int, int] = (1, 1)
    is_widget: bool = False


def outputs(cell: NotebookNode) -> list[Shown]:
    """What a code cell shows, in its order. Printed text that follows printed text is one."""
    found: list[Shown] = []
    for output in cell.get("outputs", []):
        shown = _shown(output)
        if shown is None:
            continue
        if found and shown.kind == found[-1].kind == "printed":
            found[-1].text += shown.text
        else:
            found.append(shown)
    return found


def is_widget(output: NotebookNode) -> bool:
    """Whether an output is the stored picture of a widget."""
    return _text(output.get("data", {}).get("text/plain", "")).endswith(WIDGET)


def is_private(cell: NotebookNode) -> bool:
    """Whether what a cell shows may not be passed on, and so is not stored."""
    return "private" in cell.metadata.get("tags", [])


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)


def _shown(output: NotebookNode) -> Shown | None:
    """One output; None where it only says again what another shows."""
    if output.output_type == "stream":
        return Shown("printed", text=ANSI.sub("", _text(output.text)))
    if output.output_type == "error":
        return Shown("printed", text=f"{output.ename}: {output.evalue}\n")
    data = {kind: _text(value) for kind, value in output.data.items()}
    if "image/png" in data:
        alt = output.metadata.get("image/png", {}).get("alt") or data.get("text/plain", "")
        picture = "".join(data["image/png"].split())
        element = f'<img src="data:image/png;base64,{picture}" alt="{html.escape(alt)}">'
        return Shown("figure", element, size=_png_size(picture), is_widget=is_widget(output))
    if "text/html" in data:
        return _shown_html(data["text/html"])
    if "text/markdown" in data:
        fenced = re.fullmatch(r"```python\n(.*?)\n?```\s*", data["text/markdown"], re.DOTALL)
        if fenced:
            return Shown("code", text=fenced[1])
        return Shown("text", markdown(data["text/markdown"]))
    return Shown("printed", text=ANSI.sub("", data.get("text/plain", "")) + "\n")


def _shown_html(content: str) -> Shown | None:
    content = STYLE_SHEET.sub("", WORDS.sub("", content)).strip()
    if not content:
        return None
    if content.startswith("<img "):  # a film
        return Shown("figure", re.sub(r' width="\d+"', "", content))
    if "<audio" in content:
        if "aria-label" not in content:
            content = re.sub(r"<audio\s+", '<audio aria-label="a sound of this lesson" ', content)
        return Shown("sound", re.sub(r"\s*<br>\s*", " ", content))
    return Shown("text", content)


def _png_size(picture: str) -> tuple[int, int]:
    """Width and height of a PNG in base64: they stand in its first 24 bytes."""
    head = base64.b64decode(picture[:32])
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
