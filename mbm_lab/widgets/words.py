"""Bars of the likeliest words (lessons 06 and 13)."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab import plots, preprocessing
from mbm_lab.widgets.drawing import MovingFigure


class WordBars:
    """A bar for each of the likeliest words, drawn over and over.

    vocabulary: the words; count: how many bars; colour: theirs; label: what stands under the axis.
    Figures hold no Chinese, so Chinese words get no bar.
    """

    def __init__(self, vocabulary: preprocessing.Vocabulary, count: int, colour: str, label: str):
        self.names = list(vocabulary.words)
        self.names[preprocessing.EOS] = "(end)"
        self.english = torch.tensor([word.isascii() for word in vocabulary.words])
        self.drawing = MovingFigure(6.2, 3.2)
        axes = self.drawing.figure.subplots()
        self.drawing.figure.subplots_adjust(left=0.24, right=0.95, bottom=0.2, top=0.95)
        axes.set(xlim=(0, 1), ylim=(count - 0.5, -0.5), yticks=[], xlabel=label)
        self.bars = list(axes.barh(range(count), [0.0] * count, color=colour, animated=True))
        style = {"ha": "right", "va": "center", "fontsize": 14, "animated": True}
        self.labels = [axes.text(-0.02, row, "", **style) for row in range(count)]
        self.drawing.moving = [*self.bars, *self.labels]
        self.drawing.keep_background()

    def show(self, chances: Tensor) -> tuple[bytes, list[str]]:
        """Probabilities of all words (V,) to the bytes of a PNG file, and the likeliest words with
        theirs, such as "red 0.98". A word of probability 0 is left out."""
        told = []
        likely = (chances * self.english).topk(len(self.bars))
        for bar, label, p, word in zip(self.bars, self.labels, *likely, strict=True):
            bar.set_width(float(p))
            label.set_text(plots.plain(self.names[word]) if p > 0 else "")
            told += [f"{self.names[word]} {float(p):.2f}"] if p > 0 else []
        return self.drawing.draw_moving(), told
