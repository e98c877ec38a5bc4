"""Running somebody's code: on copies, for a limited time, and with nothing left behind."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import io
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mbm_lab.exercises import sources
from mbm_lab.exercises.kept import Kept, builtins_back
from mbm_lab.exercises.plain import class_name, plain, state_of

Cases = dict[str, tuple]
"""The inputs to try, smallest first: what each one is, and its arguments."""


class Raised(NamedTuple):
    """An error, in plain things.

    name: its class; kinds: the names of this class and those above it; text: what it says, one
    line; line: the line of the answer's own code in which it came up, or ""; by_answer: whether
    the answer itself raised it, with `raise`.
    """

    name: str
    kinds: tuple[str, ...]
    text: str
    line: str
    by_answer: bool


class Outcome(NamedTuple):
    """What came of one call: a value, in plain things, or an error."""

    value: Any = None
    error: Raised | None = None


class Run(NamedTuple):
    """What came of all calls of an answer.

    outcomes: one a case, up to the first that does not end; changed: what the answer changed in
    its input, or None; stopped: whether it could be stopped; ended: whether it ended by itself;
    line: where it was when it was stopped, or ""; deep: whether it had called itself by then;
    printed: what it printed.
    """

    outcomes: list[Outcome]
    changed: str | None
    ended: bool
    stopped: bool
    line: str
    deep: bool
    printed: Printed


class TooSlow(BaseException):
    """Raised inside an answer that does not end. Not an Exception, so `except Exception` lets it
    through."""


class Printed(io.TextIOBase):
    """Stands in for the page while an answer runs. It keeps the beginning of what is printed until
    `close_ears` is called, and nothing after that; a loop that prints for ever fills no memory.
    Nobody can close it."""

    MOST_LINES, MOST_CHARACTERS = 10, 2000

    def __init__(self):
        super().__init__()
        self._text = ""
        self._listens = True

    def write(self, text: str) -> int:
        if not issubclass(type(text), str):
            raise TypeError(f"write() argument must be str, not {class_name(text)}")
        if self._listens and len(self._text) <= self.MOST_CHARACTERS:
            self._text += str.__getitem__(text, slice(0, self.MOST_CHARACTERS + 1))
        return str.__len__(text)

    def close(self) -> None:
        pass

    def close_ears(self) -> None:
        """From now on, whatever is printed is left out."""
        self._listens = False

    def lines(self) -> list[str]:
        """What was kept, and "…" for more than 10 lines or 2,000 characters."""
        lines = self._text[: self.MOST_CHARACTERS].rstrip().splitlines()
        whole = len(self._text) <= self.MOST_CHARACTERS and len(lines) <= self.MOST_LINES
        return lines[: self.MOST_LINES] + ([] if whole else ["…"])


def run(
    call: Callable[..., Any],
    answer: Callable,
    cases: Cases,
    names: list[str],
    seconds: float,
    quiet: bool = False,
) -> Run:
    """Calls an answer on copies of every case. What it prints does not reach the page.

    names: those of the arguments; quiet: warnings are left out.
    """
    outcomes: list[Outcome] = []
    changed: list[str] = []
    printed = Printed()
    files = sources.files(answer)

    def work() -> None:
        before = Kept()
        for note, arguments in cases.items():
            mine = copy.deepcopy(arguments)
            states = [state_of(one) for one in mine]
            outcomes.append(_call(call, answer, mine, files, before))
            printed.close_ears()
            for name, state, after in zip(names, states, mine, strict=False):
                if not changed and state != state_of(after):
                    changed.append(f"{name} ({note})")

    with _page(printed, quiet):
        end = run_limited(work, seconds, files)
    return Run(
        outcomes, changed[0] if changed else None, len(outcomes) == len(cases), *end, printed
    )


def _call(
    call: Callable[..., Any], answer: Callable, arguments: Any, files: set[str], before: Kept
) -> Outcome:
    """One call, with whatever comes of it in plain things, and all put back as it was before."""
    value, raised = None, None
    try:
        value = call(answer, *arguments)
    except TooSlow:
        raise
    except BaseException as error:
        raised = error
    finally:
        builtins_back()
    before.put_back(randomness=False)
    return Outcome(plain(value)) if raised is None else Outcome(error=_raised(raised, files))


def _raised(error: BaseException, files: set[str]) -> Raised:
    """An error in plain things."""
    line, place, last = "", error.__traceback__, ""
    while place is not None:
        last = place.tb_frame.f_code.co_filename
        if last in files:
            line = sources.line(last, place.tb_lineno)
        place = place.tb_next
    try:
        text = str(error)
        text = str.__getitem__(text, slice(0, 2000)).strip().split("\n")[0][:300]
    except Exception:
        text = ""
    kinds = tuple(type.__dict__["__name__"].__get__(one) for one in type(error).__mro__)
    by_answer = last in files and (not line or "raise" in line)
    return Raised(class_name(error), kinds, text, line, by_answer)


@contextlib.contextmanager
def _page(printed: Printed, quiet: bool) -> Iterator[None]:
    """Lends the page to `printed`; a warning is printed as one line."""

    def show(message, category, filename, lineno, file=None, line=None):
        printed.write(f"{category.__name__}: {str(message).splitlines()[0][:200]}\n")

    out, err = sys.stdout, sys.stderr
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        warnings.showwarning = show
        sys.stdout, sys.stderr = printed, printed
        try:
            yield
        finally:
            sys.stdout, sys.stderr = out, err


# --- For a limited time


class End(NamedTuple):
    """How an action ended that was stopped, or was not. See `Run`."""

    stopped: bool
    line: str = ""
    deep: bool = False


def run_limited(
    action: Callable[[], None], seconds: float | None, files: set[str] = frozenset()
) -> End:
    """Runs an action in a thread of its own, for so many seconds at most, on any system.

    After that, TooSlow is raised inside it. `stopped` is False if it runs on nevertheless: code of
    a library, such as time.sleep, cannot be stopped from outside before it returns.
    files: those of whose lines one wants to know.
    """
    lock, done = threading.Lock(), threading.Event()

    def work() -> None:
        try:
            action()
        except TooSlow:
            pass
        finally:
            builtins_back()
        while True:  # until nobody sends TooSlow any more, and none is on its way
            try:
                with lock:
                    done.set()
                    _send(threading.get_ident(), None)
                return
            except TooSlow:
                pass

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    line, deep = "", False
    try:
        done.wait(seconds)
    finally:  # also when the learner presses "stop"
        builtins_back()
        if not done.is_set():
            line, deep = _where(sys._current_frames().get(thread.ident), files)
        for _ in range(100):
            with lock:
                if done.is_set():
                    break
                _send(thread.ident, TooSlow)
            done.wait(0.02)
    return End(done.is_set(), line, deep)


def _send(thread: int, error: type[BaseException] | None) -> None:
    """Has an error raised in a thread; None takes it back if it is still on its way."""
    what = ctypes.py_object(error) if error is not None else None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)


def _where(frame: types.FrameType | None, files: set[str]) -> tuple[str, bool]:
    """The line of certain files that is being run, and whether one of their functions runs inside
    itself."""
    line, running = "", []
    while frame is not None:
        if frame.f_code.co_filename in files:
            line = line or sources.line(frame.f_code.co_filename, frame.f_lineno)
            running.append(frame.f_code)
        frame = frame.f_back
    return line, len(set(running)) < len(running)
