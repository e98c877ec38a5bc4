"""The exercises of lesson 02: convolution, its slope, evaluation mode, places, cross-entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbm_lab import datasets, training, welcome
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


def _other_count(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    """With (H - K + 1) // stride rows of windows."""
    rows, columns = (x.shape[0] - k.shape[0] + 1) // stride, (x.shape[1] - k.shape[1] + 1) // stride
    return my_convolve(x, k, stride)[:rows, :columns]


def _first_only(x: Tensor, k: Tensor, stride: int = 1, columns: int | None = None) -> Tensor:
    """Zeros but for the first row, or its first numbers."""
    out = my_convolve(x, k, stride)
    filled = torch.zeros_like(out)
    filled[0, :columns] = out[0, :columns]
    return filled


def _each_row_the_last(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    out = my_convolve(x, k, stride)
    return out[-1:].repeat(len(out), 1)


def _matrix_product(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    return (_windows(x, k, stride) @ k).sum((2, 3))


def _side_by_side(x: Tensor, k: Tensor, stride: int = 1) -> Tensor:
    return x.unfold(0, k.shape[0], k.shape[0]).unfold(1, k.shape[1], k.shape[1]).mul(k).sum((2, 3))


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
        "a picture that is higher than wide": (x.T.contiguous(), k, 1),
        "numbers below zero, with fractions": (x.T.contiguous() / 4 - 1, k + 0.5, 2),
    }  # fmt: skip


def _convolve_beyond() -> Cases:
    x, k, _ = _convolve_cases()["stride 2"]
    return {
        "every second pixel (a strided tensor)": (x[::2, ::2], k, 1),
        "double precision": (x.double(), k.double(), 2),
    }


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
    beyond=_convolve_beyond,
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
        "The kernel is turned round from left to right only. Deep learning lays it on as it is.": (
            lambda x, k, stride=1: my_convolve(x, k.flip(1), stride)
        ),
        "The kernel is turned upside down. Deep learning lays it on as it is.": (
            lambda x, k, stride=1: my_convolve(x, k.flip(0), stride)
        ),
        "With a stride there is one window more: (H − K) // stride + 1 rows of them, not "
        "(H − K + 1) // stride.": _other_count,
        "The stride counts for the rows only. The windows also begin `stride` columns apart.": (
            lambda x, k, stride=1: my_convolve(x, k)[::stride]
        ),
        "The stride counts for the columns only. The windows also begin `stride` rows apart.": (
            lambda x, k, stride=1: my_convolve(x, k)[:, ::stride]
        ),
        "Your windows lie side by side, as far apart as the kernel is large. They begin `stride` "
        "pixels apart.": _side_by_side,
        "You added window and kernel. Multiply them, number by number, and then sum.": (
            lambda x, k, stride=1: (_windows(x, k, stride) + k).sum((2, 3))
        ),
        "window @ k is the product of matrices: rows times columns. Here number meets number: "
        "window * k.": _matrix_product,
        "Rows and columns of the result are swapped: window (i, j) gives out[i, j].": (
            lambda x, k, stride=1: my_convolve(x, k, stride).T
        ),
        "Only the first row is filled. Does `return` stand inside the loop over the rows?": (
            _first_only
        ),
        "Only the first number is filled. Does `return` stand inside the loops?": (
            lambda x, k, stride=1: _first_only(x, k, stride, columns=1)
        ),
        "All rows of your result are the last one. [[0] * n] * m holds one and the same row m "
        "times: use torch.zeros(m, n), or make each row anew.": _each_row_the_last,
    },
)


# --- 2. Which way is down for a kernel?


def my_kernel_slope(x: Tensor, k: Tensor, y: Tensor) -> Tensor:
    """The slope of mean((out - y)²) for each number of k, where out is x (H, W) convolved with k
    (K, L). y is as large as out. Returns (K, L)."""
    error = my_convolve(x, k) - y
    return 2 * my_convolve(x, error) / error.numel()


def _error(x: Tensor, k: Tensor, y: Tensor) -> Tensor:
    return my_convolve(x, k) - y


def _slope_of(x: Tensor, error: Tensor) -> Tensor:
    return 2 * my_convolve(x, error) / error.numel()


def _slope_cases() -> Cases:
    generator = torch.Generator().manual_seed(7)
    x = torch.randint(0, 5, (6, 8), generator=generator).float()
    k = torch.randint(-2, 3, (3, 2), generator=generator).float()
    y = torch.randint(-9, 10, (4, 7), generator=generator).float()
    small, pair = torch.tensor([[1.0, 2, 4], [0, 3, 1]]), torch.tensor([[1.0, -2]])
    left_right = torch.tensor([[1.0, 0, -1], [1, 0, -1], [1, 0, -1]])
    return {
        "a picture of 2 × 3, all that is wanted is 0": (small, pair, torch.zeros(2, 2)),
        "the same, something else is wanted": (small, pair, torch.tensor([[1.0, 0], [-2, 3]])),
        "a kernel of 3 × 2": (x, k, y),
        "a kernel of zeros": (x, 0 * k, y),
        "what is wanted is what comes out": (x, k, my_convolve(x, k)),
        "a square kernel": (x, left_right, torch.ones(4, 6)),
        "numbers below zero, with fractions": (x / 4 - 1, k + 0.5, y / 2),
    }


def _slope_beyond() -> Cases:
    x, k, y = _slope_cases()["a kernel of 3 × 2"]
    return {
        "every second row (strided tensors)": (x[::2], k[:1], torch.ones(3, 7)),
        "double precision": (x.double(), k.double(), y.double()),
    }


kernel_slope = Exercise(
    lesson="02",
    name="kernel_slope",
    title="Which way is down for a kernel?",
    minutes=10,
    difficulty=3,
    hints=(
        "First the error at every place: error = out - y, as large as y. How does it change when "
        "one number of the kernel, k[a, b], moves a little?",
        "k[a, b] was multiplied by x[i + a, j + b] to make out[i, j]. So the slope of the sum of "
        "squares is the sum over i and j of 2 · error[i, j] · x[i + a, j + b]. You have seen such "
        "a sum: it is window (a, b) of a convolution.",
        "The slope is the convolution of x with the error as its kernel, times 2, divided by the "
        "number of places, error.numel().",
    ),
    why="The chain rule: the slope of error² is 2 · error, times what k[a, b] was multiplied by. "
    "Summed over all places, this is again a convolution of x, with the error as the kernel. "
    "This is what loss.backward() computes for nn.Conv2d, and why training costs not much more "
    "than reading.",
    solution_function=my_kernel_slope,
    cases=_slope_cases,
    beyond=_slope_beyond,
    mistakes={
        "The factor 2 is missing: the slope of error² is 2 · error.": (
            lambda x, k, y: _slope_of(x, _error(x, k, y)) / 2
        ),
        "You summed over the places. The loss is a mean, so divide by their number.": (
            lambda x, k, y: 2 * my_convolve(x, _error(x, k, y))
        ),
        "The sign is turned: the error is what comes out, minus what is wanted. As it is, each "
        "step would lead uphill.": lambda x, k, y: -_slope_of(x, _error(x, k, y)),
        "You divided by the number of pixels of x. There are fewer places where the kernel fits: "
        "as many as y has.": (lambda x, k, y: 2 * my_convolve(x, _error(x, k, y)) / x.numel()),
        "You turned the result by 180°: number (a, b) of the kernel belongs to the pixels "
        "x[i + a, j + b].": lambda x, k, y: _slope_of(x, _error(x, k, y)).flip(0, 1),
        "You forgot y: what counts is the error, not what comes out.": (
            lambda x, k, y: _slope_of(x, my_convolve(x, k))
        ),
        "This would be the slope of the mean distance |error|. Here the errors are squared.": (
            lambda x, k, y: my_convolve(x, _error(x, k, y).sign()) / y.numel()
        ),
        "This is the error at each place. Ask for each number of the kernel: which pixels did it "
        "multiply, and what was the error there?": _error,
        "This is the slope for each place of out. Ask for each number of the kernel: which pixels "
        "did it multiply?": lambda x, k, y: 2 * _error(x, k, y) / y.numel(),
        "This is the loss. Its slope is wanted, one number for each of the kernel.": (
            lambda x, k, y: _error(x, k, y).square().mean()
        ),
        "You divided by the number of rows: len(error) counts no more. Divide by the number of "
        "places, error.numel().": lambda x, k, y: 2 * my_convolve(x, _error(x, k, y)) / len(y),
        "You divided by the number of columns. Divide by the number of places, error.numel().": (
            lambda x, k, y: 2 * my_convolve(x, _error(x, k, y)) / y.shape[1]
        ),
        "You divided by the size of the kernel. The mean is over the places of out: "
        "error.numel().": (
            lambda x, k, y: 2 * my_convolve(x, _error(x, k, y)) / k.numel()
        ),
        "The slope has neither its factor 2 nor its mean: it is 2 · error, and the loss is a mean "
        "over all places.": lambda x, k, y: my_convolve(x, _error(x, k, y)),
        "You multiplied the mean error by the mean pixel. Multiply place by place, then take the "
        "mean.": lambda x, k, y: 2
        * _error(x, k, y).mean() * my_convolve(x, torch.ones_like(y)) / y.numel(),
        "You squared the error before you multiplied it by the pixels. The slope of error² is "
        "2 · error.": lambda x, k, y: 2 * my_convolve(x, _error(x, k, y) ** 2) / y.numel(),
        "This is the kernel after a step against the slope. The slope itself is wanted.": (
            lambda x, k, y: k - my_kernel_slope(x, k, y)
        ),
        "You multiplied the slope by the kernel. By the chain rule the error meets the pixels "
        "alone.": lambda x, k, y: k * my_kernel_slope(x, k, y),
        "All numbers of your slope are the mean of the right ones. Each number of the kernel has "
        "its own.": lambda x, k, y: my_kernel_slope(x, k, y).mean().expand_as(k),
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


def _gradients_and_train(model: nn.Module, images: Tensor) -> Tensor:
    answers = model.eval()(images)
    model.train()
    return answers


def _with_gradients(model: nn.Module, images: Tensor) -> Tensor:
    was_training = model.training
    answers = model.eval()(images)
    model.train(was_training)
    return answers


def _too_late(model: nn.Module, images: Tensor) -> Tensor:
    answers = _given_read(model, images)
    model.eval()
    return answers


def _opposite(model: nn.Module, images: Tensor) -> Tensor:
    was_training = model.training
    answers = _stays_in_eval(model, images)
    model.train(not was_training)
    return answers


def _train_first(model: nn.Module, images: Tensor) -> Tensor:
    return _given_read(model.train(), images)


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
        "The answers carry gradients, and the model stays in evaluation mode. Read under "
        "torch.no_grad(), and put the model back into its mode.": (
            lambda model, images: model.eval()(images)
        ),
        "The answers carry gradients, and the model is always in training mode afterwards. Read "
        "under torch.no_grad(), and remember model.training first.": _gradients_and_train,
        "The answers still come from training mode, and now they carry gradients: torch.no_grad() "
        "was right; what is missing is model.eval().": lambda model, images: model(images),
        "model.eval() comes too late: the answers are still those of training mode. Switch before "
        "you read, and put the mode back afterwards.": _too_late,
        "Afterwards the model is in the opposite of the mode it was in: model.train(was_training) "
        "puts it back.": _opposite,
        "You read in training mode. That is what model.train() sets; model.eval() is the other.": (
            _train_first
        ),
        "You read the cards one by one, still in training mode. Then each card is normalised by "
        "itself, and the running averages still move.": _one_by_one,
    },
)


# --- 4. Predict: the faces move


def _what_moving_does() -> str:
    """R² of the stored reader when all pictures move by 12 pixels to the right."""
    test = datasets.load_postcards("test")[:300]
    reader, *_ = welcome.load_readers()
    moved = nn.functional.pad(test.images, (12, 0, 0, 0), mode="replicate")[..., :64]
    r2 = training.r_squared(training.predict(reader, moved), test.expression)
    return "c" if r2 < 0 else "b" if r2 < 0.95 else "a"


moved = Choice(
    lesson="02",
    name="moved",
    title="Predict: the faces move",
    minutes=2,
    difficulty=2,
    hints=(
        "What does a convolution make of a picture that has moved? And what comes after the "
        "convolutions?",
        "The linear layer has one weight for each place of the map. Which places has it seen a "
        "mouth in? `augment` moves a picture by at most two pixels.",
    ),
    why="The maps move along with the picture: that is what a convolution promises. But the linear "
    "layer at the end has its own weight for each place, and it has learned only where mouths "
    "were. Twelve pixels on, the mouth meets weights that were made for something else.",
    options={
        "a": "as good as before: a convolution finds an edge everywhere",
        "b": "somewhat worse, between 0.7 and 0.95: a part of each picture is cut off",
        "c": "below 0: worse than always answering the mean",
    },
    answer="c",
    wrong={
        "a": "The maps would only move, true. But f does not end with the convolutions. What does "
        "the linear layer do with a map that has moved?",
        "b": "What is cut off holds few mouths, true. But think of the linear layer: does it know "
        "a mouth in a place where it never saw one?",
    },
    truth=_what_moving_does,
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
        "as many cards as kinds": (scores[:, :6].contiguous(), answers % 6),
        "scores of a thousand": (1000 * scores, answers),
    }  # fmt: skip


def _cross_entropy_beyond() -> Cases:
    scores, answers = _cross_entropy_cases()["six cards of ten kinds"]
    return {
        "double precision": (scores.double(), answers),
        "every second card (a strided tensor)": (scores[::2], answers[::2]),
    }


def _by_hand(scores: Tensor, answers: Tensor) -> Tensor:
    powers = scores.exp()
    probabilities = powers / powers.sum(1, keepdim=True)
    return -probabilities.gather(1, answers[:, None]).log().mean()


def _with_a_small_number(small: float):
    def loss(scores: Tensor, answers: Tensor) -> Tensor:
        return -(scores.softmax(1).gather(1, answers[:, None]) + small).log().mean()

    return loss


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
    beyond=_cross_entropy_beyond,
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
        "The softmax is taken twice. F.cross_entropy makes one itself: give it the scores.": (
            lambda scores, answers: _entropy(scores.softmax(1), answers).mean()
        ),
        "The axis is right now. But for large scores e to their power is inf, or 0 for a whole "
        "card, and inf / inf and 0 / 0 are nan. Use log_softmax, or subtract each card's own "
        "largest score first, and take the logarithm of the sum.": _by_hand,
        "There is no softmax in it: this is minus the mean score of the right answers.": (
            lambda scores, answers: -scores.gather(1, answers[:, None]).mean()
        ),
        "You took the logarithm of the mean probability. Take each card's logarithm first, then "
        "the mean.": lambda scores, answers: -(-_entropy(scores, answers)).exp().mean().log(),
        "scores[:, answers] gives each card's numbers for the answers of all cards. Pair them: "
        "gather(1, answers[:, None]), or [torch.arange(B), answers].": (
            lambda scores, answers: -scores.log_softmax(1)[:, answers].mean()
        ),
        "You divided by the number of kinds, too. The mean is over the cards only.": (
            lambda scores, answers: _entropy(scores, answers).mean() / scores.shape[1]
        ),
        "This is one minus the mean probability. The loss is minus its logarithm.": (
            lambda scores, answers: 1 - (-_entropy(scores, answers)).exp().mean()
        ),
        "This is the mean probability of the right answers. The loss is minus its logarithm, card "
        "by card.": lambda scores, answers: (-_entropy(scores, answers)).exp().mean(),
        **{
            f"The axis is right now. But {small:g} beside the probability only hides that it "
            "became 0: for large scores the loss is wrong. Use log_softmax.": (
                _with_a_small_number(small)
            )
            for small in (1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12)
        },
    },
)
