"""The rules of a poll on α and β (`poll` serves it): who may join, answer, and show the answers.

A room is a thing of one session. It holds one point a telephone and no names, in memory alone.
Everything that a telephone sends is checked here; what is refused raises `Refused`.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

LEAST, MOST = -0.5, 1.25
"""The range of α and of β, as that of the sliders in `playground.js`."""

LETTERS = "ACDEFHJKMNPRTVWXY"
"""The letters of a join code: none that looks like another letter or digit (as I, L and 1 do)."""
CODE_LENGTH = 6

MOST_DEVICES = 500
GONE = 60.0
"""Seconds without a sign of life after which a full room forgets a telephone without an answer."""

PHASES = ("open", "dots", "best")
"""A round's phases: answers are taken; all dots are shown; so is the best point."""


class Refused(Exception):
    """What is refused: the HTTP status, one sentence, and the seconds after which to try again."""

    def __init__(self, status: int, sentence: str, wait: float = 0.0):
        super().__init__(sentence)
        self.status, self.sentence, self.wait = status, sentence, wait


@dataclass
class Allowance:
    """So many tries at once, and so many more a second (a token bucket)."""

    rate: float
    most: float
    left: float = field(init=False)
    then: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.left = self.most

    def wait(self, now: float) -> float:
        """The seconds until there is a try; 0 when there is one now."""
        self.left = min(self.most, self.left + self.rate * max(0.0, now - self.then))
        self.then = now
        return max(0.0, (1 - self.left) / self.rate)

    def take(self, now: float) -> float:
        """Uses one try, if there is one; otherwise the seconds until there is."""
        wait = self.wait(now)
        if wait == 0:
            self.left -= 1
        return wait


class Allowances:
    """An allowance for each address, or each device; of the longest silent, none is remembered."""

    def __init__(self, rate: float, most: float, remembered: int = 2000):
        self.rate, self.most, self.remembered = rate, most, remembered
        self._of: dict[Hashable, Allowance] = {}

    def of(self, whom: Hashable) -> Allowance:
        allowance = self._of.pop(whom, None) or Allowance(self.rate, self.most)
        self._of[whom] = allowance  # the last one is the latest
        if len(self._of) > self.remembered:
            del self._of[next(iter(self._of))]
        return allowance


@dataclass
class Device:
    """A telephone: its answer (α, β) in this round, and when it was last heard of."""

    answer: tuple[float, float] | None = None
    seen: float = 0.0


class Room:
    """Some rounds of one question, and the answers to the present one.

    rounds: what can be asked; of each a dict with `title`, the readings `f`, `g` and moods `m`
    (lists of one length), and `cards` to think by. clock: seconds, from any start.
    `code` is what one types to join; `key`, in the address that telephones scan, opens as well;
    `token` is the instructor's. `turns` counts what telephones should know of, `changes` all.
    """

    def __init__(self, rounds: list[dict], clock: Callable[[], float] = time.monotonic):
        self.rounds, self.clock = rounds, clock
        self.code = "".join(secrets.choice(LETTERS) for _ in range(CODE_LENGTH))
        self.key, self.token = secrets.token_urlsafe(12), secrets.token_urlsafe(24)
        self.devices: dict[str, Device] = {}
        self.number, self.which, self.phase = 1, 0, PHASES[0]
        self.turns = self.changes = 1
        # A school has one address for all its telephones: its caps let a class in at once.
        self._joins = Allowances(rate=5, most=150)
        self._wrong = Allowances(rate=0.5, most=30)
        self._wrong_anywhere = Allowance(rate=2, most=120)
        self._answers = Allowances(rate=4, most=4)
        self._answers_of_address = Allowances(rate=100, most=300)

    # Telephones

    def join(self, code: object, address: str, device: str | None = None) -> str:
        """A new device's secret name, or its old one. Raises Refused for a wrong code, when there
        were too many wrong ones or too many newcomers, and when the room is full."""
        if not isinstance(code, str) or not 0 < len(code) <= 64:
            raise Refused(400, "Send the code that stands on the wall, as text.")
        now = self.clock()
        if not _same(code, self.key):
            self._check_typed(code, address, now)
        if device in self.devices:
            return device
        _unless(self._joins.of(address).take(now), "Very many are joining now.")
        if len(self.devices) >= MOST_DEVICES:
            self._forget_the_silent(now)
        if len(self.devices) >= MOST_DEVICES:
            said = f"The room is full, {MOST_DEVICES} telephones have joined: share a neighbour's."
            raise Refused(503, said, wait=30)
        device = secrets.token_urlsafe(16)
        self.devices[device] = Device(seen=now)
        return device

    def _check_typed(self, code: str, address: str, now: float) -> None:
        """A typed code has few letters: so right ones, too, wait after too many wrong ones."""
        wrong = self._wrong.of(address)
        wait = max(wrong.wait(now), self._wrong_anywhere.wait(now))
        _unless(wait, "There were too many wrong codes; scanning the picture still works.")
        typed = "".join(letter for letter in code.upper() if not letter.isspace() and letter != "-")
        if not _same(typed, self.code):
            wrong.take(now)
            self._wrong_anywhere.take(now)
            raise Refused(403, "This is not the code of this room: look at the wall again.")

    def _forget_the_silent(self, now: float) -> None:
        self.devices = {
            name: device
            for name, device in self.devices.items()
            if device.answer is not None or now - device.seen < GONE
        }

    def device(self, name: str | None) -> Device:
        """The device of this secret name. Raises Refused when there is none."""
        if name not in self.devices:
            raise Refused(401, "Join first, with the code that stands on the wall.")
        device = self.devices[name]
        device.seen = self.clock()
        return device

    def answer(self, name: str | None, address: str, asked: dict) -> None:
        """Takes the point {"round", "alpha", "beta"} in the place of this device's last one.

        Raises Refused when the device is unknown or too quick, the point no point of the plane, or
        the round not open.
        """
        device, now = self.device(name), self.clock()
        wait = self._answers.of(name).take(now)
        _unless(wait, "That was quick: four answers a second are enough.")
        _unless(self._answers_of_address.of(address).take(now), "Very many answer at this moment.")
        point = tuple(_number(asked, letter) for letter in ("alpha", "beta"))
        self._check_round(asked)
        if self.phase != "open":
            raise Refused(409, "The answers are on the wall now: wait for the next round.")
        if device.answer != point:
            device.answer = point
            self.changes += 1

    def for_a_device(self, name: str | None) -> dict:
        """What a telephone shows; the readings, from which the best can be computed, come last."""
        device = self.device(name)
        asked = self.rounds[self.which]
        state = {**self._round(), "cards": asked["cards"], "answer": device.answer}
        return {"version": self.turns, **state}

    # The instructor

    def check_instructor(self, token: str | None) -> None:
        """Raises Refused when this is not the instructor's token."""
        if token is None or not _same(token, self.token):
            raise Refused(
                403,
                "This page is the instructor's: open the whole address that the terminal shows.",
            )

    def show(self, asked: dict) -> None:
        """Shows all dots, or the best as well: {"round", "show": "dots" or "best"}; "open" hides
        them again and takes answers. Raises Refused when another round has begun."""
        self._check_round(asked)
        if asked.get("show") not in PHASES:
            raise Refused(400, "Choose what to show: open, dots or best.")
        if asked["show"] != self.phase:
            self.phase = asked["show"]
            self._turn()

    def begin(self, asked: dict) -> None:
        """Begins a new round without answers: {"round": the present, "next": which of `rounds`}.

        Raises Refused when another window has begun one already.
        """
        self._check_round(asked)
        which = asked.get("next")
        if not _whole(which) or not 0 <= which < len(self.rounds):
            raise Refused(400, f"Choose a round from 0 to {len(self.rounds) - 1}.")
        for device in self.devices.values():
            device.answer = None
        self.number, self.which, self.phase = self.number + 1, which, PHASES[0]
        self._turn()

    def for_the_instructor(self) -> dict:
        """What the instructor's page shows: how many answered; the answers only when shown."""
        answers = [device.answer for device in self.devices.values() if device.answer is not None]
        return {
            "version": self.changes,
            **self._round(),
            "which": self.which,
            "titles": [one["title"] for one in self.rounds],
            "joined": len(self.devices),
            "answered": len(answers),
            "answers": answers if self.phase != "open" else [],
        }

    def _round(self) -> dict:
        asked = self.rounds[self.which]
        shown = self.phase != "open"
        readings = {name: asked[name] for name in ("f", "g", "m")} if shown else None
        return {
            "round": self.number,
            "title": asked["title"],
            "phase": self.phase,
            "readings": readings,
        }

    def _turn(self) -> None:
        self.turns += 1
        self.changes += 1

    def _check_round(self, asked: dict) -> None:
        if not _whole(asked.get("round")):
            raise Refused(400, "Say which round is meant, as a whole number.")
        if asked["round"] != self.number:
            raise Refused(409, f"Round {self.number} is on now: choose again.")


def parsed(body: bytes) -> dict:
    """A JSON object. Raises Refused for everything else, NaN and Infinity among it."""
    try:
        asked = json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise Refused(400, "This is not JSON as it should be.") from None
    if not isinstance(asked, dict):
        raise Refused(400, "A JSON object with names and values is needed.")
    return asked


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _number(asked: dict, name: str) -> float:
    value = asked.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(400, f"{name} is missing, or not a number.")
    if not LEAST <= value <= MOST:
        raise Refused(400, f"{name} must lie between {LEAST} and {MOST}.")
    return float(value)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _same(one: str, other: str) -> bool:
    """Whether two secrets are the same; the time that it takes tells nothing of where they part."""
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _unless(wait: float, sentence: str) -> None:
    if wait > 0:
        raise Refused(429, f"{sentence} Try again in {max(1, round(wait))} s.", wait)
