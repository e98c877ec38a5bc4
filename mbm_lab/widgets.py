"""Figures that you can move: sliders for α and β (lessons 00 and 04).

Each figure is drawn once. When a slider moves, only the parts that changed are drawn again over the
stored background, and the result is handed to the browser as a picture. A line of text always says
the same as the picture, for screen readers and for tests.
"""

from __future__ import annotations

import html
import io

import ipywidgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mbm_lab import datasets, fusion, plots, training, welcome

GRID = torch.linspace(-0.5, 1.25, 71)
"""The values of α and of β that the error surface shows."""


def png_bytes(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 pixels as a PNG file, packed fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


class FusionFigure:
    """The error surface over (α, β) beside the scale of moods, drawn once and then updated.

    Lesson 04.
    """

    def __init__(self, f: Tensor, g: Tensor, m: Tensor):
        self.figure = Figure(figsize=(8.4, 3.6), dpi=80)
        self.canvas = FigureCanvasAgg(self.figure)
        surface_axes, mood_axes = self.figure.subplots(1, 2, width_ratios=(1, 1.25))
        self._draw_surface(surface_axes, f, g, m)
        self._draw_scale(mood_axes)
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)

    def _draw_surface(self, axes, f: Tensor, g: Tensor, m: Tensor) -> None:
        errors = fusion.error_surface(f, g, m, GRID, GRID)
        levels = np.geomspace(float(errors.min()) * 1.05, float(errors.max()), 12)
        axes.contourf(GRID, GRID, errors, levels=[float(errors.min()), *levels], cmap="viridis_r")
        best = fusion.best_weights(f, g, m)
        axes.plot(best.alpha, best.beta, "*", color="white", markeredgecolor="black", markersize=16)
        axes.set(xlabel="α (picture)", ylabel="β (message)", title="error: dark is large")
        axes.grid(False)
        (self.point,) = axes.plot(
            [0], [0], "o", color=plots.FUSED, markeredgecolor="black", markersize=12, animated=True
        )

    def _draw_scale(self, axes) -> None:
        axes.set(
            xlim=(-1.15, 1.15),
            ylim=(-0.6, 3.6),
            xlabel="sad   ←   mood   →   happy",
            title="one card",
        )
        axes.set_yticks([0, 1, 2, 3], ["mood m", "v = αf + βg", "message g", "picture f"])
        axes.axvline(0, color=plots.GREY, linewidth=1)
        self.marks = []
        for height, colour, marker in (
            (3, plots.PICTURE, "^"),
            (2, plots.MESSAGE, "s"),
            (0, plots.TRUTH, "*"),
        ):
            self.marks += axes.plot(
                [0], [height], marker, color=colour, markersize=14, animated=True
            )
        (self.needle,) = axes.plot(
            [0, 0],
            [1, 1],
            "-",
            color=plots.FUSED,
            linewidth=9,
            solid_capstyle="butt",
            animated=True,
        )

    def draw(self, alpha: float, beta: float, f: float, g: float, v: float, m: float) -> bytes:
        """The picture for these numbers, as the bytes of a PNG file."""
        self.canvas.restore_region(self.background)
        self.point.set_data([alpha], [beta])
        for mark, value in zip(self.marks, (f, g, m), strict=True):
            mark.set_xdata([value])
        self.needle.set_xdata([0, max(-1.1, min(1.1, v))])
        for artist in (self.point, *self.marks, self.needle):
            artist.axes.draw_artist(artist)
        return png_bytes(np.asarray(self.canvas.buffer_rgba())[..., :3])


class FusionPlayground(ipywidgets.VBox):
    """Sliders α and β over one postcard: picture, message, both readings, v, the mood, the error
    surface.

    cards: postcards with images; f, g: (N,) the readers' readings of them. Without arguments it
    shows the first 100 test cards, read by the stored readers. Use the sliders with the mouse, or
    with Tab and arrow keys.
    """

    def __init__(
        self,
        cards: datasets.Postcards | None = None,
        f: Tensor | None = None,
        g: Tensor | None = None,
    ):
        if cards is None:
            cards = datasets.load_postcards("test")[:100]
            f, g = welcome.read(cards, *welcome.load_readers(), welcome.load_vocabulary())
        if f is None or g is None or not len(cards) == len(f) == len(g):
            raise ValueError(
                "FusionPlayground needs one reading f and one reading g for each card."
            )
        self.cards, self.f, self.g, self.index = cards, f, g, 0
        best = fusion.best_weights(f, g, cards.mood)
        self.drawing = FusionFigure(f, g, cards.mood)

        slider = {"min": -0.5, "max": 1.25, "step": 0.01, "readout_format": ".2f"}
        self.alpha = ipywidgets.FloatSlider(value=1.0, description="α picture", **slider)
        self.beta = ipywidgets.FloatSlider(value=1.0, description="β message", **slider)
        self.next = ipywidgets.Button(description="Next card", tooltip="Show the next postcard")
        self.disagree = ipywidgets.Button(
            description="Witnesses disagree", tooltip="Show a card whose picture and message differ"
        )
        self.to_best = ipywidgets.Button(
            description="Best α and β", tooltip="Move both sliders to the best point"
        )
        self.picture = ipywidgets.Image(format="png", layout={"width": "170px", "height": "170px"})
        self.message = ipywidgets.HTML()
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()

        self.alpha.observe(self._update, "value")
        self.beta.observe(self._update, "value")
        self.next.on_click(lambda _: self.show_card((self.index + 1) % len(self.cards)))
        self.disagree.on_click(lambda _: self.show_card(self._next_disagreement()))
        self.to_best.on_click(lambda _: self.set(round(best.alpha, 2), round(best.beta, 2)))
        self.show_card(0)
        super().__init__(
            [
                ipywidgets.HBox([self.alpha, self.beta]),
                ipywidgets.HBox([self.next, self.disagree, self.to_best]),
                ipywidgets.HBox(
                    [
                        ipywidgets.VBox([self.picture, self.message], layout={"width": "200px"}),
                        self.plot,
                    ]
                ),
                self.text,
            ]
        )

    def set(self, alpha: float, beta: float) -> None:
        """Moves both sliders and draws once."""
        self.alpha.unobserve(self._update, "value")
        self.alpha.value = alpha
        self.alpha.observe(self._update, "value")
        if self.beta.value == beta:
            self._update()
        self.beta.value = beta

    def show_card(self, index: int) -> None:
        """Shows the card at this place of `cards`."""
        self.index = index
        pixels = (self.cards.images[index].permute(1, 2, 0) * 255).round().byte().numpy()
        self.picture.value = png_bytes(pixels)
        self.message.value = (
            f"<p style='line-height:1.3'>{html.escape(self.cards.messages[index])}</p>"
        )
        self._update()

    def v(self) -> Tensor:
        """The fused reading of every card at the sliders' α and β: (N,)."""
        return fusion.weighted_sum(self.f, self.g, self.alpha.value, self.beta.value)

    def _next_disagreement(self) -> int:
        gaps = (self.f - self.g).abs()
        strong = (gaps >= gaps.quantile(0.9)).nonzero()[:, 0].tolist()
        return next((index for index in strong if index > self.index), strong[0])

    def _update(self, _change: dict | None = None) -> None:
        fused, i = self.v(), self.index
        f, g, v, m = (float(values[i]) for values in (self.f, self.g, fused, self.cards.mood))
        self.plot.value = self.drawing.draw(self.alpha.value, self.beta.value, f, g, v, m)
        r2 = training.r_squared(fused, self.cards.mood)
        self.text.value = (
            f"Card {i + 1}: picture f = {f:.2f}, message g = {g:.2f}, "
            f"v = {self.alpha.value:.2f} · f + {self.beta.value:.2f} · g = {v:.2f}, "
            f"mood m = {m:.2f}. Over all {len(self.cards)} cards: R² = {r2:.2f}."
        )
