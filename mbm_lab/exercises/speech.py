"""The exercises of lesson 09: paths, errors, noise."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

import torch
from torch import Tensor

from mbm_lab import captioning, stored
from mbm_lab import speech as lesson
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

# --- 1. What a path says


def my_collapse(path: list[int]) -> list[int]:
    """The words of a path; number 0 is the blank."""
    words, last = [], None
    for word in path:
        if word != last and word != 0:
            words.append(word)
        last = word
    return words


def _collapse_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    long = torch.randint(0, 4, (40,), generator=generator).tolist()
    return {
        "two words": ([5, 7],),
        "a repeated word": ([5, 5, 5],),
        "a blank between two equal words": ([5, 0, 5],),
        "the path of the task": ([0, 5, 5, 0, 5],),
        "blanks only": ([0, 0, 0],),
        "a word from the first moment on": ([1, 1, 0, 2],),
        "a word that comes back": ([5, 7, 5, 0, 0, 7, 7],),
        "forty moments": (long,),
        "numbers of two digits": ([12, 12, 0, 10, 33, 3],),
        "it ends with the word it begins with": ([4, 6, 6, 0, 4],),
    }


def _collapse_beyond() -> Cases:
    return {"an empty path": ([],)}


def _blanks_first(path: list[int]) -> list[int]:
    words = [word for word in path if word != 0]
    return [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]


def _repeats_only(path: list[int]) -> list[int]:
    return [word for i, word in enumerate(path) if i == 0 or word != path[i - 1]]


def _lasting_lost(path: list[int]) -> list[int]:
    """Keeps only numbers that differ from both neighbours."""
    around = [None, *path, None]
    return [
        word
        for before, word, after in zip(around, path, around[2:], strict=False)
        if word not in (0, before, after)
    ]


def _after_blanks_only(path: list[int]) -> list[int]:
    """A word counts only where a blank, or nothing, stands before it."""
    return [word for i, word in enumerate(path) if word != 0 and (i == 0 or path[i - 1] == 0)]


def _from_the_second(path: list[int]) -> list[int]:
    return [path[i] for i in range(1, len(path)) if path[i] not in (0, path[i - 1])]


def _up_to_the_last(path: list[int]) -> list[int]:
    return [path[i] for i in range(len(path) - 1) if path[i] not in (0, path[i + 1])]


def _each_once(path: list[int]) -> list[int]:
    return list(dict.fromkeys(word for word in path if word != 0))


collapse = Exercise(
    lesson="09",
    name="collapse",
    title="What a path says",
    minutes=6,
    difficulty=1,
    hints=(
        "Go through the path and remember the number before. A number counts if it differs from "
        "the one before and is not the blank.",
        "Remember the blank, too: after a blank the same word counts again.",
        "last = None; for word in path: if word != last and word != 0: words.append(word); "
        "then last = word.",
    ),
    why="Joining comes first, and the blanks go afterwards. So a blank between two equal words "
    "keeps them apart, which is what it is for.",
    solution_function=my_collapse,
    cases=_collapse_cases,
    beyond=_collapse_beyond,
    mistakes={
        "Two equal words with a blank between them became one. Join first and leave out the blanks "
        "afterwards, or remember the blank, too.": _blanks_first,
        "You joined the repeated numbers, but the blanks are still there.": _repeats_only,
        "You left out the blanks, but a word that lasts for several moments counts once: join the "
        "repeated numbers.": lambda path: [word for word in path if word != 0],
        "You kept each word once. A word may come again later.": _each_once,
        "You returned the path as it was.": lambda path: list(path),
        "You kept each word once, and sorted them. A word may come again, and the order counts.": (
            lambda path: sorted(set(path) - {0})
        ),
        "A word that lasts for several moments is lost. It counts once.": _lasting_lost,
        "A word counts in your result only after a blank. It also counts after another word.": (
            _after_blanks_only
        ),
        "A word at the very start of the path is lost. Nothing stands before it, so it counts.": (
            _from_the_second
        ),
        "A word at the very end of the path is lost.": _up_to_the_last,
        "You return after the first word. The `return` belongs behind the loop.": (
            lambda path: my_collapse(path)[:1]
        ),
        "You return after the first moment. The `return` belongs behind the loop.": (
            lambda path: my_collapse(path[:1])
        ),
        "You return how many words there are. The words are asked for.": (
            lambda path: len(my_collapse(path))
        ),
        "You return at which moments the words begin. The words are asked for.": (
            lambda path: [i for i, w in enumerate(path) if w != 0 and (i == 0 or w != path[i - 1])]
        ),
        "You kept the repetitions, and joined only the blanks.": lambda path: [
            word for i, word in enumerate(path) if word != 0 or i == 0 or path[i - 1] != 0
        ],
        "You return the words that come again. Each word is asked for, once for each time that it "
        "is said.": lambda path: [
            word for i, word in enumerate(path) if i > 0 and word == path[i - 1] != 0
        ],
        "Numbers of two digits fall apart in your result: keep them as numbers, not as text.": (
            lambda path: [
                int(digit)
                for digit in re.sub(r"(.)\1+", r"\1", "".join(map(str, path))).replace("0", "")
            ]
        ),
        "The first word is lost where the path ends with it, too: path[-1] is the last number. "
        "Nothing stands before the first.": lambda path: [
            word for i, word in enumerate(path) if word not in (0, path[i - 1])
        ],
        "Your result is [5, 5] every time, as in the task's example. Compute it from the path.": (
            lambda path: [5, 5]
        ),
        "You return whether each moment begins a word. The words are asked for.": (
            lambda path: [w != 0 and (i == 0 or w != path[i - 1]) for i, w in enumerate(path)]
        ),
        "Your list is always empty.": lambda path: [],
        "You return the blanks.": lambda path: [word for word in path if word == 0],
        "You return pairs of a word and how long it lasts. The words alone are asked for.": (
            lambda path: [
                (word, len(list(group))) for word, group in itertools.groupby(path) if word
            ]
        ),
        "Your words stand in the reverse order.": lambda path: my_collapse(path)[::-1],
        "You return a text. A list of numbers is asked for.": (
            lambda path: " ".join(map(str, my_collapse(path)))
        ),
    },
)


# --- 2. Count the errors


def my_word_errors(true: list[str], written: list[str]) -> int:
    """The least number of errors between two lists of words."""
    row = list(range(len(written) + 1))
    for i, word in enumerate(true, 1):
        above, row = row, [i]
        for j, ours in enumerate(written, 1):
            row.append(min(above[j - 1] + (word != ours), above[j] + 1, row[j - 1] + 1))
    return row[-1]


def _word_errors_cases() -> Cases:
    generator = torch.Generator().manual_seed(1)

    def text(length: int) -> list[str]:
        return [f"w{k}" for k in torch.randint(0, 4, (length,), generator=generator).tolist()]

    return {
        "the example of the task": ("a red face".split(), "the red face now".split()),
        "the same words": ("a red face".split(), "a red face".split()),
        "one word is missing in the middle": ("a red face".split(), "a face".split()),
        "one word too many at the end": (["red"], ["red", "face"]),
        "one word too many at the start": ("red face".split(), "a red face".split()),
        "two words swapped": ("red a face".split(), "a red face".split()),
        "another word, with nearly the same letters": (["red"], ["bed"]),
        "a word missing at the start, one too many at the end": (
            "a red face".split(), "red face now".split()),
        "longer texts": (text(9), text(7)),
        "still longer texts": (text(12), text(14)),
    }  # fmt: skip


def _word_errors_beyond() -> Cases:
    return {
        "nothing was written": ("a red face".split(), []),
        "nothing was said": ([], "a red face".split()),
        "nothing at all": ([], []),
    }


def _place_by_place(true: list[str], written: list[str]) -> int:
    wrong = sum(a != b for a, b in zip(true, written, strict=False))
    return wrong + abs(len(true) - len(written))


def _no_surplus(true: list[str], written: list[str]) -> int:
    pairs = lesson.align(true, written)
    return sum(a != b for a, b in pairs if a)


def _no_missing(true: list[str], written: list[str]) -> int:
    pairs = lesson.align(true, written)
    return sum(a != b for a, b in pairs if b)


def _table(
    true: list[str], written: list[str], *,
    missing=1, surplus=1, wrong=1, equal=0, first_row=1, first_column=1, swap=False, best=min,
) -> int:  # fmt: skip
    """The last entry of the table of errors, with other costs or another border."""
    table = [[first_row * j for j in range(len(written) + 1)]]
    for i in range(1, len(true) + 1):
        table.append([first_column * i])
        for j in range(1, len(written) + 1):
            same = true[i - 1] == written[j - 1]
            ways = [
                table[i - 1][j - 1] + (equal if same else wrong),
                table[i - 1][j] + missing,
                table[i][j - 1] + surplus,
            ]
            turned = i > 1 and j > 1 and true[i - 2 : i] == written[j - 2 : j][::-1]
            table[i].append(best(ways + [table[i - 2][j - 2] + 1] * (swap and turned)))
    return table[-1][-1]


def _one_row_many_times(true: list[str], written: list[str]) -> int:
    """The table made by [[0] * m] * n, whose rows are one and the same list."""
    table = [[0] * (len(written) + 1)] * (len(true) + 1)
    for i in range(len(true) + 1):
        table[i][0] = i
    for j in range(len(written) + 1):
        table[0][j] = j
    for i in range(1, len(true) + 1):
        for j in range(1, len(written) + 1):
            around = table[i - 1][j - 1] + (true[i - 1] != written[j - 1])
            table[i][j] = min(around, table[i - 1][j] + 1, table[i][j - 1] + 1)
    return table[-1][-1]


def _without_border(true: list[str], written: list[str]) -> int:
    """A table that begins with the first words instead of with none."""
    table = [[max(i, j) + (a != b) for j, b in enumerate(written)] for i, a in enumerate(true)]
    for i in range(1, len(true)):
        for j in range(1, len(written)):
            around = table[i - 1][j - 1] + (true[i] != written[j])
            table[i][j] = min(around, table[i - 1][j] + 1, table[i][j - 1] + 1)
    return table[-1][-1]


def _greedily(true: list[str], written: list[str]) -> int:
    """Skips written words as long as the true one still comes, and else the true one."""
    i = j = errors = 0
    while i < len(true) and j < len(written):
        if true[i] == written[j]:
            i, j = i + 1, j + 1
        elif true[i] in written[j:]:
            j, errors = j + 1, errors + 1
        else:
            i, errors = i + 1, errors + 1
    return errors + len(true) - i + len(written) - j


def _in_common(true: list[str], written: list[str]) -> int:
    """The most words that both have in the same order."""
    return (len(true) + len(written) - _table(true, written, wrong=2)) // 2


def _bags(true: list[str], written: list[str]) -> int:
    """Compares how often each word occurs, whatever the order."""
    ours, theirs = Counter(true), Counter(written)
    return max((ours - theirs).total(), (theirs - ours).total())


word_errors = Exercise(
    lesson="09",
    name="word_errors",
    title="Count the errors",
    minutes=10,
    difficulty=3,
    hints=(
        "Let E[i][j] be the errors between the first i true words and the first j written words. "
        "E[0][j] = j, all surplus; E[i][0] = i, all missing.",
        "The last pair of words is either matched (E[i-1][j-1], plus 1 if they differ), or the "
        "true word is missing (E[i-1][j] + 1), or the written one is surplus (E[i][j-1] + 1).",
        "Fill the table row by row with the smallest of the three, and return its last entry.",
    ),
    why="Each entry needs only three neighbours, so the table takes len(true) · len(written) "
    "steps, although there are very many ways to match two texts. This is Levenshtein's distance "
    "(1966).",
    solution_function=my_word_errors,
    cases=_word_errors_cases,
    beyond=_word_errors_beyond,
    mistakes={
        "You compared place by place. One missing word then makes all later ones wrong: allow "
        "words to be missing or surplus.": _place_by_place,
        "You forgot surplus words: what was written and never said is an error, too.": _no_surplus,
        "You forgot missing words: what was said and not written is an error, too.": _no_missing,
        "You counted a wrong word twice, as missing and as surplus. It is one error.": (
            lambda true, written: _table(true, written, wrong=2)
        ),
        "Your result is the difference of the lengths. A wrong word must cost 1, too.": (
            lambda true, written: abs(len(true) - len(written))
        ),
        "Your result is the length of the longer text. Two equal words must cost nothing.": (
            lambda true, written: max(len(true), len(written))
        ),
        "The rows of your table are one and the same list: [[0] * m] * n repeats one list n times. "
        "Write [[0] * m for _ in range(n)].": _one_row_many_times,
        "The border of your table is 0. E[i][0] = i and E[0][j] = j: against no word at all, every "
        "word is an error.": lambda true, written: _table(
            true, written, first_row=0, first_column=0
        ),
        "Surplus words at the start cost nothing in your table: E[0][j] must be j.": (
            lambda true, written: _table(true, written, first_row=0)
        ),
        "Missing words at the start cost nothing in your table: E[i][0] must be i.": (
            lambda true, written: _table(true, written, first_column=0)
        ),
        "Your table is one row and one column too small: the last words are left out.": (
            lambda true, written: my_word_errors(true[:-1], written[:-1])
        ),
        "You took the largest of the three neighbours. The smallest number of errors is asked "
        "for.": lambda true, written: _table(true, written, best=max),
        "Two neighbouring words that are swapped count once in your result. They are two errors: "
        "only wrong, missing and surplus words count.": (
            lambda true, written: _table(true, written, swap=True)
        ),
        "You divided by the number of true words. The number of errors itself is asked for.": (
            lambda true, written: my_word_errors(true, written) / max(len(true), 1)
        ),
        "You compared letters. Whole words are compared.": (
            lambda true, written: my_word_errors(list(" ".join(true)), list(" ".join(written)))
        ),
        "You returned how many words agree. The errors are asked for.": _in_common,
        "You took the length of the longer text minus the words that agree. That can be more than "
        "the smallest number of errors.": lambda true, written: (
            max(len(true), len(written)) - _in_common(true, written)
        ),
        "You compared how often each word occurs. Their order counts, too.": _bags,
        "You counted the true words that were not written anywhere. Surplus words and the order "
        "count, too.": lambda true, written: sum(word not in written for word in true),
        "You compared place by place, and only as far as the shorter text goes. Words can be "
        "missing or surplus.": lambda true, written: sum(
            a != b for a, b in zip(true, written, strict=False)
        ),
        "Surplus words are forgotten inside your table: E[i][j - 1] + 1 is the third neighbour.": (
            lambda true, written: _table(true, written, surplus=math.inf)
        ),
        "Missing words are forgotten inside your table: E[i - 1][j] + 1 is the third neighbour.": (
            lambda true, written: _table(true, written, missing=math.inf)
        ),
        "Your table has no row and no column for “no word yet”, so the first words are counted "
        "wrongly. It has len + 1 rows and columns.": _without_border,
        "You match each word with the first equal one that comes. Another matching can have fewer "
        "errors: try all three neighbours at every place.": _greedily,
        "Your result is 2 every time, as in the task's example. Compute it from the texts.": (
            lambda true, written: 2
        ),
        "You counted the words of both texts that have no partner, missing and surplus together. A "
        "wrong word in a place of a true one is one error.": lambda true, written: (
            (Counter(true) - Counter(written)) + (Counter(written) - Counter(true))
        ).total(),
        "You return the whole table, or its last row. Its last entry is asked for.": (
            lambda true, written: [
                my_word_errors(true, written[:j]) for j in range(len(written) + 1)
            ]
        ),
        "Only the first true word counts in your result. Is there a `return` inside the loop?": (
            lambda true, written: my_word_errors(true[:1], written)
        ),
        "You counted the words that occur in one text only. Their order and number count, too.": (
            lambda true, written: len(set(true) ^ set(written))
        ),
    },
)


# --- 3. Noise of a given strength


def my_add_noise(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    """The waveform with noise at snr_db decibels: (T,)."""
    ratio = 10 ** (snr_db / 10)
    wanted = waveform.square().mean() / ratio  # the power that the noise should have
    return waveform + noise * (wanted / noise.square().mean()).sqrt()


def _add_noise_cases() -> Cases:
    generator = torch.Generator().manual_seed(2)
    waveform, noise = torch.randn(2, 500, generator=generator)
    square = torch.tensor([1.0, -1.0, 1.0, -1.0])
    other = torch.tensor([1.0, 1.0, -1.0, -1.0])
    return {
        "power 1 each, 0 dB": (square, other, 0.0),
        "power 1 each, 20 dB": (square, other, 20.0),
        "a soft voice, 0 dB": (0.1 * waveform, noise, 0.0),
        "loud noise, 10 dB": (0.3 * waveform, 5 * noise, 10.0),
        "-15 dB": (0.2 * waveform, 2 * noise, -15.0),
        "a sound and a noise that are not centred on 0": (
            0.2 * waveform[:9] + 0.5, noise[:9] - 1.0, 5.0),
    }  # fmt: skip


def _add_noise_beyond() -> Cases:
    waveform, noise, _ = _add_noise_cases()["-15 dB"]
    return {
        "double precision": (waveform.double(), 3 * noise.double(), 5.0),
        "a strided waveform": (waveform[::2], 0.5 * noise[::2], 3.0),
    }


def _by_size(size):
    """Noise scaled by another measure of how strong a sound is, taken as an amplitude."""
    return lambda waveform, noise, snr_db: (
        waveform + noise * size(waveform) / size(noise) / 10 ** (snr_db / 20)
    )


def _by_ratio(ratio):
    """Noise scaled to another ratio of the two powers than snr_db says."""

    def answer(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
        power = waveform.square().mean() / noise.square().mean()
        return waveform + noise * (power / ratio(snr_db)).sqrt()

    return answer


def _amplitude_ratio(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    return my_add_noise(waveform, noise, snr_db / 2)


def _no_root(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    wanted = waveform.square().mean() / 10 ** (snr_db / 10)
    return waveform + noise * wanted / noise.square().mean()


def _noise_as_is(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    return waveform + noise * (waveform.square().mean() / 10 ** (snr_db / 10)).sqrt()


def _voice_forgotten(waveform: Tensor, noise: Tensor, snr_db: float) -> Tensor:
    return waveform + noise / noise.square().mean().sqrt() / 10 ** (snr_db / 20)


add_noise = Exercise(
    lesson="09",
    name="add_noise",
    title="Noise of a given strength",
    minutes=6,
    difficulty=2,
    hints=(
        "Decibels back to a ratio: power of the waveform / power of the noise = 10 ** (snr_db / "
        "10). So you know the power that the noise should have.",
        "If noise is multiplied by a number, its power is multiplied by the square of this number.",
        "wanted = waveform.square().mean() / 10 ** (snr_db / 10); then noise * (wanted / "
        "noise.square().mean()).sqrt().",
    ),
    why="The factor brings the noise from the power that it has to the power that it should have. "
    "Powers are squares, so the factor is a square root.",
    solution_function=my_add_noise,
    cases=_add_noise_cases,
    beyond=_add_noise_beyond,
    mistakes={
        "You swapped signal and noise: more decibels mean less noise.": (
            lambda waveform, noise, snr_db: my_add_noise(waveform, noise, -snr_db)
        ),
        "You divided by 20 and still took the power: decibels of a power are divided by 10.": (
            _amplitude_ratio
        ),
        "You forgot the square root: the factor multiplies the noise, and its square the power.": (
            _no_root
        ),
        "You took it for granted that the noise has power 1: divide by its own power.": (
            _noise_as_is
        ),
        "You forgot how strong the waveform is: a soft voice needs soft noise.": _voice_forgotten,
        "You only scaled the noise: add the waveform to it.": (
            lambda waveform, noise, snr_db: my_add_noise(waveform, noise, snr_db) - waveform
        ),
        "You added the noise as it is: scale it first.": (
            lambda waveform, noise, snr_db: waveform + noise
        ),
        "You divided the decibels by 10 for a ratio of amplitudes. That is the ratio of powers; "
        "for amplitudes it is 10 ** (snr_db / 20).": (
            lambda waveform, noise, snr_db: my_add_noise(waveform, noise, 2 * snr_db)
        ),
        "You took standard deviations or variances. They leave out the mean of a sound, but its "
        "power is the mean of its squares.": _by_size(lambda sound: sound.std()),
        "You took the mean of the absolute values. The power is the mean of the squares.": (
            _by_size(lambda sound: sound.abs().mean())
        ),
        "You took the largest values of the two. The power is the mean of the squares.": (
            _by_size(lambda sound: sound.abs().max())
        ),
        "You squared the mean. The power is the mean of the squares.": (
            _by_size(lambda sound: sound.mean().abs())
        ),
        "You scaled the waveform. It stays as it is, and the noise is scaled.": (
            lambda waveform, noise, snr_db: my_add_noise(noise, waveform, -snr_db)
        ),
        "The decibels are not used: your noise is as strong as the waveform.": (
            lambda waveform, noise, snr_db: my_add_noise(waveform, noise, 0.0)
        ),
        "You took snr_db for the ratio itself. It is in decibels: 10 ** (snr_db / 10).": (
            _by_ratio(lambda snr_db: snr_db)
        ),
        "You took e to the power of the decibels. The ratio is 10 ** (snr_db / 10).": (
            _by_ratio(lambda snr_db: math.exp(snr_db / 10))
        ),
        "You did not divide the decibels by 10: the ratio is 10 ** (snr_db / 10).": (
            _by_ratio(lambda snr_db: 10**snr_db)
        ),
        "You subtracted the noise: add it.": lambda waveform, noise, snr_db: (
            2 * waveform - my_add_noise(waveform, noise, snr_db)
        ),
        "One of your powers is a sum of squares, the other a mean. Take the mean for both.": (
            lambda waveform, noise, snr_db: (
                waveform + (my_add_noise(waveform, noise, snr_db) - waveform) / len(noise) ** 0.5
            )
        ),
        "Each number of the noise became as large as the waveform there. One factor for the whole "
        "noise is asked for.": lambda waveform, noise, snr_db: (
            waveform + noise.sign() * waveform.abs() / 10 ** (snr_db / 20)
        ),
        "Your result is a column, (T, 1). It should be (T,).": (
            lambda waveform, noise, snr_db: my_add_noise(waveform, noise, snr_db)[:, None]
        ),
        "You returned the factor alone. Return the waveform plus the scaled noise.": (
            lambda waveform, noise, snr_db: (
                waveform.square().mean() / noise.square().mean() / 10 ** (snr_db / 10)
            ).sqrt()
        ),
        "You took it for granted that both are equally strong. Measure both powers.": (
            lambda waveform, noise, snr_db: waveform + noise / 10 ** (snr_db / 20)
        ),
        "You swapped the two powers in the factor: the waveform's is divided by the noise's.": (
            lambda waveform, noise, snr_db: (
                waveform
                + noise
                * (noise.square().mean() / waveform.square().mean()).sqrt()
                / 10 ** (snr_db / 20)
            )
        ),
        "You scaled the noise by the ratio of the powers without a root, and by the decibels with "
        "one: take the root of the whole factor.": lambda waveform, noise, snr_db: (
            waveform
            + noise * waveform.square().mean() / noise.square().mean() / 10 ** (snr_db / 20)
        ),
        "You returned the waveform as it was: the noise is missing.": (
            lambda waveform, noise, snr_db: waveform.clone()
        ),
        "You changed the strength of the sum. Only the noise is scaled.": (
            lambda waveform, noise, snr_db: (
                my_add_noise(waveform, noise, snr_db)
                / my_add_noise(waveform, noise, snr_db).abs().max()
            )
        ),
    },
)


# --- 4. Predict: which words are saved?


def _what_happens_to_names() -> str:
    cards = lesson.noted("test")
    helped, vocabulary = stored.load("recogniser")
    features = captioning.image_features(cards.images)
    loud = lesson.noisy(cards, lesson.NOISE)
    wrong = []
    for model in (helped.alone, helped):
        written = lesson.recognise(model, loud, features, vocabulary)
        wrong.append(lesson.error_rates(written, cards.note_texts)["not shown"])
    if wrong[1] < wrong[0] - 0.08:
        return "a"
    return "c" if wrong[1] > wrong[0] + 0.08 else "b"


names = Choice(
    lesson="09",
    name="names",
    title="Predict: which words are saved?",
    minutes=3,
    difficulty=1,
    hints=(
        "What does the picture know about a name?",
        "And what has changed in the part of the model that listens?",
    ),
    why="The picture says nothing about names, and the part that listens was not changed. So the "
    "scores of names hardly move.",
    options={
        "a": "they get better, because the picture makes everything clearer",
        "b": "they stay about as they were",
        "c": "they get worse, because the model listens less",
    },
    answer="b",
    wrong={
        "a": "The picture makes nothing audible. Does it show who the note is for?",
        "c": "This would happen if both had been trained together from the start. Here the "
        "listener was kept as it was.",
    },
    truth=_what_happens_to_names,
)
