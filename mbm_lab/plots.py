"""The look of the course's figures, and how they are shown (every lesson).

Importing this module sets matplotlib's style: large letters, colours that colour-blind readers can
tell apart (Okabe and Ito, 2008), one colour for each modality throughout the course.
"""

from __future__ import annotations

import base64
import html
import inspect
import io
import re
import warnings
from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from IPython.display import Code, display
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from torch import Tensor

PICTURE, MESSAGE, VOICE = "#0072B2", "#D55E00", "#009E73"
"""The colours of what the picture, the message and the voice say."""
FUSED, TRUTH, GREY = "#CC79A7", "#000000", "#7F7F7F"
"""The colours of the fused reading v, of the mood itself, and of what is only for comparison."""

plt.rcParams.update(
    {
        "figure.figsize": (8, 4),
        "figure.dpi": 100,
        "figure.constrained_layout.use": True,
        "font.size": 13,
        "axes.titlesize": 14,
        "axes.labelsize": 13,
        "legend.fontsize": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "lines.linewidth": 2.2,
        "image.cmap": "viridis",
        "legend.frameon": False,
        "axes.prop_cycle": cycler(
            color=[PICTURE, MESSAGE, VOICE, FUSED, "#E69F00", "#56B4E9", GREY]
        ),
    }
)


QUIET = (
    "<style>"
    ".jp-OutputArea:has(.mbm-words) .jp-RenderedImage img"
    "{background:#fff;padding:8px;border:1px solid #ccc;border-radius:8px}"
    "[data-jp-theme-light=false] .jp-OutputArea:has(.mbm-words) .jp-RenderedImage img"
    "{border-color:#555;filter:brightness(.82)}"
    "</style>"
)
"""How JupyterLab frames a figure: black on white, in a thin frame; in its dark theme a white page
would dazzle, so there the whole picture is dimmed. Other programs show the picture as it is."""


def plain(text: str) -> str:
    """A text as a figure can show it: nothing in it is a formula ($), and what has no shape, such
    as control characters and halves of characters, is �."""
    return _visible(text).replace("$", r"\$")


def _visible(text: str) -> str:
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


def show(figure: Figure, alt: str) -> None:
    """Shows a finished figure as a picture, with its text to unfold below it, and closes it.

    The figure stays white in a dark page, since its letters are black; `QUIET` frames it.

    alt: what a reader who cannot see the figure should know; at least 40 characters. It also goes
    into the picture's metadata, but JupyterLab does not read it out from there.
    Raises ValueError when the text is shorter.
    """
    if len(alt) < 40:
        raise ValueError(f"Describe the figure for those who cannot see it: {alt!r} is too short.")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a letter that no font here has
        figure.savefig(buffer, format="png", pil_kwargs={"optimize": True})
    plt.close(figure)
    picture = {"image/png": buffer.getvalue(), "text/plain": alt}
    display(picture, raw=True, metadata={"image/png": {"alt": alt}})
    words = f"<summary>This figure in words</summary>{html.escape(alt)}"
    display({"text/html": f'{QUIET}<details class="mbm-words">{words}</details>'}, raw=True)


def show_film(data: bytes, alt: str) -> None:
    """Shows an animated WebP (the bytes of its file), 192 pixels wide. Lesson 08.

    alt: what a reader who cannot see the film should know; at least 40 characters. Raises
    ValueError when it is shorter.
    """
    if len(alt) < 40:
        raise ValueError(f"Describe the film for those who cannot see it: {alt!r} is too short.")
    source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    alt = html.escape(alt, quote=True)
    display({"text/html": f'<img src="{source}" width="192" alt="{alt}">'}, raw=True)


def play(data: bytes, label: str) -> None:
    """Shows a player for a sound, the bytes of an Ogg file, with its label. Lesson 09."""
    source = f"data:audio/ogg;base64,{base64.b64encode(data).decode()}"
    label = html.escape(label, quote=True)
    player = f'<audio controls src="{source}" aria-label="{label}"></audio>'
    display({"text/html": f"{label}:<br>{player}"}, raw=True)


def strip(frames: Tensor, titles: list[str]) -> Figure:
    """Films (N, T, 3, H, W), one below the other, their frames side by side, each with a title."""
    rows, columns = frames.shape[:2]
    figure, grid = plt.subplots(
        rows, columns, figsize=(1.2 * columns, (1.2 + 0.35) * rows), squeeze=False
    )
    figure.get_layout_engine().set(h_pad=0.14)
    for line, film, title in zip(grid, frames, titles, strict=True):
        for axes, frame in zip(line, film, strict=True):
            draw_image(axes, frame)
        place = {"xytext": (0, 5), "textcoords": "offset points", "annotation_clip": False}
        text = plain(title)
        label = line[0].annotate(text, (0, 1), xycoords="axes fraction", fontsize=12, **place)
        label.set_in_layout(False)  # a long title does not push the frames apart
    return figure


def draw_image(axes: plt.Axes, image: Tensor, title: str = "") -> None:
    """Draws a picture (3, H, W) in [0, 1], or a grey one (H, W), without axes."""
    pixels = (image.permute(1, 2, 0) if image.ndim == 3 else image).numpy()
    axes.imshow(pixels, cmap="gray", interpolation="nearest")
    axes.set_title(_visible(title), parse_math=False)  # a caption may have "$"
    axes.set_axis_off()


def postcards(images: Tensor, titles: list[str], columns: int = 6, size: float = 1.7) -> Figure:
    """A grid of pictures (N, 3, H, W), each with a title of one or more lines above it."""
    rows = -(-len(images) // columns)
    lines = max((title.count("\n") + 1 for title in titles), default=1)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size * columns, (size + 0.15 + 0.2 * lines) * rows), squeeze=False
    )
    for axes in grid.flat:
        axes.set_axis_off()
        axes.set_anchor("S")  # what room there is, is for the title
    for axes, image, title in zip(grid.flat, images, titles, strict=False):
        draw_image(axes, image, title)
        axes.title.set_fontsize(11)
    return figure


def gru_gates() -> Figure:
    """A drawing of one step of a GRU: the memory's road from h to h', and the gates. Lesson 03."""
    figure, axes = plt.subplots(figsize=(9, 4.6))
    axes.set(xlim=(0, 10), ylim=(0, 5), aspect="equal")
    axes.set_axis_off()

    def arrow(*points: tuple[float, float], colour: str = TRUTH, width: float = 2) -> None:
        for start, end in zip(points, points[1:-1], strict=False):
            axes.plot(*zip(start, end, strict=True), color=colour, linewidth=width)
        style = {"arrowstyle": "-|>", "color": colour, "linewidth": width, "shrinkA": 0}
        axes.annotate("", points[-1], points[-2], arrowprops=style)

    def box(x: float, text: str, colour: str) -> None:
        frame = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": colour}
        axes.text(x, 2, text, ha="center", va="center", bbox={**frame, "linewidth": 2.5})

    def knot(x: float, y: float, sign: str) -> None:
        axes.plot(x, y, "o", markersize=22, markerfacecolor="white", markeredgecolor=TRUTH)
        axes.text(x, y - 0.02, sign, ha="center", va="center", fontsize=17)

    arrow((0.7, 4.2), (8.2, 4.2), (9.3, 4.2), width=4)  # the memory's road
    arrow((1.0, 4.2), (1.0, 0.9), (6.3, 0.9), (6.3, 1.75))  # the memory goes to r, z and n
    for x in (2.0, 4.4):
        arrow((x, 0.9), (x, 1.6))
    arrow((0.7, 0.3), (7.9, 0.3), (7.9, 1.6), colour=GREY)  # so does the word
    for x in (2.4, 4.8):
        arrow((x, 0.3), (x, 1.6), colour=GREY)
    arrow((2.2, 2.4), (2.2, 3.95), colour=VOICE)
    arrow((2.2, 3.1), (7.65, 3.1), colour=VOICE)
    arrow((5.25, 2), (6.05, 2), colour=FUSED)
    arrow((6.55, 2), (6.95, 2))
    arrow((7.9, 2.4), (7.9, 2.85), colour=MESSAGE)
    arrow((7.9, 3.35), (7.9, 3.95), colour=MESSAGE)
    box(2.2, "update z\nσ", VOICE)
    box(4.6, "reset r\nσ", FUSED)
    box(7.9, "proposal n\ntanh", MESSAGE)
    for x, y, sign in ((2.2, 4.2, "×"), (7.9, 4.2, "+"), (7.9, 3.1, "×"), (6.3, 2, "×")):
        knot(x, y, sign)
    for x, y, text in ((0.4, 4.2, "h"), (9.6, 4.2, "h'"), (0.4, 0.3, "x")):
        axes.text(x, y, text, ha="center", va="center", fontsize=18, fontweight="bold")
    axes.text(5.0, 4.35, "z · h, what stays", ha="center", va="bottom")
    axes.text(5.0, 3.2, "1 − z", ha="center", va="bottom", color=VOICE)
    axes.text(8.1, 3.6, "(1 − z) · n,\nwhat is new", va="center", fontsize=11)
    return figure


def error_valley(surface: Tensor, axis: Tensor, darts: Tensor, path: Tensor, best: tuple) -> Figure:
    """The error over (α, β) in shades, with random search's darts and gradient descent's path.

    surface: (K, K), rows β and columns α, at the K values of `axis`; darts (N, 2); path (steps, 3);
    best: (α, β, …), where the star stands. Lesson 04.
    """
    figure, axes = plt.subplots(figsize=(7.5, 6))
    levels = np.geomspace(surface.min(), surface.max(), 16)
    shades = axes.contourf(axis, axis, surface, levels=levels, cmap="viridis_r", norm="log")
    figure.colorbar(shades, label="mean squared error E", format="%.2f")
    edge = {"color": "white", "markeredgecolor": "black", "linestyle": ""}
    axes.plot(*darts[:, :2].T, marker=".", markersize=7, label="random search", **edge)
    axes.plot(*path[:, :2].T, "o-", color=FUSED, markersize=4, label="gradient descent")
    axes.plot(best[0], best[1], marker="*", markersize=20, label="exact best", **edge)
    axes.set(xlabel="α, weight of the picture", ylabel="β, weight of the message", aspect="equal")
    axes.set(
        title="The error is a valley", xticks=[-1, -0.5, 0, 0.5, 1], yticks=[-1, -0.5, 0, 0.5, 1]
    )
    axes.legend(loc="lower left", frameon=True)
    return figure


def seed_dots(results: dict[str, Tensor], limit: float, limit_label: str, xlabel: str) -> Figure:
    """One row a model, one dot a seed, and a dashed line at the limit or the rival. Lesson 04.

    results: model name to (seeds,) scores; names that contain "alone" are grey. Scores below 0
    are drawn at 0.
    """
    figure, axes = plt.subplots(figsize=(9, 1 + 0.48 * len(results)))
    names = list(results)[::-1]
    for row, name in enumerate(names):
        colour = GREY if "alone" in name else FUSED
        scores = results[name].clamp(min=0)
        axes.plot(scores, [row] * len(scores), "o", color=colour, markersize=9, alpha=0.8)
    axes.set_yticks(range(len(names)), [plain(name) for name in names])
    axes.axvline(limit, color=TRUTH, linestyle="--", label=plain(limit_label))
    axes.set(xlabel=plain(xlabel), xlim=(-0.03, 0.9))
    axes.legend(loc="lower left")
    return figure


def roofline(
    machine: tuple[float, float, float], layers: Sequence[tuple[str, str, int, int, float]]
) -> Figure:
    """The roofline of a computer, and where a model's layers lie below it. Lesson 11.

    Across, the operations for each byte; up, the operations a second. The roof is what the memory
    brings, until the processor can do no more (Williams, Waterman and Patterson, 2009); its corner,
    the ridge, is marked. machine and layers: those of `costs`. A layer without operations, as an
    embedding, has no place here.
    """
    most_flops, memory, cache = machine
    dots = [
        (*name.partition(" ")[::2], flops / moved, flops / seconds / 1e9)
        for name, _, flops, moved, seconds in layers
        if flops
    ]
    figure, axes = plt.subplots(figsize=(10, 6))
    ridge = most_flops / memory
    reach = [ridge, *(x for _, _, x, _ in dots)]
    across = np.geomspace(min(reach) / 2, max(reach) * 4, 200)
    for name, speed, look in (("memory", memory, "-"), ("the cache", cache, "--")):
        if np.isfinite(speed):
            roof = np.minimum(across * speed, most_flops) / 1e9
            label = f"roof from {name}: {speed / 1e9:.0f} GB/s"
            axes.plot(across, roof, look, color=TRUTH, linewidth=2.5, label=label)
    axes.plot(ridge, most_flops / 1e9, "v", color=TRUTH, markersize=12, label="ridge")
    for kind, (colour, mark) in KINDS.items():
        alike = [(number, x, y) for one, number, x, y in dots if one == kind]
        look = {"color": colour, "markeredgecolor": "white", "markersize": 12, "linestyle": ""}
        if alike:
            axes.plot(*zip(*((x, y) for _, x, y in alike), strict=True), mark, label=kind, **look)
        for number, x, y in alike:
            beside = (-17 if number in ("2", "4") else 9, -4)  # neighbours often lie close
            axes.annotate(number, (x, y), beside, textcoords="offset points", fontsize=12)
    axes.set(xscale="log", yscale="log", xlabel="operations for each byte moved")
    axes.set(ylabel="billions of operations a second")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(loc="lower right", ncols=2)
    return figure


KINDS = {
    "Conv2d": (PICTURE, "o"),
    "BatchNorm2d": (MESSAGE, "s"),
    "ReLU": (VOICE, "^"),
    "MaxPool2d": (FUSED, "D"),
    "Linear": ("#E69F00", "P"),
    "GRU": ("#56B4E9", "X"),
    "Tanh": (GREY, "*"),
}
"""The colour and the mark of each kind of layer, so that neither alone has to tell them apart."""


def gains(trials: Sequence[tuple[str, float, float, str]]) -> Figure:
    """How many times as fast training is with something as without it, a bar each; to the left of
    the line it is slower. Within 5 % the bar is grey: another run may say the opposite. Lesson 11.

    trials: those of `costs`: name, cards a second without, with, and a note. What could not be
    tried (NaN) has no bar, and says so.
    """
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.5 * len(trials)))
    ratios = [with_ / without for _, without, with_, _ in reversed(trials)]
    for row, ratio in enumerate(ratios):
        faster = ratio >= 1 or np.isnan(ratio)
        words = {"ha": "left" if faster else "right", "va": "center", "fontsize": 12,
                 "textcoords": "offset points", "xytext": (5 if faster else -5, 0)}  # fmt: skip
        if np.isnan(ratio):
            axes.annotate("not tried here", (1, row), color=GREY, **words)
            continue
        colour = PICTURE if faster else MESSAGE
        axes.barh(row, ratio - 1, left=1, color=colour if abs(ratio - 1) > 0.05 else GREY)
        axes.annotate(f"{ratio:.2f}", (ratio, row), **words)
    axes.axvline(1, color=TRUTH)
    axes.set_yticks(range(len(trials)), [plain(name) for name, *_ in reversed(trials)])
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    axes.set(xlim=(min([0.6, *known]) - 0.15, max([1.4, *known]) + 0.15), xlabel="times as fast")
    axes.set(ylim=(-0.6, len(trials) - 0.4))
    return figure


def masks(several: dict[str, Tensor], tokens: Sequence[str]) -> Figure:
    """Who may look at whom: a table for each mask (T, T), dark where row may look at column.

    several: name to mask; tokens: the T names at both edges. Lesson 13.
    """
    figure, grid = plt.subplots(1, len(several), figsize=(5 * len(several), 4.6), squeeze=False)
    places = range(len(tokens))
    for axes, (name, mask) in zip(grid[0], several.items(), strict=True):
        axes.imshow(mask.numpy(), cmap="Blues", vmin=-0.3, vmax=1.3)
        axes.set_xticks(places, [plain(token) for token in tokens], rotation=45, ha="right")
        axes.set_yticks(places, [plain(token) for token in tokens])
        axes.set_xticks([place + 0.5 for place in places], minor=True)
        axes.set_yticks([place + 0.5 for place in places], minor=True)
        axes.grid(False)
        axes.grid(True, which="minor", color="white", alpha=1)
        axes.tick_params(which="minor", length=0)
        axes.set(xlabel="may be looked at", ylabel="looks", title=plain(name))
    return figure


PARTS_OF_A_SEQUENCE = {"seen or heard": PICTURE, "prompt": MESSAGE, "answer": FUSED}


def sequences(rows: Sequence[tuple[str, int, int, int]]) -> Figure:
    """One row a task, one square a token: what is seen or heard, the prompt, the answer. Lesson 13.

    rows: the task, and the tokens of each of the three.
    """
    figure, axes = plt.subplots(figsize=(10, 1.6 + 0.45 * len(rows)))
    for task, *counts in rows:
        left = 0
        for count, colour in zip(counts, PARTS_OF_A_SEQUENCE.values(), strict=True):
            squares = range(left, left + count)
            row = [plain(task)] * count
            axes.barh(row, 1, left=squares, color=colour, edgecolor="white")
            left += count
    for name, colour in PARTS_OF_A_SEQUENCE.items():
        axes.barh([plain(rows[0][0])], 0, color=colour, label=name)
    axes.invert_yaxis()
    axes.grid(False)
    axes.set(xlabel="place in the sequence")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return figure


def over_patches(image: Tensor, maps: dict[str, Tensor]) -> Figure:
    """A picture (3, H, W), and beside it each map (K, K) laid over it: light where it is large.

    maps: title to map, numbers from 0; each has its own scale. Lesson 13.
    """
    figure, grid = plt.subplots(1, 1 + len(maps), figsize=(2.8 * (1 + len(maps)), 3.1))
    height, width = image.shape[1:]
    draw_image(grid[0], image, "the picture")
    for axes, (title, values) in zip(grid[1:], maps.items(), strict=True):
        draw_image(axes, image.mean(0, keepdim=True).repeat(3, 1, 1), title)
        over = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "cmap": "magma", "vmin": 0}
        axes.imshow(values.clamp(min=0).numpy(), alpha=0.7, **over)
    return figure


def power_lines(
    panels: Sequence[tuple[str, Sequence[float], Sequence[float], float, float]], ylabel: str
) -> Figure:
    """Losses against sizes on logarithmic axes: a line, the points that made it, and a star for the
    last, which it has not seen. Lesson 13.

    panels: of each the name of the size, sizes, losses, and the line's slope and intercept, of
    logarithms to the base 10.
    """
    figure, grid = plt.subplots(
        1, len(panels), figsize=(4 * len(panels), 4), sharey=True, squeeze=False
    )
    for axes, (name, sizes, losses, slope, intercept) in zip(grid[0], panels, strict=True):
        ends = np.array([sizes[0], sizes[-1]])
        axes.plot(ends, 10**intercept * ends**slope, color=GREY, label="the line")
        axes.plot(sizes[:-1], losses[:-1], "o", color=FUSED, markersize=9, label="measured")
        axes.plot(sizes[-1], losses[-1], "*", color=TRUTH, markersize=16, label="not seen")
        axes.set(xscale="log", yscale="log", xlabel=plain(name), title=f"slope {slope:.2f}")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())
    grid[0, 0].set_ylabel(plain(ylabel))
    grid[0, 0].legend(loc="lower left")
    return figure


class Source(Code):
    """Python code in the colours of the reader's own page, light or dark; IPython's `Code` brings a
    light style sheet of its own with every piece."""

    def _repr_html_(self) -> None:
        return None

    def _repr_latex_(self) -> None:
        return None

    def _repr_markdown_(self) -> str:
        return f"```python\n{self.data}```"


def source(thing: type | Callable) -> Source:
    """The code of a class or function, as it stands in the course, for a lesson to show whole."""
    return Source(inspect.getsource(thing), language="python")
