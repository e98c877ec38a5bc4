"""Which hint comes next: each call is one step more explicit, but a cell that is run again repeats
what it showed."""

from __future__ import annotations

import sys


def cell() -> tuple[int, str] | None:
    """The cell that is being run in a notebook: its number and its text; None elsewhere."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    try:
        return shell.execution_count, shell.history_manager.input_hist_raw[-1]
    except (AttributeError, IndexError):
        return None


class Hints:
    """Remembers which hints were given, and in which cell.

    A hint that was left in a cell does not lead on whenever the cell runs: it is shown again. The
    next one comes in another cell, or if the cell is run twice in a row. In a cell with a check,
    which runs with every try, it is always shown again.
    """

    def __init__(self):
        self.last = -1
        self.run, self.text, self.calls = None, "", 0
        self.shown: dict[str, list[int]] = {}

    def next(self, here: tuple[int, str] | None) -> int:
        """The number, from 0, of the hint to give in this cell."""
        if here is None:
            self.last += 1
            return self.last
        number, text = here
        tries = "check(" in text
        text = "" if tries else text
        if number != self.run:
            if self.run is not None and number == self.run + 1 and text == self.text and not tries:
                self.shown.pop(text, None)
            self.run, self.text, self.calls = number, text, 0
        shown = self.shown.setdefault(text, [])
        if self.calls == len(shown):
            self.last += 1
            shown.append(self.last)
        self.calls += 1
        return shown[self.calls - 1]
