"""The exercises of lesson 02: convolution, its size, evaluation mode, cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbm_lab import cnn, datasets, training, welcome
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

# --- 1. A convolution


def my_convolve(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    """The convolution of a grey picture (H, W) with a kernel (K, L), without padding."""
    K, L = k.shape
    rows, columns = (x.shape[0] - K) // stride + 1, (x.shape[1] - L) // stride + 1
    out = torch.empty(rows, columns, dtype=x.dtype)
    for i in range(rows):
        for j in range(columns):
            window = x[i * stride : i * stride + K, j * stride : j * stride + L]
            out[i, j] = (window * k).sum()
    return out


def _windows(x: Tensor, k: Tensor, stride: int) -> Tensor:
    """All windows: (rows, columns, K, L)."""
    return x.unfold(0, k.shape[0], stride).unfold(1, k.shape[1], stride)


def _padded(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    x = nn.functional.pad(x, (k.shape[1] // 2, k.shape[1] // 2, k.shape[0] // 2, k.shape[0] // 2))
    return my_convolve(x, k, stride)


def _one_too_few(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    rows, columns = (x.shape[0] - k.shape[0]) // stride, (x.shape[1] - k.shape[1]) // stride
    return my_convolve(x, k, stride)[:rows, :columns]


def _size_only(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    size = my_convolve(x, k, stride).shape
    return my_convolve(x, k)[: size[0], : size[1]]


def _convolve_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 10, (7, 9), generator=generator).float()
    k = torch.randint(-3, 4, (3, 2), generator=generator).float()
    lesson = torch.tensor([[1.0, 2, 0, 0], [0, 3, 1, 0], [2, 2, 0, 1], [1, 3, 0, 0]])
    left_right = torch.tensor([[1.0, 0, -1], [1, 0, -1], [1, 0, -1]])
    return {
        "a picture of 2 × 3 and a kernel of 1 × 2": (
            torch.tensor([[1.0, 2, 4], [0, 3, 1]]), torch.tensor([[1.0, -2]]), 1),
        "the picture and the kernel of section 1": (lesson, left_right, 1),
        "stride 2": (x, k, 2),
        "stride 3": (x, k, 3),
        "a kernel as large as the picture": (left_right, left_right.T.contiguous(), 1),
        "a picture that is higher than wide": (x.T, k, 1),
        "every second pixel (a strided tensor)": (x[::2, ::2], k, 1),
        "double precision": (x.double(), k.double(), 2),
    }  # fmt: skip


convolve = Exercise(
    lesson="02",
    name="convolve",
    title="A convolution",
    minutes=12,
    difficulty=2,
    hints=(
        "Section 1 does it for a picture of 4 × 4 and a kernel of 3 × 3. Put the kernel's sizes K "
        "and L in place of the threes, and count how many windows fit.",
        "With stride 1 there are H − K + 1 rows of windows. With stride s, window (i, j) begins at "
        "row i · s and column j · s, and there are (H − K) // s + 1 rows.",
        "window = x[i * stride : i * stride + K, j * stride : j * stride + L], and its place in "
        "the result is out[i, j] = (window * k).sum().",
    ),
    why="Each number of the result is the sum of one window times the kernel. The stride says how "
    "far the next window begins, so it multiplies i and j and divides the number of windows. "
    "The last window must still fit, which gives the + 1.",
    solution_function=my_convolve,
    cases=_convolve_cases,
    mistakes={
        "You turned the kernel by 180°. That is the mathematicians' convolution (scipy's "
        "convolve2d); deep learning lays the kernel on as it is.": (
            lambda x, k, stride=1: my_convolve(x, k.flip(0, 1), stride)
        ),
        "You swapped the rows and columns of the kernel.": (
            lambda x, k, stride=1: my_convolve(x, k.T, stride)
        ),
        "One row and one column of windows are missing: the last window that fits counts too, so "
        "the size has a + 1.": _one_too_few,
        "The stride is ignored: the windows must begin `stride` pixels apart.": (
            lambda x, k, stride=1: my_convolve(x, k)
        ),
        "The stride counts in the size, but not in the windows: window (i, j) begins at row i · "
        "stride, column j · stride.": _size_only,
        "You took the mean of each window times the kernel: it must be the sum.": (
            lambda x, k, stride=1: (_windows(x, k, stride) * k).mean((2, 3))
        ),
        "You took the largest product in each window. That is near to max pooling; a convolution "
        "sums.": lambda x, k, stride=1: (_windows(x, k, stride) * k).amax((2, 3)),
        "You put a frame of zeros around the picture. Here no padding is asked for.": _padded,
        "You summed the window and forgot to multiply it by the kernel.": (
            lambda x, k, stride=1: _windows(x, k, stride).sum((2, 3))
        ),
    },
)


# --- 2. How large is the result?


def my_output_size(H: int, K: int, S: int, P: int) -> int:
    """The rows that come out: H rows in, a kernel of K rows, stride S, padding P."""
    return (H + 2 * P - K) // S + 1


output_size = Exercise(
    lesson="02",
    name="output_size",
    title="How large is the result?",
    minutes=3,
    difficulty=1,
    hints=(
        "The formula stands above. The padding is on both sides, and ⌊ ⌋ means: round down.",
        "In Python, a // b divides two whole numbers and rounds down.",
        "(H + 2 * P - K) // S + 1",
    ),
    why="H + 2P is the height with its frame. The first window begins at 0 and the last at "
    "H + 2P − K or earlier, so there are ⌊(H + 2P − K) / S⌋ steps, and one window more than steps.",
    solution_function=my_output_size,
    cases=lambda: {
        "3 rows, kernel 3": (3, 3, 1, 0),
        "4 rows, kernel 3": (4, 3, 1, 0),
        "padding 1": (4, 3, 1, 1),
        "stride 2": (7, 3, 2, 0),
        "stride 2, where the last step does not fit": (8, 3, 2, 0),
        "the encoder's first layer": (64, 5, 2, 2),
        "stride 3, padding 2": (10, 4, 3, 2),
        "stride 4, kernel 1": (11, 1, 4, 0),
    },
    mistakes={
        "You rounded up: a window that does not fit is left out, so round down (//).": (
            lambda H, K, S, P: -(-(H + 2 * P - K) // S) + 1
        ),
        "You counted the padding once: it is added above and below, 2 · P.": (
            lambda H, K, S, P: (H + P - K) // S + 1
        ),
        "You forgot the + 1: there is one window more than there are steps.": (
            lambda H, K, S, P: (H + 2 * P - K) // S
        ),
        "You did not subtract the kernel: the last window must fit into the picture.": (
            lambda H, K, S, P: (H + 2 * P) // S + 1
        ),
        "You divided only H by the stride: first add the padding and subtract K, then divide all "
        "of it.": lambda H, K, S, P: H // S + 2 * P - K + 1,
        "You added the 1 before dividing: it comes after, outside of ⌊ ⌋.": (
            lambda H, K, S, P: (H + 2 * P - K + 1) // S
        ),
        "Use // instead of /: a picture has no half rows.": (
            lambda H, K, S, P: (H + 2 * P - K) / S + 1
        ),
    },
)


# --- 3. Break and fix: the forgotten eval()


def my_read(model: nn.Module, images: Tensor) -> Tensor:
    """What a model answers, in evaluation mode. Afterwards it is in the mode it was in."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        answers = model(images)
    model.train(was_training)
    return answers


def _given_read(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def _stays_in_eval(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model.eval()(images)


def _always_trains_on(model: nn.Module, images: Tensor) -> Tensor:
    answers = _stays_in_eval(model, images)
    model.train()
    return answers


def _with_gradients(model: nn.Module, images: Tensor) -> Tensor:
    was_training = model.training
    answers = model.eval()(images)
    model.train(was_training)
    return answers


def _one_by_one(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([_given_read(model, image[None]) for image in images])


def _tiny_model(training_mode: bool) -> nn.Module:
    """A convolution with batch normalisation that has seen a few batches."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 1))
        for _ in range(3):
            model(2 * torch.randn(8, 1, 4, 4) + 1)
    return model.train(training_mode)


def _read_and_look(answer, training_mode: bool, images: Tensor) -> dict | Tensor:
    """The answers, the mode afterwards, and the running averages afterwards."""
    model = _tiny_model(training_mode)
    answers = answer(model, images)
    if answers is ...:
        return answers
    return {
        "answers": answers,
        "with gradients": getattr(answers, "requires_grad", False),
        "in training mode afterwards": model.training,
        "running averages": model[1].running_mean.clone(),
    }


def _read_cases() -> Cases:
    images = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    return {
        "one card, model in training mode": (True, images[:1]),
        "five cards, model in training mode": (True, images),
        "five cards, model in evaluation mode": (False, images),
        "two dark cards, model in training mode": (True, images[:2] - 3),
    }


read = Exercise(
    lesson="02",
    name="read",
    title="Break and fix: answers that depend on the neighbours",
    minutes=6,
    difficulty=2,
    hints=(
        "Batch normalisation works in two ways. Which of them looks at the other cards of the "
        "batch?",
        "model.eval() switches to the running averages. But whoever trains the model wants it back "
        "as it was: model.training says in which mode it is.",
        "Remember was_training = model.training; then model.eval(), the answers, and "
        "model.train(was_training).",
    ),
    why="In training mode, batch normalisation uses the mean of the batch, so a card's answer "
    "depends on its neighbours, and the running averages move too. eval() uses the stored "
    "averages. Putting the mode back matters: a training loop that calls this in between would "
    "otherwise go on in evaluation mode.",
    solution_function=my_read,
    given=_given_read,
    call=_read_and_look,
    cases=_read_cases,
    mistakes={
        "The answers are right, but the model stays in evaluation mode. Put it back into the "
        "mode it was in.": _stays_in_eval,
        "You always leave the model in training mode, also when it came in evaluation mode. "
        "Remember model.training first.": _always_trains_on,
        "The answers still carry gradients: compute them under torch.no_grad(), which saves memory "
        "and time.": _with_gradients,
        "You read the cards one by one, still in training mode. Then each card is normalised by "
        "itself, and the running averages still move.": _one_by_one,
    },
)


# --- 4. Predict: which cover hurts?


def _what_covering_does() -> str:
    """The stored reader's squared error with each part covered: the worst and the least."""
    test = datasets.load_postcards("test")[:300]
    reader, *_ = welcome.load_readers()
    errors = {}
    for part in ("mouth", "eyes", "object"):
        f = training.predict(reader, cnn.cover(test.images, test.cards, part))
        errors[part] = float((f - test.expression).square().mean())
    order = sorted(errors, key=errors.get)
    found = {("object", "mouth"): "b", ("object", "eyes"): "a", ("mouth", "object"): "c"}
    return found.get((order[0], order[-1]), "none of them")


covers = Choice(
    lesson="02",
    name="covers",
    title="Predict: which cover hurts?",
    minutes=2,
    difficulty=1,
    hints=(
        "Where do you look yourself, to see whether one of these faces is happy?",
        "The object has nothing to do with the expression: the generator draws it by chance.",
    ),
    why="Most of the expression is in the mouth, some in brows and eyes, and none in the object. A "
    "network that has learned faces must show the same order.",
    options={
        "a": "the eyes most, the object least",
        "b": "the mouth most, the object least",
        "c": "the object most (it is the largest), the mouth least",
    },
    answer="b",
    wrong={
        "a": "Brows and eyes do tell something. But look at the four pictures again: which line "
        "changes most between a sad and a happy face?",
        "c": "The object is large, but it says nothing about the expression. Only if the network "
        "had learned the wrong thing would covering it hurt.",
    },
    truth=_what_covering_does,
)


# --- 5. Break and fix: the wrong axis


def my_cross_entropy(scores: Tensor, answers: Tensor) -> Tensor:
    """The mean of −ln(probability of the right answer). scores (B, C), answers (B,)."""
    log_probabilities = scores.log_softmax(dim=1)
    right = log_probabilities.gather(1, answers[:, None])
    return -right.mean()


def _entropy(scores: Tensor, answers: Tensor, dim: int = 1) -> Tensor:
    """One number a card: −ln(probability), with the softmax over `dim`."""
    return -scores.log_softmax(dim).gather(1, answers[:, None])[:, 0]


def _cross_entropy_cases() -> Cases:
    generator = torch.Generator().manual_seed(2)
    scores = 3 * torch.randn(6, 10, generator=generator)
    answers = torch.randint(0, 10, (6,), generator=generator)
    return {
        "one card of three kinds": (torch.tensor([[2.0, 0.0, 1.0]]), torch.tensor([0])),
        "two cards of three kinds": (
            torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]]), torch.tensor([0, 2])),
        "six cards of ten kinds": (scores, answers),
        "as many cards as kinds": (scores[:, :6], answers % 6),
        "double precision": (scores.double(), answers),
        "scores of a thousand": (1000 * scores, answers),
        "every second card (a strided tensor)": (scores[::2], answers[::2]),
    }  # fmt: skip


cross_entropy = Exercise(
    lesson="02",
    name="cross_entropy",
    title="Break and fix: probabilities of what?",
    minutes=6,
    difficulty=2,
    hints=(
        "The probabilities of one card over its kinds must add up to 1. Do they? Print "
        "probabilities.sum(1) for the two cards.",
        "A softmax has a dimension along which it makes the sum 1. The cards are dimension 0, the "
        "kinds dimension 1.",
        "dim=1. And for very large scores use log_softmax instead of softmax and log: e^1000 is "
        "too large for any computer number.",
    ),
    why="dim says along which direction the probabilities add up to 1. Over dim 0 the cards of the "
    "batch compete with each other, and the loss depends on who the neighbours are. log_softmax "
    "subtracts the largest score before it takes e to the power, so nothing overflows.",
    solution_function=my_cross_entropy,
    given=lambda scores, answers: -(scores.softmax(dim=0).gather(1, answers[:, None]).log().mean()),
    cases=_cross_entropy_cases,
    mistakes={
        "The axis is right now, but softmax and log one after the other break for large scores: "
        "e to the power of 1000 "
        "overflows, and log(0) is −inf. Use log_softmax.": lambda scores, answers: (
            -scores.softmax(1).gather(1, answers[:, None]).log().mean()
        ),
        "The softmax still runs over the batch, dim 0: the cards compete with each other. It must "
        "run over the kinds.": lambda scores, answers: _entropy(scores, answers, dim=0).mean(),
        "You lost the minus: a loss must be large when the probability is small.": (
            lambda scores, answers: -_entropy(scores, answers).mean()
        ),
        "You summed over the cards. The loss is their mean, or its size would depend on the "
        "batch.": (lambda scores, answers: _entropy(scores, answers).sum()),
        "You forgot the logarithm: this is minus the mean probability.": (
            lambda scores, answers: -(-_entropy(scores, answers)).exp().mean()
        ),
        "You averaged over all kinds, right and wrong. Only the right answer's probability "
        "counts.": (lambda scores, answers: -scores.log_softmax(1).mean()),
        "You return one number for each card: take their mean.": _entropy,
    },
)
