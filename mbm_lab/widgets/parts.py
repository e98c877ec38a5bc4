"""What the small widgets are made of: native sliders, pictures with an alt text, a line of text.

The controls are ipywidgets' own in Python. In the browser they are native elements: they have names
for screen readers, take the width that there is, and work by keyboard, mouse and touch.
"""

from __future__ import annotations

from pathlib import Path

import anywidget
import ipywidgets
import traitlets

from mbm_lab.widgets.still import Still, side_by_side

HERE = Path(__file__).parent


class Slider(anywidget.AnyWidget, ipywidgets.FloatSlider):
    """A FloatSlider as a native range input with its label. It sends a value as soon as it moves;
    while Python is busy, the newest one waits."""

    _esm, _css = HERE / "slider.js", HERE / "parts.css"


class IntSlider(anywidget.AnyWidget, ipywidgets.IntSlider):
    """The same for whole numbers."""

    _esm, _css = HERE / "slider.js", HERE / "parts.css"


class LogSlider(anywidget.AnyWidget, ipywidgets.FloatLogSlider):
    """The same for powers of `base`: min, max and step are those of the exponent."""

    _esm, _css = HERE / "slider.js", HERE / "parts.css"


class Picture(anywidget.AnyWidget, ipywidgets.Image):
    """A PNG file with an alt text; it shrinks with the page."""

    _esm, _css = HERE / "picture.js", HERE / "parts.css"
    alt = traitlets.Unicode().tag(sync=True)


class Line(anywidget.AnyWidget, ipywidgets.Label):
    """A line of text that screen readers announce whenever it changes: its element stays."""

    _esm, _css = HERE / "line.js", HERE / "parts.css"


class Panel(Still, ipywidgets.VBox):
    """Controls, pictures and a line of text, `text`; rows wrap where the page is narrow.

    children: widgets, and lists of widgets that stand in a row. `said` is what `text` says.
    """

    def __init__(self, *children: ipywidgets.Widget | list[ipywidgets.Widget]):
        rows = [ipywidgets.HBox(one) if isinstance(one, list) else one for one in children]
        super().__init__(rows)
        self.add_class("mbm-panel")

    @property
    def said(self) -> str:
        """The line of text."""
        return self.text.value

    def pictures(self) -> list[bytes]:
        """The PNG files that are shown now, from left to right."""
        raise NotImplementedError

    def still(self) -> bytes:
        """The pictures that are shown now, and the line of text under them."""
        return side_by_side(*self.pictures(), words=self.said)
