"""The exercises of lesson 03: the recurrent step, clipping, the mask, word order."""

from __future__ import annotations

import torch
from torch import Tensor

from mbm_lab import datasets, preprocessing, training, welcome
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

# --- 1. One step for a batch


def my_rnn_step(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """One step: x (B, D), h (B, H), W (H, D), U (H, H), b (H,). Returns the new h, (B, H)."""
    return torch.tanh(x @ W.T + h @ U.T + b)


def _weights(D: int, H: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((H, D), (H, H), (H,))
    W, U, b = (0.5 * torch.randn(*size, generator=generator) for size in sizes)
    return W, U, b


def _step_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    W = torch.tensor([[0.5, -1.0], [1.0, 0.0]])
    U = torch.tensor([[0.0, 1.0], [-1.0, 0.5]])
    b = torch.tensor([-0.5, 0.25])
    x, h = torch.randn(5, 3, generator=generator), torch.rand(5, 4, generator=generator)
    larger = _weights(3, 4, seed=1)
    return {
        "the step of section 1": (
            torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]]), W, U, b),
        "two texts": (torch.eye(2), torch.tensor([[0.5, 0.5], [-1.0, 0.2]]), W, U, b),
        "five texts, words of 3 numbers, a memory of 4": (x, h, *larger),
        "an empty memory": (x, torch.zeros(5, 4), *larger),
        "a batch of one": (x[:1], h[:1], *larger),
    }  # fmt: skip


def _step_beyond() -> Cases:
    x, h, *larger = _step_cases()["five texts, words of 3 numbers, a memory of 4"]
    return {
        "double precision": (x.double(), h.double(), *(w.double() for w in larger)),
        "every second text (strided tensors)": (x[::2], h[::2], *larger),
        "no text": (x[:0], h[:0], *larger),
    }


def _from_row_to_row(x: Tensor, h: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    memory, rows = h[:1], []
    for row in x:
        memory = my_rnn_step(row[None], memory, W, U, b)
        rows.append(memory)
    return torch.cat(rows)


rnn_step = Exercise(
    lesson="03",
    name="rnn_step",
    title="One step for a batch",
    minutes=6,
    difficulty=1,
    hints=(
        "The formula is h' = tanh(W x + U h + b). In a batch each text is a row, so the vectors "
        "lie on their sides: write the matrix behind them.",
        "W x for every row of x is x @ W.T. The same with h and U.",
        "torch.tanh(x @ W.T + h @ U.T + b)",
    ),
    why="A batch holds one text a row. The product with a row stands the other way round: x @ W.T "
    "gives, in each row, the numbers of W x. The bias b is added to every row.",
    solution_function=my_rnn_step,
    cases=_step_cases,
    beyond=_step_beyond,
    mistakes={
        "You forgot tanh. Without it the memory grows from step to step without a limit.": (
            lambda x, h, W, U, b: x @ W.T + h @ U.T + b
        ),
        "You forgot the memory: U h is missing, so the network would not know what came before.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T + b)
        ),
        "You forgot the word: W x is missing.": lambda x, h, W, U, b: torch.tanh(h @ U.T + b),
        "You forgot the bias b.": lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U.T),
        "You did not turn the matrices: for a batch write x @ W.T and h @ U.T.": (
            lambda x, h, W, U, b: torch.tanh(x @ W + h @ U + b)
        ),
        "You swapped W and U: W looks at the word, U at the memory.": (
            lambda x, h, W, U, b: torch.tanh(x @ U.T + h @ W.T + b)
        ),
        "You used the sigmoid. The plain network keeps its numbers between −1 and 1, with tanh.": (
            lambda x, h, W, U, b: torch.sigmoid(x @ W.T + h @ U.T + b)
        ),
        "You took tanh of each part and added then. Add first: tanh comes last.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T) + torch.tanh(h @ U.T + b)
        ),
        "tanh closes too early: the bias b belongs inside its parentheses.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U.T) + b
        ),
        "tanh closes too early: it covers W x alone. U h and b belong inside, too.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T) + h @ U.T + b
        ),
        "tanh closes too early: it covers W x + b. U h belongs inside, too.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T + b) + h @ U.T
        ),
        "tanh covers U h + b alone. W x belongs inside, too.": (
            lambda x, h, W, U, b: x @ W.T + torch.tanh(h @ U.T + b)
        ),
        "U is not turned: write h @ U.T. U is square, so h @ U also runs, and means another "
        "thing.": lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U + b),
        "W is not turned: write x @ W.T. Where W is square, x @ W also runs, and means another "
        "thing.": lambda x, h, W, U, b: torch.tanh(x @ W + h @ U.T + b),
        "Your result lies on its side, (H, B): one text a row is wanted, (B, H).": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U.T + b).T
        ),
        "You added the old memory once more. It enters through U alone.": (
            lambda x, h, W, U, b: h + torch.tanh(x @ W.T + h @ U.T + b)
        ),
        "You added the bias twice.": lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U.T + 2 * b),
        "You subtracted U h: the formula has a plus.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T - h @ U.T + b)
        ),
        "You subtracted the bias: the formula has a plus.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U.T - b)
        ),
        "You multiplied W x by U h: the formula adds them.": (
            lambda x, h, W, U, b: torch.tanh((x @ W.T) * (h @ U.T) + b)
        ),
        "You took tanh of W x and of U h and added both to the bias. Add first: tanh comes last.": (
            lambda x, h, W, U, b: torch.tanh(x @ W.T) + torch.tanh(h @ U.T) + b
        ),
        "You used tan. The plain network keeps its numbers between −1 and 1, with tanh.": (
            lambda x, h, W, U, b: torch.tan(x @ W.T + h @ U.T + b)
        ),
        "The memory of one text runs into the next. Each text has its own row of h.": (
            _from_row_to_row
        ),
        "You used relu. The plain network keeps its numbers between −1 and 1, with tanh.": (
            lambda x, h, W, U, b: torch.relu(x @ W.T + h @ U.T + b)
        ),
        "This is the mean memory of all texts. Each text keeps its own.": (
            lambda x, h, W, U, b: my_rnn_step(x, h, W, U, b).mean(0)
        ),
        "Only the first text comes out. The formula with x @ W.T answers for all of them.": (
            lambda x, h, W, U, b: my_rnn_step(x, h, W, U, b)[:1]
        ),
    },
)


# --- 2. A gradient that explodes


def my_clip(gradients: list[Tensor], longest: float) -> list[Tensor]:
    """The gradients, all shortened by one factor, so that together they are no longer than
    `longest`. Together: as if all their numbers stood in one long list."""
    length = sum((gradient**2).sum() for gradient in gradients).sqrt()
    factor = (longest / length).clamp(max=1.0)
    return [factor * gradient for gradient in gradients]


def _clip_cases() -> Cases:
    generator = torch.Generator().manual_seed(2)
    W, b = torch.randn(3, 4, generator=generator), torch.randn(3, generator=generator)
    three_four = [torch.tensor([3.0, 0.0]), torch.tensor([[4.0]])]
    return {
        "3 and 4, which are 5 together, to a length of 1": (three_four, 1.0),
        "3 and 4, which may be 10 long": (three_four, 10.0),
        "0.3 and 0.4, which may be 1 long": ([0.1 * g for g in three_four], 1.0),
        "a matrix and a bias, to a length of 0.5": ([W, b], 0.5),
        "a gradient a thousand times as long": ([1000 * W, b], 2.0),
        "one gradient": ([W], 1.5),
        "three gradients": ([b, W, 2 * W[:2]], 1.0),
    }


def _clip_beyond() -> Cases:
    W, b = _clip_cases()["a matrix and a bias, to a length of 0.5"][0]
    return {
        "a gradient of zeros": ([0 * b], 1.0),
        "strided tensors": ([W.T, W[:, ::2]], 1.0),
        "double precision": ([W.double(), b.double()], 1.0),
    }


def _by(gradients: list[Tensor], factor: Tensor | float) -> list[Tensor]:
    return [factor * gradient for gradient in gradients]


def _length(gradients: list[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients]).norm()


def _factor(longest: float, length: Tensor) -> Tensor:
    return (longest / length).clamp(max=1.0)


def _one_then_the_next(gradients: list[Tensor], longest: float) -> list[Tensor]:
    gradients = list(gradients)
    for i, gradient in enumerate(gradients):
        gradients[i] = _factor(longest, _length(gradients)) * gradient
    return gradients


clip = Exercise(
    lesson="03",
    name="clip",
    title="A gradient that explodes",
    minutes=8,
    difficulty=2,
    hints=(
        "The length of a list of numbers is the root of the sum of their squares. Here the list "
        "holds the numbers of all gradients.",
        "If the length is 5 and 1 is allowed, multiply everything by 1 / 5. If the length is 5 and "
        "10 is allowed, leave everything as it is: the factor is never larger than 1.",
        "factor = (longest / length).clamp(max=1.0), where length is "
        "sum((g**2).sum() for g in gradients).sqrt().",
    ),
    why="One factor for all keeps the direction: the step still leads downhill, it is only "
    "shorter. Gradients that are short enough stay as they are, so clipping does nothing on an "
    "ordinary day (Pascanu, Mikolov and Bengio, 2013).",
    solution_function=my_clip,
    cases=_clip_cases,
    beyond=_clip_beyond,
    mistakes={
        "You shortened each gradient by itself. That changes the direction: what was long loses "
        "more than what was short.": (
            lambda gradients, longest: [
                _factor(longest, gradient.norm()) * gradient for gradient in gradients
            ]
        ),
        "You cut off each number by itself. That changes the direction, and together they can "
        "still be longer.": (
            lambda gradients, longest: [g.clamp(-longest, longest) for g in gradients]
        ),
        "Gradients that are short enough must stay as they are: the factor is at most 1.": (
            lambda gradients, longest: _by(gradients, longest / _length(gradients))
        ),
        "You forgot the root: the length is the root of the sum of squares.": (
            lambda gradients, longest: _by(gradients, _factor(longest, _length(gradients) ** 2))
        ),
        "You added up the lengths of the gradients. Together they are shorter than that: take the "
        "root of the sum of all squares.": (
            lambda gradients, longest: _by(
                gradients, _factor(longest, sum(gradient.norm() for gradient in gradients))
            )
        ),
        "You shortened them to length 1, whatever is allowed: the factor is longest / length.": (
            lambda gradients, longest: _by(gradients, _factor(1.0, _length(gradients)))
        ),
        "They come out as they came in. Those that are too long together must become shorter.": (
            lambda gradients, longest: [g.clone() for g in gradients]
        ),
        "It is the wrong way round: the long ones stay as they are, the short ones grow. The "
        "factor is at most 1, min and not max.": lambda gradients, longest: _by(
            gradients, (longest / _length(gradients)).clamp(min=1.0)
        ),
        "Your factor is turned upside down: longest / length makes them shorter, length / longest "
        "longer.": lambda gradients, longest: _by(
            gradients, (_length(gradients) / longest).clamp(min=1.0)
        ),
        "Your factor is turned upside down, so the long ones stay and the short ones shrink: it is "
        "longest / length.": lambda gradients, longest: _by(
            gradients, (_length(gradients) / longest).clamp(max=1.0)
        ),
        "Everything comes out with length 1. The length may be `longest`, and shorter ones stay.": (
            lambda gradients, longest: _by(gradients, 1 / _length(gradients))
        ),
        "The long ones were divided by their length, whatever is allowed, and the short ones kept: "
        "the factor is longest / length.": lambda gradients, longest: _by(
            gradients, 1.0 if _length(gradients) <= longest else 1 / _length(gradients)
        ),
        "You added up the absolute values. The length is the root of the sum of squares.": (
            lambda gradients, longest: _by(
                gradients, _factor(longest, sum(g.abs().sum() for g in gradients))
            )
        ),
        "You took the largest number for the length. The length is the root of the sum of all "
        "squares.": lambda gradients, longest: _by(
            gradients, _factor(longest, max(g.abs().max() for g in gradients))
        ),
        "You took the root of the mean of the squares. The length is the root of their sum.": (
            lambda gradients, longest: _by(
                gradients,
                _factor(longest, _length(gradients) / sum(g.numel() for g in gradients) ** 0.5),
            )
        ),
        "Your length is that of the last gradient alone. Add up the squares of all, with +=.": (
            lambda gradients, longest: _by(gradients, _factor(longest, gradients[-1].norm()))
        ),
        "Your length is that of the first gradient alone. Add up the squares of all.": (
            lambda gradients, longest: _by(gradients, _factor(longest, gradients[0].norm()))
        ),
        "Your length is that of the longest gradient. Add up the squares of all.": (
            lambda gradients, longest: _by(
                gradients, _factor(longest, max(g.norm() for g in gradients))
            )
        ),
        "You shortened each row by itself. One factor for all numbers keeps the direction.": (
            lambda gradients, longest: [
                g * (longest / g.norm(dim=-1, keepdim=True)).clamp(max=1.0) for g in gradients
            ]
        ),
        "The numbers are right, but the gradients come out as plain lists of numbers: each keeps "
        "its own shape.": (
            lambda gradients, longest: [g.flatten() for g in my_clip(gradients, longest)]
        ),
        "The gradients come out in the opposite order.": (
            lambda gradients, longest: my_clip(gradients, longest)[::-1]
        ),
        "You added 1 to the length. That changes the factor: longest / length.": (
            lambda gradients, longest: _by(gradients, _factor(longest, _length(gradients) + 1))
        ),
        "The length is taken anew after each gradient is shortened, so that each gets another "
        "factor. Take it once, before.": _one_then_the_next,
        "Only the first gradient comes out. Does `return` stand inside the loop?": (
            lambda gradients, longest: my_clip(gradients, longest)[:1]
        ),
        "One long list of numbers comes out. Return a list of gradients in their own shapes.": (
            lambda gradients, longest: torch.cat([g.flatten() for g in my_clip(gradients, longest)])
        ),
        "All shrink to `longest` each: the length of each gradient alone becomes `longest`. One "
        "factor for all keeps the direction.": (
            lambda gradients, longest: [longest / g.norm() * g for g in gradients]
        ),
    },
)


# --- 3. A finished text rests


def my_last_state(x: Tensor, lengths: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """The memory (B, H) after each text's own last word. x (B, T, D), lengths (B,)."""
    h = torch.zeros(len(x), len(b), dtype=x.dtype)
    for t in range(x.shape[1]):
        new = torch.tanh(x[:, t] @ W.T + h @ U.T + b)
        h = torch.where(t < lengths[:, None], new, h)
    return h


def _states(x: Tensor, W: Tensor, U: Tensor, b: Tensor) -> Tensor:
    """The memory after every step, padding and all: (B, T, H)."""
    h, states = torch.zeros(len(x), len(b), dtype=x.dtype), []
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ W.T + h @ U.T + b)
        states.append(h)
    return torch.stack(states, 1)


def _reset(x, lengths, W, U, b) -> Tensor:
    h = torch.zeros(len(x), len(b), dtype=x.dtype)
    for t in range(x.shape[1]):
        h = torch.tanh(x[:, t] @ W.T + h @ U.T + b) * (t < lengths[:, None])
    return h


def _shortest(x, lengths, W, U, b) -> Tensor:
    return _states(x, W, U, b)[:, int(lengths.min()) - 1]


def _nth(x, lengths, W, U, b, shift: int) -> Tensor:
    states = torch.cat([torch.zeros(len(x), 1, len(b), dtype=x.dtype), _states(x, W, U, b)], 1)
    return states[torch.arange(len(x)), (lengths + shift).clamp(max=x.shape[1])]


def _masked_sum(x, lengths, W, U, b) -> Tensor:
    mask = torch.arange(x.shape[1]) < lengths[:, None]
    return (_states(x, W, U, b) * mask[..., None]).sum(1)


def _read(
    x, lengths, W, U, b, step=my_rnn_step, reads=None, carried: bool = False, start: float = 0.0
) -> Tensor:
    """Reads as asked, with another step, mask or start; text by text, with the memory carried over,
    if asked."""
    h, rows = torch.full((len(x), len(b)), start, dtype=x.dtype), []
    if carried:
        h = h[:1]
        for text, length in zip(x, lengths.tolist(), strict=True):
            for word in text[:length]:
                h = step(word[None], h, W, U, b)
            rows.append(h)
        return torch.cat(rows)
    for t in range(x.shape[1]):
        mask = t < lengths[:, None] if reads is None else reads(t, lengths)
        h = torch.where(mask, step(x[:, t], h, W, U, b), h)
    return h


def _zeroed_padding(x, lengths, W, U, b) -> Tensor:
    mask = torch.arange(x.shape[1]) < lengths[:, None]
    return _states(x * mask[..., None], W, U, b)[:, -1]


def _over_the_words(x, lengths, W, U, b, mean: bool) -> Tensor:
    mask = (torch.arange(x.shape[1]) < lengths[:, None])[..., None]
    states = _states(x, W, U, b)
    if mean:
        return (states * mask).sum(1) / lengths[:, None]
    return states.masked_fill(~mask, -2).amax(1)


def _from_last_to_first(x, lengths, W, U, b) -> Tensor:
    order = (lengths[:, None] - 1 - torch.arange(x.shape[1])).clamp(min=0)
    return my_last_state(x[torch.arange(len(x))[:, None], order], lengths, W, U, b)


def _last_state_cases() -> Cases:
    generator = torch.Generator().manual_seed(3)
    W, U, b = _weights(2, 3, seed=4)
    x, lengths = torch.randn(4, 5, 2, generator=generator), torch.tensor([3, 5, 1, 4])
    padded = x * (torch.arange(5) < lengths[:, None])[..., None]
    small = (torch.tensor([[1.0]]), torch.tensor([[1.0]]), torch.tensor([0.0]))
    return {
        "one text of one word, then padding": (
            torch.tensor([[[0.5], [0.0]]]), torch.tensor([1]), *small),
        "two texts of 2 and 3 words": (
            torch.tensor([[[0.5], [-1.0], [0.0]], [[0.5], [-1.0], [0.2]]]), torch.tensor([2, 3]),
            *small),
        "four texts, padded with zeros": (padded, lengths, W, U, b),
        "something else than zeros in the padding": (x, lengths, W, U, b),
        "no padding": (x, torch.full((4,), 5), W, U, b),
        "a batch of one": (padded[:1], lengths[:1], W, U, b),
    }  # fmt: skip


def _last_state_beyond() -> Cases:
    x, lengths, W, U, b = _last_state_cases()["something else than zeros in the padding"]
    return {
        "double precision": (x.double(), lengths, W.double(), U.double(), b.double()),
        "every second text (a strided tensor)": (x[::2], lengths[::2], W, U, b),
        "no text": (x[:0], lengths[:0], W, U, b),
    }


last_state = Exercise(
    lesson="03",
    name="last_state",
    title="A finished text rests",
    minutes=12,
    difficulty=3,
    hints=(
        "Loop over the steps t = 0, 1, …, T − 1 for all texts at once, as in section 1. After each "
        "step, decide for every text whether it is still being read.",
        "Text i is being read at step t if t < lengths[i]. Where it is, take the new memory; where "
        "it is not, keep the old one.",
        "torch.where(t < lengths[:, None], new, h) chooses row by row.",
    ),
    why="This is what packing does inside PyTorch: a text that is finished keeps its memory and "
    "waits for the others. The mask is a column, (B, 1), so that torch.where takes or leaves a "
    "whole row of the memory.",
    solution_function=my_last_state,
    cases=_last_state_cases,
    beyond=_last_state_beyond,
    mistakes={
        "You read the padding too. Each text must rest after its own last word.": (
            lambda x, lengths, W, U, b: _states(x, W, U, b)[:, -1]
        ),
        "A finished text loses its memory: you set it to zero. It must keep what it had.": _reset,
        "You stopped all texts where the shortest one ends. The longer ones go on.": _shortest,
        "One word too few is read: the last word has the place length − 1, so read while "
        "t < length.": lambda *a: _nth(*a, shift=-1),
        "One word too many is read: use t < length, not t <= length.": lambda *a: _nth(*a, shift=1),
        "You return the memories after every word. Only each text's last one is asked for.": (
            lambda x, lengths, W, U, b: _states(x, W, U, b)
        ),
        "You added up the memories of all words. The last one already holds what came before.": (
            _masked_sum
        ),
        "You took the mean memory of a text's words. The one after its last word is asked for.": (
            lambda *a: _over_the_words(*a, mean=True)
        ),
        "You took the largest number of each place over a text's words. The memory after its last "
        "word is asked for.": lambda *a: _over_the_words(*a, mean=False),
        "You set the padding to zero and read it. A word of zeros changes the memory, too: a "
        "finished text must keep what it had.": _zeroed_padding,
        "Only the first word of each text is read. Does `return` stand inside the loop?": (
            lambda x, lengths, W, U, b: _states(x, W, U, b)[:, 0]
        ),
        "You stopped all texts where the longest one ends. Each rests after its own last word.": (
            lambda x, lengths, W, U, b: _states(x, W, U, b)[:, int(lengths.max()) - 1]
        ),
        "You stopped all texts where the first one ends. Each has its own length.": (
            lambda x, lengths, W, U, b: _states(x, W, U, b)[:, int(lengths[0]) - 1]
        ),
        "Each text goes on from the memory of the one before. Every text begins with zeros: make h "
        "anew for each.": lambda *a: _read(*a, carried=True),
        "The mask is the wrong way round: you read where a text has ended, and rest while it "
        "lasts.": lambda *a: _read(*a, reads=lambda t, lengths: t >= lengths[:, None]),
        "One text works, several do not: t < lengths must stand as a column, (t < lengths)[:, "
        "None], so that it takes or leaves whole rows of the memory.": (
            lambda *a: _read(*a, reads=lambda t, lengths: t < lengths)
        ),
        "The memory begins with ones. An empty memory is zeros.": lambda *a: _read(*a, start=1.0),
        "You took the memory at the place `length`. The last word has the place length − 1; for "
        "the longest text, `length` does not even exist.": lambda x, lengths, W, U, b: (
            _states(x, W, U, b)[torch.arange(len(x)), lengths]
        ),
        "You read the words from last to first. Begin with the first.": _from_last_to_first,
        "You forgot tanh.": lambda *a: _read(
            *a, step=lambda x, h, W, U, b: x @ W.T + h @ U.T + b
        ),
        "You forgot the bias b.": lambda *a: _read(
            *a, step=lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U.T)
        ),
        "The memory is not used: U h is missing, so only the last word counts.": (
            lambda *a: _read(*a, step=lambda x, h, W, U, b: torch.tanh(x @ W.T + b))
        ),
        "U is not turned: for a batch write h @ U.T.": lambda *a: _read(
            *a, step=lambda x, h, W, U, b: torch.tanh(x @ W.T + h @ U + b)
        ),
        "W is not turned: for a batch write x @ W.T.": lambda *a: _read(
            *a, step=lambda x, h, W, U, b: torch.tanh(x @ W + h @ U.T + b)
        ),
    },
)


# --- 4. Break and fix: shuffled with the padding


def my_shuffle(tokens: Tensor, keys: Tensor) -> Tensor:
    """The words of each row in the order of their keys; padding (0) stays behind. Both (B, T)."""
    keys = keys.masked_fill(tokens == 0, float("inf"))
    return tokens.gather(1, keys.argsort(dim=1))


def _by_keys(tokens: Tensor, keys: Tensor) -> Tensor:
    return tokens.gather(1, keys.argsort(dim=1, stable=True))


def _one_order(tokens: Tensor, keys: Tensor) -> Tensor:
    return my_shuffle(tokens, keys[:1].expand_as(keys)) if len(tokens) else tokens


def _rows_shuffled(tokens: Tensor, keys: Tensor) -> Tensor:
    return tokens[keys[:, 0].argsort(stable=True)]


def _sorted_words(tokens: Tensor, keys: Tensor) -> Tensor:
    return my_shuffle(tokens, tokens.to(keys.dtype))


def _backwards(tokens: Tensor, keys: Tensor) -> Tensor:
    return my_shuffle(tokens, -keys)


def _padding_first(tokens: Tensor, keys: Tensor) -> Tensor:
    return _by_keys(tokens, keys.masked_fill(tokens == 0, float("-inf")))


def _shuffle_cases() -> Cases:
    generator = torch.Generator().manual_seed(5)
    lengths = torch.tensor([4, 7, 2, 1, 6])
    tokens = torch.randint(1, 50, (5, 7), generator=generator)
    tokens = tokens * (torch.arange(7) < lengths[:, None])
    keys = torch.rand(5, 7, generator=generator)
    return {
        "two words and one place of padding": (
            torch.tensor([[8, 5, 0]]), torch.tensor([[0.7, 0.9, 0.2]])),
        "a word with the number 1": (torch.tensor([[1, 5, 0]]), torch.tensor([[0.4, 0.9, 0.2]])),
        "a key above 1": (torch.tensor([[8, 5, 0]]), torch.tensor([[1.5, 0.4, 0.3]])),
        "three words": (torch.tensor([[8, 5, 6, 0]]), torch.tensor([[0.7, 0.2, 0.3, 0.5]])),
        "five texts": (tokens, keys),
        "keys below zero and above one": (tokens, 10 * keys - 5),
        "a batch of one": (tokens[:1], keys[:1]),
        "a text without padding": (tokens[1:2], keys[1:2]),
    }  # fmt: skip


def _shuffle_beyond() -> Cases:
    tokens, keys = _shuffle_cases()["five texts"]
    return {
        "every second text (strided tensors)": (tokens[::2], keys[::2]),
        "no text": (tokens[:0], keys[:0]),
    }


def _order(tokens: Tensor, keys: Tensor) -> Tensor:
    return keys.masked_fill(tokens == 0, float("inf")).argsort(dim=1, stable=True)


def _filled(tokens: Tensor, keys: Tensor, value: float) -> Tensor:
    """With this key for the padding."""
    return _by_keys(tokens, keys.masked_fill(tokens == 0, value))


def _first_stays(tokens: Tensor, keys: Tensor) -> Tensor:
    keys = keys.clone()
    keys[:, 0] = float("-inf")
    return my_shuffle(tokens, keys)


def _up_to_the_longest(tokens: Tensor, keys: Tensor) -> Tensor:
    end = int((tokens != 0).sum(1).max())
    return torch.cat([_by_keys(tokens[:, :end], keys[:, :end]), tokens[:, end:]], 1)


shuffle = Exercise(
    lesson="03",
    name="shuffle",
    title="Break and fix: a shuffle that takes away too much",
    minutes=8,
    difficulty=2,
    hints=(
        "Look at one shuffled row: where are its zeros? What would a packed batch take the "
        "length of this text to be?",
        "The words must move among themselves, and every zero must stay at the end. A place with "
        "the largest key comes last.",
        'keys.masked_fill(tokens == 0, float("inf")) gives all the padding the largest key.',
    ),
    why="The order of a row is the order of its keys. If the padding gets random keys too, zeros "
    "land between the words: the text gets holes, and its length becomes wrong. A reader that "
    "fails then may fail because of the holes, and you would credit word order. With the key "
    "inf, padding stays behind, and only the order is taken away.",
    solution_function=my_shuffle,
    given=_by_keys,
    cases=_shuffle_cases,
    beyond=_shuffle_beyond,
    mistakes={
        "All texts get the same order. Each row has its own keys.": _one_order,
        "You shuffled the texts of the batch. The words within each text must move, along dim 1.": (
            _rows_shuffled
        ),
        "You sorted the words by their numbers, whatever the keys say.": _sorted_words,
        "The words come in the opposite order: the smallest key stands first.": _backwards,
        "The padding now comes first. It must stay behind the words: give it the largest key.": (
            _padding_first
        ),
        "You left every text as it was.": lambda tokens, keys: tokens.clone(),
        "The padding got the key 0. Words with a key above 0 come behind it: give it the largest "
        "key, inf.": lambda tokens, keys: _filled(tokens, keys, 0.0),
        "The padding got the key −1. Words with a larger key come behind it: give it the largest "
        "key, inf.": lambda tokens, keys: _filled(tokens, keys, -1.0),
        "The padding got the key 1. Keys may be larger than that; none is larger than inf.": (
            lambda tokens, keys: _filled(tokens, keys, 1.0)
        ),
        "The padding got the key 2. Keys may be larger than that; none is larger than inf.": (
            lambda tokens, keys: _filled(tokens, keys, 2.0)
        ),
        "You added 1 to the keys of the padding. Keys may lie further apart: give the padding the "
        "key inf.": lambda tokens, keys: _by_keys(tokens, keys + (tokens == 0)),
        "You return the places of the words in their new order. Return the words: "
        "tokens.gather(1, places).": lambda tokens, keys: _order(tokens, keys),
        "You send each word to the place that its key says, but the other way round: place j gets "
        "the word with the j-th smallest key, tokens.gather(1, keys.argsort(1)).": (
            lambda tokens, keys: tokens.gather(1, _order(tokens, keys).argsort(1))
        ),
        "argsort runs along dim 0, over the texts of the batch. The words of a row are dim 1.": (
            lambda tokens, keys: tokens.gather(1, keys.argsort(dim=0))
        ),
        "You took the number 1 for padding, too. That is <unk>, a word; only 0 is padding.": (
            lambda tokens, keys: _by_keys(tokens, keys.masked_fill(tokens < 2, float("inf")))
        ),
        "The first word of each row stays where it is. It has a key as the others do.": (
            _first_stays
        ),
        "Only the first row comes out. Does `return` stand inside the loop?": (
            lambda tokens, keys: my_shuffle(tokens, keys)[:1]
        ),
        "You moved everything up to the end of the longest text. In shorter ones padding still "
        "gets between the words: each row has its own end.": _up_to_the_longest,
        "Words move between the texts: you sorted along dim 0. The words of a row are dim 1.": (
            lambda tokens, keys: tokens.gather(
                0, keys.masked_fill(tokens == 0, float("inf")).argsort(0)
            )
        ),
        "You return the keys in order, not the words.": (
            lambda tokens, keys: keys.masked_fill(tokens == 0, float("inf")).sort(1).values
        ),
        "The words come in the opposite order, and the padding first.": (
            lambda tokens, keys: my_shuffle(tokens, keys).flip(1)
        ),
        "The words are right, but the padding is cut off. Each row keeps its length T.": (
            lambda tokens, keys: my_shuffle(tokens, keys)[:, : int((tokens != 0).sum(1).max())]
        ),
    },
)


# --- 5. Predict: what is hard to read?


def _what_is_hard() -> str:
    """The stored reader's typical error on unknown names, on long negations, on the rest."""
    test = datasets.load_postcards("test", parts=["message"])
    _, g, vocabulary = welcome.load_readers()
    tokens = preprocessing.text_to_tensor(test.messages, vocabulary)
    squared = (training.predict(g, tokens) - test.sentiment).square()
    names = torch.tensor(["Zoe" in text or "Raj" in text for text in test.messages])
    long = torch.tensor(["nobody" in text.lower() for text in test.messages])
    rest = squared[~names & ~long].mean()
    by_name, by_negation = (
        squared[names & ~long].mean() / rest,
        squared[long & ~names].mean() / rest,
    )
    if by_negation > 1.5 and by_name < 1.5:
        return "b"
    return "a" if by_name > 1.5 else "c"


hard_messages = Choice(
    lesson="03",
    name="hard_messages",
    title="Predict: what is hard to read?",
    minutes=2,
    difficulty=1,
    hints=(
        "Ask of each difficulty: does it change what the sentence says?",
        "A name that g does not know becomes one and the same word, <unk>. What does a name tell "
        "about the sentiment?",
    ),
    why="A name says nothing about the sentiment, so a network that has learned to pass over names "
    "loses nothing. A long negation must be carried over six or seven words to its adjective. It "
    "is not rare: one message in eight has it.",
    options={
        "a": "an unknown name",
        "b": "a long negation such as “nobody would say that”",
        "c": "neither: g reads both as well as the rest",
    },
    answer="b",
    wrong={
        "a": "g has never seen this name, true. But would a known name have helped it to know the "
        "sentiment?",
        "c": "One of the two changes what the sentence says, and must be carried far. Look at the "
        "slopes in section 7 again.",
    },
    truth=_what_is_hard,
)
