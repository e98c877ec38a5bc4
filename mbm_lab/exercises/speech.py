"""The exercises of lesson 09: paths, errors, noise."""

from __future__ import annotations

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
        "an empty path": ([],),
        "a word from the first moment on": ([1, 1, 0, 2],),
        "a word that comes back": ([5, 7, 5, 0, 0, 7, 7],),
        "forty moments": (long,),
    }


def _blanks_first(path: list[int]) -> list[int]:
    words = [word for word in path if word != 0]
    return [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]


def _repeats_only(path: list[int]) -> list[int]:
    return [word for i, word in enumerate(path) if i == 0 or word != path[i - 1]]


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
    mistakes={
        "You left out the blanks first and joined afterwards. Then no word can come twice in a "
        "row: join first.": _blanks_first,
        "You joined the repeated numbers, but the blanks are still there.": _repeats_only,
        "You left out the blanks, but a word that lasts for several moments counts once: join the "
        "repeated numbers.": lambda path: [word for word in path if word != 0],
        "You kept each word once. A word may come again later.": _each_once,
        "You returned the path as it was.": lambda path: list(path),
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
        "nothing was written": ("a red face".split(), []),
        "nothing was said": ([], "a red face".split()),
        "nothing at all": ([], []),
        "one word is missing in the middle": ("a red face".split(), "a face".split()),
        "one word too many at the start": ("red face".split(), "a red face".split()),
        "two words swapped": ("red a face".split(), "a red face".split()),
        "longer texts": (text(9), text(7)),
        "still longer texts": (text(12), text(14)),
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


def _two_for_wrong(true: list[str], written: list[str]) -> int:
    row = list(range(len(written) + 1))
    for i, word in enumerate(true, 1):
        above, row = row, [i]
        for j, ours in enumerate(written, 1):
            row.append(min(above[j - 1] + 2 * (word != ours), above[j] + 1, row[j - 1] + 1))
    return row[-1]


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
    mistakes={
        "You compared place by place. One missing word then makes all later ones wrong: allow "
        "words to be missing or surplus.": _place_by_place,
        "You forgot surplus words: what was written and never said is an error, too.": _no_surplus,
        "You forgot missing words: what was said and not written is an error, too.": _no_missing,
        "You counted a wrong word twice, as missing and as surplus. It is one error.": (
            _two_for_wrong
        ),
        "You only compared the lengths.": lambda true, written: abs(len(true) - len(written)),
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
        "double precision": (waveform.double(), 3 * noise.double(), 5.0),
        "a strided waveform": (waveform[::2], 0.5 * noise[::2], 3.0),
    }


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
    "scores of names are moved as good as nowhere.",
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
