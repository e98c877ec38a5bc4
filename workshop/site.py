"""The web site of all lessons: Sphinx, with each lesson as one page of text (MyST).

The pages show what `notebooks/` stores; nothing is run. Sphinx brings navigation and search, the
theme furo the look on large and small screens, in light and dark. This module is also Sphinx's
extension that writes equations as MathML, so that the pages need no MathJax.
"""

from __future__ import annotations

import base64
import html
import io
import re
import shutil
import tempfile
from pathlib import Path

from docutils import nodes
from nbformat import NotebookNode

from mbm_lab import lessons
from mbm_lab.widgets import projector
from workshop import equations, rendering

HERE = Path(__file__).parent
PICTURES = "pictures"
"""The folder of all pictures, in the site."""
PLAYGROUND = "playground.html"

ATTACHED = re.compile(r"!\[([^\]]*)\]\(attachment:([^)]*)\)")


def write(notebooks: list[Path], folder: Path) -> None:
    """Writes the web site of these lessons into a new folder.

    Raises ValueError when an equation cannot be converted, or Sphinx finds a mistake in a page.
    """
    every = lessons.course_lessons()
    with tempfile.TemporaryDirectory() as root:
        source, extra = Path(root) / "source", Path(root) / "extra"
        source.mkdir()
        (extra / PICTURES).mkdir(parents=True)
        (extra / PLAYGROUND).write_text(projector.page(), encoding="utf-8")
        for path in notebooks:
            notebook = lessons.without_notes(lessons.read_notebook(path))
            text = page(notebook, path.stem, extra / PICTURES)
            (source / f"{path.stem}.md").write_text(text, encoding="utf-8")
        (source / lessons.GLOSSARY).write_text(glossary(notebooks), encoding="utf-8")
        (source / "index.md").write_text(index(notebooks), encoding="utf-8")
        (source / "_static").mkdir()
        css = (HERE / "site.css").read_text(encoding="utf-8")
        (source / "_static" / "site.css").write_text(css, encoding="utf-8")
        shutil.copyfile(HERE / "icon.svg", source / "icon.svg")
        _run_sphinx(source, extra, Path(root) / "built", whole=len(notebooks) == len(every))
        for left in (".doctrees", ".buildinfo", "objects.inv", "_sources"):  # Sphinx's own notes
            built = Path(root) / "built" / left
            shutil.rmtree(built) if built.is_dir() else built.unlink(missing_ok=True)
        shutil.copytree(Path(root) / "built", folder)


def index(notebooks: list[Path]) -> str:
    """The first page: what the course is, and a table of its lessons."""
    rows = []
    for path in notebooks:
        notebook = lessons.read_notebook(path)
        promise = re.search(r"^> (.*)", notebook.cells[0].source, re.MULTILINE)
        minutes, _ = lessons.times(notebook) or ("?", "?")
        cells = (f"[{path.stem[:2]} · {lessons.title(notebook)}]({path.stem}.md)",
                 promise[1].strip() if promise else "", f"{minutes}\u00a0min")  # fmt: skip
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    contents = "\n".join([*(path.stem for path in notebooks), Path(lessons.GLOSSARY).stem])
    return (HERE / "site_index.md").read_text(encoding="utf-8").format(
        rows="\n".join(rows), contents=contents, playground=PLAYGROUND
    )  # fmt: skip


def glossary(notebooks: list[Path]) -> str:
    """The glossary as a page; its links lead to those lessons that the site has."""
    stems = [path.stem for path in notebooks]

    def linked(found: re.Match) -> str:
        words, stem = found.groups()
        return f"[{words}]({stem}.md)" if stem in stems else words

    text = (lessons.NOTEBOOKS / lessons.GLOSSARY).read_text(encoding="utf-8")
    return re.sub(r"\[([^]]*)\]\((\d\d_\w+)\.ipynb\)", linked, text)


# A lesson as a page


def page(notebook: NotebookNode, name: str, pictures: Path) -> str:
    """A lesson without notes as MyST; its pictures are written into the folder `pictures`."""
    parts = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(_text(cell, name, pictures))
        elif cell.cell_type == "code":
            parts += _code(cell, name, pictures)
    return "\n\n".join(parts) + "\n"


def _text(cell: NotebookNode, name: str, pictures: Path) -> str:
    """A cell of text; attached pictures become files, and links lead to the site's pages."""

    def attached(found: re.Match) -> str:
        (data,) = cell.attachments[found[2]].values()
        return _picture(base64.b64decode("".join(data)), found[1], f"{name}-{found[2]}", pictures)

    source = ATTACHED.sub(attached, cell.source)
    return re.sub(r"\]\((\d\d_\w+)\.ipynb", r"](\1.md", source)


def _code(cell: NotebookNode, name: str, pictures: Path) -> list[str]:
    """A code cell and what it shows."""
    parts = [_fenced("code-block", "ipython3", cell.source)]
    for place, shown in enumerate(rendering.outputs(cell)):
        if shown.kind == "printed":
            parts.append(_fenced("code-block", "text", shown.text.rstrip("\n"), "printed"))
        elif shown.kind == "code":
            parts.append(_fenced("code-block", "ipython3", shown.text, "shown"))
        elif shown.kind == "figure":
            element = _as_file(shown.html, f"{name}-{cell.id}-{place}", pictures)
            parts.append(_raw(f'<div class="figure">{element}</div>'))
        else:
            parts.append(_raw(f'<div class="{shown.kind}">{shown.html}</div>'))
        if shown.is_widget:
            parts.append(_raw(f'<p class="still">{rendering.STILL}</p>'))
    if rendering.is_private(cell):
        parts.append(_raw(f'<p class="still">{rendering.PRIVATE}</p>'))
    return parts


def _as_file(element: str, name: str, pictures: Path) -> str:
    """A picture's element, its data moved to a file."""
    found = re.search(r'src="data:image/(\w+);base64,([^"]*)"', element)
    alt = re.search(r'alt="([^"]*)"', element)
    data = base64.b64decode(found[2])
    return _picture(data, html.unescape(alt[1]), f"{name}.{found[1]}", pictures)


def _picture(data: bytes, alt: str, name: str, pictures: Path) -> str:
    """Writes a picture, and returns its element."""
    from PIL import Image

    (pictures / name).write_bytes(data)
    width, height = Image.open(io.BytesIO(data)).size
    return (
        f'<img src="{PICTURES}/{name}" width="{width}" height="{height}" loading="lazy" '
        f'alt="{html.escape(alt)}">'
    )


def _fenced(directive: str, argument: str, content: str, kind: str = "") -> str:
    """A directive of MyST; its fence is longer than any within it."""
    fence = "`" * max([4, *(len(ticks) + 1 for ticks in re.findall(r"`{3,}", content))])
    option = f":class: {kind}\n\n" if kind else ""
    return f"{fence}{{{directive}}} {argument}\n{option}{content}\n{fence}"


def _raw(element: str) -> str:
    return _fenced("raw", "html", element)


# Sphinx

SETTINGS = {
    "project": "MBM Lab",
    "html_title": "MBM Lab",
    "language": "en",
    "extensions": ["myst_parser", "workshop.site"],
    "html_theme": "furo",
    "html_static_path": ["_static"],
    "html_css_files": ["site.css"],
    "html_favicon": "icon.svg",
    "html_math_renderer": "mathml",
    "html_show_sourcelink": False,
    "html_copy_source": False,
    "html_show_copyright": False,
    "html_show_search_summary": False,  # it asks for each page, which a browser forbids for files
    "smartquotes": False,
    "pygments_style": rendering.STYLE,
    "highlight_language": "ipython3",
    "myst_enable_extensions": ["dollarmath"],
    "myst_dmath_allow_digits": False,
    "myst_dmath_allow_space": False,
    "myst_dmath_allow_labels": False,
    "myst_disable_syntax": ["myst_line_comment", "myst_block_break", "myst_target", "myst_role"],
    "suppress_warnings": ["misc.highlighting_failure"],  # a cell that begins with %%needs
}


def _run_sphinx(source: Path, extra: Path, built: Path, whole: bool) -> None:
    """Builds the pages. Raises ValueError with what Sphinx says, if it warns of anything.

    whole: whether all lessons are there; if not, links to the others lead nowhere.
    """
    from sphinx.application import Sphinx
    from sphinx.errors import SphinxError

    said = io.StringIO()
    settings = {**SETTINGS, "html_extra_path": [str(extra)]}
    if not whole:
        settings["suppress_warnings"] = [*SETTINGS["suppress_warnings"], "myst.xref_missing"]
    try:
        app = Sphinx(source, None, built, built / ".doctrees", "html", confoverrides=settings,
                     status=None, warning=said, freshenv=True)  # fmt: skip
        app.build()
    except SphinxError as error:
        raise ValueError(
            f"Sphinx cannot make the web site: mend what it names. It says: “{error}”."
        ) from error
    if app.statuscode or said.getvalue():
        mistakes = rendering.ANSI.sub("", said.getvalue()).strip()
        raise ValueError(f"Sphinx finds a mistake in the lessons' text: mend it there.\n{mistakes}")


def setup(app) -> dict[str, bool]:
    """Tells Sphinx to write equations as MathML, and to let the keyboard scroll."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.connect("html-page-context", _reach_by_keyboard)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _visit_inline(translator, node: nodes.math) -> None:
    translator.body.append(equations.mathml(node.astext()))
    raise nodes.SkipNode


def _visit_block(translator, node: nodes.math_block) -> None:
    element = equations.mathml(node.astext(), display=True)
    translator.body.append(f'<div class="equation">{element}</div>\n')
    raise nodes.SkipNode


WIDE = re.compile(
    r'(<div class="(?:equation|table-wrapper [^"]*)"|'
    r'<div class="printed [^"]*"><div class="highlight"><pre)(?=>)'
)
"""What may be wider than a small screen, and is scrolled then."""


def _reach_by_keyboard(app, name: str, template: str, context: dict, doctree: object) -> None:
    """Lets the keyboard scroll what may be wider than the page."""
    if "body" in context:
        context["body"] = WIDE.sub(r'\1 tabindex="0"', context["body"])
