"""The exercises of lesson 12: two readers added, people kept apart, and a spread of shuffles."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab.exercises.exercise import Cases, Exercise

# --- 1. Add two readers


def my_reading(f: Tensor, g: Tensor) -> Tensor:
    """The digit (N,) that two readers choose together, from their scores before the softmax."""
    return (f.log_softmax(1) + g.log_softmax(1)).argmax(1)


def _scores(count: int, seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    f, g = 2 * torch.randn(2, count, 10, generator=generator, dtype=torch.float64)
    return f.to(dtype), g.to(dtype)


def _reading_cases() -> Cases:
    f, g = _scores(40, 0)
    return {
        "the pair of the task": (
            torch.tensor([[0.90, 0.09, 0.01]]).log(),
            torch.tensor([[0.01, 0.30, 0.69]]).log(),
        ),
        "two pairs": (
            torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]),
            torch.tensor([[2.0, 1.5, -1.0], [0.5, 3.0, 1.0]]),
        ),
        "forty pairs": (f, g),
        "a reader whose scores are all higher by 50": (f[:20], g[:20] + 50),
    }


def _reading_beyond() -> Cases:
    f, g = _scores(30, 1, torch.float64)
    return {
        "double precision": (f, g),
        "every second pair (strided tensors)": (f.float()[::2], g.float()[1::2]),
        "readers so sure that small probabilities become 0": (
            torch.tensor([[300.0, 0.0, 20.0]]),
            torch.tensor([[0.0, 300.0, 290.0]]),
        ),
    }


def _surer(f: Tensor, g: Tensor) -> Tensor:
    both = torch.stack([f.log_softmax(1), g.log_softmax(1)])
    likely, digits = both.max(2)
    return digits.gather(0, likely.argmax(0)[None])[0]


reading = Exercise(
    lesson="12",
    name="reading",
    title="Add two readers",
    minutes=6,
    difficulty=1,
    hints=(
        "Scores become log-probabilities with log_softmax. The digits stand in dimension 1.",
        "Add the log-probabilities of both readers, digit by digit. The chosen digit is the place "
        "of the largest sum.",
        "(f.log_softmax(1) + g.log_softmax(1)).argmax(1)",
    ),
    why="Probabilities of independent witnesses multiply, so their logarithms add, and a digit "
    "that one witness excludes stays excluded. (f + g without log_softmax chooses the same digits: "
    "log_softmax takes one number from all scores of a row. α and β would change nothing in that.)",
    solution_function=my_reading,
    cases=_reading_cases,
    beyond=_reading_beyond,
    mistakes={
        "You added the probabilities. A reader that excludes a digit can then be outvoted: add "
        "their logarithms.": lambda f, g: (f.softmax(1) + g.softmax(1)).argmax(1),
        "You multiplied the logarithms. Probabilities multiply; their logarithms add.": (
            lambda f, g: (f.log_softmax(1) * g.log_softmax(1)).argmax(1)
        ),
        "You multiplied the scores. A product of two negative scores is large: "
        "log_softmax them first, then add.": lambda f, g: (f * g).argmax(1),
        "You took the least likely digit: the chosen digit has the largest sum, argmax.": (
            lambda f, g: (f.log_softmax(1) + g.log_softmax(1)).argmin(1)
        ),
        "You subtracted the second reader: both are added.": (
            lambda f, g: (f.log_softmax(1) - g.log_softmax(1)).argmax(1)
        ),
        "You asked only the reader that is surer. The other one's doubts count, too.": _surer,
        "You asked only f.": lambda f, g: f.argmax(1),
        "You asked only g.": lambda f, g: g.argmax(1),
        "You looked for the largest along the pairs: each pair chooses among its own digits, "
        "argmax(1).": lambda f, g: (f.log_softmax(1) + g.log_softmax(1)).argmax(0),
        "You took the softmax over the pairs: the digits are in dimension 1.": (
            lambda f, g: (f.log_softmax(0) + g.log_softmax(0)).argmax(1)
        ),
        "You returned the largest sum itself: return its place, the digit.": (
            lambda f, g: (f.log_softmax(1) + g.log_softmax(1)).max(1).values
        ),
        "You compared the two readers' scores as they are, and took the largest of all. Add the "
        "two readers' scores for each digit first.": lambda f, g: torch.maximum(f, g).argmax(1),
        "For each digit you asked only the reader that believes in it less. Both count: add their "
        "logarithms.": lambda f, g: torch.minimum(f.log_softmax(1), g.log_softmax(1)).argmax(1),
        "You added the two digits that the readers choose alone. Add their scores, then choose "
        "once.": lambda f, g: f.argmax(1) + g.argmax(1),
        "You took the middle of the two digits that the readers choose alone. Add their scores, "
        "then choose once.": lambda f, g: (f.argmax(1) + g.argmax(1)) // 2,
        "You returned the sums. The digit is the place of the largest sum: argmax(1).": (
            lambda f, g: f.log_softmax(1) + g.log_softmax(1)
        ),
        "You returned the sums of the scores as they came. The digit is the place of the largest "
        "sum: argmax(1).": lambda f, g: f + g,
        "You counted the digits from 1. The first one is 0.": (
            lambda f, g: (f.log_softmax(1) + g.log_softmax(1)).argmax(1) + 1
        ),
        "You returned one digit for all pairs together: each pair chooses its own, argmax(1).": (
            lambda f, g: (f.log_softmax(1) + g.log_softmax(1)).argmax()
        ),
        "You returned the first pair's digit alone. Is there a `return` inside the loop?": (
            lambda f, g: (f + g)[0].argmax()
        ),
        "You returned a column (N, 1): keepdim=False gives (N,).": (
            lambda f, g: (f + g).argmax(1, keepdim=True)
        ),
        "You laid the readers side by side, which makes numbers up to 19. Add them digit by "
        "digit.": lambda f, g: torch.cat([f.log_softmax(1), g.log_softmax(1)], 1).argmax(1),
        "f counts more than g in your sum. Both count once.": (
            lambda f, g: (2 * f.log_softmax(1) + g.log_softmax(1)).argmax(1)
        ),
        "g counts more than f in your sum. Both count once.": (
            lambda f, g: (f.log_softmax(1) + 2 * g.log_softmax(1)).argmax(1)
        ),
        "You returned 1 every time, as in the task's example. Compute it from f and g.": (
            lambda f, g: torch.tensor([1])
        ),
        "You returned 1 for every pair. Compute it from f and g.": (
            lambda f, g: torch.ones(len(f), dtype=torch.long)
        ),
        "You returned the second best digit. The chosen digit has the largest sum.": (
            lambda f, g: (f.log_softmax(1) + g.log_softmax(1)).argsort(1, descending=True)[:, 1]
        ),
        "You added one reader's probabilities to the other's logarithms. Add logarithms to "
        "logarithms.": lambda f, g: (f.softmax(1) + g.log_softmax(1)).argmax(1),
    },
)


# --- 2. Keep people apart


def my_split(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    """Where the recordings for training are, and where those of the new speakers, in order."""
    train, test = [], []
    for place, name in enumerate(speakers):
        if name in new:
            test.append(place)
        else:
            train.append(place)
    return train, test


def _split_cases() -> Cases:
    mixed = ["theo", "lucas", "george", "theo", "jackson", "lucas", "theo", "nicolas", "george"]
    return {
        "the three recordings of the task": (["theo", "lucas", "theo"], ["theo"]),
        "one new speaker at the end": (["lucas", "george", "lucas", "theo"], ["theo"]),
        "two new speakers": (mixed, ["george", "theo"]),
        "three new speakers, in another order": (mixed, ["theo", "nicolas", "george"]),
        "two names that begin alike": (["theodor", "theo", "lucas", "theodor"], ["theo"]),
        "two names that begin alike, the longer one new": (
            ["theo", "theodor", "lucas", "theo"],
            ["theodor"],
        ),
    }


def _split_beyond() -> Cases:
    speakers = _split_cases()["two new speakers"][0]
    return {
        "a new speaker who said nothing": (speakers, ["yweweler", "nicolas"]),
        "nobody new": (speakers, []),
        "nobody but new ones": (["theo", "theo"], ["theo"]),
    }


def _all_in_training(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    return list(range(len(speakers))), my_split(speakers, new)[1]


def _all_in_test(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    return my_split(speakers, new)[0], list(range(len(speakers)))


def _by_rows(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    cut = len(my_split(speakers, new)[0])
    return list(range(cut)), list(range(cut, len(speakers)))


def _swapped(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    train, test = my_split(speakers, new)
    return test, train


def _names(speakers: list[str], new: list[str]) -> tuple[list[str], list[str]]:
    return [one for one in speakers if one not in new], [one for one in speakers if one in new]


def _first_place_only(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    test = [speakers.index(name) for name in new if name in speakers]
    return [place for place in range(len(speakers)) if place not in test], test


def _speaker_by_speaker(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    train, test = my_split(speakers, new)
    return (sorted(train, key=lambda place: speakers[place]),
            sorted(test, key=lambda place: speakers[place]))  # fmt: skip


def _by_part(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    strange = [name for name in speakers if any(one in name for one in new)]
    return my_split(speakers, strange)


def _new_by_new(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    test = [place for name in new for place, one in enumerate(speakers) if one == name]
    return my_split(speakers, new)[0], test


def _once_for_each_new(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    train, test = [], []
    for place, name in enumerate(speakers):
        for one in new:
            (test if name == one else train).append(place)
    return train, test


def _one_recording_each(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    first = [place for place, name in enumerate(speakers) if name not in speakers[:place]]
    return tuple([place for place in side if place in first] for side in my_split(speakers, new))


def _first_name_only(speakers: list[str], new: list[str]) -> tuple[list[int], list[int]]:
    return my_split(speakers, new[:1])


split = Exercise(
    lesson="12",
    name="split",
    title="Keep people apart",
    minutes=6,
    difficulty=1,
    hints=(
        "Each recording goes to exactly one side, and its speaker alone decides to which.",
        "for place, name in enumerate(speakers) gives place and name of each recording; "
        "`name in new` tells whether this speaker is one of the new ones.",
        "Begin with two empty lists. In the loop append the place to test if name in new, else to "
        "train. Return train, test.",
    ),
    why="The speaker decides, and nothing else, so nobody can be on both sides. The same split is "
    "needed wherever one person, one document or one film gives several rows of data.",
    results=("the places for training", "the places for the test"),
    solution_function=my_split,
    cases=_split_cases,
    beyond=_split_beyond,
    mistakes={
        "The new speakers are in training, too. Then they are not new: leave them out there.": (
            _all_in_training
        ),
        "Your test has all recordings, those of training, too: only the new speakers belong "
        "there.": _all_in_test,
        "You cut by rows: the first ones for training, the rest for the test. Rows know nothing of "
        "people: look at each recording's speaker.": _by_rows,
        "You swapped the two: return training first, then the test.": _swapped,
        "You returned names: return the places of the recordings.": _names,
        "You found only the first recording of each new speaker: the others stayed in training.": (
            _first_place_only
        ),
        "The places are not in their order: go through the recordings once, from first to last.": (
            _speaker_by_speaker
        ),
        "You compared parts of names: theodor is not theo. Use `name in new`, where new is the "
        "list.": _by_part,
        "You looked for names inside the text of all new names: theo stands in theodor. Use "
        "`name in new`, where new is the list.": lambda speakers, new: my_split(
            speakers, [name for name in speakers if name in " ".join(new)]
        ),
        "You kept out only the first of the new speakers: new can hold several names.": (
            _first_name_only
        ),
        "You kept out only the last of the new speakers: new can hold several names.": (
            lambda speakers, new: my_split(speakers, new[-1:])
        ),
        "The test goes through one new speaker after the other. The places should rise: go through "
        "the recordings once, from first to last.": _new_by_new,
        "With two new speakers, recordings come twice, or are on both sides: you decide once for "
        "each new speaker. Decide once for each recording, with `name in new`.": _once_for_each_new,
        "You kept one recording of each speaker. All of them belong to one of the sides.": (
            _one_recording_each
        ),
        "Everything is in training, nothing in the test. `name == new` compares a name with a "
        "list: use `name in new`.": lambda speakers, new: (list(range(len(speakers))), []),
        "You counted the places from 1. The first recording has the place 0.": (
            lambda speakers, new: tuple(
                [place + 1 for place in side] for side in my_split(speakers, new)
            )
        ),
        "You return after the first recording. The `return` belongs behind the loop.": (
            lambda speakers, new: my_split(speakers[:1], new)
        ),
        "You return how many recordings there are on each side. Their places are asked for.": (
            lambda speakers, new: tuple(map(len, my_split(speakers, new)))
        ),
        "You return who is on each side. The places of their recordings are asked for.": (
            lambda speakers, new: (sorted(set(speakers) - set(new)), sorted(new))
        ),
        "You return True and False for each recording. Their places are asked for.": (
            lambda speakers, new: (
                [name not in new for name in speakers],
                [name in new for name in speakers],
            )
        ),
        "The places run from last to first. Return them in order.": (
            lambda speakers, new: tuple(side[::-1] for side in my_split(speakers, new))
        ),
        "All recordings are on both sides: `train = test = []` makes one list with two names. "
        "Write train, test = [], [].": lambda speakers, new: (
            list(range(len(speakers))),
            list(range(len(speakers))),
        ),
        "You only looked for theo. The new speakers are those in `new`, whoever they are.": (
            lambda speakers, new: my_split(speakers, ["theo"])
        ),
        "The result is that of the task's example every time. Compute it from `speakers`.": (
            lambda speakers, new: ([1], [0, 2])
        ),
        "You return one list of all places. Two lists are asked for: training, test.": (
            lambda speakers, new: [place for side in my_split(speakers, new) for place in side]
        ),
        "The test is right, but training is empty.": (
            lambda speakers, new: ([], my_split(speakers, new)[1])
        ),
    },
)


# --- 3. How lucky can one order be?


def my_spread(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, over the orders (K, N), of the mean score of captions that are
    dealt out anew. fits (N, N): caption i under photograph j."""
    photographs = torch.arange(len(fits))
    scores = torch.stack([fits[order, photographs].mean() for order in orders])
    return scores.mean(), scores.std()


def _fits(size: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    fits = torch.rand(size, size, generator=generator, dtype=torch.float64) * 4
    return (fits + 3 * torch.eye(size, dtype=torch.float64)).to(dtype)


def _orders(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(size, generator=generator) for _ in range(count)])


def _spread_cases() -> Cases:
    return {
        "two photographs, two orders": (
            torch.tensor([[5.0, 1.0], [2.0, 4.0]]),
            torch.tensor([[0, 1], [1, 0]]),
        ),
        "three photographs, two orders": (_fits(3, 0), torch.tensor([[1, 2, 0], [2, 1, 0]])),
        "six photographs, twenty orders": (_fits(6, 1), _orders(20, 6, 0)),
        "more photographs than orders": (_fits(9, 2), _orders(4, 9, 1)),
    }


def _spread_beyond() -> Cases:
    return {
        "double precision": (_fits(5, 3, torch.float64), _orders(7, 5, 2)),
        "every second order (a strided tensor)": (_fits(5, 4), _orders(12, 5, 3)[::2]),
    }


def _each_order(fits: Tensor, orders: Tensor) -> Tensor:
    """The scores (K, N) of every photograph in every order."""
    return fits[orders, torch.arange(len(fits))]


def _of_scores(scores: Tensor) -> tuple[Tensor, Tensor]:
    return scores.mean(), scores.std()


def _turned(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    return my_spread(fits.T, orders)


def _spread_of_all(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    scores = _each_order(fits, orders)
    return scores.mean(), scores.std()


def _between_photographs(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    scores = _each_order(fits, orders).mean(0)
    return scores.mean(), scores.std()


def _of_the_mean(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = my_spread(fits, orders)
    return mean, sd / len(orders) ** 0.5


def _variance(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = my_spread(fits, orders)
    return mean, sd**2


def _by_count(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    scores = _each_order(fits, orders).mean(1)
    return scores.mean(), scores.std(correction=0)


def _sums(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    scores = _each_order(fits, orders).sum(1)
    return scores.mean(), scores.std()


def _swapped_spread(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = my_spread(fits, orders)
    return sd, mean


def _one_order(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    scores = _each_order(fits, orders)[0]
    return scores.mean(), scores.std()


def _unshuffled(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    return fits.diagonal().mean(), fits.diagonal().std()


def _best_order(fits: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    scores = _each_order(fits, orders).mean(1)
    return scores.max(), scores.std()


spread = Exercise(
    lesson="12",
    name="spread",
    title="How lucky can one order be?",
    minutes=10,
    difficulty=2,
    hints=(
        "First one order: photograph j gets caption order[j], so its score is fits[order[j], j]. "
        "The order's score is the mean of these N numbers.",
        "fits[order, torch.arange(len(fits))] takes all N at once. Do it for each order: K scores.",
        "Stack the K scores into a tensor, and return its .mean() and its .std().",
    ),
    why="The question is how far *one order's score* lies from another's, so each order first "
    "becomes one number. A captioner's own score says something only if it lies well outside "
    "mean ± spread.",
    results=("the mean", "the standard deviation"),
    solution_function=my_spread,
    cases=_spread_cases,
    beyond=_spread_beyond,
    mistakes={
        "You dealt it the other way round: photograph j gets caption order[j], and captions are "
        "the rows of fits.": _turned,
        "You took the spread of all single scores. Each order is one score: average its "
        "photographs first.": _spread_of_all,
        "You averaged over the orders first and took the spread between photographs. Average over "
        "the photographs first.": _between_photographs,
        "You divided the spread by √K. That says how well the mean is known, not how lucky one "
        "order can be.": _of_the_mean,
        "You returned the variance: the standard deviation is its square root.": _variance,
        "You divided by K in the standard deviation. The mean comes from the same K scores, so "
        "divide by K − 1, as .std() does.": _by_count,
        "You summed over the photographs: an order's score is the mean.": _sums,
        "You swapped the two: return the mean first, then the spread.": _swapped_spread,
        "You used the first order alone. One order can be lucky: use all of them.": _one_order,
        "You shuffled nothing: the diagonal has each photograph with its own caption.": _unshuffled,
        "You returned the best order's score: return the mean over the orders.": _best_order,
        "You took whole rows: fits[order] holds every photograph for each caption. Photograph j "
        "has one caption: fits[order, torch.arange(len(fits))].": lambda fits, orders: _of_scores(
            torch.stack([fits[order].mean() for order in orders])
        ),
        "You took the whole table, and the orders are not used.": (
            lambda fits, orders: _of_scores(fits)
        ),
        "You took the spread inside each order and averaged that. Average inside each order, then "
        "take the spread over the orders.": lambda fits, orders: (
            _each_order(fits, orders).mean(),
            _each_order(fits, orders).std(1).mean(),
        ),
        "You divided the spread by √N. That says nothing about one order: take .std() of the K "
        "scores.": lambda fits, orders: (
            my_spread(fits, orders)[0],
            my_spread(fits, orders)[1] / len(fits) ** 0.5,
        ),
        "You returned the distance from the worst order to the best. The standard deviation is "
        "asked for.": lambda fits, orders: (
            my_spread(fits, orders)[0],
            _each_order(fits, orders).mean(1).max() - _each_order(fits, orders).mean(1).min(),
        ),
        "You took the mean distance from the mean. The standard deviation comes from squares.": (
            lambda fits, orders: (
                my_spread(fits, orders)[0],
                (_each_order(fits, orders).mean(1) - my_spread(fits, orders)[0]).abs().mean(),
            )
        ),
        "Each score of yours comes from one row of fits, that of the order's first caption. It is "
        "the mean over fits[order[j], j], one number for each photograph.": lambda fits, orders: (
            _of_scores(fits[orders][:, 0].mean(1))
        ),
        "Your first result is the K scores. Their mean is asked for.": lambda fits, orders: (
            _each_order(fits, orders).mean(1),
            my_spread(fits, orders)[1],
        ),
        "The result is that of the task's example every time. Compute it from `fits`.": (
            lambda fits, orders: (torch.tensor(3.0), torch.tensor(4.5).sqrt())
        ),
        "You return one tensor of both numbers. Two are asked for: mean, spread.": (
            lambda fits, orders: torch.stack(my_spread(fits, orders))
        ),
        "You take the mean over each photograph's scores with all captions. The orders say which "
        "caption it has.": lambda fits, orders: _of_scores(fits.mean(0)),
        "You return the sum of the scores. The mean over the orders is asked for.": (
            lambda fits, orders: (
                _each_order(fits, orders).mean(1).sum(),
                my_spread(fits, orders)[1],
            )
        ),
        "Your second result is the mean again. The standard deviation is asked for.": (
            lambda fits, orders: (my_spread(fits, orders)[0],) * 2
        ),
        "You returned the median of the scores. The mean is asked for.": lambda fits, orders: (
            _each_order(fits, orders).mean(1).median(),
            my_spread(fits, orders)[1],
        ),
        "You returned the K scores: return their mean and their standard deviation.": (
            lambda fits, orders: _each_order(fits, orders).mean(1)
        ),
        "You left out the first order: all K count.": (
            lambda fits, orders: my_spread(fits, orders[1:])
        ),
        "You divided the sum of the K scores by K − 1. In the mean it is K.": (
            lambda fits, orders: (
                _each_order(fits, orders).mean(1).sum() / (len(orders) - 1),
                my_spread(fits, orders)[1],
            )
        ),
        "You divided by the number of photographs twice. An order's score is the mean over its "
        "photographs.": (
            lambda fits, orders: _of_scores(_each_order(fits, orders).mean(1) / len(fits))
        ),
    },
)
