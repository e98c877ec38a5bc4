"""A sentence, read word by word (lesson 03)."""

from __future__ import annotations

import ipywidgets
import torch

from mbm_lab import cnn, plots, preprocessing, rnn
from mbm_lab.widgets.drawing import MovingFigure
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture


class SentencePlayground(Panel):
    """Write a sentence, move a slider over its words, and see what g reads so far.

    reader: g, with a TextEncoder inside; vocabulary: its words.
    """

    FIRST = "The food was awful but the sea was not really terrible."

    def __init__(self, reader: cnn.Reader, vocabulary: preprocessing.Vocabulary):
        self.reader, self.vocabulary = reader.eval(), vocabulary
        self.sentence = ipywidgets.Text(
            value=self.FIRST, description="sentence", continuous_update=False
        )
        self.count = IntSlider(description="words read", min=1, max=1)
        self.plot, self.text = Picture(), Line()
        self.drawing = MovingFigure(9.0, 3.4)
        self.drawing.figure.subplots_adjust(left=0.1, right=0.98, bottom=0.28, top=0.95)
        self.axes = self.drawing.figure.subplots()
        self.sentence.observe(self._read, "value")
        self.count.observe(self._update, "value")
        self._read()
        super().__init__(self.sentence, self.count, self.plot, self.text)

    def pictures(self) -> list[bytes]:
        return [self.plot.value]

    def _read(self, _change: dict | None = None) -> None:
        """Reads a new sentence once; the slider then only shows how far."""
        tokens = preprocessing.tokenize(self.sentence.value if self.sentence.value.strip() else ".")
        if tokens and tokens[-1] == ".":
            tokens = tokens[:-1]
        self.words = tokens or ["."]
        y = torch.tensor([self.vocabulary.encode(self.words)])
        with torch.no_grad():
            self.readings = rnn.read_along(self.reader, y, self.vocabulary.index["."])[0]
        self._draw_background()
        self.count.max = len(self.words)
        self.count.value = len(self.words)
        self._update()

    def _draw_background(self) -> None:
        axes = self.axes
        axes.clear()
        places = range(1, len(self.words) + 1)
        known = [word if word in self.vocabulary.index else f"({word})" for word in self.words]
        axes.set_xticks(places, known, rotation=30, ha="right")
        axes.set(ylim=(-1.1, 1.1), xlim=(0.5, len(self.words) + 0.5))
        axes.set_ylabel("reading, if it ended here")
        axes.axhline(0, color=plots.TRUTH, linewidth=1)
        axes.plot(places, self.readings, "o", color=plots.GREY, alpha=0.4)
        (line,) = axes.plot([], [], "o-", color=plots.MESSAGE, linewidth=2.5, animated=True)
        self.drawing.moving = [line]
        self.drawing.keep_background()

    def _update(self, _change: dict | None = None) -> None:
        count = min(self.count.value, len(self.words))
        (line,) = self.drawing.moving
        line.set_data(range(1, count + 1), self.readings[:count])
        self.plot.value = self.drawing.draw_moving()
        unknown = [word for word in self.words if word not in self.vocabulary.index]
        note = f" Unknown to g, in brackets: {', '.join(unknown)}." if unknown else ""
        self.plot.alt = (
            f"The reading after each of the first {count} words: "
            f"{', '.join(f'{reading:.2f}' for reading in self.readings[:count].tolist())}."
        )
        self.text.value = (
            f"After {count} of {len(self.words)} words, “{' '.join(self.words[:count])}”: "
            f"reading {float(self.readings[count - 1]):.2f}.{note}"
        )
