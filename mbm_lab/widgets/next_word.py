"""The next word of a caption (lesson 06)."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab import captioning, plots, preprocessing, training, writing
from mbm_lab.device import lent
from mbm_lab.widgets.drawing import MovingFigure, image_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture


class NextWordPlayground(Panel):
    """Two sliders, a card and how many words are written, and what may come next.

    captioner: a trained one; vocabulary: its words; images: (N, 3, 64, 64), one for each card.
    """

    BARS = 5

    def __init__(
        self,
        captioner: captioning.Captioner,
        vocabulary: preprocessing.Vocabulary,
        images: Tensor,
    ):
        self.captioner, self.vocabulary, self.images = captioner.eval(), vocabulary, images
        self.count = IntSlider(description="words written", min=0, max=1)
        self.card = IntSlider(description="card", min=0, max=len(images) - 1)
        self.picture, self.plot, self.text = Picture(), Picture(), Line()
        self._draw_background()
        self.card.observe(self._read, "value")
        self.count.observe(self._update, "value")
        self._read()
        super().__init__([self.count, self.card], [self.picture, self.plot], self.text)

    def pictures(self) -> list[bytes]:
        return [self.picture.value, self.plot.value]

    def _draw_background(self) -> None:
        self.drawing = MovingFigure(6.2, 3.2)
        axes = self.drawing.figure.subplots()
        self.drawing.figure.subplots_adjust(left=0.24, right=0.95, bottom=0.2, top=0.95)
        axes.set(xlim=(0, 1), ylim=(self.BARS - 0.5, -0.5), yticks=[])
        axes.set_xlabel("probability of the next word")
        bars = axes.barh(range(self.BARS), [0.0] * self.BARS, color=plots.PICTURE, animated=True)
        style = {"ha": "right", "va": "center", "fontsize": 14, "animated": True}
        labels = [axes.text(-0.02, row, "", **style) for row in range(self.BARS)]
        self.bars, self.labels = list(bars), labels
        self.drawing.moving = [*bars, *labels]
        self.drawing.keep_background()

    @torch.no_grad()
    def _read(self, _change: dict | None = None) -> None:
        """Writes the card's caption once; the sliders then only show how far."""
        image = self.images[self.card.value]
        decoder, start = self.captioner.decoder, self.vocabulary.index[writing.START["en"]]
        features = training.predict(self.captioner.encoder, image[None])
        written = writing.greedy(decoder, decoder.start(features), start)[0].tolist()
        self.words = [word for word in written if word > preprocessing.EOS]
        with lent(decoder, features.device), training.evaluating(decoder):
            scores = decoder(features, torch.tensor([[start, *self.words]]))[0]  # (T + 1, V)
        english = torch.tensor([word.isascii() for word in self.vocabulary.words])
        self.likely = (scores.softmax(1) * english).topk(self.BARS)  # figures hold no Chinese
        self.picture.value = image_bytes(image, 240)
        self.picture.alt = f"Card {self.card.value}."
        self.count.max = len(self.words)
        self._update()

    def _update(self, _change: dict | None = None) -> None:
        count = min(self.count.value, len(self.words))
        names = self.vocabulary.words
        told = []
        likely = zip(self.likely.values[count], self.likely.indices[count], strict=True)
        for bar, label, (p, word) in zip(self.bars, self.labels, likely, strict=True):
            name = "(end)" if word == preprocessing.EOS else names[word]
            bar.set_width(float(p))
            label.set_text(name)
            told.append(f"{name} {float(p):.2f}")
        self.plot.value = self.drawing.draw_moving()
        so_far = " ".join(names[word] for word in self.words[:count])
        self.plot.alt = f"Bars: the likeliest next words are {', '.join(told)}."
        place = f"After “{so_far}”" if so_far else "At the beginning of the caption"
        self.text.value = f"{place}: {', '.join(told[:3])}."
