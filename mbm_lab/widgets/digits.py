"""A digit, seen and heard (lesson 12)."""

from __future__ import annotations

import torch

from mbm_lab import fusion, plots, real_data, training
from mbm_lab.widgets.drawing import MovingFigure, png_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture, Slider


class DigitsPlayground(Panel):
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
        learned = [round(model.fusion.alpha.item(), 2), round(model.fusion.beta.item(), 2)]
        self.alpha, self.beta = (
            Slider(description=letter, value=value, min=0, max=2, step=0.05)
            for letter, value in zip("αβ", learned, strict=True)
        )
        self.pair = IntSlider(description="pair", min=0, max=len(pairs.digits) - 1)
        self.picture, self.plot, self.text = Picture(), Picture(), Line()
        self._draw_background()
        for slider in (self.alpha, self.beta, self.pair):
            slider.observe(self._update, "value")
        self._update()
        super().__init__([self.alpha, self.beta], self.pair, [self.picture, self.plot], self.text)

    def pictures(self) -> list[bytes]:
        return [self.picture.value, self.plot.value]

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
        self.picture.alt = f"Pair {pair}: a written digit, and beside it the sound of a spoken one."
        self.picture.value = png_bytes(grey[..., None].repeat(3, 2))
        self.plot.value = self.drawing.draw_moving()
        read = int(likely.argmax())
        self.plot.alt = f"Bars: the probability of each digit. The highest is {read}."
        self.text.value = (
            f"α = {alpha:.2f}, β = {beta:.2f}: pair {pair} is a {self.pairs.digits[pair]}, read as "
            f"{read} (probability {likely[read]:.2f}). Of all {len(self.f):,} pairs "
            f"{right:.2f} are right."
        )
