"""Pictures that change fast."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor


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
