"""The next word of a caption (lesson 06)."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab import captioning, plots, preprocessing, training, writing
from mbm_lab.device import lent
from mbm_lab.widgets.drawing import image_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture
from mbm_lab.widgets.words import WordBars


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
        self.likely = WordBars(vocabulary, self.BARS, plots.PICTURE, "probability of the next word")
        self.card.observe(self._read, "value")
        self.count.observe(self._update, "value")
        self._read()
        super().__init__([self.count, self.card], [self.picture, self.plot], self.text)

    def pictures(self) -> list[bytes]:
        return [self.picture.value, self.plot.value]

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
        self.chances = scores.softmax(1)
        self.picture.value = image_bytes(image, 240)
        self.picture.alt = f"Card {self.card.value}."
        self.count.max = len(self.words)
        self._update()

    def _update(self, _change: dict | None = None) -> None:
        count = min(self.count.value, len(self.words))
        self.plot.value, told = self.likely.show(self.chances[count])
        so_far = " ".join(self.vocabulary.words[word] for word in self.words[:count])
        self.plot.alt = f"Bars: the likeliest next words are {', '.join(told)}."
        place = f"After “{so_far}”" if so_far else "At the beginning of the caption"
        self.text.value = f"{place}: {', '.join(told[:3])}."
