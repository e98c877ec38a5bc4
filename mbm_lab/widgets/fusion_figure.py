"""The figure of α and β (lessons 00 and 04): an error surface and a dial of moods."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from mbm_lab import fusion, plots
from mbm_lab.widgets.drawing import MovingFigure

GRID = torch.linspace(-0.5, 1.25, 71)
"""The values of α and of β that the error surface shows."""


def dial_point(x: float, radius: float) -> tuple[float, float]:
    """Where a mood stands on the dial: -1 at the left end of a half circle, 1 at the right end."""
    angle = math.pi / 2 * (1 - max(-1.0, min(1.0, x)))
    return radius * math.cos(angle), radius * math.sin(angle)


class FusionFigure(MovingFigure):
    """The error surface over (α, β) beside a dial of moods."""

    def __init__(self, f: Tensor, g: Tensor, m: Tensor, dpi: int = 80):
        super().__init__(8.4, 3.9, dpi)
        self.surface_axes, dial_axes = self.figure.subplots(1, 2, width_ratios=(1, 1.3))
        self.figure.subplots_adjust(left=0.12, right=0.99, bottom=0.15, top=0.92, wspace=0.1)
        self._draw_dial(dial_axes)
        self.set_readings(f, g, m)

    def set_readings(self, f: Tensor, g: Tensor, m: Tensor) -> None:
        """Draws the surface for these readings, each (N,); a constant reading is allowed."""
        axes = self.surface_axes
        axes.clear()
        errors = fusion.error_surface(f, g, m, GRID, GRID)
        least, most = float(errors.min()), float(errors.max())
        levels = least - 1e-6 + (most - least + 2e-6) * np.linspace(0, 1, 13) ** 2
        axes.contourf(GRID, GRID, errors, levels=levels, cmap="viridis_r")
        best = best_of(f, g, m)
        style = {"color": "white", "markeredgecolor": "black", "markersize": 16}
        if best.alpha is not None and best.beta is not None:
            axes.plot(best.alpha, best.beta, "*", **style)
        elif best.beta is not None:
            axes.axhline(best.beta, color="white", linewidth=2, linestyle="--")
        elif best.alpha is not None:
            axes.axvline(best.alpha, color="white", linewidth=2, linestyle="--")
        axes.set(xlabel="α (picture)", ylabel="β (message)", title="error: dark is large")
        axes.set(xlim=(float(GRID[0]), float(GRID[-1])), ylim=(float(GRID[0]), float(GRID[-1])))
        axes.grid(False)
        dots = {"color": "white", "markeredgecolor": "black", "animated": True}
        (self.path,) = axes.plot([], [], ".-", **dots)
        (self.point,) = axes.plot(
            [0], [0], "o", color=plots.FUSED, markeredgecolor="black", markersize=12, animated=True
        )
        self.moving = [self.path, self.point, self.needle, *self.marks]
        self.keep_background()

    def _draw_dial(self, axes) -> None:
        axes.set(xlim=(-1.32, 1.32), ylim=(-0.42, 1.3), title="one card", aspect="equal")
        axes.set_axis_off()
        arc = np.array([dial_point(x, 1.0) for x in np.linspace(-1, 1, 90)])
        axes.plot(arc[:, 0], arc[:, 1], color=plots.GREY, linewidth=2)
        for x in (-1, -0.5, 0, 0.5, 1):
            ends = np.array([dial_point(x, 0.96), dial_point(x, 1.04)])
            axes.plot(ends[:, 0], ends[:, 1], color=plots.GREY, linewidth=2)
        axes.text(-1.0, -0.13, "sad −1", ha="center", fontsize=11)
        axes.text(1.0, -0.13, "happy 1", ha="center", fontsize=11)
        axes.plot([0], [0], "o", color=plots.FUSED, markersize=12)
        shapes = {"picture f": ("^", plots.PICTURE), "message g": ("s", plots.MESSAGE),
                  "mood m": ("*", plots.TRUTH)}  # fmt: skip
        self.marks = []
        for name, (shape, colour) in shapes.items():
            size = 18 if shape == "*" else 13
            style = {"color": colour, "markersize": size, "linestyle": "none"}
            axes.plot([], [], shape, label=name, **style)
            self.marks += axes.plot([0], [1.13], shape, animated=True, **style)
        (self.needle,) = axes.plot(
            [0, 0], [0, 1], color=plots.FUSED, linewidth=6, solid_capstyle="round", animated=True
        )
        axes.plot([], [], color=plots.FUSED, linewidth=6, label="v = αf + βg")
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.1)}
        axes.legend(ncols=2, frameon=False, fontsize=10, **place)

    def draw(
        self,
        alpha: float,
        beta: float,
        f: float | None,
        g: float | None,
        v: float,
        m: float,
        path: list[tuple[float, float]] = (),
    ) -> bytes:
        """The picture for these numbers, as the bytes of a PNG file. A missing reading is None."""
        self.point.set_data([alpha], [beta])
        self.path.set_data([a for a, _ in path], [b for _, b in path])
        for mark, value, radius in zip(self.marks, (f, g, m), (1.13, 1.13, 1.0), strict=True):
            mark.set_visible(value is not None)
            x, y = dial_point(value or 0.0, radius)
            mark.set_data([x], [y])
        x, y = dial_point(v, 0.88)
        self.needle.set_data([0, x], [0, y])
        return self.draw_moving()


class Best:
    """The exact best weights on some cards; None for a witness that is switched off."""

    def __init__(self, alpha: float | None, beta: float | None):
        self.alpha, self.beta = alpha, beta


def best_of(f: Tensor, g: Tensor, m: Tensor) -> Best:
    """Least squares, also when one reading (or both) is constant because it is switched off."""
    on_f, on_g = (bool(reading.var(correction=0) > 1e-12) for reading in (f, g))
    if on_f and on_g:
        weights = fusion.best_weights(f, g, m)
        return Best(weights.alpha, weights.beta)
    m = m - m.mean()
    alone = [
        float(((reading - reading.mean()) * m).mean() / reading.var(correction=0)) if on else None
        for reading, on in ((f, on_f), (g, on_g))
    ]
    return Best(*alone)
