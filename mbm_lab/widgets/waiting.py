"""Waiting: what takes long comes a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Later:
    """Does something a moment later, once, however often it is asked for meanwhile.

    action: it reads the newest settings when its time comes; seconds: how much later that is,
    counted from when it is first asked for.
    """

    def __init__(self, action: Callable[[], object], seconds: float):
        self.action, self.seconds = action, seconds
        self._timer: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether the action is still to come."""
        return self._timer is not None

    def ask(self) -> bool:
        """Asks for the action, and returns whether it will come.

        It will not outside Jupyter, where no event loop runs: then the caller does it at once.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return False
        if self._timer is None:
            self._timer = loop.call_later(self.seconds, self._act)
        return True

    def cancel(self) -> None:
        """Calls the action off; it can be asked for again."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _act(self) -> None:
        self._timer = None
        self.action()
