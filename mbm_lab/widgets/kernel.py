"""A kernel, number by number (lesson 02)."""

from __future__ import annotations

import ipywidgets
import torch
from torch import Tensor

from mbm_lab import cnn
from mbm_lab.widgets.drawing import image_bytes, spoken

PRESETS = {
    "nothing": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "bright → dark": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "outlines": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}
"""Kernels to begin with."""


class KernelPlayground(ipywidgets.VBox):
    """Nine sliders for the numbers of a 3 × 3 kernel, over a grey picture.

    image: (H, W), from 0 to 1. The result is shown as grey where it is 0; the text says it for one
    window, the one in the middle of the frame. Raises ValueError when the image is not (H, W), or
    smaller than the kernel.
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
