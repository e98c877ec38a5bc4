"""A learning rate, and the path that gradient descent then takes (lesson 05)."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from mbm_lab import fusion, plots
from mbm_lab.widgets.drawing import MovingFigure
from mbm_lab.widgets.fusion_figure import GRID
from mbm_lab.widgets.parts import Line, LogSlider, Panel, Picture


class LearningRatePlayground(Panel):
    """One slider, the learning rate, and the path that gradient descent then takes.

    f, g, m: (N,) readings and mood. 100 steps from α = 1.2, β = 0.4, over the error surface.
    """

    STEPS, START = 100, (1.2, 0.4)

    def __init__(self, f: Tensor, g: Tensor, m: Tensor):
        self.f, self.g, self.m = (values - values.mean() for values in (f, g, m))
        self.best = fusion.best_weights(f, g, m)
        self.rate = LogSlider(
            value=0.05, min=-2, max=1, step=0.02, description="learning rate", readout_format=".3f"
        )
        self.plot, self.text = Picture(), Line()
        self._draw_background()
        self.rate.observe(self._update, "value")
        self._update()
        super().__init__(self.rate, self.plot, self.text)

    def pictures(self) -> list[bytes]:
        return [self.plot.value]

    def _draw_background(self) -> None:
        self.drawing = MovingFigure(9.0, 3.9)
        surface, curve = self.drawing.figure.subplots(1, 2)
        self.drawing.figure.subplots_adjust(left=0.11, right=0.98, bottom=0.15, top=0.9, wspace=0.3)
        errors = fusion.error_surface(self.f, self.g, self.m, GRID, GRID)
        least, most = float(errors.min()), float(errors.max())
        levels = least + (most - least) * np.linspace(0, 1, 13) ** 2
        surface.contourf(GRID, GRID, errors, levels=levels, cmap="viridis_r")
        star = {"color": "white", "markeredgecolor": "black", "markersize": 16}
        surface.plot(self.best.alpha, self.best.beta, "*", **star)
        limits = (float(GRID[0]), float(GRID[-1]))
        surface.set(xlabel="α", ylabel="β", title="the path", xlim=limits, ylim=limits)
        surface.grid(False)
        curve.set(xlabel="step", ylabel="error", xlim=(0, self.STEPS), ylim=(0.01, 10))
        curve.set(yscale="log", title="the error, step by step")
        (path,) = surface.plot([], [], "o-", color="white", markeredgecolor="black", animated=True)
        (line,) = curve.plot([], [], "-", color=plots.FUSED, linewidth=2.5, animated=True)
        self.drawing.moving = [path, line]
        self.drawing.keep_background()

    def walk(self) -> Tensor:
        """The path at the present learning rate: (STEPS + 1, 2)."""
        path = fusion.descend(
            self.f, self.g, self.m, self.START, learning_rate=self.rate.value, steps=self.STEPS
        )
        return path[:, :2]

    def _update(self, _change: dict | None = None) -> None:
        walk = self.walk()
        alphas, betas = walk[:, 0], walk[:, 1]
        errors = (
            (alphas[:, None] * self.f + betas[:, None] * self.g - self.m).square().mean(1)
        ).tolist()
        path, line = self.drawing.moving
        near = walk.abs().amax(1) < 1e6  # matplotlib cannot place points that flew too far
        path.set_data(alphas[near], betas[near])
        line.set_data(range(len(errors)), np.clip(errors, 1e-6, 1e6))
        self.plot.value = self.drawing.draw_moving()
        far = math.dist(walk[-1].tolist(), self.best[:2])
        end = "it flies away" if errors[-1] > errors[0] else "it has arrived"
        if errors[-1] <= errors[0] and far > 0.01:
            end = f"it is still {far:.2f} away from the best point"
        self.plot.alt = (
            f"Left: the path over α and β, where {end}; a star marks the best point. "
            f"Right: the error, step by step, from {errors[0]:.3g} to {errors[-1]:.3g}."
        )
        self.text.value = (
            f"Learning rate {self.rate.value:.3f}: after {self.STEPS} steps "
            f"α = {float(alphas[-1]):.3g}, β = {float(betas[-1]):.3g}, error {errors[-1]:.3g}; "
            f"{end}."
        )
