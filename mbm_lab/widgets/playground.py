"""α and β (lessons 00 and 04): sliders over one postcard and its two witnesses."""

from __future__ import annotations

import html
import math
from collections.abc import Callable

import ipywidgets
import torch
from torch import Tensor

from mbm_lab import datasets, fusion, training, welcome
from mbm_lab.widgets.drawing import image_bytes, spoken
from mbm_lab.widgets.fusion_figure import FusionFigure, best_of
from mbm_lab.widgets.waiting import Later, is_echo
from mbm_lab.widgets.witnesses import Witnesses

LATER = 0.12
"""Seconds after which what needs the encoders is computed, once, for the newest settings."""

BETWEEN_STEPS = 0.1
"""Seconds from one step of training to the next."""


class FusionPlayground(ipywidgets.VBox):
    """Sliders α and β over one postcard, its two witnesses, v, the mood, and the error surface.

    cards: postcards with images; f, g: (N,) the readings of them by the stored readers. Without
    arguments it shows the first 100 test cards. Picture noise and word dropout make the witnesses
    worse: the readers then read again, a moment later. "Train" walks down by gradient descent, step
    by step, and can be paused. Use everything with the mouse, or with Tab, arrow keys and Space.
    `said` holds the line of text.

    Raises ValueError when there is not one f and one g for each card.
    """

    def __init__(
        self,
        cards: datasets.Postcards | None = None,
        f: Tensor | None = None,
        g: Tensor | None = None,
        dpi: int = 80,
    ):
        *readers, vocabulary = welcome.load_readers()
        if cards is None:
            cards = datasets.load_postcards("test")[:100]
            f, g = welcome.read(cards, *readers, vocabulary)
        if f is None or g is None or not len(cards) == len(f) == len(g):
            raise ValueError(
                "FusionPlayground needs one reading f and one reading g for each card."
            )
        self.cards, self.index = cards, 0
        self.f, self.g = f, g
        self.best = best_of(f, g, cards.mood)
        self.path: list[tuple[float, float]] = []
        self._moved_by_code = False
        self.chance = torch.Generator().manual_seed(0)
        self.witnesses = Witnesses(cards, (f, g), readers, vocabulary, self.chance)
        self._readings = Later(self.settle, LATER)
        self._next_step = Later(self._tick, BETWEEN_STEPS)
        self.drawing = FusionFigure(f, g, cards.mood, dpi)
        self._make_controls()
        self._show()
        super().__init__(
            [
                ipywidgets.HBox([self.alpha, self.beta]),
                ipywidgets.HBox([self.noise, self.dropout]),
                ipywidgets.HBox([self.use_picture, self.use_message]),
                ipywidgets.HBox(
                    [self.next, self.random, self.disagree, self.to_best, self.train, self.step]
                ),
                ipywidgets.HBox(
                    [
                        ipywidgets.VBox([self.picture, self.message], layout={"flex": "0 0 200px"}),
                        self.plot,
                    ]
                ),
                self.text,
            ]
        )

    def _make_controls(self) -> None:
        wide = {"style": {"description_width": "110px"}, "layout": {"width": "380px"}}
        weight = {"min": -0.5, "max": 1.25, "step": 0.01, "readout_format": ".2f", **wide}
        self.alpha = ipywidgets.FloatSlider(value=1.0, description="α picture", **weight)
        self.beta = ipywidgets.FloatSlider(value=1.0, description="β message", **weight)
        worse = {"min": 0.0, "max": 0.8, "step": 0.05, "readout_format": ".2f", **wide}
        self.noise = ipywidgets.FloatSlider(value=0.0, description="picture noise", **worse)
        self.dropout = ipywidgets.FloatSlider(value=0.0, description="word dropout", **worse)
        self.use_picture = ipywidgets.Checkbox(value=True, description="use the picture")
        self.use_message = ipywidgets.Checkbox(value=True, description="use the message")

        def button(name: str, does: Callable[[], None], tooltip: str) -> ipywidgets.Button:
            made = ipywidgets.Button(description=name, tooltip=tooltip, layout={"width": "auto"})
            made.on_click(lambda _: does())
            return made

        self.next = button(
            "Next card", lambda: self.show_card(self.index + 1), "Show the next postcard"
        )
        self.random = button("Random card", self._random_card, "Show any postcard")
        self.disagree = button(
            "Witnesses disagree",
            lambda: self.show_card(self._next_disagreement()),
            "Show a card whose picture and message differ",
        )
        self.to_best = button(
            "Best α and β", self._go_to_best, "Move both sliders to the best point"
        )
        self.train = button("Train", self._train_or_pause, "Gradient descent, step by step")
        self.step = button("One step", self._take_step, "One step of gradient descent")

        whole = {"width": "192px", "height": "192px", "flex": "0 0 auto"}
        self.picture = ipywidgets.Image(format="png", layout=whole)
        self.message = ipywidgets.HTML()
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        for slider in (self.alpha, self.beta):
            slider.observe(self._weights_moved, "value")
        for control in (self.noise, self.dropout, self.use_picture, self.use_message):
            control.observe(self._witnesses_changed, "value")

    # What a learner may call

    def set(self, alpha: float, beta: float) -> None:
        """Moves both sliders and draws once."""
        self._forget_path()
        self._move(alpha, beta)

    def show_card(self, index: int) -> None:
        """Shows the card at this place of `cards`; after the last comes the first."""
        self.index = index % len(self.cards)
        self._show()

    def v(self) -> Tensor:
        """The fused reading of every card at the sliders' α and β: (N,)."""
        return fusion.weighted_sum(self.f, self.g, self.alpha.value, self.beta.value)

    def r_squared(self) -> float:
        """R² of v on all cards, with v moved up or down so that it is right on average."""
        v, m = self.v(), self.cards.mood
        return training.r_squared(v - v.mean() + m.mean(), m)

    def settle(self) -> None:
        """Computes at once what would arrive a moment later: the readings of worse witnesses."""
        self._readings.cancel()
        f, g = self.witnesses.read(self.noise.value, self.dropout.value)
        self.f = f if self.use_picture.value else torch.zeros_like(f)
        self.g = g if self.use_message.value else torch.zeros_like(g)
        self.best = best_of(self.f, self.g, self.cards.mood)
        self.drawing.set_readings(self.f, self.g, self.cards.mood)
        self._update()

    # What the controls do

    def _weights_moved(self, change: dict) -> None:
        if self._moved_by_code:
            return
        place = 0 if change["owner"] is self.alpha else 1
        if not is_echo(change["new"], [point[place] for point in self.path]):
            self._forget_path()
        self._update()

    def _witnesses_changed(self, _change: dict) -> None:
        self._forget_path()
        self._show_postcard()
        if not self._readings.ask():  # nothing comes later outside Jupyter
            self.settle()

    def _random_card(self) -> None:
        others = len(self.cards) - 1
        step = 1 + int(torch.randint(others, (1,), generator=self.chance)) if others else 0
        self.show_card(self.index + step)

    def _next_disagreement(self) -> int:
        gaps = (self.f - self.g).abs()
        strong = (gaps >= gaps.quantile(0.9)).nonzero()[:, 0].tolist()
        return next((index for index in strong if index > self.index), strong[0])

    def _go_to_best(self) -> None:
        best = (self.best.alpha, self.best.beta)
        now = (self.alpha.value, self.beta.value)
        self.set(*(round(b, 2) if b is not None else n for b, n in zip(best, now, strict=True)))

    def _train_or_pause(self) -> None:
        if self._next_step.waits:
            self._next_step.cancel()
            self.train.description = "Train"
            return
        self.train.description = "Pause"
        self._begin_path()
        self._tick()

    def _tick(self) -> None:
        """One step, and the next one a moment later, until the steps become tiny."""
        far = self._one_step()
        while far > 0.00002:
            if self._next_step.ask():
                return
            far = self._one_step()
        self.train.description = "Train"

    def _take_step(self) -> None:
        self._begin_path()
        self._one_step()

    def _begin_path(self) -> None:
        """A path begins where the sliders are, unless it already ends there."""
        here = (self.alpha.value, self.beta.value)
        if not self.path or math.dist(self.path[-1], here) > 0.01:
            self.path = [here]

    def _one_step(self) -> float:
        """One step of gradient descent on α and β; returns how far it went."""
        centred = [values - values.mean() for values in (self.f, self.g, self.cards.mood)]
        steps = fusion.descend(*centred, start=self.path[-1], learning_rate=0.5, steps=1)
        alpha, beta = steps[1, :2].tolist()
        far = math.dist(self.path[-1], (alpha, beta))
        self.path.append((alpha, beta))
        self._move(alpha, beta)
        return far

    def _move(self, alpha: float, beta: float) -> None:
        self._moved_by_code = True
        self.alpha.value, self.beta.value = round(alpha, 2), round(beta, 2)
        self._moved_by_code = False
        self._update()

    def _forget_path(self) -> None:
        self.path = []
        self._next_step.cancel()
        self.train.description = "Train"

    # What is shown

    def _show(self) -> None:
        self._show_postcard()
        self._update()

    def _show_postcard(self) -> None:
        image, words = torch.full((64, 64), 0.8), "(no message)"
        if self.use_picture.value:
            image = self.witnesses.noisy_images(self.index, self.noise.value)
        if self.use_message.value:
            words = self.witnesses.message(self.index, self.dropout.value)
        self.picture.value = image_bytes(image, 192)
        self.message.value = f"<p style='line-height:1.3'>{html.escape(words)}</p>"

    def _update(self) -> None:
        i, alpha, beta = self.index, self.alpha.value, self.beta.value
        v, m = float(self.v()[i]), float(self.cards.mood[i])
        f = float(self.f[i]) if self.use_picture.value else None
        g = float(self.g[i]) if self.use_message.value else None
        self.plot.value = self.drawing.draw(alpha, beta, f, g, v, m, self.path)
        self.said = self._in_words(f, g, v, m)
        self.text.value = spoken(self.said)

    def _in_words(self, f: float | None, g: float | None, v: float, m: float) -> str:
        alpha, beta = self.alpha.value, self.beta.value
        said = "picture off, " if f is None else f"picture f = {f:.2f}, "
        said += "message off, " if g is None else f"message g = {g:.2f}, "
        terms = [f"{alpha:.2f} · f"] * (f is not None) + [f"{beta:.2f} · g"] * (g is not None)
        said += f"v = {' + '.join(terms) or '0'} = {v:.2f}, mood m = {m:.2f}. "
        count = len(self.cards)
        said += f"Over all {count} cards: R² = {self.r_squared():.2f}. "
        best = [
            f"{letter} = {value:.2f}"
            for letter, value in (("α", self.best.alpha), ("β", self.best.beta))
            if value is not None
        ]
        said += f"Best: {', '.join(best) or 'nothing to weigh'}."
        if self.path:
            said += f" Training: step {len(self.path) - 1}."
        return f"Card {self.index + 1}: {said}"
