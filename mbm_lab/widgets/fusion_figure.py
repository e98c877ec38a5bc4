"""The playground of α and β as a picture that stands still: what GitHub shows (lessons 00, 04)."""

from __future__ import annotations

import io
import math
import textwrap

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from mbm_lab import fusion, plots

GRID = torch.linspace(-0.5, 1.25, 71)
"""The values of α and of β that the error surface shows."""


def fusion_picture(
    image: Tensor,
    message: str,
    f: Tensor,
    g: Tensor,
    m: Tensor,
    alpha: float,
    beta: float,
    card: int,
) -> bytes:
    """One card (image (3, 64, 64) and message), the error surface, and a dial: a PNG file.

    f, g, m: (N,) the readings and moods of all cards; card: the place of this one among them.
    """
    figure = Figure(figsize=(9.6, 3.6), dpi=80, layout="constrained")
    postcard, surface, dial = figure.subplots(1, 3, width_ratios=(0.7, 1, 1.1))
    postcard.imshow(image.permute(1, 2, 0).numpy())
    postcard.set_axis_off()
    postcard.set_title(textwrap.fill(message, 28), fontsize=9, y=-0.05, va="top")
    draw_surface(surface, f, g, m)
    surface.plot(alpha, beta, "o", color=plots.FUSED, markeredgecolor="black", markersize=11)
    v = fusion.weighted_sum(f, g, alpha, beta)
    draw_dial(dial, *(float(values[card]) for values in (f, g, v, m)))
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def draw_surface(axes: Axes, f: Tensor, g: Tensor, m: Tensor) -> None:
    """The error over α and β for these readings, each (N,); a constant reading is allowed."""
    errors = fusion.error_surface(f, g, m, GRID, GRID)
    least, most = float(errors.min()), float(errors.max())
    levels = least - 1e-6 + (most - least + 2e-6) * np.linspace(0, 1, 13) ** 2
    grid = GRID.numpy()
    axes.contourf(grid, grid, errors.numpy(), levels=levels, cmap="viridis_r")
    alpha, beta = best_of(f, g, m)
    line = {"color": "white", "linewidth": 2, "linestyle": "--"}
    if alpha is not None and beta is not None:
        axes.plot(alpha, beta, "*", color="white", markeredgecolor="black", markersize=15)
    elif beta is not None:
        axes.axhline(beta, **line)
    elif alpha is not None:
        axes.axvline(alpha, **line)
    axes.set(xlabel="α (picture)", ylabel="β (message)", title="error: dark is large")
    axes.grid(False)


def draw_dial(axes: Axes, f: float, g: float, v: float, m: float) -> None:
    """A half circle of moods with one card's two readings, its mood, and v as the needle."""
    axes.set(xlim=(-1.3, 1.3), ylim=(-0.75, 1.3), title="this card", aspect="equal")
    axes.set_axis_off()
    axes.plot(
        *zip(*(dial_point(x, 1.0) for x in np.linspace(-1, 1, 90)), strict=True), color=plots.GREY
    )
    axes.text(-1.0, -0.15, "sad −1", ha="center", fontsize=10)
    axes.text(1.0, -0.15, "happy 1", ha="center", fontsize=10)
    marks = {"picture f": (f, 1.13, "^", plots.PICTURE), "message g": (g, 1.13, "s", plots.MESSAGE),
             "mood m": (m, 1.0, "*", plots.TRUTH)}  # fmt: skip
    for name, (value, radius, shape, colour) in marks.items():
        axes.plot(*dial_point(value, radius), shape, color=colour, markersize=12, label=name)
    x, y = dial_point(v, 0.85)
    axes.plot([0, x], [0, y], color=plots.FUSED, linewidth=5, label=f"v = αf + βg = {v:.2f}")
    axes.legend(loc="lower center", ncols=2, frameon=False, fontsize=9)


def dial_point(x: float, radius: float) -> tuple[float, float]:
    """Where a mood stands on the dial: -1 at the left end of a half circle, 1 at the right end."""
    angle = math.pi / 2 * (1 - max(-1.0, min(1.0, x)))
    return radius * math.cos(angle), radius * math.sin(angle)


def best_of(f: Tensor, g: Tensor, m: Tensor) -> tuple[float | None, float | None]:
    """The best α and β by least squares; None for a reading that is the same for every card."""
    on_f, on_g = (bool(reading.var(correction=0) > 1e-12) for reading in (f, g))
    if on_f and on_g:
        weights = fusion.best_weights(f, g, m)
        return weights.alpha, weights.beta
    m = m - m.mean()
    alone = [
        float(((reading - reading.mean()) * m).mean() / reading.var(correction=0)) if on else None
        for reading, on in ((f, on_f), (g, on_g))
    ]
    return alone[0], alone[1]
