"""The exercises of lesson 08: frames and their order."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab import datasets
from mbm_lab import video as lesson
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

LIGHT = torch.tensor([[[1.0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 1, 0, 0]]])
"""The film of section 1: a light that moves to the right, (1, 3, 5)."""


def _films(count: int, frames: int, pixels: int, seed: int) -> Tensor:
    return torch.rand(count, frames, pixels, generator=torch.Generator().manual_seed(seed))


# --- 1. How much moves


def my_motion(films: Tensor) -> Tensor:
    """The mean absolute change from frame to frame: films (N, T, P) to (N,)."""
    change = films[:, 1:] - films[:, :-1]  # (N, T - 1, P)
    return change.abs().mean((1, 2))


def _motion_cases() -> Cases:
    still = torch.ones(1, 4, 3)
    return {
        "the film of section 1": (LIGHT,),
        "a film in which nothing moves": (still,),
        "two frames of one pixel": (torch.tensor([[[0.2], [0.7]]]),),
        "it comes and goes": (torch.tensor([[[0.0], [1.0], [0.0], [1.0], [0.0]]]),),
        "four films": (_films(4, 6, 5, 0),),
        "double precision": (_films(3, 4, 2, 1).double(),),
        "every second film (a strided tensor)": (_films(6, 5, 4, 2)[::2],),
    }


motion = Exercise(
    lesson="08",
    name="motion",
    title="How much moves",
    minutes=5,
    difficulty=1,
    hints=(
        "films[:, 1:] are all frames but the first, films[:, :-1] all but the last. Subtract.",
        "Take .abs() before the mean, or what comes and what goes add up to nothing.",
        "(films[:, 1:] - films[:, :-1]).abs().mean((1, 2))",
    ),
    why="Shifting the film by one frame and subtracting gives all neighbouring pairs at once. "
    "Without the absolute value a light that leaves one pixel and comes to another would count as "
    "no change.",
    solution_function=my_motion,
    cases=_motion_cases,
    mistakes={
        "You forgot the absolute value: what comes and what goes cancel out.": (
            lambda films: (films[:, 1:] - films[:, :-1]).mean((1, 2))
        ),
        "You squared the differences: take their absolute value.": (
            lambda films: (films[:, 1:] - films[:, :-1]).square().mean((1, 2))
        ),
        "You compared each frame with the first one: compare it with the one before it.": (
            lambda films: (films[:, 1:] - films[:, :1]).abs().mean((1, 2))
        ),
        "You compared only the first and the last frame: take all neighbours.": (
            lambda films: (films[:, -1] - films[:, 0]).abs().mean(1)
        ),
        "You compared neighbouring pixels: the second index counts the frames.": (
            lambda films: (films[:, :, 1:] - films[:, :, :-1]).abs().mean((1, 2))
        ),
        "You made one number of all films: each film has its own, so keep the first index.": (
            lambda films: (films[:, 1:] - films[:, :-1]).abs().mean()
        ),
        "You took the sum: the mean does not grow with the length of the film.": (
            lambda films: (films[:, 1:] - films[:, :-1]).abs().sum((1, 2))
        ),
    },
)


# --- 2. Predict: how much can one frame tell?


def _how_much() -> str:
    cards = datasets.load_postcards("val", parts=()).cards[:100]
    most = max(lesson.single_frame_limit(cards, frame, draws=2) for frame in range(8))
    return "abc"[(most > 0.5) + (most > 0.8)]


one_frame = Choice(
    lesson="08",
    name="one_frame",
    title="Predict: how much can one frame tell?",
    minutes=3,
    difficulty=1,
    hints=(
        "In most frames you see one weather and one face. What may change here: the mood, the "
        "weather, the place? Can you see which?",
        "Say that the face stands far to the left. Will it move to the right? Only if it is the "
        "place that changes, and that is so in one film of three.",
    ),
    why="Most frames do not show what changes: a face on the left may have stood there all the "
    "time. Then mood, weather and place are equally probable, and even a sure direction is worth "
    "one third. A frame in the middle of a fade shows two weathers, but not which came first.",
    options={
        "a": "one film of three",
        "b": "two films of three",
        "c": "nearly every film",
    },
    answer="a",
    wrong={
        "b": "Even if it saw the direction: how should it see whether mood, weather or place "
        "changes?",
        "c": "A film and the same film played backwards are equally probable. Can one frame tell "
        "the two apart?",
    },
    truth=_how_much,
)


# --- 3. Break and fix: the lying mirror


def my_retell(change: str, start: str, to: str, backwards: bool, mirrored: bool) -> tuple[str, str]:
    """What changes from `start` to `to` in a film that is turned around."""
    opposite = {"left": "right", "right": "left", "happier": "sadder", "sadder": "happier"}
    if change == "weather":
        return (to, start) if backwards else (start, to)
    if backwards:
        to = opposite[to]
    if mirrored and change == "place":
        to = opposite[to]
    return start, to


def _given_retell(change, start, to, backwards, mirrored):
    opposite = {"left": "right", "right": "left", "happier": "sadder", "sadder": "happier"}
    if change == "weather":
        return (to, start) if backwards else (start, to)
    if backwards:
        to = opposite[to]
    if mirrored:
        to = opposite[to]
    return start, to


def _no_mirror(change, start, to, backwards, mirrored):
    return my_retell(change, start, to, backwards, False)


def _either(change, start, to, backwards, mirrored):
    if change == "place":
        return my_retell(change, start, to, backwards or mirrored, False)
    return my_retell(change, start, to, backwards, mirrored)


def _mirror_instead(change, start, to, backwards, mirrored):
    if mirrored and change != "place":
        backwards = False
    return my_retell(change, start, to, backwards, mirrored)


def _mirrored_weather(change, start, to, backwards, mirrored):
    if change == "weather":
        backwards = backwards != mirrored
    return my_retell(change, start, to, backwards, mirrored)


def _mood_only(change, start, to, backwards, mirrored):
    if change == "mood":
        return _given_retell(change, start, to, backwards, mirrored)
    return my_retell(change, start, to, backwards, False)


def _retell_cases() -> Cases:
    films = [
        ("mood", "", "happier"),
        ("mood", "", "sadder"),
        ("place", "", "left"),
        ("place", "", "right"),
        ("weather", "sun", "rain"),
        ("weather", "night", "storm"),
    ]
    ways = {
        "mirrored": (False, True),
        "backwards": (True, False),
        "as it is": (False, False),
        "mirrored and backwards": (True, True),
    }
    return {
        f"{change} to {to}, {way}": (change, start, to, *turns)
        for way, turns in ways.items()
        for change, start, to in films
    }


retell = Exercise(
    lesson="08",
    name="retell",
    title="Break and fix: the lying mirror",
    minutes=6,
    difficulty=1,
    hints=(
        "Look at a mirrored face that becomes happier. What does it do in the mirror?",
        'Only a place has a left and a right: if mirrored and change == "place".',
    ),
    why="A mirror swaps left and right and leaves moods and weathers as they are. A film that is "
    "mirrored and played backwards moves to the same side as before: two turns cancel out.",
    given=_given_retell,
    solution_function=my_retell,
    cases=_retell_cases,
    mistakes={
        "Now the mirror changes nothing. A face that moves to the left moves to the right there.": (
            _no_mirror
        ),
        "Mirrored and backwards, a place changes twice, and is as before. You changed it once.": (
            _either
        ),
        "In the mirror you forgot to turn moods "
        "and weathers around when the film runs backwards.": (_mirror_instead),
        "You swapped the weathers in the mirror: rain is rain there, too.": _mirrored_weather,
        "You had it the wrong way round: the mirror turns places, not moods.": _mood_only,
    },
)


# --- 4. Shuffle every film in its own way


def my_shuffle(films: Tensor, keys: Tensor) -> Tensor:
    """Each film's frames in the order of its keys: films (N, T, P), keys (N, T)."""
    orders = keys.argsort(1)  # (N, T)
    return films[torch.arange(len(films))[:, None], orders]


def _shuffle_cases() -> Cases:
    small = torch.tensor([[[5.0], [6.0], [7.0]]])
    generator = torch.Generator().manual_seed(5)
    return {
        "one film of three frames": (small, torch.tensor([[0.9, 0.1, 0.5]])),
        "two films": (
            torch.cat([small, small + 10]),
            torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.3, 0.1]]),
        ),
        "four films of six frames": (
            _films(4, 6, 3, 6),
            torch.rand(4, 6, generator=generator),
        ),
        "as many films as frames": (_films(5, 5, 2, 7), torch.rand(5, 5, generator=generator)),
        "a film of one frame": (_films(2, 1, 3, 8), torch.rand(2, 1, generator=generator)),
        "every second film (a strided tensor)": (
            _films(6, 4, 3, 9)[::2],
            torch.rand(3, 4, generator=generator),
        ),
    }


def _back_again(films: Tensor, keys: Tensor) -> Tensor:
    return films[torch.arange(len(films))[:, None], keys.argsort(1).argsort(1)]


shuffle = Exercise(
    lesson="08",
    name="shuffle",
    title="Shuffle every film in its own way",
    minutes=8,
    difficulty=2,
    hints=(
        "keys.argsort(1) gives for each film the numbers of its frames, the one with the smallest "
        "key first.",
        "films[rows, columns] takes one frame for each pair of numbers. The rows must be a column: "
        "torch.arange(len(films))[:, None].",
        "films[torch.arange(len(films))[:, None], keys.argsort(1)]",
    ),
    why="The rows (N, 1) and the orders (N, T) are broadcast to (N, T) pairs of numbers: film i, "
    "frame orders[i, t]. So each film is sorted by its own keys, and the pixels move along.",
    solution_function=my_shuffle,
    cases=_shuffle_cases,
    mistakes={
        "You used the first film's order for all films: each film has its own keys.": (
            lambda films, keys: films[:, keys[0].argsort()]
        ),
        "You shuffled the films, not their frames: sort along the second index of keys.": (
            lambda films, keys: films[keys[:, 0].argsort()]
        ),
        "You sorted from the largest key to the smallest: the smallest comes first.": (
            lambda films, keys: my_shuffle(films, -keys)
        ),
        "You sent each frame to the place of its rank. Take the frames in the order of the keys: "
        "one argsort, not two.": _back_again,
        "You returned the films as they were.": lambda films, keys: films.clone(),
    },
)
