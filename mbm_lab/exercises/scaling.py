"""The exercises of lesson 11: roofline, collate, uneven shares, accumulation, loss scaling."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mbm_lab.exercises.exercise import Cases, Exercise

# --- 1. The roofline


def my_least_time(
    flops: Tensor, moved: Tensor, peak: float, bandwidth: float
) -> tuple[Tensor, Tensor]:
    """The least milliseconds of each layer, (L,), and whether it waits for memory, (L,)."""
    calculating = 1000 * flops / peak
    moving = 1000 * moved / bandwidth
    return torch.maximum(calculating, moving), moving > calculating


def _of_times(make: Callable) -> Callable:
    """A wrong answer that makes something else of the milliseconds for calculating and moving."""

    def answer(flops: Tensor, moved: Tensor, peak: float, bandwidth: float):
        return make(1000 * flops / peak, 1000 * moved / bandwidth)

    return answer


def _waiting_as(make: Callable) -> Callable:
    """The right milliseconds, with another answer to who waits for memory."""
    return lambda *x: (my_least_time(*x)[0], make(*x))


def _roof(flops: Tensor, moved: Tensor, peak: float, bandwidth: float) -> Tensor:
    """The operations per second that each layer can reach: what a roofline shows."""
    return (bandwidth * flops / moved).clamp(max=peak)


def _least_time_cases() -> Cases:
    one = torch.tensor
    return {
        "the layer of the task": (one([4e8]), one([2e7]), 1e11, 1e10),
        "a layer that waits for memory": (one([1e8]), one([4e7]), 1e11, 1e10),
        "three layers": (one([4e8, 1e8, 2.5e8]), one([2e7, 4e7, 9e6]), 1e11, 1e10),
        "a layer without any operation": (one([0.0, 3e8]), one([5e7, 1e7]), 1e11, 1e10),
        "both take the same time": (one([6.0, 9.0]), one([4.0, 4.0]), 3.0, 2.0),
        "a slower machine": (one([5e6, 2e6, 8e6, 1e6]), one([1e6, 4e6, 3e6, 9e6]), 2e9, 8e8),
        "a machine that moves more than it calculates": (
            one([3.0, 8.0, 0.0]), one([5.0, 40.0, 0.5]), 2.5, 9.25),
    }  # fmt: skip


def _least_time_beyond() -> Cases:
    flops, moved, peak, bandwidth = _least_time_cases()["three layers"]
    return {
        "double precision, every second layer": (
            flops.double()[::2], moved.double()[::2], peak, bandwidth),
        "no layer at all": (torch.zeros(0), torch.zeros(0), peak, bandwidth),
    }  # fmt: skip


least_time = Exercise(
    lesson="11",
    name="least_time",
    title="The least time of a layer",
    minutes=6,
    difficulty=1,
    hints=(
        "Compute two times for each layer: that of its operations, as if memory were infinitely "
        "fast, and that of its bytes, as if calculating were.",
        "A time is work divided by speed: flops / peak and moved / bandwidth, in seconds. Both go "
        "on at once, so the layer ends when the slower one is done.",
        "torch.maximum(calculating, moving) compares them layer by layer. A layer waits for memory "
        "if moving > calculating.",
    ),
    why="While some numbers are being multiplied, the next ones are on their way from memory. So "
    "the times do not add up: the longer one decides. To make a layer faster one must shorten that "
    "one; with twice the peak, a layer that waits for memory (it is memory-bound, the others are "
    "compute-bound) takes as long as before (Williams, Waterman and Patterson, 2009).",
    results=("the milliseconds", "whether it waits for memory"),
    solution_function=my_least_time,
    cases=_least_time_cases,
    beyond=_least_time_beyond,
    mistakes={
        "You took the shorter of the two times. The layer is done when both are, so the longer one "
        "counts.": _of_times(lambda c, m: (torch.minimum(c, m), m > c)),
        "You added the two times. Calculating and moving go on at once: the longer one counts.": (
            _of_times(lambda c, m: (c + m, m > c))
        ),
        "You took the mean of the two times. The longer one counts.": (
            _of_times(lambda c, m: ((c + m) / 2, m > c))
        ),
        "You took the difference of the two times. The longer one counts.": (
            _of_times(lambda c, m: ((c - m).abs(), m > c))
        ),
        "Your times are in seconds. Milliseconds are asked for: times 1000.": (
            _of_times(lambda c, m: (torch.maximum(c, m) / 1000, m > c))
        ),
        "Your times are in microseconds. Milliseconds are asked for: seconds times 1000.": (
            _of_times(lambda c, m: (torch.maximum(c, m) * 1000, m > c))
        ),
        "You divided by 1000. A second has 1000 milliseconds, so multiply.": (
            _of_times(lambda c, m: (torch.maximum(c, m) / 1e6, m > c))
        ),
        "The times are right, but True and False are turned round: True is where memory takes "
        "longer.": _of_times(lambda c, m: (torch.maximum(c, m), c > m)),
        "The times are right, but True and False are turned round, and a layer whose two times are "
        "equal gets True. True is only where memory takes longer: >.": (
            _of_times(lambda c, m: (torch.maximum(c, m), c >= m))
        ),
        "A tie: where both times are equal, the layer does not wait for memory. Compare with >, "
        "not with >=.": _of_times(lambda c, m: (torch.maximum(c, m), m >= c)),
        "You took the longest time of all layers. Each layer has its own: torch.maximum(a, b) "
        "compares two tensors place by place.": (
            _of_times(lambda c, m: (torch.maximum(c, m).max(), m > c))
        ),
        "You added up all layers. Each layer has its own time.": (
            _of_times(lambda c, m: (torch.maximum(c, m).sum(), m > c))
        ),
        "You added up operations and bytes of all layers first. Each layer has its own time.": (
            _of_times(lambda c, m: (torch.maximum(c.sum(), m.sum()), m.sum() > c.sum()))
        ),
        "Your times are right, but you asked of all layers together whether they wait for memory. "
        "Ask each one.": (
            _of_times(lambda c, m: (torch.maximum(c, m), (m.sum() > c.sum()).expand(len(m))))
        ),
        "You swapped the two results: first the milliseconds, then who waits for memory.": (
            lambda *x: my_least_time(*x)[::-1]
        ),
        "You return the milliseconds alone. Return also, for each layer, whether it waits for "
        "memory.": lambda *x: my_least_time(*x)[0],
        "You return who waits for memory, and no milliseconds. Both are asked for.": (
            lambda *x: my_least_time(*x)[1]
        ),
        "You swapped peak and bandwidth: operations are divided by peak, bytes by bandwidth.": (
            lambda flops, moved, peak, bandwidth: my_least_time(flops, moved, bandwidth, peak)
        ),
        "You multiplied work by speed. A time is work divided by speed.": (
            lambda flops, moved, peak, bandwidth: my_least_time(
                flops, moved, 1 / peak, 1 / bandwidth
            )
        ),
        "You divided speed by work. A time is work divided by speed.": (
            lambda flops, moved, peak, bandwidth: (
                1000 * torch.maximum(peak / flops, bandwidth / moved),
                bandwidth / moved > peak / flops,
            )
        ),
        "Your times are those of the operations alone. Where moving the bytes takes longer, that "
        "counts.": _of_times(lambda c, m: (c, m > c)),
        "Your times are those of the bytes alone. Where calculating takes longer, that counts.": (
            _of_times(lambda c, m: (m, m > c))
        ),
        "You return operations per byte, the intensity. Milliseconds are asked for.": (
            lambda flops, moved, peak, bandwidth: (
                flops / moved,
                my_least_time(flops, moved, peak, bandwidth)[1],
            )
        ),
        "You return the height of the roof, in operations per second. The time is the layer's "
        "operations divided by that.": lambda *x: (_roof(*x), my_least_time(*x)[1]),
        "You divided the operations by the height of the roof. That is 0 / 0, nan, for a layer "
        "without operations: take the longer of two times.": lambda flops, *x: (
            1000 * flops / _roof(flops, *x),
            my_least_time(flops, *x)[1],
        ),
        "The times are right, but you compared the number of bytes with the number of operations. "
        "Compare the times.": _waiting_as(lambda flops, moved, *_: moved > flops),
        "The times are right, but you compared operations per byte with bandwidth / peak. The "
        "border is the other way up, peak / bandwidth.": (
            _waiting_as(lambda flops, moved, peak, width: flops / moved < width / peak)
        ),
        "The times are right, but you return texts where True and False are asked for.": (
            _waiting_as(
                lambda *x: ["memory" if one else "compute" for one in my_least_time(*x)[1].tolist()]
            )
        ),
        "The times are right, but you return 1 and 0 where True and False are asked for.": (
            _waiting_as(lambda *x: my_least_time(*x)[1].float())
        ),
        "You multiplied the bytes by 8, as if the bandwidth were in bits. Both are in bytes.": (
            lambda flops, moved, *x: my_least_time(flops, 8 * moved, *x)
        ),
        "You multiplied `moved` by 4, as if it counted numbers. It counts bytes.": (
            lambda flops, moved, *x: my_least_time(flops, 4 * moved, *x)
        ),
        "You counted two operations for each in `flops`. It counts all of them already.": (
            lambda flops, *x: my_least_time(2 * flops, *x)
        ),
        "You divided with //, which loses what stands behind the point. Divide with /.": (
            lambda flops, moved, peak, width: (
                torch.maximum(1000 * flops // peak, 1000 * moved // width),
                1000 * moved // width > 1000 * flops // peak,
            )
        ),
        "The answer of the task's example comes every time. Compute it from the arguments.": (
            lambda *x: (torch.tensor([4.0]), torch.tensor([False]))
        ),
    },
)


# --- 2. One batch of sentences


def my_collate(examples: list[tuple[Tensor, float]], pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """One batch: tokens (B, T), the lengths (B,) and the moods (B,) of B examples."""
    lengths = torch.tensor([len(words) for words, _ in examples])
    tokens = torch.full((len(examples), int(lengths.max())), pad)
    for row, (words, _) in enumerate(examples):
        tokens[row, : len(words)] = words
    moods = torch.tensor([mood for _, mood in examples], dtype=torch.float32)
    return tokens, lengths, moods


def _with_tokens(make: Callable) -> Callable:
    """The right lengths and moods, with other tokens: make(sentences, longest, pad)."""

    def answer(examples: list[tuple[Tensor, float]], pad: int) -> tuple:
        _, lengths, moods = my_collate(examples, pad)
        return make([words for words, _ in examples], int(lengths.max()), pad), lengths, moods

    return answer


def _with_lengths(make: Callable) -> Callable:
    """The right tokens and moods, with other lengths: make(tokens, lengths, pad)."""

    def answer(examples: list[tuple[Tensor, float]], pad: int) -> tuple:
        tokens, lengths, moods = my_collate(examples, pad)
        return tokens, make(tokens, lengths, pad), moods

    return answer


def _with_moods(make: Callable) -> Callable:
    """The right tokens and lengths, with other moods: make(moods as they were given)."""

    def answer(examples: list[tuple[Tensor, float]], pad: int) -> tuple:
        return *my_collate(examples, pad)[:2], make([mood for _, mood in examples])

    return answer


def _padded(left: Callable, right: Callable) -> Callable:
    """Tokens with these numbers before and after each sentence: left(words, missing, pad), …"""
    return _with_tokens(
        lambda sentences, longest, pad: torch.stack(
            [
                torch.tensor(
                    [
                        *left(words.tolist(), longest - len(words), pad),
                        *words.tolist(),
                        *right(words.tolist(), longest - len(words), pad),
                    ],
                    dtype=torch.int64,
                )
                for words in sentences
            ]
        )
    )


def _nothing(words: list[int], missing: int, pad: int) -> list[int]:
    return []


def _shortest(sentences: list[Tensor], longest: int, pad: int) -> Tensor:
    return torch.stack([words[: min(map(len, sentences))] for words in sentences])


def _sorted_by_length(examples: list[tuple[Tensor, float]], pad: int) -> tuple:
    return my_collate(sorted(examples, key=lambda one: -len(one[0])), pad)


def _only_words_sorted(examples: list[tuple[Tensor, float]], pad: int) -> tuple:
    return *_sorted_by_length(examples, pad)[:2], my_collate(examples, pad)[2]


def _zeros_are_padding(sentences: list[Tensor], longest: int, pad: int) -> Tensor:
    tokens = nn.utils.rnn.pad_sequence(sentences, batch_first=True)
    return torch.where(tokens == 0, torch.tensor(pad), tokens)


def _first_row_only(sentences: list[Tensor], longest: int, pad: int) -> Tensor:
    tokens = torch.full((len(sentences), longest), pad)
    tokens[0, : len(sentences[0])] = sentences[0]
    return tokens


def _without_empty(examples: list[tuple[Tensor, float]], pad: int) -> tuple:
    return my_collate([one for one in examples if len(one[0])], pad)


def _collate_cases() -> Cases:
    one = torch.tensor
    empty = torch.zeros(0, dtype=torch.int64)
    return {
        "the two sentences of the task": ([(one([5, 8]), 0.5), (one([7, 4, 9]), -1.0)], 0),
        "one sentence": ([(one([3, 6, 2]), 0.25)], 0),
        "three sentences, the longest first": (
            [(one([9, 2, 7, 6]), -1.5), (one([4]), 0.0), (one([5, 3]), 1.25)], 1),
        "another number for the padding, and a token 0": (
            [(one([6]), 0.4), (one([0, 9, 0, 3]), 0.9), (one([8, 0]), -0.6)], 11),
        "a sentence without a word": ([(one([4, 2]), 0.2), (empty, -0.4), (one([3]), 0.7)], 1),
        "sentences of one length": ([(one([3, 5]), 0.1), (one([8, 2]), -0.2)], 1),
        "moods that are whole numbers": (
            [(one([2, 3, 4]), 2), (one([5]), -1), (one([6, 7]), 0)], 0),
    }  # fmt: skip


def _collate_beyond() -> Cases:
    one = torch.tensor
    return {
        "the padding's own number inside a sentence": (
            [(one([4, 1, 3]), 0.5), (one([6, 1]), -0.5)], 1),
        "no sentence with a word": ([(torch.zeros(0, dtype=torch.int64), 0.5)], 0),
        "every second token (a strided tensor)": (
            [(one([4, 9, 3, 9, 2])[::2], 0.5), (one([6, 9, 1, 9])[::2], -0.5)], 0),
    }  # fmt: skip


collate = Exercise(
    lesson="11",
    name="collate",
    title="One batch of sentences of different lengths",
    minutes=10,
    difficulty=2,
    hints=(
        "First the lengths, then an empty table: torch.full((B, T), pad), where T is the greatest "
        "length.",
        "Go through the examples with enumerate and write each sentence into the beginning of its "
        "row: tokens[row, : len(words)] = words.",
        "The moods are torch.tensor([mood for _, mood in examples], dtype=torch.float32). Without "
        "the dtype, whole numbers would stay whole.",
    ),
    why="A tensor is a rectangle, so short sentences are filled up. The lengths say where each one "
    "really ends; without them a model could not tell a word from padding. Padding to the longest "
    "sentence of this batch, not of all batches, saves work. PyTorch has pad_sequence for the "
    "table.",
    results=("the tokens", "the lengths", "the moods"),
    solution_function=my_collate,
    cases=_collate_cases,
    beyond=_collate_beyond,
    mistakes={
        "You always pad with 0. Pad with the number `pad`.": (
            lambda examples, pad: my_collate(examples, 0)
        ),
        "You pad with −100. Pad with the number `pad`.": (
            lambda examples, pad: my_collate(examples, -100)
        ),
        "You write 0 for the padding and replace every 0 afterwards. A token may be 0, too.": (
            _with_tokens(_zeros_are_padding)
        ),
        "You pad on the left. The words come first, then the padding.": (
            _padded(lambda words, missing, pad: missing * [pad], _nothing)
        ),
        "You repeat the sentence's last word. Fill up with `pad`.": (
            _padded(
                _nothing,
                lambda words, missing, pad: missing * (words[-1:] or [pad]),
            )
        ),
        "Your table is one column too wide. T is the length of the longest sentence.": (
            _padded(_nothing, lambda words, missing, pad: (missing + 1) * [pad])
        ),
        "You cut all sentences to the shortest one. No word may be lost: T is the greatest "
        "length.": _with_tokens(_shortest),
        "Your tokens are (T, B). The batch comes first: with pad_sequence, batch_first=True.": (
            _with_tokens(
                lambda sentences, longest, pad: nn.utils.rnn.pad_sequence(
                    sentences, padding_value=pad
                )
            )
        ),
        "All sentences stand in one long row. Each one has a row of its own.": (
            _with_tokens(lambda sentences, longest, pad: torch.cat(sentences))
        ),
        "You return the sentences as they were. One tensor (B, T) is asked for.": (
            _with_tokens(lambda sentences, longest, pad: sentences)
        ),
        "Your tokens are no whole numbers: torch.full and torch.zeros take the kind of what they "
        "are told. Use dtype=torch.int64.": (
            lambda examples, pad: (
                my_collate(examples, pad)[0].float(),
                *my_collate(examples, pad)[1:],
            )
        ),
        "Only the first sentence is written into your table. Is there a `return` inside the "
        "loop?": (_with_tokens(_first_row_only)),
        "No sentence is written into your table: it holds nothing but padding.": (
            _with_tokens(lambda sentences, longest, pad: torch.full((len(sentences), longest), pad))
        ),
        "The words of each sentence come backwards.": (
            lambda examples, pad: my_collate(
                [(words.flip(0), mood) for words, mood in examples], pad
            )
        ),
        "All your lengths are T, that of the table. Each sentence has its own.": (
            _with_lengths(lambda tokens, lengths, pad: torch.full_like(lengths, tokens.shape[1]))
        ),
        "Your lengths count the tokens that are not 0. A token may be 0, and the padding need not "
        "be.": _with_lengths(lambda tokens, lengths, pad: (tokens != 0).sum(1)),
        "Your lengths count the padding. The words are asked for.": (
            _with_lengths(lambda tokens, lengths, pad: tokens.shape[1] - lengths)
        ),
        "Your lengths are one too small: these are the places of the last words.": (
            _with_lengths(lambda tokens, lengths, pad: lengths - 1)
        ),
        "Your lengths are one too large.": (
            _with_lengths(lambda tokens, lengths, pad: lengths + 1)
        ),
        "Your lengths add up from sentence to sentence. Each one stands for itself.": (
            _with_lengths(lambda tokens, lengths, pad: lengths.cumsum(0))
        ),
        "Your lengths are no whole numbers. torch.tensor keeps them whole; torch.Tensor does "
        "not.": _with_lengths(lambda tokens, lengths, pad: lengths.float()),
        "You return the length of the longest sentence alone. Each one's is asked for, (B,).": (
            _with_lengths(lambda tokens, lengths, pad: lengths.max())
        ),
        "You return a mask, (B, T). The lengths are asked for, (B,).": (
            _with_lengths(
                lambda tokens, lengths, pad: torch.arange(tokens.shape[1]) < lengths[:, None]
            )
        ),
        "Moods that are whole numbers stay whole in your batch. Say dtype=torch.float32.": (
            _with_moods(torch.tensor)
        ),
        "Your moods lost what stands behind the point: they are no whole numbers.": (
            _with_moods(lambda moods: torch.tensor([int(mood) for mood in moods]))
        ),
        "Your moods are a column, (B, 1). (B,) is asked for: a column minus a row would give every "
        "card minus every other.": _with_moods(lambda moods: torch.tensor(moods).float()[:, None]),
        "You return the mean of the moods. Each card's is asked for.": (
            _with_moods(lambda moods: torch.tensor(moods).float().mean())
        ),
        "You sorted the examples by length. Keep their order.": _sorted_by_length,
        "You sorted the sentences by length, but not the moods: each sentence now has another "
        "card's mood. Keep the order.": _only_words_sorted,
        "Your examples come in the opposite order.": (
            lambda examples, pad: my_collate(examples[::-1], pad)
        ),
        "You left out the sentences without a word. They are cards, too: a row of padding.": (
            _without_empty
        ),
        "You swapped lengths and moods: tokens, lengths, moods.": (
            lambda examples, pad: tuple(my_collate(examples, pad)[place] for place in (0, 2, 1))
        ),
        "You return tokens and moods only. The lengths stand between them.": (
            lambda examples, pad: my_collate(examples, pad)[::2]
        ),
        "You left out the last example.": (
            lambda examples, pad: my_collate(examples[:-1] or examples, pad)
        ),
        "The batch of the task's example comes every time. Make it from the arguments.": (
            lambda *_: (
                torch.tensor([[5, 8, 0], [7, 4, 9]]),
                torch.tensor([2, 3]),
                torch.tensor([0.5, -1.0]),
            )
        ),
    },
)


# --- 3. The gradient of uneven shares


def my_whole_gradient(gradients: list[list[Tensor]], counts: list[int]) -> list[Tensor]:
    """The gradient of the whole batch, one tensor a parameter; gradients[p][w]: of worker w."""
    cards = sum(counts)
    shares = [count / cards for count in counts]
    return [sum(shares[w] * parts[w] for w in range(len(counts))) for parts in gradients]


def _weighted(weigh: Callable) -> Callable:
    """The sum of the workers' gradients with other weights: weigh(counts) as doubles, (W,)."""

    def answer(gradients: list[list[Tensor]], counts: list[int]) -> list[Tensor]:
        weights = weigh(torch.tensor(counts, dtype=torch.float64)).tolist()
        return [sum(weights[w] * parts[w] for w in range(len(parts))) for parts in gradients]

    return answer


def _for_each(make: Callable) -> Callable:
    """Makes something of the tensors of each parameter: make(tensors of the workers, counts)."""
    return lambda gradients, counts: [make(parts, counts) for parts in gradients]


def _one_by_one(parts: list[Tensor], counts: list[int]) -> Tensor:
    """The mean of the first two, then the mean of that and the third, …"""
    whole = parts[0]
    for part in parts[1:]:
        whole = (whole + part) / 2
    return whole


def _without(chosen: slice) -> Callable:
    """Leaves out workers, unless there is only one."""

    def answer(gradients: list[list[Tensor]], counts: list[int]) -> list[Tensor]:
        some = chosen if len(counts) > 1 else slice(None)
        return my_whole_gradient([parts[some] for parts in gradients], counts[some])

    return answer


def _of_parts(make: Callable) -> Callable:
    """Makes something else of the right result: make(the list of tensors)."""
    return lambda gradients, counts: make(my_whole_gradient(gradients, counts))


def _unsummed(parts: list[Tensor], counts: list[int]) -> Tensor:
    return torch.stack([counts[w] / sum(counts) * parts[w] for w in range(len(counts))])


def _for_each_worker(gradients: list[list[Tensor]], counts: list[int]) -> list[list[Tensor]]:
    return [len(counts) * [whole] for whole in my_whole_gradient(gradients, counts)]


def _first_weighted_only(gradients: list[list[Tensor]], counts: list[int]) -> list[Tensor]:
    """Weighs the first parameter's gradients, and takes the plain mean of all others."""
    plain = _weighted(lambda n: torch.ones_like(n) / len(n))(gradients, counts)
    return [my_whole_gradient(gradients, counts)[0], *plain[1:]]


def _shares(workers: int, seed: int, *shapes: tuple[int, ...]) -> list[list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [[torch.randn(shape, generator=generator) for _ in range(workers)] for shape in shapes]


def _whole_gradient_cases() -> Cases:
    two = [[torch.tensor([2.0]), torch.tensor([6.0])]]
    idle = [[*parts, torch.zeros_like(parts[0])] for parts in _shares(2, 4, (2,), (2, 2))]
    return {
        "the two workers of the task": (two, [3, 1]),
        "one worker": ([[torch.tensor([0.0, -0.7])]], [5]),
        "as many cards each": (_shares(2, 1, (3,)), [4, 4]),
        "a matrix and a bias": (_shares(2, 2, (2, 3), (2,)), [2, 6]),
        "three workers, a single number among the parameters": (
            _shares(3, 3, (2,), (), (1, 2, 2)), [5, 1, 8]),
        "a worker that has read nothing": (idle, [7, 2, 0]),
        "four workers": (_shares(4, 5, (4,)), [1, 2, 3, 10]),
    }  # fmt: skip


def _whole_gradient_beyond() -> Cases:
    transposed = [[part.double().mT for part in parts] for parts in _shares(2, 6, (2, 3), (3, 2))]
    return {"double precision, transposed matrices": (transposed, [3, 5])}


whole_gradient = Exercise(
    lesson="11",
    name="whole_gradient",
    title="Workers with unequal shares",
    minutes=8,
    difficulty=2,
    hints=(
        "Undo the means: a worker's mean gradient times its count is the sum over its cards. Add "
        "up these sums over the workers.",
        "Divide by the number of all cards, sum(counts). So worker w has the share counts[w] / "
        "sum(counts), the same for every parameter.",
        "For each `parts` in gradients: sum(shares[w] * parts[w] for w in range(len(counts))).",
    ),
    why="The gradient of a mean loss is the mean over cards, not over workers. If the counts "
    "differ, a plain mean gives the cards of the worker with few cards more weight. That is why "
    "a last batch that cannot be shared out evenly needs care.",
    solution_function=my_whole_gradient,
    cases=_whole_gradient_cases,
    beyond=_whole_gradient_beyond,
    mistakes={
        "You took the plain mean over the workers. A worker that has read more cards counts "
        "more.": (_weighted(lambda n: torch.ones_like(n) / len(n))),
        "You took the plain mean over the workers that have read something. Who has read more "
        "cards counts more.": _weighted(lambda n: (n > 0) / (n > 0).sum()),
        "You added up the workers' gradients. They are means: weigh each by its share of the "
        "cards.": _weighted(torch.ones_like),
        "You have the sum over all cards. Divide it by their number, sum(counts).": (
            _weighted(lambda n: n)
        ),
        "You divided by the number of workers. Divide by the number of cards, sum(counts).": (
            _weighted(lambda n: n / len(n))
        ),
        "You divided by the number of cards, as if the workers had handed in sums. They hand in "
        "means: multiply each by its count first.": (
            _weighted(lambda n: torch.ones_like(n) / n.sum())
        ),
        "Your weights add up to the number of workers, so the gradient is that many times too "
        "large. (It would be right if somebody took the mean over the workers afterwards.)": (
            _weighted(lambda n: n * len(n) / n.sum())
        ),
        "You divided the weighted sum by the cards and by the workers, too. The cards suffice.": (
            _weighted(lambda n: n / n.sum() / len(n))
        ),
        "You divided by the greatest count. Divide by the sum of all counts.": (
            _weighted(lambda n: n / n.max())
        ),
        "You divided by the first worker's count. Divide by the sum of all counts.": (
            _weighted(lambda n: n / n[0])
        ),
        "A worker with fewer cards weighs more in your result: it is count / sum(counts).": (
            _weighted(lambda n: n.sum() / n.clamp(min=1))
        ),
        "A worker weighs by the share of the others' cards in your result. It is its own share.": (
            _weighted(lambda n: 1 - n / n.sum())
        ),
        "You multiplied by the counts twice. Once makes a mean into a sum.": (
            _weighted(lambda n: n**2 / n.sum())
        ),
        "Your weights are the squared counts, divided by their sum. The counts themselves weigh.": (
            _weighted(lambda n: n**2 / (n**2).sum())
        ),
        "Your weights are the roots of the counts. The counts themselves weigh.": (
            _weighted(lambda n: n**0.5 / (n**0.5).sum())
        ),
        "Your weights are a softmax of the counts. The counts themselves weigh, divided by their "
        "sum.": _weighted(lambda n: n.softmax(0)),
        "The counts are in the opposite order: each worker has its own.": (
            lambda gradients, counts: my_whole_gradient(gradients, counts[::-1])
        ),
        "You divided with //. A share is no whole number: /.": _weighted(lambda n: n // n.sum()),
        "You took the mean of two, then of that and the third, and so on: the last worker then "
        "weighs half. Weigh each by its share of the cards.": _for_each(_one_by_one),
        "You return the first worker's gradient. All workers have a share in it.": (
            _for_each(lambda parts, counts: parts[0])
        ),
        "You return the last worker's gradient. All workers have a share in it.": (
            _for_each(lambda parts, counts: parts[-1])
        ),
        "You return the gradient of the worker with most cards. All workers have a share in it.": (
            _for_each(lambda parts, counts: parts[counts.index(max(counts))])
        ),
        "You took the greatest of each number over the workers. The mean over all cards is asked "
        "for.": _for_each(lambda parts, counts: torch.stack(parts).amax(0)),
        "You left out the last worker.": _without(slice(-1)),
        "You left out the first worker.": _without(slice(1, None)),
        "You left out the last worker's gradient, but divided by the cards of all.": (
            _weighted(lambda n: torch.cat([n[:-1], 0 * n[-1:]]) / n.sum())
        ),
        "You weighed the first parameter only, and took the plain mean of the others.": (
            _first_weighted_only
        ),
        "You return the first parameter only. One tensor for each parameter is asked for. Is there "
        "a `return` inside the loop?": _of_parts(lambda parts: parts[:1]),
        "You joined all parameters into one vector. Keep one tensor for each, in its shape.": (
            _of_parts(lambda parts: torch.cat([part.flatten() for part in parts]))
        ),
        "You flattened the tensors. Each one keeps its shape.": (
            _of_parts(lambda parts: [part.flatten() for part in parts])
        ),
        "Your parameters come in the opposite order.": _of_parts(lambda parts: parts[::-1]),
        "You return the workers' shares. Add them up.": _for_each(_unsummed),
        "You return the result once for each worker. Once is enough.": _for_each_worker,
        "You walk on to the step: the gradient itself is asked for, without a minus sign.": (
            _of_parts(lambda parts: [-part for part in parts])
        ),
        "The answer of the task's example comes every time. Compute it from the arguments.": (
            lambda *_: [torch.tensor([3.0])]
        ),
    },
)


# --- 4. Break and fix: many small batches, one step


def my_accumulate(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], accumulate: int, learning_rate: float
) -> None:
    """Gradient descent over the batches; every `accumulate` of them make one step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    for start in range(0, len(batches), accumulate):
        group = batches[start : start + accumulate]
        cards = sum(len(y) for _, y in group)
        optimizer.zero_grad()
        for x, y in group:
            loss = ((model(x).squeeze(1) - y) ** 2).sum() / cards
            loss.backward()
        optimizer.step()


def _given_accumulate(
    model: nn.Module, batches: list[tuple[Tensor, Tensor]], accumulate: int, learning_rate: float
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
    optimizer.zero_grad()
    for count, (x, y) in enumerate(batches, start=1):
        loss = ((model(x).squeeze(1) - y) ** 2).mean()
        loss.backward()
        if count % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()


def _by_cards(y: Tensor, group: list, accumulate: int, batches: list) -> float:
    """What to multiply a batch's mean loss with, so that each card of the group counts alike."""
    return len(y) / sum(len(other) for _, other in group)


def _undivided(y: Tensor, group: list, accumulate: int, batches: list) -> float:
    return 1.0


def _by_accumulate(y: Tensor, group: list, accumulate: int, batches: list) -> float:
    return 1 / accumulate


def _by_batches(y: Tensor, group: list, accumulate: int, batches: list) -> float:
    return 1 / len(group)


def _accumulated(
    model, batches, accumulate, learning_rate, *,
    weigh=_by_cards, rest="step", zero="groups", shift=0, kind=torch.optim.SGD,
    loss_of=lambda errors: (errors**2).mean(), column=False, maximize=False,
) -> None:  # fmt: skip
    """Accumulation with a part of it wrong.

    weigh: what a batch's mean loss is multiplied with; rest: whether the incomplete group at the
    end makes a "step", is read for nothing ("lost"), or will "join" the group before; zero: the
    gradients are forgotten before all "groups", all "batches", the "first" batch, all "later"
    groups but the first, or "never"; shift: the first group has so many batches fewer.
    """
    optimizer = kind(model.parameters(), lr=learning_rate, maximize=maximize)
    edges = [*range(accumulate - shift, len(batches) + 1, accumulate)]
    edges = [0, *(edge for edge in edges if edge > 0)]
    if edges[-1] < len(batches):
        edges = [*(edges[:-1] if rest == "join" and len(edges) > 1 else edges), len(batches)]
    for start, end in zip(edges, edges[1:], strict=False):
        group = batches[start:end]
        for place, (x, y) in enumerate(group):
            times = {"batches"} | ({"groups"} if place == 0 else set())
            times |= {"first" if start == 0 else "later"} if place == 0 else set()
            if zero in times:
                optimizer.zero_grad()
            v = model(x)
            loss = loss_of((v if column else v.squeeze(1)) - y)
            (loss * weigh(y, group, accumulate, batches)).backward()
        if rest != "lost" or (len(group) + (shift if start == 0 else 0)) == accumulate:
            optimizer.step()


def _wrong(**what) -> Callable:
    """`_accumulated` with something wrong."""
    return lambda *x: _accumulated(*x, **what)


def _joined(model, batches, accumulate, learning_rate) -> None:
    """Puts the batches of a group together into a large one."""
    for start in range(0, len(batches), accumulate):
        group = batches[start : start + accumulate]
        large = torch.cat([x for x, _ in group]), torch.cat([y for _, y in group])
        _accumulated(model, [large], 1, learning_rate)


def _first_group_only(model, batches, accumulate, learning_rate) -> None:
    _accumulated(model, batches[:accumulate], accumulate, learning_rate)


def _all_at_once(model, batches, accumulate, learning_rate) -> None:
    _accumulated(model, batches, max(len(batches), 1), learning_rate)


def _without_last(model, batches, accumulate, learning_rate) -> None:
    _accumulated(model, batches[:-1] or batches, accumulate, learning_rate)


def _of_a_copy(model, *x) -> None:
    _accumulated(copy.deepcopy(model), *x)


def _accumulate_and_look(
    answer: Callable,
    start: Tensor,
    old: Tensor,
    batches: list[tuple[Tensor, Tensor]],
    accumulate: int,
    learning_rate: float,
) -> dict | object:
    """The model's weights afterwards, and how many cards it has read at once, at most.

    start: the weights it begins with; old: the gradient that it has at first.
    """
    model = nn.Linear(len(start), 1, bias=False).to(start.dtype)
    with torch.no_grad():
        model.weight.copy_(start[None])
    model.weight.grad = old[None].clone()
    read = [0]
    model.register_forward_hook(lambda _, inputs, __: read.append(len(inputs[0])))
    if answer(model, batches, accumulate, learning_rate) is ...:
        return ...
    return {"weights": model.weight.detach()[0].clone(), "most cards at once": max(read)}


def _batches_of(*sizes: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(sizes), 3, generator=generator)
    y = x @ torch.tensor([0.5, -1.0, 0.2]) + 0.5 * torch.randn(sum(sizes), generator=generator)
    return list(zip(x.split(sizes), y.split(sizes), strict=True))


def _accumulate_cases() -> Cases:
    torch.optim.SGD([torch.zeros(1)], lr=1.0)  # the first optimizer loads a part of PyTorch
    one, start, none = torch.tensor, torch.ones(3), torch.zeros(3)
    two = [(one([[1.0]]), one([0.0])), (one([[2.0]]), one([0.0]))]
    return {
        "the two batches of the task": (one([1.0]), one([0.0]), two, 2, 0.1),
        "four batches, two steps": (start, none, _batches_of(4, 4, 4, 4), 2, 0.1),
        "five batches, so that one is left over": (
            start, none, _batches_of(4, 4, 4, 4, 4, seed=1), 2, 0.1),
        "two batches are left over, the last one smaller": (
            start, none, _batches_of(4, 4, 4, 4, 1, seed=2), 3, 0.1),
        "a smaller last batch in a full group": (
            start, none, _batches_of(3, 3, 3, 2, seed=3), 2, 0.1),
        "every batch makes a step": (start, none, _batches_of(5, 5, 2, seed=4), 1, 0.05),
        "a single batch": (start, none, _batches_of(3, seed=7), 2, 0.1),
        "fewer batches than make a step": (start, none, _batches_of(2, 2, 2, seed=5), 8, 0.2),
        "a model with old gradients": (start, 3 * start, _batches_of(2, 2, seed=6), 2, 0.1),
    }  # fmt: skip


def _accumulate_beyond() -> Cases:
    start, none, batches, *_ = _accumulate_cases()["five batches, so that one is left over"]
    double = [(x.double(), y.double()) for x, y in batches]
    return {
        "no batch at all": (start, none, [], 2, 0.1),
        "double precision": (start.double(), none.double(), double, 2, 0.1),
    }


accumulate = Exercise(
    lesson="11",
    name="accumulate",
    title="Break and fix: many small batches, one step",
    minutes=12,
    difficulty=3,
    hints=(
        "Three things are wrong. Two small batches: is the gradient as long as that of the large "
        "batch? Five batches, two for each step: what happens to the fifth? And a last batch that "
        "is smaller: does each of its cards count as much as the others?",
        "Take the batches group by group: batches[start : start + accumulate]. The last group is "
        "whatever is left. Forget the old gradients once for each group, before its first batch.",
        "The mean over a group is its sum of squared errors divided by its cards, so each batch "
        "contributes ((model(x).squeeze(1) - y) ** 2).sum() / cards, where cards = sum(len(y) for "
        "_, y in group).",
    ),
    why="backward() adds, so after all batches of a group the gradient is that of the sum of the "
    "losses. It is that of the large batch only if these add up to the large batch's mean. "
    "Dividing each batch's mean by `accumulate` does it when all batches are equally large and no "
    "group is incomplete; dividing by the group's cards does it in any case.",
    solution_function=my_accumulate,
    given=_given_accumulate,
    call=_accumulate_and_look,
    cases=_accumulate_cases,
    beyond=_accumulate_beyond,
    mistakes={
        "You divide by `accumulate` now, but the batches left over at the end still make no "
        "step.": (_wrong(weigh=_by_accumulate, rest="lost")),
        "What is left over makes a step now, but the losses are still added up: a step is as many "
        "times too long as its group has batches.": _wrong(weigh=_undivided),
        "You divide by `accumulate` everywhere. In an incomplete group there are fewer batches.": (
            _wrong(weigh=_by_accumulate)
        ),
        "Each batch of a group weighs as much in your code. The last one may be smaller: each CARD "
        "should weigh as much.": _wrong(weigh=_by_batches),
        "The full groups are right, but the batches left over at the end make no step.": (
            _wrong(rest="lost")
        ),
        "You divide by the cards of a full group, also where a group has fewer.": (
            _wrong(
                weigh=lambda y, group, accumulate, batches: (
                    len(y) / (accumulate * len(batches[0][1]))
                )
            )
        ),
        "You divide by the number of all batches. Divide by what belongs to one step.": (
            _wrong(weigh=lambda y, group, accumulate, batches: 1 / len(batches))
        ),
        "You divide by the number of all cards. Divide by the cards of one step.": (
            _wrong(
                weigh=lambda y, group, accumulate, batches: (
                    len(y) / sum(len(other) for _, other in batches)
                )
            )
        ),
        "You divide by the batch's cards once more: the mean has done that already.": (
            _wrong(weigh=lambda y, group, *_: 1 / sum(len(other) for _, other in group))
        ),
        "You sum the squared errors of a group and do not divide. The mean over its cards is asked "
        "for.": _wrong(weigh=lambda y, *_: len(y)),
        "You sum the squared errors and divide by the number of batches. Divide by the number of "
        "cards.": _wrong(weigh=lambda y, group, *_: len(y) / len(group)),
        "You take a step after every batch. A step is asked for after every group.": (
            lambda model, batches, accumulate, rate: _accumulated(model, batches, 1, rate)
        ),
        "You take one step for all batches together. A step is asked for after every group.": (
            _all_at_once
        ),
        "You forget the gradients before every batch, so that a step knows only the last batch of "
        "its group.": _wrong(zero="batches"),
        "A step knows only the last batch of its group, because the gradients are forgotten before "
        "every batch. And the batches left over at the end make no step.": (
            _wrong(zero="batches", weigh=_undivided, rest="lost")
        ),
        "A step knows only the last batch of its group, and that divided by `accumulate`, because "
        "the gradients are forgotten before every batch.": (
            _wrong(zero="batches", weigh=_by_accumulate)
        ),
        "A step knows only the last batch of its group, with the weight of a whole one: the "
        "gradients are forgotten before every batch.": _wrong(zero="batches", weigh=_undivided),
        "A step knows only the last batch of its group, divided by `accumulate`, and what is left "
        "over at the end makes no step. Forget the gradients once a group.": (
            _wrong(zero="batches", weigh=_by_accumulate, rest="lost")
        ),
        "You never forget the gradients, not even those that the model had before. Each group then "
        "repeats all groups before it.": (_wrong(zero="never")),
        "You forget the gradients at the beginning only. Each group then repeats all groups before "
        "it.": _wrong(zero="first"),
        "The first step uses gradients that the model had before. Forget them at the beginning, "
        "too.": _wrong(zero="later"),
        "Your first step comes one batch too early: with enumerate, count from 1.": (
            _wrong(weigh=_by_accumulate, rest="lost", shift=1)
        ),
        "You put the batches of a group together. The weights are right, but the large batch is "
        "read at once, and accumulation is for machines without the memory for that.": _joined,
        "What is left over joins the group before it. It should make a step of its own.": (
            _wrong(rest="join")
        ),
        "You leave out the last batch.": _without_last,
        "Only the first group is trained on. Is there a `return` inside the loop?": (
            _first_group_only
        ),
        "The model that was handed in has not moved. Train this very model, not a copy, and take "
        "steps.": _of_a_copy,
        "You walk uphill.": _wrong(maximize=True),
        "You lost squeeze(1): a column minus a row gives every card minus every other, and no "
        "error message.": _wrong(column=True),
        "You changed the optimizer. SGD is meant.": _wrong(kind=torch.optim.Adam),
        "You take the absolute errors. The loss is the mean of their squares.": (
            _wrong(loss_of=lambda errors: errors.abs().mean())
        ),
        "You halved the loss. It is the mean of the squared errors.": (
            _wrong(loss_of=lambda errors: (errors**2).mean() / 2)
        ),
    },
)


# --- 5. Loss scaling


def my_unscale(
    gradients: list[Tensor], scale: float, good_steps: int, interval: int
) -> tuple[list[Tensor] | None, float, int]:
    """The gradients without the scale, or None; the next scale; the good steps in a row."""
    if not all(bool(one.isfinite().all()) for one in gradients):
        return None, scale / 2, 0
    unscaled = [one.float() / scale for one in gradients]
    good_steps = good_steps + 1
    if good_steps == interval:
        return unscaled, 2 * scale, 0
    return unscaled, scale, good_steps


def _is_good(gradients: list[Tensor]) -> bool:
    return all(bool(one.isfinite().all()) for one in gradients)


def _scaling(
    gradients, scale, good_steps, interval, *,
    good=_is_good, divide=lambda one, scale: one.float() / scale,
    skipped=lambda gradients, scale: (None, scale / 2), counter=lambda good_steps: 0,
    grows=lambda steps, interval: steps == interval, grown=lambda scale: 2 * scale,
    after=lambda steps: 0, step=1, new_scale=False,
) -> tuple:  # fmt: skip
    """Loss scaling with a part of it wrong.

    good: whether the gradients can be used; divide: takes the scale away; skipped: what comes of
    bad gradients and of the scale then, counter: and of the good steps; grows: when the scale
    grows, grown: to what, after: and what becomes of the good steps; step: how much a good step
    counts; new_scale: whether the grown scale is already taken away.
    """
    if not good(gradients):
        return *skipped(gradients, scale), counter(good_steps)
    steps = good_steps + step
    does_grow = grows(steps, interval)
    next_scale = grown(scale) if does_grow else scale
    by = next_scale if new_scale else scale
    unscaled = [divide(one, by) for one in gradients]
    return unscaled, next_scale, after(steps) if does_grow else steps


def _faulty(**what) -> Callable:
    """`_scaling` with something wrong."""
    return lambda *x: _scaling(*x, **what)


def _skips_if(good: Callable) -> Callable:
    """Loss scaling with another test of the gradients: good(one tensor), true for each."""
    return _faulty(good=lambda gradients: all(bool(good(one)) for one in gradients))


def _mended(gradients: list[Tensor], scale: float) -> tuple:
    return [one.float().nan_to_num(0.0, 0.0, 0.0) / scale for one in gradients], scale / 2


def _clamped(gradients: list[Tensor], scale: float) -> tuple:
    return [one.float().nan_to_num(0.0, 65504.0, -65504.0) / scale for one in gradients], scale / 2


def _all_zero(gradients: list[Tensor], scale: float) -> tuple:
    return [torch.zeros_like(one).float() for one in gradients], scale / 2


def _used_anyway(gradients: list[Tensor], scale: float) -> tuple:
    return [one.float() / scale for one in gradients], scale / 2


def _good_ones_only(gradients: list[Tensor], scale: float) -> tuple:
    return [one.float() / scale for one in gradients if one.isfinite().all()], scale / 2


def _unscale_and_look(
    answer: Callable, gradients: list[Tensor], scale: float, good_steps: int, interval: int
) -> Any:
    """What the answer returns, its gradients in millionths: a check does not see smaller ones."""
    returned = answer(gradients, scale, good_steps, interval)
    if not isinstance(returned, tuple | list) or len(returned) != 3:
        return returned
    unscaled, *rest = returned
    if isinstance(unscaled, tuple | list):
        unscaled = [
            1e6 * one.float() if isinstance(one, Tensor) and one.is_floating_point() else one
            for one in unscaled
        ]
    return unscaled, *rest


def _half(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float16)


def _unscale_cases() -> Cases:
    inf, nan = float("inf"), float("nan")
    return {
        "the good step of the task": ([_half(0.5)], 1024.0, 3, 10),
        "an infinite gradient": ([_half(inf)], 1024.0, 3, 10),
        "the first good step": ([_half(-0.75, 3.0), _half(0.0)], 512.0, 0, 4),
        "the good step that fills the interval": ([_half(0.25), _half(-2.0, 1.0)], 256.0, 3, 4),
        "every good step fills the interval": ([_half(0.5, 0.125)], 128.0, 0, 1),
        "gradients that float16 cannot hold without the scale": (
            [_half(0.002, -0.0007), _half(0.0013)], 65536.0, 2, 2000),
        "large gradients, all of them finite": ([_half(60000.0, 50000.0, 3.0)], 32768.0, 1, 9),
        "nan in the last tensor": ([_half(1.0), _half(0.5, -0.5), _half(2.0, nan)], 4096.0, 5, 6),
        "nan in the first tensor": ([_half(nan, 1.0), _half(2.0)], 4096.0, 0, 3),
        "a tensor that is minus infinity": ([_half(-inf), _half(2.0, 1.0)], 2048.0, 2, 3),
        "minus infinity in the last tensor": ([_half(1.0), _half(0.25, -inf)], 512.0, 1, 3),
        "infinity in the middle": ([_half(1.0), _half(inf, 2.0), _half(3.0)], 256.0, 1, 2),
        "infinity and nan beside good numbers": ([_half(1.0, inf), _half(nan, 4.0)], 64.0, 0, 5),
        "an overflow with the scale 1": ([_half(inf, -inf)], 1.0, 7, 8),
        "an overflow where the interval would be full": ([_half(1.0, inf)], 16384.0, 3, 4),
        "a scale that is no power of two": ([_half(300.0, -40.5)], 1000.5, 1, 3),
    }  # fmt: skip


def _unscale_beyond() -> Cases:
    return {
        "no gradient at all": ([], 1024.0, 3, 10),
        "a matrix, transposed": ([_half(1.0, 2.0, 3.0, 4.0).reshape(2, 2).mT], 1024.0, 3, 10),
    }


unscale = Exercise(
    lesson="11",
    name="unscale",
    title="Loss scaling for float16",
    minutes=12,
    difficulty=3,
    hints=(
        "There are two ways out of the function. First ask whether every number of every tensor is "
        "finite: one.isfinite().all().",
        "If one is not: return None, half of the scale, and 0 good steps. If all are: turn them "
        "into float32 BEFORE you divide by the scale, because the true gradients may be too small "
        "for float16.",
        "A good step counts at once: good_steps + 1. If that is the interval, the next scale is "
        "twice as large and the counting begins again at 0. Divide by the scale that was used, not "
        "by the next one.",
    ),
    why="float16 knows nothing between 0 and 6 · 10⁻⁸. Multiplying the loss by a scale multiplies "
    "every gradient by it, so that small ones survive backward(). The scale should be as large as "
    "possible without an overflow, and nobody knows that number beforehand: so it climbs until "
    "something overflows, that one step is lost, and it falls back (Micikevicius et al., 2018).",
    results=("the gradients, in millionths", "the next scale", "the good steps"),
    solution_function=my_unscale,
    call=_unscale_and_look,
    cases=_unscale_cases,
    beyond=_unscale_beyond,
    mistakes={
        "You divided in float16, where a small gradient becomes 0 or inexact. Turn it into float32 "
        "first: one.float() / scale.": _faulty(divide=lambda one, scale: (one / scale).float()),
        "You multiplied by the scale. The gradients are that many times too large already: "
        "divide.": _faulty(divide=lambda one, scale: one.float() * scale),
        "You return the gradients as they were. Divide them by the scale.": (
            _faulty(divide=lambda one, scale: one.float())
        ),
        "You divided by the next scale. These gradients were made with the old one.": (
            _faulty(new_scale=True)
        ),
        "You look for nan only. An overflow gives inf, too: isfinite() finds both.": (
            _skips_if(lambda one: not one.isnan().any())
        ),
        "You look for inf only. inf − inf is nan: isfinite() finds both.": (
            _skips_if(lambda one: not one.isinf().any())
        ),
        "You do not notice minus infinity. isfinite() finds all.": (
            _skips_if(lambda one: not ((one == float("inf")) | one.isnan()).any())
        ),
        "You skip a step only if all numbers are bad. One bad number is enough.": (
            _faulty(good=lambda gradients: any(bool(one.isfinite().any()) for one in gradients))
        ),
        "You skip a step only if a whole tensor is bad. One bad number is enough.": (
            _skips_if(lambda one: one.isfinite().any())
        ),
        "You skip a step only if every tensor holds a bad number. One is enough.": (
            _faulty(good=lambda gradients: any(bool(one.isfinite().all()) for one in gradients))
        ),
        "You look at the first tensor only. One bad number anywhere is enough.": (
            _faulty(good=lambda gradients: _is_good(gradients[:1]))
        ),
        "You look at the last tensor only. One bad number anywhere is enough. Is there a `return` "
        "inside the loop?": _faulty(good=lambda gradients: _is_good(gradients[-1:])),
        "You look at the sum of the gradients. In float16 the sum of large, finite numbers is inf, "
        "too. Look at each number.": _skips_if(lambda one: one.sum().isfinite()),
        "You skip good steps and use bad ones: the test is the wrong way round.": (
            _faulty(good=lambda gradients: not _is_good(gradients))
        ),
        "You never skip a step. With inf or nan, the weights would be lost: return None.": (
            _faulty(good=lambda gradients: True)
        ),
        "The scale is halved, but the bad gradients are returned. Return None, so that nobody uses "
        "them.": _faulty(skipped=_used_anyway),
        "You replaced the bad numbers by 0 and used the rest. The whole step is skipped: None.": (
            _faulty(skipped=_mended)
        ),
        "You replaced the bad numbers by the largest ones of float16. The whole step is skipped: "
        "None.": _faulty(skipped=_clamped),
        "You return gradients of 0 for a step that is skipped. Adam would still move: return "
        "None.": _faulty(skipped=_all_zero),
        "You return an empty list for a step that is skipped. None is asked for.": (
            _faulty(skipped=lambda gradients, scale: ([], scale / 2))
        ),
        "You left out the bad tensors and used the others. The whole step is skipped: None.": (
            _faulty(skipped=_good_ones_only)
        ),
        "The scale stays as it is after an overflow. Halve it, or the next step overflows, too.": (
            _faulty(skipped=lambda gradients, scale: (None, scale))
        ),
        "The scale is doubled after an overflow. Halve it.": (
            _faulty(skipped=lambda gradients, scale: (None, 2 * scale))
        ),
        "Your scale never falls below 1. It may: halve it.": (
            _faulty(skipped=lambda gradients, scale: (None, max(scale / 2, 1.0)))
        ),
        "You halved with //, and half of 1 became 0: no gradient would be left. Divide with /.": (
            _faulty(skipped=lambda gradients, scale: (None, scale // 2))
        ),
        "After an overflow the good steps are counted on. Begin again at 0.": (
            _faulty(counter=lambda good_steps: good_steps)
        ),
        "A skipped step counts as a good one in your code. Begin again at 0.": (
            _faulty(counter=lambda good_steps: good_steps + 1)
        ),
        "After an overflow your counting begins at 1. No good step has been taken: 0.": (
            _faulty(counter=lambda good_steps: 1)
        ),
        "The scale does not grow when this step fills the interval: it counts, too, and then the "
        "counting begins again at 0.": _faulty(grows=lambda steps, interval: steps > interval),
        "The scale grows one step too early.": (
            _faulty(grows=lambda steps, interval: steps >= interval - 1)
        ),
        "The scale grows in every good step. Wait for `interval` of them in a row.": (
            _faulty(grows=lambda steps, interval: True)
        ),
        "The scale never grows. After `interval` good steps in a row, double it.": (
            _faulty(grown=lambda scale: scale)
        ),
        "After the scale has grown, the good steps are counted on. Begin again at 0.": (
            _faulty(after=lambda steps: steps)
        ),
        "After the scale has grown, your counting begins at 1. Begin at 0.": (
            _faulty(after=lambda steps: 1)
        ),
        "The good step is not counted: good_steps + 1.": _faulty(step=0),
        "You swapped scale and good steps in what you return: gradients, scale, good steps.": (
            lambda *x: tuple(my_unscale(*x)[place] for place in (0, 2, 1))
        ),
    },
)
