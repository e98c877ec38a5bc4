"""One model's answers under α and β, and its next word under temperature and top-p (lesson 13)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mbm_lab import one_model, plots, preprocessing, training, writing
from mbm_lab.device import device_of
from mbm_lab.preprocessing import BOS, EOS
from mbm_lab.widgets.drawing import MovingFigure, image_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture, Slider
from mbm_lab.widgets.waiting import Later
from mbm_lab.widgets.words import WordBars


class TokensPlayground(Panel):
    """α scales the tokens of the picture, β those of the words; bars show what the model answers.

    model: a trained one; vocabulary: its words; images: (N, 3, 64, 64); picture: their patches,
    (N, 16, 128). task: "<ask>" or "<mood>", whose answers are one word; texts: N questions or
    messages. true: the N true answers, as `one_model` writes them, if you know them.
    """

    BARS = 5

    def __init__(
        self,
        model: one_model.OneModel,
        vocabulary: preprocessing.Vocabulary,
        images: Tensor,
        picture: Tensor,
        task: str,
        texts: Sequence[str],
        true: Sequence[str] | None = None,
    ):
        self.model, self.vocabulary, self.images = model, vocabulary, images
        self.task, self.texts, self.true = task, list(texts), true
        self.inputs = one_model.ask(model, task, {"picture": picture}, vocabulary, self.texts)
        self.moods = vocabulary.encode(one_model.MOODS) if task == "<mood>" else []
        self.alpha, self.beta = (
            Slider(description=letter, value=1, min=0, max=2, step=0.05) for letter in "αβ"
        )
        self.card = IntSlider(description="card", min=0, max=len(images) - 1)
        self.picture, self.plot, self.text = Picture(), Picture(), Line()
        if self.moods:
            self._draw_moods()
        else:
            self.likely = WordBars(vocabulary, self.BARS, plots.FUSED, "probability of the answer")
        self.card.observe(self._show_card, "value")
        for slider in (self.alpha, self.beta):
            slider.observe(self._update, "value")
        self._show_card()
        controls = [self.alpha, self.beta], [self.card]
        super().__init__(*controls, [self.picture, self.plot], self.text)

    def pictures(self) -> list[bytes]:
        return [self.picture.value, self.plot.value]

    def _draw_moods(self) -> None:
        self.drawing = MovingFigure(6.2, 3.2)
        axes = self.drawing.figure.subplots()
        self.drawing.figure.subplots_adjust(left=0.13, right=0.95, bottom=0.2, top=0.95)
        axes.set(xlim=(-1.1, 1.1), ylim=(0, 1), xticks=(-1, -0.5, 0, 0.5, 1))
        axes.set(xlabel="the mood that it answers", ylabel="probability")
        values, style = one_model.MOOD_VALUES.tolist(), {"color": plots.FUSED, "animated": True}
        self.bars = list(axes.bar(values, [0.0] * len(values), width=0.08, **style))
        self.drawing.moving = self.bars
        self.drawing.keep_background()

    def _show_card(self, _change: dict | None = None) -> None:
        self.picture.value = image_bytes(self.images[self.card.value], 240)
        self.picture.alt = f"Card {self.card.value}."
        self._update()

    def chances(self) -> Tensor:
        """The probability of each word as the answer to the card, under α and β: (V,)."""
        row = slice(self.card.value, self.card.value + 1)
        inputs = {name: values[row] for name, values in self.inputs.items()}
        kept = self.model.alpha, self.model.beta
        self.model.alpha, self.model.beta = self.alpha.value, self.beta.value
        try:
            scores = one_model.first_scores(self.model, inputs)
        finally:
            self.model.alpha, self.model.beta = kept
        return scores[0].softmax(0)

    def _update(self, _change: dict | None = None) -> None:
        chances = self.chances()
        told = self._show_moods(chances) if self.moods else self._show_likeliest(chances)
        card = self.card.value
        known = f" True: {self.true[card]}." if self.true else ""
        self.text.value = (
            f"α = {self.alpha.value:.2f}, β = {self.beta.value:.2f}: “{self.texts[card]}” {told}"
            f"{known}"
        )

    def _show_likeliest(self, chances: Tensor) -> str:
        self.plot.value, told = self.likely.show(chances)
        self.plot.alt = f"Bars: the likeliest answers are {', '.join(told)}."
        return f"{', '.join(told[:3])}."

    def _show_moods(self, chances: Tensor) -> str:
        moods = chances[self.moods] / chances[self.moods].sum()  # (21,)
        for bar, p in zip(self.bars, moods.tolist(), strict=True):
            bar.set_height(p)
        self.plot.value = self.drawing.draw_moving()
        mean, likeliest = float(moods @ one_model.MOOD_VALUES), one_model.MOODS[int(moods.argmax())]
        self.plot.alt = (
            f"Bars over the moods from -1 to 1: the highest stands at {likeliest[1:-1]}."
        )
        return f"mood {mean:.2f}, likeliest {likeliest}."


class SamplingPlayground(Panel):
    """Temperature and top-p: which next words are drawn from, and what sentences come of it.

    model: a trained one; vocabulary: its words; images: (N, 3, 64, 64); picture: their patches,
    (N, 16, 128). The scores of a card's caption are computed once; the sliders then only change
    what is made of them. The sentences come a moment later, once for the newest values.
    """

    BARS, SENTENCES, PAUSE, TASK = 6, 4, 0.15, "<caption en>"

    def __init__(
        self,
        model: one_model.OneModel,
        vocabulary: preprocessing.Vocabulary,
        images: Tensor,
        picture: Tensor,
    ):
        self.model, self.vocabulary, self.images = model, vocabulary, images
        self.inputs = one_model.ask(model, self.TASK, {"picture": picture}, vocabulary)
        self.temperature = Slider(description="temperature", value=1, min=0.1, max=3, step=0.1)
        self.top_p = Slider(description="top-p", value=1, min=0.05, max=1, step=0.05)
        self.count = IntSlider(description="words written", min=0, max=1)
        self.card = IntSlider(description="card", min=0, max=len(images) - 1)
        self.picture, self.plot, self.text = Picture(), Picture(), Line()
        self._later = Later(self._draw_sentences, self.PAUSE)
        label = "probability that it is drawn"
        self.likely = WordBars(vocabulary, self.BARS, plots.FUSED, label)
        self.card.observe(self._read, "value")
        for slider in (self.temperature, self.top_p, self.count):
            slider.observe(self._update, "value")
        self._read()
        controls = [self.temperature, self.top_p], [self.count, self.card]
        super().__init__(*controls, [self.picture, self.plot], self.text)

    @property
    def said(self) -> str:
        if self._later.waits:
            self._draw_sentences()
        return self.text.value

    def pictures(self) -> list[bytes]:
        return [self.picture.value, self.plot.value]

    def _read(self, _change: dict | None = None) -> None:
        """Writes the card's caption once, greedily, and keeps the scores of each next word."""
        row = slice(self.card.value, self.card.value + 1)
        here = device_of(self.model)
        inputs = {name: values[row].to(here) for name, values in self.inputs.items()}
        with training.evaluating(self.model):
            self.state = self.model.start(inputs)
            written = writing.greedy(self.model, self.state)[0].tolist()
            self.words = [word for word in written if word > EOS]
            state, scores = self.state, []
            for word in (BOS, *self.words):
                now, state = self.model.step(torch.tensor([word], device=here), state)
                scores.append(now[0].cpu())
        self.scores = torch.stack(scores)  # (T + 1, V)
        self.picture.value = image_bytes(self.images[self.card.value], 240)
        self.picture.alt = f"Card {self.card.value}."
        self.count.max = len(self.words)
        self._update()

    def chances(self) -> Tensor:
        """With which probability each word is drawn next: (V,)."""
        count = min(self.count.value, len(self.words))
        warmed = (self.scores[count] / self.temperature.value).softmax(0)
        return writing.likeliest(warmed[None], self.top_p.value)[0]

    def _update(self, _change: dict | None = None) -> None:
        count = min(self.count.value, len(self.words))
        chances = self.chances()
        self.plot.value, told = self.likely.show(chances)
        self.plot.alt = f"Bars: the likeliest next words are {', '.join(told)}."
        so_far = " ".join(self.vocabulary.words[word] for word in self.words[:count])
        place = f"Written: “{so_far}”" if so_far else "Nothing is written yet"
        possible = int((chances > 0).sum())
        self._next = f"{place}. Next, of {possible} words: {', '.join(told[:3])}."
        self.text.value = self._next
        if not self._later.ask():
            self._draw_sentences()

    def _draw_sentences(self) -> None:
        """Draws whole sentences of the card, under these settings."""
        self._later.cancel()
        state = tuple(values.repeat_interleave(self.SENTENCES, 0) for values in self.state)
        settings = {"temperature": self.temperature.value, "top_p": self.top_p.value}
        with training.evaluating(self.model):
            drawn = writing.sample(self.model, state, **settings)
        self.drawn = writing.read_out(drawn.cpu(), self.vocabulary, "en")
        self.text.value = f"{self._next} Drawn: “{'”, “'.join(self.drawn)}”."
