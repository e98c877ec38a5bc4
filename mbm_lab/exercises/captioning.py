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
        "padding whose probability is 0, so that log_p is -inf there": (
            torch.tensor([[0.0, 0.6, 0.4], [0.0, 0.5, 0.5]]).log(),
            torch.tensor([2, 0]),
        ),
        "an improbable word, with log p = -30": (
            torch.tensor([[-40.0, -30.0, 0.0], [-1.0, -2.0, -0.7]]),
            torch.tensor([1, 2]),
        ),
        "a sentence of 200 words": (_log_p(200, 9, 4), 1 + torch.arange(200) % 8),
    }


def _log_likelihood_beyond() -> Cases:
    return {
        "double precision": (_log_p(4, 9, 1, torch.float64), torch.tensor([8, 2, 5, 1])),
        "every second place (a strided tensor)": (_log_p(8, 5, 2)[::2], torch.tensor([3, 3, 1, 0])),
        "padding alone": (_log_p(3, 5, 3), torch.tensor([0, 0, 0])),
    }


def _written(log_p: Tensor, words: Tensor) -> Tensor:
    """The log probability of each written word, padding too: (T,)."""
    return log_p[torch.arange(len(words)), words]


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
    beyond=_log_likelihood_beyond,
    mistakes={
        "You multiplied the probabilities first. Of a long sentence the product is too small for a "
        "number and becomes 0: add the logarithms.": (
            lambda log_p, words: _written(log_p, words)[words != 0].exp().prod().log()
        ),
        "You counted the padding too: leave out the places whose word is number 0.": (
            lambda log_p, words: _written(log_p, words).sum()
        ),
        "You took the mean over the words. The probability of a sentence is a product, so its "
        "logarithm is a sum.": (lambda log_p, words: _written(log_p, words)[words != 0].mean()),
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
        "they are.": (lambda log_p, words: _written(log_p, words)[words != 0].exp().sum()),
        "You added up whole rows: take one number of "
        "each row, the one of the word written there.": (
            lambda log_p, words: log_p[words != 0].sum()
        ),
        "Where the padding has the probability 0 its logarithm is −∞, and −∞ · 0 is nan. Leave "
        "these places out instead of multiplying them by 0.": (
            lambda log_p, words: (_written(log_p, words) * (words != 0)).sum()
        ),
        "You multiplied logarithms. Probabilities are multiplied, their logarithms are added.": (
            lambda log_p, words: _written(log_p, words)[words != 0].prod()
        ),
        "You divided the sum by the number of places, padding included. The sum itself is asked "
        "for.": lambda log_p, words: my_log_likelihood(log_p, words) / len(words),
        "You took the mean over all places, padding included. Leave out the padding, and take the "
        "sum.": lambda log_p, words: _written(log_p, words).mean(),
        "You returned the loss: minus the mean over the words. The sum is asked for, with its own "
        "sign.": lambda log_p, words: -_written(log_p, words)[words != 0].mean(),
        "You counted the padding too, and changed the sign. Leave out the places whose word is "
        "number 0, and the minus sign.": lambda log_p, words: -_written(log_p, words).sum(),
        "You returned the perplexity, which comes from the mean. The sum of the logarithms is "
        "asked for.": lambda log_p, words: (-_written(log_p, words)[words != 0].mean()).exp(),
        "Only the first word counts in your result. Is there a `return` inside the loop?": (
            lambda log_p, words: log_p[0, words[0]]
        ),
        "You left out the first word: all words that were written count, up to the padding.": (
            lambda log_p, words: _written(log_p, words)[1:][words[1:] != 0].sum()
        ),
        "You left out the last place, whether it is a word or padding: leave out the padding "
        "alone.": lambda log_p, words: _written(log_p, words)[:-1][words[:-1] != 0].sum(),
        "You added probabilities and took the logarithm of the sum. The logarithms themselves are "
        "added.": lambda log_p, words: _written(log_p, words)[words != 0].exp().sum().log(),
        "You took the logarithm once more: log_p holds logarithms already.": (
            lambda log_p, words: _written(log_p, words)[words != 0].log().sum()
        ),
        "You took every word at every place: log_p[:, words] is (T, T). Take one number of each "
        "row.": lambda log_p, words: log_p[:, words].sum(),
        "You leave out the padding, but take every word at every place. Take one number of each "
        "row.": lambda log_p, words: log_p[words != 0][:, words[words != 0]].sum(),
        "You returned one number for each word: add them up.": (
            lambda log_p, words: _written(log_p, words)[words != 0]
        ),
        "You returned the sums so far, one for each word. The last of them is asked for.": (
            lambda log_p, words: _written(log_p, words)[words != 0].cumsum(0)
        ),
        "You added a small number inside the logarithm, and so improbable words count too little. "
        "log_p holds the logarithms already.": lambda log_p, words: (
            (_written(log_p, words)[words != 0].exp() + 1e-9).log().sum()
        ),
        "Words with the number 1 are missing in your sum. Only number 0 is padding.": (
            lambda log_p, words: _written(log_p, words)[words > 1].sum()
        ),
        "The padding is left out, but the words are taken at every place: log_p[:, words] is a "
        "table. Take one number of each row.": lambda log_p, words: log_p[
            :, words[words != 0]
        ].sum(),
        "You took the words one place too late: row 0 belongs to word 0.": (
            lambda log_p, words: _written(log_p[:-1], words[1:])[words[1:] != 0].sum()
        ),
        "Your result is the number of the task's example every time. Compute it from log_p.": (
            lambda log_p, words: torch.tensor(0.3).log()
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


def _without_first(next_scores, first: int, end: int, longest: int) -> list[int]:
    return my_greedy(lambda words: next_scores(words[1:] or words), first, end, longest)


def _always_anew(next_scores, first: int, end: int, longest: int) -> list[int]:
    return my_greedy(lambda words: next_scores(words[:1]), first, end, longest)


def _skips_ends(next_scores, first: int, end: int, longest: int) -> list[int]:
    return [word for word in _never_stops(next_scores, first, end, longest) if word != end]


def _scores_themselves(next_scores, first: int, end: int, longest: int) -> list[float]:
    words = [first, *my_greedy(next_scores, first, end, longest)]
    return [float(next_scores(words[:place]).max()) for place in range(1, len(words))]


def _appends_scores(next_scores, first: int, end: int, longest: int) -> list[int]:
    words = [first]
    while len(words) <= longest:
        word = int(next_scores(words).max())
        if word == end:
            break
        words.append(word)
    return words[1:]


def _second_best(next_scores, first: int, end: int, longest: int) -> list[int]:
    def swapped(words: list[int]) -> Tensor:
        scores = next_scores(words)
        scores[scores.argmax()] = -torch.inf
        return scores

    return my_greedy(swapped, first, end, longest)


def _stops_on_repeats(next_scores, first: int, end: int, longest: int) -> list[int]:
    words = [first, *my_greedy(next_scores, first, end, longest)]
    new = [word not in words[:place] for place, word in enumerate(words)]
    return words[1 : (new.index(False) if False in new else len(words))]


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
        "Where no end is written, your sentence is one word short: it may have `longest` words, "
        "not counting `first`.": _one_short,
        "You returned `first` too: leave it out of the sentence.": _keeps_first,
        "You took the smallest score: the likeliest word has the largest.": _least_likely,
        "Your sentence can have one word more than `longest`.": (
            lambda next_scores, first, end, longest: my_greedy(next_scores, first, end, longest + 1)
        ),
        "After the first word you no longer show `first` to next_scores. It needs all the words, "
        "`first` included.": _without_first,
        "You ask next_scores about `first` alone each time, so it says one word again and again. "
        "Append the new word to the list that you show it.": _always_anew,
        "You leave the end out, but go on writing after it. Stop there.": _skips_ends,
        "You return the largest scores. The numbers of the words are asked for: argmax.": (
            _scores_themselves
        ),
        "You write one word and stop. Is there a `return` inside the loop?": (
            lambda next_scores, first, end, longest: my_greedy(next_scores, first, end, 1)
        ),
        "You took the second largest score. Greedy writing always takes the largest.": _second_best,
        "You kept `first` and the end. Both are left out of the sentence.": (
            lambda next_scores, first, end, longest: [
                first,
                *_keeps_end(next_scores, first, end, longest),
            ]
        ),
        "You stop when a word comes again. A sentence may say a word twice: stop at `end`.": (
            _stops_on_repeats
        ),
        "You append the largest score. argmax says which word has it.": _appends_scores,
        "Your sentence is always empty.": lambda next_scores, first, end, longest: [],
        "Your sentence is written from its end to its start. New words belong at the end of the "
        "list: append.": lambda *x: my_greedy(*x)[::-1],
        "You left out the first word of the sentence, too. Only `first`, which stands before it, "
        "is left out.": lambda *x: my_greedy(*x)[1:],
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
    five = -2 * torch.rand(5, generator=generator)
    return {
        "two beginnings, two words, the best one": (totals, log_p, 1),
        "two beginnings, two words, the best two": (totals, log_p, 2),
        "one beginning": (torch.zeros(1), _log_p(1, 6, 4), 3),
        "three beginnings, seven words": (three, _log_p(3, 7, 5), 3),
        "five beginnings, eleven words": (five, _log_p(5, 11, 6), 4),
        "one beginning takes all places": (
            torch.tensor([0.02, 0.9, 0.08]).log(),
            torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.5, 0.2], [0.1, 0.1, 0.8]]).log(),
            3,
        ),
    }


def _beam_beyond() -> Cases:
    totals = -2 * torch.rand(5, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    return {
        "double precision": (totals, _log_p(5, 11, 6, torch.float64), 4),
        "every continuation": (totals[:3].float(), _log_p(3, 4, 7), 12),
    }


def _forgets_totals(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return my_beam_step(torch.zeros_like(totals), log_p, width)


def _multiplies(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    return _chosen(totals[:, None] * log_p, width)


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


def _chosen(table: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best entries of a table (K, V), with their rows and columns."""
    best, places = table.flatten().topk(width)
    return best, places // table.shape[1], places % table.shape[1]


def _one_each(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    best, words = (totals[:, None] + log_p).max(1)
    order = best.argsort(descending=True)[:width]
    return best[order], order, words[order]


def _best_beginning(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    row = totals.argmax()
    best, words = (totals[row] + log_p[row]).topk(min(width, log_p.shape[1]))
    return best, torch.full_like(words, int(row)), words


def _row_after_row(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    best, words = (totals[:, None] + log_p).topk(min(width, log_p.shape[1]), dim=1)
    rows = torch.arange(len(totals))[:, None].expand_as(words)
    return tuple(one.flatten()[:width] for one in (best, rows, words))


def _changed(change):
    """A wrong answer that makes something else of the right results."""
    return lambda totals, log_p, width: change(*my_beam_step(totals, log_p, width))


def _changed_places(change):
    """A wrong answer that makes its beginnings and words otherwise of the places in the table."""

    def answer(totals: Tensor, log_p: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
        best, places = (totals[:, None] + log_p).flatten().topk(width)
        return best, *change(places, log_p.shape[1])

    return answer


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
    results=("the log probabilities", "the beginnings", "the words"),
    solution_function=my_beam_step,
    cases=_beam_cases,
    beyond=_beam_beyond,
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
        "You let each beginning go on with its best word only. All continuations compete: one "
        "beginning may take several places.": _one_each,
        "You only went on from the best beginning. Those of the others compete, too.": (
            _best_beginning
        ),
        "You returned probabilities. Log probabilities are asked for: leave out the exp.": (
            _changed(lambda best, rows, words: (best.exp(), rows, words))
        ),
        "You found the right continuations, but the best should come first.": (
            _changed(lambda *found: tuple(one.flip(0) for one in found))
        ),
        "Your words are places in the flat table. The word is what remains: places % V.": (
            _changed_places(lambda places, size: (places // size, places))
        ),
        "Your beginnings are places in the flat table. Divide them: places // V.": (
            _changed_places(lambda places, size: (places, places % size))
        ),
        "Your beginnings are not whole numbers: // divides and leaves the rest out.": (
            _changed_places(lambda places, size: (places / size, places % size))
        ),
        "Your beginnings are the rests, places % V. They are places // V.": (
            _changed_places(lambda places, size: (places % size, places % size))
        ),
        "You returned the log probabilities of the beginnings alone: return those of the whole "
        "sentences.": lambda totals, log_p, width: _changed(
            lambda best, rows, words: (totals[rows], rows, words)
        )(totals, log_p, width),
        "You took the mean of the two log probabilities. Probabilities are multiplied, so their "
        "logarithms are added.": _changed(lambda best, rows, words: (best / 2, rows, words)),
        "You added probabilities. They are multiplied, and their logarithms are added.": (
            lambda totals, log_p, width: _chosen(
                torch.logaddexp(totals[:, None].expand_as(log_p), log_p), width
            )
        ),
        "You subtracted the totals. Log probabilities are added.": (
            lambda totals, log_p, width: my_beam_step(-totals, log_p, width)
        ),
        "You added totals along the words. They belong to the beginnings: totals[:, None] makes "
        "them a column.": lambda totals, log_p, width: _chosen(
            (totals if len(totals) == log_p.shape[1] else totals[0]) + log_p, width
        ),
        "You return one continuation, whatever the width.": (
            lambda totals, log_p, width: my_beam_step(totals, log_p, 1)
        ),
        "Your results are columns, (width, 1). They should be (width,).": (
            _changed(lambda *found: tuple(one[:, None] for one in found))
        ),
        "The best log probabilities are right, but beginnings and words are those of the worst "
        "continuations.": lambda totals, log_p, width: (
            my_beam_step(totals, log_p, width)[0],
            *_worst(totals, log_p, width)[1:],
        ),
        "You take the continuations of the first beginnings first. All rows compete with each "
        "other.": _row_after_row,
        "You put the log probabilities last. They come first, then the beginnings, then the "
        "words.": _changed(lambda best, rows, words: (rows, words, best)),
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


def _padded(words: Tensor) -> Tensor:
    """With one column of padding at its end."""
    return torch.nn.functional.pad(words, (0, 1))


def _up_to(sentences: Tensor, end: int) -> Tensor:
    """Leaves the word with this number out of every row."""
    return sentences[sentences != end].reshape(len(sentences), -1)


def _shift_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    inside = torch.randint(4, 40, (5, 7), generator=generator)
    whole = torch.cat([torch.full((5, 1), 2), inside, torch.full((5, 1), 3)], 1)
    return {
        "one sentence of two words": (torch.tensor([[2, 7, 8, 3]]),),
        "one sentence of one word": (torch.tensor([[2, 9, 3]]),),
        "another start word, another end word": (torch.tensor([[1, 3, 2, 6, 4]]),),
        "five sentences": (whole,),
    }


def _shift_beyond() -> Cases:
    whole = _shift_cases()["five sentences"][0]
    return {
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
    results=("the prefix", "the target"),
    solution_function=my_shift,
    cases=_shift_cases,
    beyond=_shift_beyond,
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
        "You cut nothing: the prefix ends before the end word, and the target begins after the "
        "start word.": lambda sentences: (sentences, sentences.clone()),
        "The target is right now. The prefix is too long: the end word is never read.": (
            lambda sentences: (sentences, sentences[:, 1:])
        ),
        "The prefix is right now. The target is too long: nobody has to say the start word.": (
            lambda sentences: (sentences[:, :-1], sentences)
        ),
        "The prefix is right now. The target must keep the end word, or the model never learns to "
        "stop.": lambda sentences: (sentences[:, :-1], sentences[:, 1:-1]),
        "Your target is one word only. At every place of the prefix the model says the next "
        "word.": lambda sentences: (sentences[:, :-1], sentences[:, -1:]),
        "You rolled the sentences round: the start word comes again behind the end. Cut instead.": (
            lambda sentences: (sentences, sentences.roll(-1, 1))
        ),
        "You left out the end word and the start word on both sides. The prefix keeps the start "
        "word, the target the end word.": lambda sentences: (sentences[:, 1:-1],) * 2,
        "Your target is the word before. The model should say the next one: the target is one "
        "place ahead of the prefix.": lambda sentences: (sentences[:, 1:-1], sentences[:, :-2]),
        "The target is right now. The prefix lost the start word, which the model reads first.": (
            lambda sentences: (sentences[:, 1:-1], sentences[:, 1:])
        ),
        "Only one sentence is left: keep all rows, and cut each at its ends.": (
            lambda sentences: (sentences[0, :-1], sentences[0, 1:])
        ),
        "Only the first sentence is left: keep all rows.": (
            lambda sentences: (sentences[:1, :-1], sentences[:1, 1:])
        ),
        "The target is right now. One word too many is cut from the prefix.": (
            lambda sentences: (sentences[:, :-2], sentences[:, 1:])
        ),
        "The prefix is right now. One word too many is cut from the target.": (
            lambda sentences: (sentences[:, :-1], sentences[:, 2:])
        ),
        "The prefix is right now. The target is two places ahead: the model should say the next "
        "word.": lambda sentences: (sentences[:, :-1], _padded(sentences[:, 2:])),
        "The prefix is right now. The target was shifted and filled up: cut it instead, to T − 1 "
        "words.": lambda sentences: (sentences[:, :-1], _padded(sentences[:, 1:])),
        "You filled up the targets to T words. Cut both to T − 1 words.": (
            lambda sentences: (sentences, _padded(sentences[:, 1:]))
        ),
        "The target is right now. Your prefix runs backwards.": (
            lambda sentences: (sentences[:, :-1].flip(1), sentences[:, 1:])
        ),
        "You made one long row of all sentences. Keep one row for each: (N, T − 1).": (
            lambda sentences: (sentences[:, :-1].flatten(), sentences[:, 1:].flatten())
        ),
        "You looked for a word with the number 3. The end is the last word of each row, whatever "
        "its number.": lambda sentences: (_up_to(sentences, 3), sentences[:, 1:]),
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
