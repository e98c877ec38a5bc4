"""A digit, seen and heard (lesson 12)."""

from __future__ import annotations

import ipywidgets
import torch

from mbm_lab import fusion, plots, real_data, training
from mbm_lab.widgets.drawing import MovingFigure, png_bytes, spoken


class DigitsPlayground(ipywidgets.VBox):
    """Sliders α and β over real digits, seen and heard, and what v = αf + βg reads.

    model: trained, with a weighted sum; pairs: test pairs.
    """

    def __init__(self, model: fusion.MultimodalModel, pairs: real_data.Pairs):
        self.pairs = pairs
        self.f, self.g = (
            training.predict(encoder, pairs.inputs[name])
            for name, encoder in model.encoders.items()
        )  # (N, 32) each
        self.head = model.head
        style = {"layout": {"width": "420px"}, "style": {"description_width": "60px"}}
        weight = {"min": 0.0, "max": 2.0, "step": 0.05, **style}
        learned = [model.fusion.alpha.item(), model.fusion.beta.item()]
        self.alpha = ipywidgets.FloatSlider(value=round(learned[0], 2), description="α", **weight)
        self.beta = ipywidgets.FloatSlider(value=round(learned[1], 2), description="β", **weight)
        last = len(pairs.digits) - 1
        self.pair = ipywidgets.IntSlider(description="pair", min=0, max=last, **style)
        self.picture = ipywidgets.Image(format="png")
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        self._draw_background()
        for slider in (self.alpha, self.beta, self.pair):
            slider.observe(self._update, "value")
        self._update()
        weights = ipywidgets.HBox([self.alpha, self.beta])
        super().__init__(
            [weights, self.pair, ipywidgets.HBox([self.picture, self.plot]), self.text]
        )

    def _draw_background(self) -> None:
        self.drawing = MovingFigure(5.6, 2.6)
        axes = self.drawing.figure.subplots()
        self.drawing.figure.subplots_adjust(left=0.13, right=0.97, bottom=0.24, top=0.95)
        axes.set(xticks=range(10), ylim=(0, 1), xlabel="digit", ylabel="probability")
        self.bars = list(axes.bar(range(10), [0.0] * 10, color=plots.FUSED, animated=True))
        self.drawing.moving = self.bars
        self.drawing.keep_background()

    def _update(self, _change: dict | None = None) -> None:
        alpha, beta, pair = self.alpha.value, self.beta.value, self.pair.value
        v = fusion.weighted_sum(self.f, self.g, alpha, beta)
        scores = training.predict(self.head, v)  # (N, 10)
        right = (scores.argmax(1) == self.pairs.digits).float().mean().item()
        likely = scores[pair].softmax(0)
        for bar, p in zip(self.bars, likely.tolist(), strict=True):
            bar.set_height(p)
        seen, heard = (self.pairs.inputs[name][pair, 0] for name in ("image", "sound"))
        both = torch.cat([seen, torch.ones(64, 4), heard.flip(0)], 1).clamp(0, 1)  # low notes below
        grey = (both * 255).byte().numpy().repeat(3, 0).repeat(3, 1)
        self.picture.value = png_bytes(grey[..., None].repeat(3, 2))
        self.plot.value = self.drawing.draw_moving()
        read = int(likely.argmax())
        self.said = (
            f"α = {alpha:.2f}, β = {beta:.2f}: pair {pair} is a {self.pairs.digits[pair]}, read as "
            f"{read} (probability {likely[read]:.2f}). Of all {len(self.f):,} pairs "
            f"{right:.2f} are right."
        )
        self.text.value = spoken(self.said)
