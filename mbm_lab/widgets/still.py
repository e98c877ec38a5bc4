"""A still picture beside a live widget: what GitHub and a reopened notebook show."""

from __future__ import annotations

import base64
import io
import textwrap

import matplotlib
from PIL import Image, ImageDraw, ImageFont

FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSans.ttf"
"""It comes with matplotlib, and has Greek letters and arrows."""


class Still:
    """Gives a widget's output a still picture (image/png) beside its live view.

    Inherit from it before the widget's class, and write `still` and `said`, which says the same in
    words and becomes the picture's alt text.
    """

    def still(self) -> bytes:
        """What the widget looks like now, as the bytes of a PNG file."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options) -> tuple[dict, dict]:
        bundle = super()._repr_mimebundle_(**options)
        data = bundle[0] if isinstance(bundle, tuple) else bundle
        data["image/png"] = base64.b64encode(self.still()).decode()
        data["text/plain"] = f"{type(self).__name__}: run this cell to make it live."
        return data, {"image/png": {"alt": self.said}}


def side_by_side(*pictures: bytes, gap: int = 12, words: str = "") -> bytes:
    """PNG files in a row, on white, with the highest one's height, and words under them: the bytes
    of a PNG file."""
    images = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures]
    width = max(480 if words else 1, sum(image.width + gap for image in images) - gap)
    height = max((image.height for image in images), default=0)
    font = ImageFont.truetype(FONT, 13)
    lines = textwrap.wrap(words, width // 8)
    row = Image.new("RGB", (width, height + (6 + 18 * len(lines) if lines else 0)), "white")
    left = 0
    for image in images:
        row.paste(image, (left, 0))
        left += image.width + gap
    for number, line in enumerate(lines):
        ImageDraw.Draw(row).text((0, height + 4 + 18 * number), line, "black", font)
    buffer = io.BytesIO()
    row.save(buffer, format="png", optimize=True)
    return buffer.getvalue()
