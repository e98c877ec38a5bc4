"""α and β (lessons 00 and 04): sliders over one postcard and its two witnesses.

What α and β change is computed and drawn in the browser, by `playground.js`: the one module of the
widget in a lesson and of the page for the projector. What the readers say of worse pictures and
messages is computed here.
"""

from __future__ import annotations

import io
from pathlib import Path

import anywidget
import traitlets
from PIL import Image
from torch import Tensor

from mbm_lab import datasets, fusion, training, welcome
from mbm_lab.preprocessing import IMAGE_SIZE
from mbm_lab.widgets.fusion_figure import best_of, fusion_picture
from mbm_lab.widgets.still import Still
from mbm_lab.widgets.waiting import Later
from mbm_lab.widgets.witnesses import Witnesses

HERE = Path(__file__).parent

LATER = 0.12
"""Seconds after which the readers read again, once, for the newest settings."""

COLUMNS = 10
"""Postcards in a row of the one picture that holds them all."""


class Setting:
    """A slider or a checkbox of the playground: `value` is what it shows."""

    def __init__(self, playground: FusionPlayground, trait: str, least: float, most: float):
        self._playground, self._trait, self.min, self.max = playground, trait, least, most

    @property
    def value(self) -> float | bool:
        return getattr(self._playground, self._trait)

    @value.setter
    def value(self, value: float | bool) -> None:
        setattr(self._playground, self._trait, max(self.min, min(self.max, value)))


def _numbers(values: Tensor, _widget: object = None) -> list[float]:
    """A tensor as the browser gets it."""
    return values.tolist()


class FusionPlayground(Still, anywidget.AnyWidget):
    """Sliders α and β over one postcard, its two witnesses, v, the mood, and the error surface.

    cards: postcards with images; f, g: (N,) the readings of them by the stored readers. Without
    arguments it shows the first 100 test cards. Picture noise and word dropout make the witnesses
    worse: the readers then read again, a moment later. "Train" walks down by gradient descent, step
    by step, and can be paused. Use everything with the mouse, a finger, or Tab, arrow keys and
    Space. `said` is the line of text below it.

    Raises ValueError when there is not one f and one g for each card.
    """

    _esm = HERE / "playground.js"
    _css = HERE / "playground.css"

    alpha_value = traitlets.Float(1.0).tag(sync=True)
    beta_value = traitlets.Float(1.0).tag(sync=True)
    noise_value = traitlets.Float(0.0).tag(sync=True)
    dropout_value = traitlets.Float(0.0).tag(sync=True)
    picture_on = traitlets.Bool(True).tag(sync=True)
    message_on = traitlets.Bool(True).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    path = traitlets.List().tag(sync=True)  # the steps of training, [α, β] each
    f = traitlets.Any().tag(sync=True, to_json=_numbers)  # (N,)
    g = traitlets.Any().tag(sync=True, to_json=_numbers)
    m = traitlets.Any().tag(sync=True, to_json=_numbers)
    captions = traitlets.List().tag(sync=True)
    messages = traitlets.List().tag(sync=True)
    words = traitlets.List().tag(sync=True)  # of each card: [word, when it is smudged]
    sprite = traitlets.Bytes().tag(sync=True)  # all pictures in one PNG file

    def __init__(
        self,
        cards: datasets.Postcards | None = None,
        f: Tensor | None = None,
        g: Tensor | None = None,
    ):
        *readers, vocabulary = welcome.load_readers()
        if cards is None:
            cards = datasets.load_postcards("test")[:100]
            f, g = welcome.read(cards, *readers, vocabulary)
        if f is None or g is None or not len(cards) == len(f) == len(g):
            counts = [None if one is None else len(one) for one in (cards, f, g)]
            raise ValueError(
                f"FusionPlayground needs one reading f and one reading g for each card, and got "
                f"cards, f and g of the lengths {counts}: pass all three, or none of them."
            )
        f, g = f.cpu(), g.cpu()
        self.cards = cards
        self.witnesses = Witnesses(cards, (f, g), readers, vocabulary)
        super().__init__(
            f=f,
            g=g,
            m=cards.mood,
            captions=list(cards.captions),
            messages=list(cards.messages),
            words=self.witnesses.words(),
            sprite=sprite(cards.images),
        )
        self.alpha = Setting(self, "alpha_value", -0.5, 1.25)
        self.beta = Setting(self, "beta_value", -0.5, 1.25)
        self.noise = Setting(self, "noise_value", 0.0, 0.8)
        self.dropout = Setting(self, "dropout_value", 0.0, 0.8)
        self.use_picture = Setting(self, "picture_on", False, True)
        self.use_message = Setting(self, "message_on", False, True)
        self._readings = Later(self.settle, LATER)
        self.observe(self._read_again, ["noise_value", "dropout_value"])

    # What a learner may call

    def set(self, alpha: float, beta: float) -> None:
        """Moves both sliders."""
        with self.hold_sync():
            self.path = []
            self.alpha.value, self.beta.value = alpha, beta

    def show_card(self, index: int) -> None:
        """Shows the card at this place of `cards`; after the last comes the first."""
        self.index = index % len(self.cards)

    def v(self) -> Tensor:
        """The fused reading of every card at the sliders' α and β: (N,)."""
        return fusion.weighted_sum(*self._heard(), self.alpha.value, self.beta.value)

    def r_squared(self) -> float:
        """R² of v on all cards, with v moved up or down so that it is right on average."""
        v = self.v()
        return training.r_squared(v - v.mean() + self.m.mean(), self.m)

    def settle(self) -> None:
        """Computes at once what would arrive a moment later: the readings of worse witnesses."""
        self._readings.cancel()
        f, g = self.witnesses.read(self.noise.value, self.dropout.value)
        with self.hold_sync():
            self.f, self.g = f, g

    @property
    def said(self) -> str:
        """What the playground shows, as one line of text."""
        i, alpha, beta = self.index, self.alpha.value, self.beta.value
        on_f, on_g = self.picture_on, self.message_on
        said = f"picture f = {float(self.f[i]):.2f}, " if on_f else "picture off, "
        said += f"message g = {float(self.g[i]):.2f}, " if on_g else "message off, "
        terms = [f"{alpha:.2f} · f"] * on_f + [f"{beta:.2f} · g"] * on_g
        said += f"v = {' + '.join(terms) or '0'} = {float(self.v()[i]):.2f}, "
        said += f"mood m = {float(self.m[i]):.2f}. "
        said += f"Over all {len(self.cards)} cards: R² = {self.r_squared():.2f}. "
        best = zip("αβ", best_of(*self._heard(), self.m), strict=True)
        bests = ", ".join(f"{letter} = {value:.2f}" for letter, value in best if value is not None)
        said += f"Best: {bests or 'nothing to weigh'}."
        if self.path:
            said += f" Training: step {len(self.path) - 1}."
        return f"Card {i + 1}: {said}"

    def still(self) -> bytes:
        """The postcard, the error surface and the dial as they are now: a PNG file."""
        return fusion_picture(
            self.witnesses.noisy_images(self.index, self.noise.value),
            self.witnesses.message(self.index, self.dropout.value),
            *self._heard(), self.m, self.alpha.value, self.beta.value, self.index,
        )  # fmt: skip

    def _heard(self) -> tuple[Tensor, Tensor]:
        """f and g (N,) each; of a witness that is switched off, nothing."""
        return self.f * self.picture_on, self.g * self.message_on

    def _read_again(self, _change: dict) -> None:
        if not self._readings.ask():  # nothing comes later outside Jupyter
            self.settle()


def sprite(images: Tensor) -> bytes:
    """Pictures (N, 3, 64, 64) in one PNG file, ten in a row; a single one as it is."""
    rows, columns = -(-len(images) // COLUMNS), min(COLUMNS, len(images))
    whole = Image.new("RGB", (columns * IMAGE_SIZE, rows * IMAGE_SIZE))
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    for number, picture in enumerate(pixels):
        row, column = divmod(number, COLUMNS)
        whole.paste(Image.fromarray(picture), (column * IMAGE_SIZE, row * IMAGE_SIZE))
    buffer = io.BytesIO()
    whole.save(buffer, format="png")
    return buffer.getvalue()
