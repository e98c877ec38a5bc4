"""The exercises of lesson 06: writing word after word."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab import captioning, datasets, preprocessing, stored, training, writing
from mbm_lab.exercises.exercise import Cases, Choice, Exercise


def _log_p(rows: int, words: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Logarithms of the probabilities of `words` words at `rows` places."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(rows, words, generator=generator, dtype=dtype)).log_softmax(1)


# --- 1. How likely is a sentence?


def my_log_likelihood(log_p: Tensor, words: Tensor) -> Tensor:
    """The log probability of a sentence: log_p (T, V), words (T,) padded with 0."""
    chosen = log_p[torch.arange(len(words)), words]  # (T,)
    return chosen[words != 0].sum()


def _log_likelihood_cases() -> Cases:
    small = torch.tensor([[0.001, 0.6, 0.399], [0.001, 0.5, 0.499]]).log()
    return {
        "two places, two words": (small, torch.tensor([1, 2])),
        "one word": (small[:1], torch.tensor([2])),
        "one word and padding": (small, torch.tensor([1, 0])),
        "six places, two of them padding": (_log_p(6, 5, 0), torch.tensor([4, 1, 3, 2, 0, 0])),
        "double precision": (_log_p(4, 9, 1, torch.float64), torch.tensor([8, 2, 5, 1])),
        "every second place (a strided tensor)": (_log_p(8, 5, 2)[::2], torch.tensor([3, 3, 1, 0])),
    }


log_likelihood = Exercise(
    lesson="06",
    name="log_likelihood",
    title="How likely is a sentence?",
    minutes=5,
    difficulty=1,
    hints=(
        "First pick one number from each row: the one of the word that was written there.",
        "log_p[torch.arange(len(words)), words] picks them all at once.",
        "chosen = log_p[torch.arange(len(words)), words]; then chosen[words != 0].sum().",
    ),
    why="The probability of a sentence is the product of the probabilities of its words, and the "
    "logarithm of a product is the sum of the logarithms. Padding is no word, so it does not "
    "count.",
    solution_function=my_log_likelihood,
    cases=_log_likelihood_cases,
    mistakes={
        "You counted the padding too: leave out the places whose word is number 0.": (
            lambda log_p, words: log_p[torch.arange(len(words)), words].sum()
        ),
        "You took the mean over the words. The probability of a sentence is a product, so its "
        "logarithm is a sum.": (
            lambda log_p, words: log_p[torch.arange(len(words)), words][words != 0].mean()
        ),
        "You returned the probability itself: leave out the exp, and keep the logarithm.": (
            lambda log_p, words: my_log_likelihood(log_p, words).exp()
        ),
        "You returned the loss, with a minus sign. "
        "The log probability of a sentence is negative.": (
            lambda log_p, words: -my_log_likelihood(log_p, words)
        ),
        "You took the likeliest word of each place. Take the word that was written there.": (
            lambda log_p, words: log_p.max(1).values[words != 0].sum()
        ),
        "You added up probabilities: the numbers in log_p are logarithms already, so add them as "
        "they are.": (
            lambda log_p, words: log_p[torch.arange(len(words)), words][words != 0].exp().sum()
        ),
        "You added up whole rows: take one number of "
        "each row, the one of the word written there.": (
            lambda log_p, words: log_p[words != 0].sum()
        ),
    },
)


# --- 2. Write greedily


def my_greedy(next_scores, first: int, end: int, longest: int) -> list[int]:
    """The numbers of the words that greedy writing chooses."""
    words = [first]
    while len(words) <= longest:
        word = int(next_scores(words).argmax())
        if word == end:
            break
        words.append(word)
    return words[1:]


def _writer(seed: int, size: int):
    """Scores that depend on all the words so far."""
    table = torch.randn(97, size, generator=torch.Generator().manual_seed(seed))

    def next_scores(words: list[int]) -> Tensor:
        place = sum((i + 1) * (word + 3) for i, word in enumerate(words)) % 97
        return table[place].clone()

    return next_scores


def _counter(words: list[int]) -> Tensor:
    """Counts up from the last word, to word 5."""
    scores = torch.zeros(6)
    scores[min(words[-1] + 1, 5)] = 1.0
    return scores


def _endless(words: list[int]) -> Tensor:
    """Never ends: word 2 for ever."""
    return torch.tensor([0.0, 0.5, 1.0, -1.0])


def _greedy_cases() -> Cases:
    return {
        "counting from 2 to 4, with end 5": (_counter, 2, 5, 10),
        "a sentence that ends at once": (_counter, 4, 5, 10),
        "words that never end, at most 3": (_endless, 1, 3, 3),
        "counting, cut off after one word": (_counter, 1, 5, 1),
        "scores below zero": (lambda words: _counter(words) - 2.0, 1, 5, 9),
        "scores that depend on all words": (_writer(1, 8), 2, 3, 12),
        "and again, with others": (_writer(6, 5), 1, 4, 20),
    }


def _keeps_end(next_scores, first: int, end: int, longest: int) -> list[int]:
    words = [first]
    while len(words) <= longest and words[-1] != end:
        words.append(int(next_scores(words).argmax()))
    return words[1:]


def _never_stops(next_scores, first: int, end: int, longest: int) -> list[int]:
    words = [first]
    while len(words) <= longest:
        words.append(int(next_scores(words).argmax()))
    return words[1:]


def _last_word_only(next_scores, first: int, end: int, longest: int) -> list[int]:
    return my_greedy(lambda words: next_scores(words[-1:]), first, end, longest)


def _one_short(next_scores, first: int, end: int, longest: int) -> list[int]:
    return my_greedy(next_scores, first, end, longest - 1)


def _keeps_first(next_scores, first: int, end: int, longest: int) -> list[int]:
    return [first, *my_greedy(next_scores, first, end, longest)]


def _least_likely(next_scores, first: int, end: int, longest: int) -> list[int]:
    return my_greedy(lambda words: -next_scores(words), first, end, longest)


greedy = Exercise(
    lesson="06",
    name="greedy",
    title="Write greedily",
    minutes=10,
    difficulty=2,
    hints=(
        "A loop: ask next_scores for the scores after all the words so far, take the largest, "
        "stop if it is the end, else append it.",
        "int(next_scores(words).argmax()) is the number of the next word. The list also holds "
        "`first`, so it may grow to longest + 1.",
        "while len(words) <= longest: word = int(next_scores(words).argmax()); if word == end: "
        "break; words.append(word). Then return words[1:].",
    ),
    why="Each choice is made once and never taken back: that is what makes it greedy, and fast. "
    "The limit is needed because nothing forces a model to write the end.",
    solution_function=my_greedy,
    cases=_greedy_cases,
    mistakes={
        "You kept the end in the sentence: stop before you append it.": _keeps_end,
        "You go on after the end. Stop as soon as the word is `end`.": _never_stops,
        "You showed next_scores only the last word. It needs all the words so far.": (
            _last_word_only
        ),
        "You stop one word too early: the sentence may have `longest` words without `first`.": (
            _one_short
        ),
        "You returned `first` too: leave it out of the sentence.": _keeps_first,
        "You took the smallest score: the likeliest word has the largest.": _least_likely,
    },
)


# --- 3. One step of a beam


def my_beam_step(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations: log probabilities, beginnings and words, (width,) each."""
    together = totals[:, None] + log_p  # (K, V): every beginning with every word
    best, places = together.flatten().topk(width)
    return best, places // log_p.shape[1], places % log_p.shape[1]


def _beam_cases() -> Cases:
    totals = torch.tensor([0.6, 0.4]).log()
    log_p = torch.tensor([[0.49, 0.51], [0.9, 0.1]]).log()
    generator = torch.Generator().manual_seed(3)
    three = -3 * torch.rand(3, generator=generator)
    five = -2 * torch.rand(5, generator=generator, dtype=torch.float64)
    return {
        "two beginnings, two words, the best one": (totals, log_p, 1),
        "two beginnings, two words, the best two": (totals, log_p, 2),
        "one beginning": (torch.zeros(1), _log_p(1, 6, 4), 3),
        "three beginnings, seven words": (three, _log_p(3, 7, 5), 3),
        "double precision, a width of four": (five, _log_p(5, 11, 6, torch.float64), 4),
        "every continuation": (three, _log_p(3, 4, 7), 12),
    }


def _forgets_totals(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return my_beam_step(torch.zeros_like(totals), log_p, width)


def _multiplies(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    best, places = (totals[:, None] * log_p).flatten().topk(width)
    return best, places // log_p.shape[1], places % log_p.shape[1]


def _swaps(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    best, rows, words = my_beam_step(totals, log_p, width)
    return best, words, rows


def _wrong_divisor(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    best, places = (totals[:, None] + log_p).flatten().topk(width)
    return best, places // log_p.shape[0], places % log_p.shape[0]


def _worst(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    best, places = (totals[:, None] + log_p).flatten().topk(width, largest=False)
    return best, places // log_p.shape[1], places % log_p.shape[1]


def _step_only(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    _, rows, words = my_beam_step(totals, log_p, width)
    return log_p[rows, words], rows, words


beam_step = Exercise(
    lesson="06",
    name="beam_step",
    title="One step of a beam",
    minutes=10,
    difficulty=3,
    hints=(
        "Every beginning with every word: add totals, as a column, to log_p. This makes (K, V).",
        "Lay the table out in one row with flatten(), and take topk(width). The places count "
        "through the rows: V numbers a row.",
        "best, places = (totals[:, None] + log_p).flatten().topk(width); the beginning is "
        "places // V and the word is places % V.",
    ),
    why="The logarithm of a longer sentence is that of its beginning plus that of the new word. "
    "All K · V continuations compete with each other, so one beginning may take several places "
    "in the new beam, and another none.",
    solution_function=my_beam_step,
    cases=_beam_cases,
    mistakes={
        "You forgot how likely the beginnings are: add totals to log_p.": _forgets_totals,
        "You multiplied logarithms. Probabilities are multiplied, their logarithms are added.": (
            _multiplies
        ),
        "You swapped beginnings and words: the second result counts beginnings.": _swaps,
        "You divided by the number of beginnings. After flatten() each row has V numbers, so "
        "divide by the number of words.": _wrong_divisor,
        "You took the least likely continuations: topk without largest=False.": _worst,
        "You returned the log probability of the new word alone: return that of the whole "
        "sentence.": _step_only,
    },
)


# --- 4. Break and fix: a loss that is too good


def my_shift(sentences: Tensor) -> tuple[Tensor, Tensor]:
    """Prefix and target, (N, T - 1) each, of sentences (N, T)."""
    prefix = sentences[:, :-1]
    target = sentences[:, 1:]
    return prefix, target


def _given_shift(sentences: Tensor) -> tuple[Tensor, Tensor]:
    prefix = sentences[:, 1:]
    target = sentences[:, 1:]
    return prefix, target


def _shift_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    inside = torch.randint(4, 40, (5, 7), generator=generator)
    whole = torch.cat([torch.full((5, 1), 2), inside, torch.full((5, 1), 3)], 1)
    return {
        "one sentence of two words": (torch.tensor([[2, 7, 8, 3]]),),
        "one sentence of one word": (torch.tensor([[2, 9, 3]]),),
        "five sentences": (whole,),
        "every second sentence (a strided tensor)": (whole[::2],),
        "no sentence at all": (whole[:0],),
    }


shift = Exercise(
    lesson="06",
    name="shift",
    title="Break and fix: a loss that is too good",
    minutes=6,
    difficulty=1,
    hints=(
        "Compare what stands at place 0 of prefix and of target. The model reads the first and "
        "should say the second.",
        "The prefix begins with the start word, and the last word of the sentence is never read.",
        "prefix = sentences[:, :-1] and target = sentences[:, 1:].",
    ),
    why="At each place the model reads a word and says the next one. With prefix and target equal "
    "it only has to repeat what it has just read, which needs no picture and teaches nothing.",
    given=_given_shift,
    solution_function=my_shift,
    cases=_shift_cases,
    mistakes={
        "Now both leave out the end: the model still repeats what it reads, and never learns to "
        "stop.": lambda sentences: (sentences[:, :-1], sentences[:, :-1]),
        "You swapped the two: the prefix begins with the start word.": (
            lambda sentences: (sentences[:, 1:], sentences[:, :-1])
        ),
        "Prefix and target overlap with a gap of two: the model should say the next word, not the "
        "one after it.": lambda sentences: (sentences[:, :-2], sentences[:, 2:]),
        "You shifted the wrong axis: the first index counts sentences, the second counts words.": (
            lambda sentences: (sentences[:-1], sentences[1:])
        ),
        "You left out the start word. The model needs something to read before the first word.": (
            lambda sentences: (sentences[:, 1:-1], sentences[:, 2:])
        ),
        "The target must not be cut at its end: the model has to learn where to stop.": (
            lambda sentences: (sentences[:, :-2], sentences[:, 1:-1])
        ),
    },
)


# --- 5. Predict: helped or alone?


def _helped_or_alone() -> str:
    """Whole captions right, helped and alone, after five epochs of training."""
    train, test = datasets.load_postcards("train"), datasets.load_postcards("test")[:300]
    vocabulary = stored.load("captioner")[1]
    model = captioning.new_captioner(vocabulary)
    captioning.train_captioner(model, train, vocabulary, epochs=5)
    prefix, target = writing.teacher_forcing([("en", test.captions)], vocabulary)
    says = training.predict(model, {"image": test.images, "prefix": prefix}).argmax(3)
    helped = ((says == target) | (target == preprocessing.PAD)).all(2)[:, 0]
    true = writing.tidy(test.captions, "en")
    alone = writing.exact(captioning.caption(model, test.images, "en", vocabulary), true)
    if (helped != alone).float().mean() < 0.01:
        return "b"
    return "a" if helped.float().mean() > alone.float().mean() else "c"


alone = Choice(
    lesson="06",
    name="alone",
    title="Predict: helped or alone?",
    minutes=3,
    difficulty=2,
    hints=(
        "Take one caption and go through it word by word, up to the first mistake. What has the "
        "model read by then, helped and alone?",
        "A caption with one mistake is lost. Does it matter to this count what comes after it?",
    ),
    why="As long as the model has made no mistake, its own words are the teacher's. So the first "
    "mistake comes at the same place, helped or alone, or there is none. What the teacher mends "
    "comes after a mistake, and that caption is lost already.",
    options={
        "a": "in clearly more: the true words put it back on its way",
        "b": "in as many, and in the very same ones",
        "c": "in clearly fewer: these are not the words that it would have chosen",
    },
    answer="b",
    wrong={
        "a": "They do put it back, after a mistake. But can a caption with a mistake still count?",
        "c": "Up to its first mistake, the words that it would have chosen are the true ones.",
    },
    truth=_helped_or_alone,
)
