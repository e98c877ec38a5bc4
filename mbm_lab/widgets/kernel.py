"""A kernel, number by number (lesson 02)."""

from __future__ import annotations

import ipywidgets
import torch
from torch import Tensor

from mbm_lab import cnn
from mbm_lab.widgets.drawing import image_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture

PRESETS = {
    "nothing": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "bright → dark": [[1, 0, -1], [2, 0, -2], [1, 0, -1]],
    "outlines": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "blur": [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
}
"""Kernels to begin with."""


class KernelPlayground(Panel):
    """The nine numbers of a 3 × 3 kernel, over a grey picture, and what they make of nine pixels.

    image: (H, W), from 0 to 1. row, column: the middle of the marked window at first; by default
    where the first kernel finds the strongest edge. The result is shown as grey where it is 0.
    Raises ValueError when the image is not (H, W), or smaller than the kernel.
    """

    FIRST, SIZE = "bright → dark", 256

    def __init__(self, image: Tensor, row: int | None = None, column: int | None = None):
        if image.ndim != 2 or min(image.shape) < 3:
            raise ValueError(
                f"KernelPlayground needs a grey picture (H, W) of at least 3 × 3 pixels, and got "
                f"the shape {tuple(image.shape)}: pass one channel of a picture, such as image[0]."
            )
        self.image, self._moved_by_code = image, False
        self.numbers = [
            ipywidgets.BoundedFloatText(
                description=f"kernel, row {i}, column {j}", min=-8, max=8, step=0.5,
                continuous_update=True,
            )
            for i in (1, 2, 3) for j in (1, 2, 3)
        ]  # fmt: skip
        self.presets = [ipywidgets.Button(description=name) for name in PRESETS]
        self.row, self.column = (
            IntSlider(description=f"window: {name}", min=1, max=size - 2, value=1)
            for name, size in zip(("row", "column"), image.shape, strict=True)
        )
        self.products = ipywidgets.HTML()
        self.before, self.after, self.text = Picture(), Picture(), Line()
        self.after.alt = "What the kernel makes of the picture: grey is 0, white more, black less."
        self.set(PRESETS[self.FIRST])
        edge = divmod(int(self.result()[1:-1, 1:-1].argmax()), image.shape[1] - 2)
        self.row.value, self.column.value = (
            place + 1 if wanted is None else wanted
            for wanted, place in zip((row, column), edge, strict=True)
        )
        for button in self.presets:
            button.on_click(lambda clicked: self.set(PRESETS[clicked.description]))
        for one in (self.row, self.column):
            one.observe(self._move, "value")
        for one in self.numbers:
            one.observe(self._update, "value")
        self._move()
        grid = ipywidgets.GridBox([ipywidgets.HTML("kernel"), *self.numbers])
        grid.add_class("mbm-kernel")
        super().__init__(
            self.presets, [grid, self.products], [self.row, self.column],
            [self.before, self.after], self.text,
        )  # fmt: skip

    def pictures(self) -> list[bytes]:
        return [self.before.value, self.after.value]

    def set(self, kernel: list[list[float]]) -> None:
        """Writes all nine numbers and draws once."""
        self._moved_by_code = True
        for one, value in zip(self.numbers, sum(kernel, []), strict=True):
            one.value = value
        self._moved_by_code = False
        self._update()

    def kernel(self) -> Tensor:
        """The nine numbers: (3, 3)."""
        return torch.tensor([one.value for one in self.numbers]).view(3, 3)

    def result(self) -> Tensor:
        """The convolution of the picture with the kernel: (H, W)."""
        return cnn.convolve_unfolded(self.image[None, None], self.kernel()[None, None], padding=1)[
            0, 0
        ]

    def window(self) -> tuple[slice, slice]:
        """Where the nine marked pixels are."""
        return tuple(slice(one.value - 1, one.value + 2) for one in (self.row, self.column))

    def _move(self, _change: dict | None = None) -> None:
        """Marks nine pixels of the picture in red."""
        coloured = self.image[None].repeat(3, 1, 1)
        window = coloured[:, *self.window()]
        window[1:] *= 0.4
        window[0] = 0.6 + 0.4 * window[0]
        self.before.value = image_bytes(coloured, self.SIZE)
        self.before.alt = (
            f"The picture. The marked window is around row {self.row.value}, "
            f"column {self.column.value}."
        )
        self._update()

    def _update(self, _change: dict | None = None) -> None:
        if self._moved_by_code:
            return
        kernel, result, pixels = self.kernel(), self.result(), self.image[self.window()]
        largest = float(result[1:-1, 1:-1].abs().max().clamp(min=1e-6))
        self.after.value = image_bytes(0.5 + 0.5 * result / largest, self.SIZE)
        self.products.value = products(pixels, kernel)
        parts = [
            f"{k:g} · {x:.2f}"
            for k, x in zip(kernel.flatten().tolist(), pixels.flatten().tolist(), strict=True)
            if k
        ]
        total, least, most = (
            float(x)
            for x in (result[self.row.value, self.column.value], result.min(), result.max())
        )
        self.text.value = (
            f"In the marked window: {' + '.join(parts) or '0'} = {total:.2f}. "
            f"In the whole picture from {least:.2f} to {most:.2f}."
        )


def products(pixels: Tensor, kernel: Tensor) -> str:
    """A table of nine cells as grey as the nine pixels, with each product of pixel and number."""
    cells = [
        f"<td class='{'light' if x > 0.46 else 'dark'}' style='--grey: {255 * x:.0f}'>"
        f"{k:g} · {x:.2f}<br>= {k * x:.2f}</td>"
        for k, x in zip(kernel.flatten().tolist(), pixels.flatten().tolist(), strict=True)
    ]
    rows = "".join(f"<tr>{''.join(cells[i : i + 3])}</tr>" for i in (0, 3, 6))
    return f"<table class='mbm-products'><caption>number · marked pixel</caption>{rows}</table>"
