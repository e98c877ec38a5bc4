"""Figures that you can move: α and β (lessons 00 and 04), a kernel (02), a sentence (03), a
learning rate (05), the next word of a caption (06), α and β of a search (07) or of real digits
(12), a film (08), an album of one's own (12).

Each figure is drawn once. When a slider moves, only the parts that changed are drawn again over the
stored background, and the result is handed to the browser as a picture. What needs the encoders
again arrives a moment later. A line of text always says the same as the picture, for screen readers
and for tests.
"""

from __future__ import annotations

import asyncio
import html
import io
import math
from collections.abc import Callable

import ipywidgets
import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from mbm_lab import (
    captioning,
    cnn,
    datasets,
    fusion,
    plots,
    preprocessing,
    real_data,
    retrieval,
    rnn,
    training,
    video,
    welcome,
)

GRID = torch.linspace(-0.5, 1.25, 71)
"""The values of α and of β that the error surface shows."""

LATER = 0.12
"""Seconds after which what needs the encoders is computed, once, for the newest settings."""


# --- Pictures that change fast


def png_bytes(pixels: np.ndarray) -> bytes:
    """(H, W, 3) uint8 pixels as a PNG file, packed fast rather than small."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def image_bytes(image: Tensor, size: int) -> bytes:
    """A picture (3, H, W) or (H, W), from 0 to 1, enlarged to `size` pixels without smoothing."""
    pixels = (image.detach().clamp(0, 1) * 255).round().byte().numpy()
    pixels = np.repeat(pixels[None], 3, 0) if pixels.ndim == 2 else pixels
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    return png_bytes(np.asarray(picture.resize((size, size), Image.Resampling.NEAREST)))


def spoken(words: str) -> str:
    """A line of text as a screen reader announces it whenever it changes."""
    return f"<span role='status' aria-live='polite'>{html.escape(words, quote=False)}</span>"


class MovingFigure:
    """A figure that is drawn once; then only its moving parts are drawn again, over the rest."""

    def __init__(self, width: float, height: float, dpi: int = 80):
        self.figure = Figure(figsize=(width, height), dpi=dpi, layout="none")
        self.canvas = FigureCanvasAgg(self.figure)
        self.moving: list = []

    def keep_background(self) -> None:
        """Draws everything that does not move (artists with animated=True are left out)."""
        self.canvas.draw()
        self.background = self.canvas.copy_from_bbox(self.figure.bbox)

    def draw_moving(self) -> bytes:
        """Draws the moving parts over the background: the bytes of a PNG file."""
        self.canvas.restore_region(self.background)
        for artist in self.moving:
            artist.axes.draw_artist(artist)
        return png_bytes(np.asarray(self.canvas.buffer_rgba())[..., :3])


def dial_point(x: float, radius: float) -> tuple[float, float]:
    """Where a mood stands on the dial: -1 at the left end of a half circle, 1 at the right end."""
    angle = math.pi / 2 * (1 - max(-1.0, min(1.0, x)))
    return radius * math.cos(angle), radius * math.sin(angle)


class FusionFigure(MovingFigure):
    """The error surface over (α, β) beside a dial of moods. Lessons 00 and 04."""

    def __init__(self, f: Tensor, g: Tensor, m: Tensor, dpi: int = 80):
        super().__init__(8.4, 3.9, dpi)
        self.surface_axes, dial_axes = self.figure.subplots(1, 2, width_ratios=(1, 1.3))
        self.figure.subplots_adjust(left=0.12, right=0.99, bottom=0.15, top=0.92, wspace=0.1)
        self._draw_dial(dial_axes)
        self.set_readings(f, g, m)

    def set_readings(self, f: Tensor, g: Tensor, m: Tensor) -> None:
        """Draws the surface for these readings, each (N,); a constant reading is allowed."""
        axes = self.surface_axes
        axes.clear()
        errors = fusion.error_surface(f, g, m, GRID, GRID)
        least, most = float(errors.min()), float(errors.max())
        levels = least - 1e-6 + (most - least + 2e-6) * np.linspace(0, 1, 13) ** 2
        axes.contourf(GRID, GRID, errors, levels=levels, cmap="viridis_r")
        best = best_of(f, g, m)
        style = {"color": "white", "markeredgecolor": "black", "markersize": 16}
        if best.alpha is not None and best.beta is not None:
            axes.plot(best.alpha, best.beta, "*", **style)
        elif best.beta is not None:
            axes.axhline(best.beta, color="white", linewidth=2, linestyle="--")
        elif best.alpha is not None:
            axes.axvline(best.alpha, color="white", linewidth=2, linestyle="--")
        axes.set(xlabel="α (picture)", ylabel="β (message)", title="error: dark is large")
        axes.set(xlim=(float(GRID[0]), float(GRID[-1])), ylim=(float(GRID[0]), float(GRID[-1])))
        axes.grid(False)
        dots = {"color": "white", "markeredgecolor": "black", "animated": True}
        (self.path,) = axes.plot([], [], ".-", **dots)
        (self.point,) = axes.plot(
            [0], [0], "o", color=plots.FUSED, markeredgecolor="black", markersize=12, animated=True
        )
        self.moving = [self.path, self.point, self.needle, *self.marks]
        self.keep_background()

    def _draw_dial(self, axes) -> None:
        axes.set(xlim=(-1.32, 1.32), ylim=(-0.42, 1.3), title="one card", aspect="equal")
        axes.set_axis_off()
        arc = np.array([dial_point(x, 1.0) for x in np.linspace(-1, 1, 90)])
        axes.plot(arc[:, 0], arc[:, 1], color=plots.GREY, linewidth=2)
        for x in (-1, -0.5, 0, 0.5, 1):
            ends = np.array([dial_point(x, 0.96), dial_point(x, 1.04)])
            axes.plot(ends[:, 0], ends[:, 1], color=plots.GREY, linewidth=2)
        axes.text(-1.0, -0.13, "sad −1", ha="center", fontsize=11)
        axes.text(1.0, -0.13, "happy 1", ha="center", fontsize=11)
        axes.plot([0], [0], "o", color=plots.FUSED, markersize=12)
        shapes = {"picture f": ("^", plots.PICTURE), "message g": ("s", plots.MESSAGE),
                  "mood m": ("*", plots.TRUTH)}  # fmt: skip
        self.marks = []
        for name, (shape, colour) in shapes.items():
            size = 18 if shape == "*" else 13
            style = {"color": colour, "markersize": size, "linestyle": "none"}
            axes.plot([], [], shape, label=name, **style)
            self.marks += axes.plot([0], [1.13], shape, animated=True, **style)
        (self.needle,) = axes.plot(
            [0, 0], [0, 1], color=plots.FUSED, linewidth=6, solid_capstyle="round", animated=True
        )
        axes.plot([], [], color=plots.FUSED, linewidth=6, label="v = αf + βg")
        place = {"loc": "lower center", "bbox_to_anchor": (0.5, -0.1)}
        axes.legend(ncols=2, frameon=False, fontsize=10, **place)

    def draw(
        self,
        alpha: float,
        beta: float,
        f: float | None,
        g: float | None,
        v: float,
        m: float,
        path: list[tuple[float, float]] = (),
    ) -> bytes:
        """The picture for these numbers, as the bytes of a PNG file. A missing reading is None."""
        self.point.set_data([alpha], [beta])
        self.path.set_data([a for a, _ in path], [b for _, b in path])
        for mark, value, radius in zip(self.marks, (f, g, m), (1.13, 1.13, 1.0), strict=True):
            mark.set_visible(value is not None)
            x, y = dial_point(value or 0.0, radius)
            mark.set_data([x], [y])
        x, y = dial_point(v, 0.88)
        self.needle.set_data([0, x], [0, y])
        return self.draw_moving()


class Best:
    """The exact best weights on some cards; None for a witness that is switched off."""

    def __init__(self, alpha: float | None, beta: float | None):
        self.alpha, self.beta = alpha, beta


def best_of(f: Tensor, g: Tensor, m: Tensor) -> Best:
    """Least squares, also when one reading (or both) is constant because it is switched off."""
    on_f, on_g = (bool(reading.var(correction=0) > 1e-12) for reading in (f, g))
    if on_f and on_g:
        weights = fusion.best_weights(f, g, m)
        return Best(weights.alpha, weights.beta)
    m = m - m.mean()
    alone = [
        float(((reading - reading.mean()) * m).mean() / reading.var(correction=0)) if on else None
        for reading, on in ((f, on_f), (g, on_g))
    ]
    return Best(*alone)


# --- α and β


class FusionPlayground(ipywidgets.VBox):
    """Sliders α and β over one postcard, its two witnesses, v, the mood, and the error surface.

    cards: postcards with images; f, g: (N,) the readings of them by the stored readers. Without
    arguments it shows the first 100 test cards. Picture noise and word dropout make the witnesses
    worse: the readers then read again, a moment later. "Train" walks down by gradient descent, step
    by step, and can be paused. Use everything with the mouse, or with Tab, arrow keys and Space.
    `said` holds the
    line of text. Lessons 00 and 04.
    """

    def __init__(
        self,
        cards: datasets.Postcards | None = None,
        f: Tensor | None = None,
        g: Tensor | None = None,
        dpi: int = 80,
    ):
        self.readers, self.vocabulary = welcome.load_readers(), welcome.load_vocabulary()
        if cards is None:
            cards = datasets.load_postcards("test")[:100]
            f, g = welcome.read(cards, *self.readers, self.vocabulary)
        if f is None or g is None or not len(cards) == len(f) == len(g):
            raise ValueError(
                "FusionPlayground needs one reading f and one reading g for each card."
            )
        self.cards, self.index = cards, 0
        self.clean = self.f, self.g = f, g
        self.best = best_of(f, g, cards.mood)
        self.path: list[tuple[float, float]] = []
        self._moved_by_code = False
        self._randomness(torch.Generator().manual_seed(0))
        self._timers: dict[str, asyncio.TimerHandle] = {}
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

    def _randomness(self, generator: torch.Generator) -> None:
        """Draws, once, the noise of every pixel and the fate of every word, so that a slider only
        scales them."""
        self.pixel_noise = torch.randn(self.cards.images.shape, generator=generator)
        self.tokens = preprocessing.text_to_tensor(self.cards.messages, self.vocabulary)
        self.word_fate = torch.rand(self.tokens.shape, generator=generator)
        self.chance = generator

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
        self._cancel("readings")
        with torch.no_grad():
            f, g = self.clean
            image_reader, message_reader = self.readers
            if self.noise.value > 0:
                f = training.predict(image_reader, self.noisy_images(slice(None)))
            if self.dropout.value > 0:
                smudged = self.tokens.masked_fill(self.dropped(slice(None)), preprocessing.UNK)
                g = training.predict(message_reader, smudged)
        self.f = f if self.use_picture.value else torch.zeros_like(f)
        self.g = g if self.use_message.value else torch.zeros_like(g)
        self.best = best_of(self.f, self.g, self.cards.mood)
        self.drawing.set_readings(self.f, self.g, self.cards.mood)
        self._update()

    def noisy_images(self, which: slice | int) -> Tensor:
        """The pictures of these cards under the present picture noise."""
        noisy = self.cards.images[which] + self.noise.value * self.pixel_noise[which]
        return noisy.clamp(0, 1)

    def dropped(self, which: slice | int) -> Tensor:
        """Which words of these cards are smudged at the present word dropout: True or False."""
        words = self.tokens[which] > preprocessing.UNK
        return words & (self.word_fate[which] < self.dropout.value)

    # What the controls do

    def _weights_moved(self, change: dict) -> None:
        if self._moved_by_code:
            return
        if not self._is_on_path(change["owner"], change["new"]):
            self._forget_path()
        self._update()

    def _is_on_path(self, slider: ipywidgets.FloatSlider, value: float) -> bool:
        """Whether training has been at this value: then it may be the browser that sends back,
        late and rounded its own way, what training has set, and not a hand on the slider."""
        place = 0 if slider is self.alpha else 1
        return any(abs(point[place] - value) < 0.006 for point in self.path)

    def _witnesses_changed(self, _change: dict) -> None:
        self._forget_path()
        self._show_postcard()
        self._later("readings", self.settle, LATER)

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
        if "train" in self._timers:
            self._cancel("train")
            self.train.description = "Train"
            return
        self.train.description = "Pause"
        self._begin_path()
        self._tick()

    def _tick(self) -> None:
        """One step, and the next one a moment later, until the steps become tiny."""
        self._cancel("train")
        far = self._one_step()
        while far > 0.0002:
            if self._later("train", self._tick, 0.1):
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
        steps = fusion.descend(*centred, start=self.path[-1], learning_rate=1.5, steps=1)
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
        self._cancel("train")
        self.train.description = "Train"

    # Now or a moment later

    def _later(self, name: str, action: Callable[[], None], seconds: float) -> bool:
        """Does something soon, once, however often it is asked for meanwhile.

        Outside Jupyter, where nothing runs in between, it is done at once (and False returned),
        but for training, whose next step the caller takes.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            if name != "train":
                action()
            return False
        if name not in self._timers:
            self._timers[name] = loop.call_later(seconds, action)
        return True

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # What is shown

    def _show(self) -> None:
        self._show_postcard()
        self._update()

    def _show_postcard(self) -> None:
        i = self.index
        image = self.noisy_images(i) if self.use_picture.value else torch.full((64, 64), 0.8)
        self.picture.value = image_bytes(image, 192)
        words = html.escape(self.cards.messages[i])
        if not self.use_message.value:
            words = "(no message)"
        elif self.dropout.value > 0:
            known = zip(self.tokens[i].tolist(), self.dropped(i).tolist(), strict=True)
            spelt = ["____" if gone else self.vocabulary.words[t] for t, gone in known if t]
            words = html.escape(" ".join(spelt))
        self.message.value = f"<p style='line-height:1.3'>{words}</p>"

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


# --- A kernel


PRESETS = {
    "nothing": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "bright → dark": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "outlines": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}
"""Kernels to begin with."""


class KernelPlayground(ipywidgets.VBox):
    """Nine sliders for the numbers of a 3 × 3 kernel, over a grey picture. Lesson 02.

    image: (H, W), from 0 to 1. The result is shown as grey where it is 0; the text says it for one
    window, the one in the middle of the frame.
    """

    def __init__(self, image: Tensor, row: int = 40, column: int = 32):
        if image.ndim != 2 or min(image.shape) < 3:
            raise ValueError(
                f"KernelPlayground needs a grey picture (H, W) of at least 3 × 3 pixels, and got "
                f"the shape {tuple(image.shape)}."
            )
        self.image, self.row, self.column = image, row, column
        self._moved_by_code = False
        slider = {"min": -8.0, "max": 8.0, "step": 0.5, "readout_format": ".1f"}
        self.sliders = [
            ipywidgets.FloatSlider(
                description=f"row {i + 1}, col {j + 1}", layout={"width": "260px"}, **slider
            )
            for i in range(3)
            for j in range(3)
        ]
        self.presets = [ipywidgets.Button(description=name) for name in PRESETS]
        for button in self.presets:
            button.on_click(lambda clicked: self.set(PRESETS[clicked.description]))
        self.before = ipywidgets.Image(format="png", layout={"width": "256px", "height": "256px"})
        self.after = ipywidgets.Image(format="png", layout={"width": "256px", "height": "256px"})
        self.text = ipywidgets.HTML()
        self.before.value = image_bytes(self._framed(), 256)
        for one in self.sliders:
            one.observe(self._update, "value")
        self.set(PRESETS["nothing"])
        rows = [ipywidgets.HBox(self.sliders[3 * i : 3 * i + 3]) for i in range(3)]
        pictures = ipywidgets.HBox([self.before, self.after])
        super().__init__([ipywidgets.HBox(self.presets), *rows, pictures, self.text])

    def _framed(self) -> Tensor:
        """The picture in colour, with the nine pixels of the text marked."""
        coloured = self.image[None].repeat(3, 1, 1)
        window = coloured[:, self.row - 1 : self.row + 2, self.column - 1 : self.column + 2]
        window[1:] *= 0.4
        window[0] = 0.6 + 0.4 * window[0]
        return coloured

    def set(self, kernel: list[list[float]]) -> None:
        """Moves all nine sliders and draws once."""
        self._moved_by_code = True
        for one, value in zip(self.sliders, sum(kernel, []), strict=True):
            one.value = value
        self._moved_by_code = False
        self._update()

    def kernel(self) -> Tensor:
        """The sliders' numbers: (3, 3)."""
        return torch.tensor([one.value for one in self.sliders]).view(3, 3)

    def result(self) -> Tensor:
        """The convolution of the picture with the kernel: (H, W)."""
        return cnn.convolve_unfolded(self.image[None, None], self.kernel()[None, None], padding=1)[
            0, 0
        ]

    def _update(self, _change: dict | None = None) -> None:
        if self._moved_by_code:
            return
        result = self.result()
        largest = float(result[1:-1, 1:-1].abs().max().clamp(min=1e-6))
        self.after.value = image_bytes(0.5 + 0.5 * result / largest, 256)
        window = self.image[
            self.row - 1 : self.row + 2, self.column - 1 : self.column + 2
        ].flatten()
        parts = [
            f"{k:g} · {x:.2f}"
            for k, x in zip(self.kernel().flatten().tolist(), window.tolist(), strict=True)
            if k
        ]
        total, least, most = (
            float(x) for x in (result[self.row, self.column], result.min(), result.max())
        )
        self.said = (
            f"In the marked window: {' + '.join(parts) or '0'} = {total:.2f}. "
            f"In the whole picture from {least:.2f} to {most:.2f}."
        )
        self.text.value = spoken(self.said)


# --- A sentence


class SentencePlayground(ipywidgets.VBox):
    """Write a sentence, move a slider over its words, and see what g reads so far. Lesson 03.

    reader: g, with a TextEncoder inside; vocabulary: its words.
    """

    def __init__(
        self,
        reader: cnn.Reader,
        vocabulary: preprocessing.Vocabulary,
        sentence: str = "The food was awful but the sea was not really terrible.",
    ):
        self.reader, self.vocabulary = reader.eval(), vocabulary
        self.sentence = ipywidgets.Text(
            value=sentence, description="sentence", continuous_update=False
        )
        self.sentence.layout.width = "640px"
        self.count = ipywidgets.IntSlider(
            description="words read", min=1, max=1, layout={"width": "640px"}
        )
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        self.drawing = MovingFigure(9.0, 3.4)
        self.drawing.figure.subplots_adjust(left=0.1, right=0.98, bottom=0.28, top=0.95)
        self.axes = self.drawing.figure.subplots()
        self.sentence.observe(self._read, "value")
        self.count.observe(self._update, "value")
        self._read()
        super().__init__([self.sentence, self.count, self.plot, self.text])

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
        self.said = (
            f"After {count} of {len(self.words)} words, “{' '.join(self.words[:count])}”: "
            f"reading {float(self.readings[count - 1]):.2f}.{note}"
        )
        self.text.value = spoken(self.said)


# --- The next word


class NextWordPlayground(ipywidgets.VBox):
    """Two sliders, a card and how many words are written, and what may come next. Lesson 06.

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
        wide = {"layout": {"width": "560px"}, "style": {"description_width": "100px"}}
        self.count = ipywidgets.IntSlider(description="words written", min=0, max=1, **wide)
        self.card = ipywidgets.IntSlider(description="card", min=0, max=len(images) - 1, **wide)
        self.picture = ipywidgets.Image(format="png")
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        self._draw_background()
        self.card.observe(self._read, "value")
        self.count.observe(self._update, "value")
        self._read()
        figures = ipywidgets.HBox([self.picture, self.plot])
        super().__init__([self.count, self.card, figures, self.text])

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
        decoder, start = self.captioner.decoder, self.vocabulary.index[captioning.START["en"]]
        features = self.captioner.encoder(image[None])
        written = captioning.greedy(decoder, decoder.start(features), start)[0].tolist()
        self.words = [word for word in written if word > preprocessing.EOS]
        scores = decoder(features, torch.tensor([[start, *self.words]]))[0]  # (T + 1, V)
        english = torch.tensor([word.isascii() for word in self.vocabulary.words])
        self.likely = (scores.softmax(1) * english).topk(self.BARS)  # figures hold no Chinese
        self.picture.value = image_bytes(image, 240)
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
        self.said = f"After “{so_far}”: {', '.join(told[:3])}."
        self.text.value = spoken(self.said)


# --- This card, but ...


class ComposePlayground(ipywidgets.VBox):
    """Search with α f(picture) + β g(words), and see what is found. Lesson 07.

    model: a trained dual encoder; vocabulary: its words; gallery: what is searched; features: those
    of the gallery's pictures, (N, 48).
    """

    FOUND = 5

    def __init__(
        self,
        model: retrieval.DualEncoder,
        vocabulary: preprocessing.Vocabulary,
        gallery: retrieval.Gallery,
        features: Tensor,
    ):
        self.model, self.vocabulary, self.gallery = model.eval(), vocabulary, gallery
        with torch.no_grad():
            self.vectors = model.image(features)
        style = {"layout": {"width": "420px"}, "style": {"description_width": "60px"}}
        weight = {"min": 0.0, "max": 1.0, "step": 0.05, **style}
        self.alpha = ipywidgets.FloatSlider(value=0.5, description="α", **weight)
        self.beta = ipywidgets.FloatSlider(value=0.5, description="β", **weight)
        last = len(gallery.wishes) - 1
        self.card = ipywidgets.IntSlider(description="card", min=0, max=last, **style)
        self.words = ipywidgets.Text(
            value=gallery.wishes[0].text, description="words", continuous_update=False, **style
        )
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        self.card.observe(self._wish, "value")
        for slider in (self.alpha, self.beta, self.words):
            slider.observe(self._update, "value")
        self._update()
        rows = [ipywidgets.HBox([self.alpha, self.beta]), ipywidgets.HBox([self.card, self.words])]
        super().__init__([*rows, self.plot, self.text])

    def _wish(self, _change: dict | None = None) -> None:
        """Each card comes with its own wish, whose answer is in the gallery."""
        wish = self.gallery.wishes[self.card.value].text
        if self.words.value == wish:
            self._update()
        else:
            self.words.value = wish  # and this updates

    def _draw(self, places: list[int]) -> bytes:
        """The query's card, if it has one (α is not 0), a gap, and the pictures that were found."""
        size = 2 * preprocessing.IMAGE_SIZE
        width = (1 + self.FOUND) * (size + 6) + 24
        row = np.full((size, width, 3), 255, dtype=np.uint8)
        for number, place in enumerate([self.card.value if self.alpha.value else None, *places]):
            if place is None:
                continue
            pixels = (self.gallery.images[place] * 255).byte().permute(1, 2, 0).numpy()
            left = number * (size + 6) + (24 if number else 0)
            row[:, left : left + size] = pixels.repeat(2, 0).repeat(2, 1)
        return png_bytes(row)

    @torch.no_grad()
    def _update(self, _change: dict | None = None) -> None:
        alpha, beta, card = self.alpha.value, self.beta.value, self.card.value
        places: list[int] = []
        try:
            if alpha == 0 and beta == 0:
                raise ValueError("α and β are both 0, so there is no query: move one of them.")
            g = self.model.text(retrieval.query_tokens(self.words.value, self.vocabulary))
            query = retrieval.compose(self.vectors[card][None], g, alpha, beta)
            itself = torch.tensor([card]) if alpha else None  # the card is a part of the query
            places = retrieval.search(query, self.vectors, self.FOUND, itself)[0].tolist()
            captions = "; ".join(self.gallery.captions[place] for place in places)
            self.said = (
                f"{alpha:.2f} · “{self.gallery.captions[card]}” + {beta:.2f} · "
                f"“{self.words.value.strip()}” finds: {captions}."
            )
        except ValueError as error:
            self.said = str(error)
        self.plot.value = self._draw(places)
        self.text.value = spoken(self.said)


class AlbumPlayground(ComposePlayground):
    """Search in one's own pictures, with words, with a picture, or with both. Lesson 12.

    album: some pictures with captions. Lesson 07's model is trained on them here, which takes a
    second or two for twenty pictures; it knows the words of their captions.
    """

    def __init__(self, album: datasets.Album, steps: int = 300):
        encoder = captioning.load_captioner().encoder
        model, vocabulary = real_data.search_model(encoder, album, steps)
        features = training.predict(encoder, album.images)
        super().__init__(model, vocabulary, real_data.album_gallery(album), features)
        self.alpha.value, self.beta.value = 0.0, 1.0


# --- A digit, seen and heard


class DigitsPlayground(ipywidgets.VBox):
    """Sliders α and β over real digits, seen and heard, and what v = αf + βg reads. Lesson 12.

    model: trained, with a weighted sum; pairs: test pairs.
    """

    def __init__(self, model: fusion.MultimodalModel, pairs: real_data.Pairs):
        self.pairs = pairs
        self.f, self.g = (
            training.predict(encoder, pairs.inputs[name])
            for name, encoder in model.encoders.items()
        )  # (N, 32) each
        self.head = model.head.eval()
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

    @torch.no_grad()
    def _update(self, _change: dict | None = None) -> None:
        alpha, beta, pair = self.alpha.value, self.beta.value, self.pair.value
        scores = self.head(fusion.weighted_sum(self.f, self.g, alpha, beta))  # (N, 10)
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


# --- A film, frame by frame


class FilmPlayground(ipywidgets.VBox):
    """A slider over the frames of a film, and what the summariser says so far. Lesson 08.

    model: a trained summariser; vocabulary: its words; clips: (N, T, 3, 64, 64).
    """

    def __init__(
        self, model: video.Summariser, vocabulary: preprocessing.Vocabulary, clips: Tensor
    ):
        features = video.frame_features(clips)
        length = clips.shape[1]
        self.clips = clips
        self.sentences = [
            video.summarise(model, features[:, :seen], vocabulary) for seen in range(2, length + 1)
        ]  # T - 1 lists of N sentences
        style = {"layout": {"width": "420px"}, "style": {"description_width": "90px"}}
        self.seen = ipywidgets.IntSlider(
            description="frames seen", min=2, max=length, value=2, **style
        )
        self.film = ipywidgets.IntSlider(description="film", min=0, max=len(clips) - 1, **style)
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        for slider in (self.seen, self.film):
            slider.observe(self._update, "value")
        self._update()
        super().__init__([self.seen, self.film, self.plot, self.text])

    def _update(self, _change: dict | None = None) -> None:
        seen, film = self.seen.value, self.film.value
        frames = (self.clips[film] * 255).byte().permute(0, 2, 3, 1).numpy()  # (T, 64, 64, 3)
        frames = frames.repeat(2, 1).repeat(2, 2)
        row = np.full((128, len(frames) * 134, 3), 235, dtype=np.uint8)
        for k, frame in enumerate(frames[:seen]):
            row[:, k * 134 : k * 134 + 128] = frame
        self.plot.value = png_bytes(row)
        self.said = f"After {seen} of {len(frames)} frames: {self.sentences[seen - 2][film]}."
        self.text.value = spoken(self.said)


# --- A learning rate


class LearningRatePlayground(ipywidgets.VBox):
    """One slider, the learning rate, and the path that gradient descent then takes. Lesson 05.

    f, g, m: (N,) readings and mood. 40 steps from α = 1.2, β = 0.4, over the error surface.
    """

    STEPS, START = 40, (1.2, 0.4)

    def __init__(self, f: Tensor, g: Tensor, m: Tensor):
        self.f, self.g, self.m = (values - values.mean() for values in (f, g, m))
        self.best = fusion.best_weights(f, g, m)
        self.rate = ipywidgets.FloatLogSlider(
            value=0.05, base=10, min=-2, max=1, step=0.02, description="learning rate",
            readout_format=".3f", style={"description_width": "100px"}, layout={"width": "560px"},
        )  # fmt: skip
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        self._draw_background()
        self.rate.observe(self._update, "value")
        self._update()
        super().__init__([self.rate, self.plot, self.text])

    def _draw_background(self) -> None:
        self.drawing = MovingFigure(9.0, 3.9)
        surface, curve = self.drawing.figure.subplots(1, 2)
        self.drawing.figure.subplots_adjust(left=0.11, right=0.98, bottom=0.15, top=0.9, wspace=0.3)
        errors = fusion.error_surface(self.f, self.g, self.m, GRID, GRID)
        least, most = float(errors.min()), float(errors.max())
        levels = least + (most - least) * np.linspace(0, 1, 13) ** 2
        surface.contourf(GRID, GRID, errors, levels=levels, cmap="viridis_r")
        star = {"color": "white", "markeredgecolor": "black", "markersize": 16}
        surface.plot(self.best.alpha, self.best.beta, "*", **star)
        limits = (float(GRID[0]), float(GRID[-1]))
        surface.set(xlabel="α", ylabel="β", title="the path", xlim=limits, ylim=limits)
        surface.grid(False)
        curve.set(xlabel="step", ylabel="error", xlim=(0, self.STEPS), ylim=(0.01, 10))
        curve.set(yscale="log", title="the error, step by step")
        (path,) = surface.plot([], [], "o-", color="white", markeredgecolor="black", animated=True)
        (line,) = curve.plot([], [], "-", color=plots.FUSED, linewidth=2.5, animated=True)
        self.drawing.moving = [path, line]
        self.drawing.keep_background()

    def walk(self) -> Tensor:
        """The path at the present learning rate: (STEPS + 1, 2)."""
        path = fusion.descend(
            self.f, self.g, self.m, self.START, learning_rate=self.rate.value, steps=self.STEPS
        )
        return path[:, :2]

    def _update(self, _change: dict | None = None) -> None:
        walk = self.walk()
        alphas, betas = walk[:, 0], walk[:, 1]
        errors = (
            (alphas[:, None] * self.f + betas[:, None] * self.g - self.m).square().mean(1)
        ).tolist()
        path, line = self.drawing.moving
        near = walk.abs().amax(1) < 1e6  # matplotlib cannot place points that flew too far
        path.set_data(alphas[near], betas[near])
        line.set_data(range(len(errors)), np.clip(errors, 1e-6, 1e6))
        self.plot.value = self.drawing.draw_moving()
        far = math.dist(walk[-1].tolist(), self.best[:2])
        end = "it flies away" if errors[-1] > errors[0] else "it has arrived"
        if errors[-1] <= errors[0] and far > 0.01:
            end = f"it is still {far:.2f} away from the best point"
        self.said = (
            f"Learning rate {self.rate.value:.3f}: after {self.STEPS} steps "
            f"α = {float(alphas[-1]):.3g}, β = {float(betas[-1]):.3g}, error {errors[-1]:.3g}; "
            f"{end}."
        )
        self.text.value = spoken(self.said)


# --- The page for the projector


PAGE_STYLE = """<style>
#jp-top-panel, #jp-menu-panel, #jp-bottom-panel, #jp-title-panel-title, .jp-SideBar,
.jp-NotebookPanel-toolbar, .jp-InputPrompt, .jp-OutputPrompt, .jp-Collapser, .jp-Placeholder,
.jp-cell-toolbar, .jp-Notebook-footer, .jp-CodeCell .jp-Cell-inputWrapper, .jp-InternalAnchorLink
  { display: none !important; }
.lm-Widget { contain: none !important; }
.jp-NotebookPanel, .jp-NotebookPanel .jp-WindowedPanel-outer
  { position: fixed !important; inset: 0 !important; width: 100vw !important;
    height: 100vh !important; z-index: 100; }
.jp-Notebook .jp-Cell { border: none !important; box-shadow: none !important; }
.widget-image { max-width: none; }
</style>"""
"""Hides JupyterLab's menus, toolbar and prompts, and gives the whole window to the page."""


def projector_style() -> None:
    """Hides everything of JupyterLab around a page. For `playground.ipynb`, which
    `make playground` opens."""
    from IPython.display import HTML, display

    display(HTML(PAGE_STYLE))
