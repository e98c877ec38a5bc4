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
        "three films of more frames than pixels": (_films(3, 4, 2, 1),),
    }


def _motion_beyond() -> Cases:
    return {
        "double precision": (_films(3, 4, 2, 1).double(),),
        "every second film (a strided tensor)": (_films(6, 5, 4, 2)[::2],),
    }


def _changes(films: Tensor) -> Tensor:
    """From each frame to the next: (N, T - 1, P)."""
    return films[:, 1:] - films[:, :-1]


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
    beyond=_motion_beyond,
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
        "You took the mean first and the absolute value afterwards. Until then what comes and what "
        "goes have cancelled out.": lambda films: _changes(films).mean((1, 2)).abs(),
        "You took the mean over the pixels before the absolute value. A light that leaves one "
        "pixel and comes to another cancels out in it.": (
            lambda films: _changes(films).mean(2).abs().mean(1)
        ),
        "You took the mean over the times before the absolute value. A light that comes and goes "
        "cancels out in it.": lambda films: _changes(films).mean(1).abs().mean(1),
        "You divided by the number of frames, T. There are only T − 1 changes between them.": (
            lambda films: _changes(films).abs().sum((1, 2)) / films[0].numel()
        ),
        "You took the sum over the pixels: take the mean over pixels and times.": (
            lambda films: _changes(films).abs().sum(2).mean(1)
        ),
        "You took the sum over the times: take the mean over times and pixels.": (
            lambda films: _changes(films).abs().mean(2).sum(1)
        ),
        "You counted which pixels change. How much each one changes is asked for.": (
            lambda films: (_changes(films) != 0).float().mean((1, 2))
        ),
        "You took the root of the mean square: take the mean of the absolute differences.": (
            lambda films: _changes(films).square().mean((1, 2)).sqrt()
        ),
        "You took the standard deviation of the changes: take the mean of their absolute values.": (
            lambda films: _changes(films).flatten(1).std(1)
        ),
        "You also compared the last frame with the first, as if the film began again. They are no "
        "neighbours.": lambda films: (films - films.roll(1, 1)).abs().mean((1, 2)),
        "You took the largest change: take the mean.": (
            lambda films: _changes(films).abs().amax((1, 2))
        ),
        "You returned one number for each time, (N, T − 1): take the mean over the times, too.": (
            lambda films: _changes(films).abs().mean(2)
        ),
        "You returned one number for each pixel, (N, P): take the mean over the pixels, too.": (
            lambda films: _changes(films).abs().mean(1)
        ),
        "The last frame does not count in your result: the last change is films[:, -1] − "
        "films[:, -2].": lambda films: (
            _changes(films)[:, :-1].abs().mean(2).sum(1) / (films.shape[1] - 1)
        ),
        "The first frame does not count in your result: the first change is films[:, 1] − "
        "films[:, 0].": lambda films: (
            _changes(films)[:, 1:].abs().mean(2).sum(1) / (films.shape[1] - 1)
        ),
        "You took the median of the changes: take the mean.": (
            lambda films: _changes(films).abs().flatten(1).median(1).values
        ),
        "You cut the pixels to whole numbers. They can be anything between.": (
            lambda films: _changes(films.int()).abs().float().mean((1, 2))
        ),
        "Your result is 0.4 every time, as in the task's example. Compute it from the films.": (
            lambda films: torch.tensor([0.4])
        ),
        "You returned a column, (N, 1). The result is (N,).": (
            lambda films: _changes(films).abs().mean((1, 2))[:, None]
        ),
        "You kept the axes over which you took the mean, (N, 1, 1). The result is (N,).": (
            lambda films: _changes(films).abs().mean((1, 2), keepdim=True)
        ),
        "You compared each film with the next one: the first index counts the films, the second "
        "the frames.": lambda films: films.diff(dim=0).abs().mean((1, 2)),
        "Only what grows counts in your result. What becomes smaller changes, too: take the "
        "absolute value.": lambda films: _changes(films).clamp(min=0).mean((1, 2)),
        "You compared frames two places apart. Neighbours are one place apart.": (
            lambda films: (films[:, 2:] - films[:, :-2]).abs().mean((1, 2))
        ),
        "You took the mean of what the films show. The changes from frame to frame are asked "
        "for.": lambda films: films.mean((1, 2)),
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


def _only(*kinds: str, back=None, mirror=None):
    """Retells films of these kinds as if they were played backwards or mirrored otherwise."""

    def answer(change, start, to, backwards, mirrored):
        if change in kinds:
            backwards = backwards if back is None else back
            mirrored = mirrored if mirror is None else mirror
        return my_retell(change, start, to, backwards, mirrored)

    return answer


def _start_and_to(change, start, to, backwards, mirrored):
    return (to, start) if backwards else my_retell(change, start, to, False, mirrored)


def _mirror_swaps(change, start, to, backwards, mirrored):
    start, to = my_retell(change, start, to, backwards, False)
    return (to, start) if mirrored and change == "place" else (start, to)


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
    results=("the start", "what it changes to"),
    solution_function=my_retell,
    cases=_retell_cases,
    mistakes={
        "Now the mirror changes nothing. A face that moves to the left moves to the right there.": (
            _no_mirror
        ),
        "Mirrored and backwards, a place changes twice, and is as before. You changed it once.": (
            _either
        ),
        "Mirrored and backwards, a mood or a weather stays as it was in your films. The two cancel "
        "out for places only.": _mirror_instead,
        "You swapped the weathers in the mirror: rain is rain there, too.": _mirrored_weather,
        "You had it the wrong way round: the mirror turns places, not moods.": _mood_only,
        "Played backwards, nothing changes in your films. Only the mirror was wrong.": (
            _only("mood", "place", "weather", back=False)
        ),
        "A weather keeps its order in your films when they are played backwards. That was right "
        "before: start and to change places.": _only("weather", back=False),
        "Played backwards, a mood stays as it is in your films. That was right before: a face that "
        "becomes happier becomes sadder.": _only("mood", back=False),
        "Played backwards, a place stays as it is in your films. That was right before: left "
        "becomes right.": _only("place", back=False),
        "Played backwards, you swap start and to of every film. Only a weather has a start; a mood "
        "or a place becomes its opposite.": _start_and_to,
        "In the mirror you swap start and to of a place. The start is empty: left becomes right.": (
            _mirror_swaps
        ),
        "You swapped the results: first the start, then what it changes to.": (
            lambda *film: my_retell(*film)[::-1]
        ),
        "In the mirror a film looks played backwards to you. Only places are turned there, and "
        "moods and weathers stay.": lambda change, start, to, backwards, mirrored: my_retell(
            change, start, to, backwards != mirrored, False
        ),
        "A place is turned in your films even where nothing is mirrored: the condition asks for "
        "`mirrored` and for a place.": lambda change, start, to, backwards, mirrored: my_retell(
            change, start, to, backwards, mirrored or change == "place"
        ),
        'A mood or a place has no start. The empty text "" stays as it is; do not put None, or '
        "another word, in its place.": lambda *film: (
            my_retell(*film)[0] or None,
            my_retell(*film)[1],
        ),
        'You turn the start as well. For a mood or a place it is "" and stays so.': (
            lambda change, start, to, backwards, mirrored: (
                my_retell(change, start, to, backwards, mirrored)
                if change == "weather" or my_retell(change, start, to, backwards, mirrored)[1] == to
                else (to, my_retell(change, start, to, backwards, mirrored)[1])
            )
        ),
        "In the mirror weathers are turned as if the film ran backwards, and places are not turned "
        "at all.": lambda change, start, to, backwards, mirrored: my_retell(
            change, start, to, backwards != (mirrored and change == "weather"), False
        ),
        "A turned word has a space too many at its end.": lambda *film: (
            my_retell(*film)[0],
            my_retell(*film)[1] + " " * (my_retell(*film)[1] not in film[1:3]),
        ),
        "You return only what it changes to. The pair (start, to) is asked for.": (
            lambda *film: my_retell(*film)[1]
        ),
        "You say of every film what it shows as it is.": (
            lambda change, start, to, backwards, mirrored: (start, to)
        ),
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
    }


def _shuffle_beyond() -> Cases:
    keys = torch.rand(3, 4, generator=torch.Generator().manual_seed(10))
    return {
        "films of one frame": (_films(3, 1, 3, 8), keys[:, :1]),
        "every second film (a strided tensor)": (_films(6, 4, 3, 9)[::2], keys),
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
    beyond=_shuffle_beyond,
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
        "You returned the order of the frames. The films in this order are asked for.": (
            lambda films, keys: keys.argsort(1)
        ),
        "You returned the sorted keys. The films with their frames in this order are asked for.": (
            lambda films, keys: keys.sort(1).values
        ),
        "You sorted what the pixels show. The keys alone decide the order.": (
            lambda films, keys: films.sort(1).values
        ),
        "You sorted the keys along the films: argsort(0). Each film sorts its own keys: "
        "argsort(1).": lambda films, keys: films[
            torch.arange(len(films))[:, None], keys.argsort(0)
        ],
        "Only the first pixel of each frame is left. The order must be repeated for all P pixels "
        "before gather.": lambda films, keys: films.gather(1, keys.argsort(1)[:, :, None]),
        "Only the first film is left. Is there a `return` inside the loop?": (
            lambda films, keys: films[0][keys[0].argsort()]
        ),
        "Every film comes in every order, (N, N, T, P): films[:, orders]. Pair film i with order "
        "i: films[torch.arange(len(films))[:, None], orders].": (
            lambda films, keys: films[:, keys.argsort(1)]
        ),
        "All results are frames of the first film. Each film's order counts inside this film: "
        "pair the orders with the film's own number.": lambda films, keys: films[0][
            keys.argsort(1)
        ],
        "You sorted the keys and multiplied the frames by them. The keys only say in which order "
        "the frames come.": lambda films, keys: films * keys.sort(1).values[:, :, None],
        "You put the frames in an order of your own. The keys are drawn already: sort them.": (
            lambda films, keys: films.roll(1, 1)
        ),
        "You returned the ranks of the frames. The films in this order are asked for.": (
            lambda films, keys: keys.argsort(1).argsort(1)
        ),
        "You mixed films and frames in one long row. Sort each film by itself.": (
            lambda films, keys: films.flatten(0, 1)[keys.flatten().argsort()].view(films.shape)
        ),
        "You turned the films round. The keys decide the order.": (
            lambda films, keys: films.flip(1)
        ),
        "You used the last film's order for all films: each film has its own keys.": (
            lambda films, keys: films[:, keys[-1].argsort()]
        ),
        "You used one order for all films, that of the summed keys: each film has its own keys.": (
            lambda films, keys: films[:, keys.sum(0).argsort()]
        ),
        "You multiplied the frames by their keys. The keys only say in which order they come.": (
            lambda films, keys: films * keys[:, :, None]
        ),
    },
)
