"""The exercises of lesson 01: crop, normalise, pad, average."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbm_lab import datasets, preprocessing, training
from mbm_lab.exercises.exercise import Cases, Choice, Exercise

# --- 1. The middle of a picture


def my_crop(image: Tensor, side: int) -> Tensor:
    """The middle square of `side` pixels of a picture (..., H, W)."""
    height, width = image.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    return image[..., top : top + side, left : left + side]


def _rounded_up(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[-2:]
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    return image[..., top : top + side, left : left + side]


def _swapped(image: Tensor, side: int) -> Tensor:
    width, height = image.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    return image[..., top : top + side, left : left + side]


def _not_halved(image: Tensor, side: int) -> Tensor:
    top, left = image.shape[-2] - side, image.shape[-1] - side
    return image[..., top : top + side, left : left + side]


def _to_side(image: Tensor, side: int) -> Tensor:
    height, width = image.shape[-2:]
    return image[..., (height - side) // 2 : side, (width - side) // 2 : side]


def _crop_cases() -> Cases:
    picture = torch.arange(3 * 7 * 10).view(3, 7, 10)
    return {
        "2 rows, 4 columns, side 2": (torch.tensor([[[10, 20, 30, 40], [50, 60, 70, 80]]]), 2),
        "4 rows, 2 columns, side 2": (torch.arange(8).view(1, 4, 2), 2),
        "5 columns, so that one side loses more": (torch.arange(10).view(1, 2, 5), 2),
        "a square smaller than both sides": (picture, 4),
        "one pixel": (picture, 1),
        "a batch of two pictures": (torch.stack([picture, picture + 500]), 3),
        "a batch of one": (picture[None], 5),
        "whole numbers as float, every second column (strided)": (picture[..., ::2].float(), 3),
        "a picture that is already a square": (picture[..., :7], 7),
        "a batch of no pictures": (picture[None][:0], 3),
    }


crop = Exercise(
    lesson="01",
    name="crop",
    title="The middle of a picture",
    minutes=5,
    difficulty=1,
    hints=(
        "Find the first row and the first column of the square. What is left over is shared "
        "between both sides.",
        "top = (height - side) // 2 and left = (width - side) // 2. The sizes stand in "
        "image.shape[-2:].",
        "image[..., top : top + side, left : left + side], where ... stands for all dimensions "
        "before the last two.",
    ),
    why="What is left over, height − side rows, is cut half above and half below. A slice goes "
    "from its first place up to, and not with, its last: so the last is top + side. The ... "
    "keeps colours and batch as they are.",
    solution_function=my_crop,
    cases=_crop_cases,
    mistakes={
        "You cut the square out of the top left corner. It should be the middle.": (
            lambda image, side: image[..., :side, :side]
        ),
        "You swapped height and width: the rows come first, image.shape[-2:] is (height, width).": (
            _swapped
        ),
        "Where the rest is odd, the smaller part goes above and to the left: round down with //.": (
            _rounded_up
        ),
        "You did not halve the rest, so the square sits in the bottom right corner.": _not_halved,
        "Your slice ends at `side`. It must end at top + side, and left + side.": _to_side,
        "You cropped the rows only. The columns need the same.": (
            lambda image, side: (
                my_crop(image, side)
                if image.shape[-2] == image.shape[-1] == side
                else image[..., (image.shape[-2] - side) // 2 :, :][..., :side, :]
            )
        ),
        "You cropped the columns only. The rows need the same.": (
            lambda image, side: image[..., (image.shape[-1] - side) // 2 :][..., :side]
        ),
    },
)


# --- 2. Break and fix: the test cards' own mean


def my_normalise(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets of pictures, (N, 3, H, W), with the mean and spread of the training pictures."""
    mean = train.mean((0, 2, 3), keepdim=True)
    sd = train.std((0, 2, 3), correction=0, keepdim=True)
    return (train - mean) / sd, (test - mean) / sd


def _by(
    train: Tensor,
    test: Tensor,
    dims: tuple[int, ...] = (0, 2, 3),
    power: float = 1.0,
    own: bool = False,
    correction: int = 0,
) -> tuple[Tensor, Tensor]:
    """Normalised over these dimensions, divided by sd to this power."""
    answers = []
    for images in (train, test):
        source = images if own else train
        mean = source.mean(dims, keepdim=True)
        sd = source.std(dims, correction=correction, keepdim=True)
        answers.append((images - mean) / sd**power)
    return answers[0], answers[1]


def _pooled(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    everything = torch.cat([train, test])
    mean = everything.mean((0, 2, 3), keepdim=True)
    sd = everything.std((0, 2, 3), correction=0, keepdim=True)
    return (train - mean) / sd, (test - mean) / sd


def _only_train(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    return my_normalise(train, test)[0], test


def _normalise_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    train = torch.rand(6, 3, 4, 5, generator=generator) * scale
    test = torch.rand(4, 3, 4, 5, generator=generator) * scale + 0.3
    one = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    return {
        "two pictures of one grey pixel to train, one to test": (
            torch.tensor([2.0, 4.0]).view(2, 1, 1, 1), torch.tensor([[[[5.0]]]])),
        "two test pictures": (one, one + 3),
        "six and four colour pictures": (train, test),
        "a single test picture": (train, test[:1]),
        "double precision": (train.double(), test.double()),
        "every second picture (strided tensors)": (train[::2], test[::2]),
    }  # fmt: skip


normalise = Exercise(
    lesson="01",
    name="normalise",
    title="Break and fix: the test cards' own mean",
    minutes=5,
    difficulty=1,
    hints=(
        "Suppose that tomorrow a single, very dark card comes. What would its own mean make of it?",
        "mean and sd are made once, from the training pictures. Both sets get the same two.",
        "(test - mean) / sd, with the mean and sd of train.",
    ),
    why="Subtracting the test cards' own mean hides it when they are darker or brighter than the "
    "training cards, and a card's numbers then depend on which other cards are tested with it. "
    "Everything that is learned from data, a mean too, is learned from training cards only.",
    solution_function=my_normalise,
    given=lambda train, test: _by(train, test, own=True),
    cases=_normalise_cases,
    mistakes={
        "You put training and test cards together to make the mean. Then the test has leaked into "
        "the training: use the training cards alone.": _pooled,
        "You left the test cards as they were. They need the same treatment.": _only_train,
        "You made one mean for all three colours: each colour has its own, over dimensions 0, 2 "
        "and 3.": lambda train, test: _by(train, test, dims=(0, 1, 2, 3)),
        "PyTorch's std divides by N − 1 unless you say correction=0. The section above divides "
        "by N.": (lambda train, test: _by(train, test, correction=1)),
        "You made a mean for each pixel. One for each colour is wanted, over cards, rows and "
        "columns: dimensions 0, 2 and 3.": lambda train, test: _by(train, test, dims=(0,)),
        "You divided by the variance: divide by its root, the standard deviation.": (
            lambda train, test: _by(train, test, power=2.0)
        ),
        "You subtracted the mean and did not divide by the standard deviation.": (
            lambda train, test: _by(train, test, power=0.0)
        ),
    },
)


# --- 3. Predict: which version learns best?


def _which_learns_best() -> str:
    """A linear model on three versions of the same small pictures, as in the lesson."""
    train = datasets.load_postcards("train")[:1000]
    small = nn.functional.adaptive_avg_pool2d(train.images, 16)
    losses = {}
    versions = {"large": small * 255, "unit": small, "normal": preprocessing.normalise(small)}
    for name, images in versions.items():
        layer = nn.Linear(768, 1)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        model = nn.Sequential(nn.Flatten(), layer, nn.Flatten(0))
        options = {"epochs": 8, "learning_rate": 2e-3, "optimizer": torch.optim.SGD}
        try:
            history = training.fit(
                model, images, train.expression, nn.functional.mse_loss, progress=False, **options
            )
            losses[name] = history.train_loss[-1]
        except ValueError:  # the loss is no longer a number
            losses[name] = float("inf")
    best, worst = min(losses, key=losses.get), max(losses, key=losses.get)
    return {("normal", "large"): "c", ("large", "normal"): "a"}.get((best, worst), "b")


scales = Choice(
    lesson="01",
    name="scales",
    title="Predict: which version learns best?",
    minutes=2,
    difficulty=1,
    hints=(
        "The slope for a weight is the error times the pixel that the weight belongs to. What "
        "does a pixel of 200 do to it?",
        "A step that is right for small numbers is too large for large ones. And the model jumps "
        "back and forth, further each time.",
    ),
    why="Large inputs make large slopes, and with this learning rate each step overshoots "
    "further than the one before. Numbers around 0 with a spread of 1 let every weight move at a "
    "good pace.",
    options={
        "a": "0 to 255 learns best: larger numbers, larger steps",
        "b": "all three end alike: it is the same information",
        "c": "the normalised one learns best, and 0 to 255 goes wrong altogether",
    },
    answer="c",
    wrong={
        "a": "Larger steps, yes. But the best step is not the largest: one that jumps over the "
        "valley lands higher than it began.",
        "b": "The information is the same, and a formula would find the same answer. Gradient "
        "descent walks in steps, and for it the scale of the numbers is the length of its legs.",
    },
    truth=_which_learns_best,
)


# --- 4. Sentences of different lengths


def my_pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Lists of word numbers as a tensor (B, T) with 0 on the right, and their lengths (B,)."""
    lengths = torch.tensor([len(row) for row in rows])
    padded = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded, lengths


def _pad(rows: list[list[int]], width: int, left: bool = False, fill: int = 0) -> Tensor:
    """Rows cut or filled to a width, on the right or on the left."""
    full = []
    for row in rows:
        rest = [fill] * (width - len(row))
        full.append((rest + row if left else row + rest)[:width])
    return torch.tensor(full, dtype=torch.long).view(len(rows), width)


def _longest(rows: list[list[int]]) -> int:
    return max(map(len, rows))


def _lengths(rows: list[list[int]]) -> Tensor:
    return torch.tensor([len(row) for row in rows])


pad = Exercise(
    lesson="01",
    name="pad",
    title="Sentences of different lengths",
    minutes=8,
    difficulty=2,
    hints=(
        "How wide must the tensor be, so that the longest sentence fits? Begin with a tensor of "
        "zeros of that size.",
        "torch.zeros(B, T, dtype=torch.long) holds whole numbers. Then write each row into the "
        "beginning of its line: padded[i, : len(row)] = ...",
        "The lengths are torch.tensor([len(row) for row in rows]). Return both: padded, lengths.",
    ),
    why="The tensor is as wide as the longest row. The zeros on the right are no words, and only "
    "the lengths tell where each sentence ends; so whoever makes the padding must also hand on "
    "the lengths.",
    solution_function=my_pad,
    cases=lambda: {
        "one sentence": ([[4, 7]],),
        "the two sentences of section 2": ([[4, 7], [5, 9, 6, 8]],),
        "the longest one first": ([[5, 9, 6, 8], [4, 7], [3]],),
        "an empty sentence among others": ([[6], [], [7, 8]],),
        "sentences of one length": ([[1, 2], [3, 4]],),
        "a word with the number 0": ([[0, 5], [2, 0, 0]],),
    },
    mistakes={
        "You filled up on the left. The sentence stands first, the zeros on the right.": (
            lambda rows: (_pad(rows, _longest(rows), left=True), _lengths(rows))
        ),
        "You cut all sentences to the shortest one, and words are lost. Take the longest.": (
            lambda rows: (_pad(rows, min(map(len, rows))), _lengths(rows))
        ),
        "Your lengths count the padding too. Each is the number of words of its own sentence.": (
            lambda rows: (
                _pad(rows, _longest(rows)),
                torch.full((len(rows),), _longest(rows)),
            )
        ),
        "Your tensor is one column too wide.": (
            lambda rows: (_pad(rows, _longest(rows) + 1), _lengths(rows))
        ),
        "You count the words that are not 0. A length is the number of words, len(row).": (
            lambda rows: (
                _pad(rows, _longest(rows)),
                (_pad(rows, _longest(rows)) != 0).sum(1),
            )
        ),
        "You filled up with 1, which stands for unknown words. The padding is 0.": (
            lambda rows: (_pad(rows, _longest(rows), fill=1), _lengths(rows))
        ),
        "You return the tensor alone. Return the lengths too: padded, lengths.": (
            lambda rows: _pad(rows, _longest(rows))
        ),
        "Your word numbers are float. They must be whole numbers: dtype=torch.long.": (
            lambda rows: (_pad(rows, _longest(rows)).float(), _lengths(rows))
        ),
    },
)


# --- 5. A mean without the padding


def my_masked_mean(values: Tensor, lengths: Tensor) -> Tensor:
    """The mean of each row of (B, T) over its first `length` numbers: (B,)."""
    mask = torch.arange(values.shape[1]) < lengths[:, None]  # (B, T), True where a word stands
    return (values * mask).sum(1) / lengths


def _mask(values: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(values.shape[1]) < lengths[:, None]


def _mean_cases() -> Cases:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(6, 5, generator=generator)
    lengths = torch.tensor([3, 5, 1, 2, 4, 5])
    return {
        "one row, padded with 0": (torch.tensor([[0.6, 0.8, 0.0, 0.0]]), torch.tensor([2])),
        "one row, where something else stands in the padding": (
            torch.tensor([[0.6, 0.8, 9.0]]), torch.tensor([2])),
        "two rows": (torch.tensor([[1.0, 2, 3, 7], [4.0, 0, 5, 5]]), torch.tensor([3, 1])),
        "six rows": (values, lengths),
        "as many rows as columns": (values[:5], lengths[:5]),
        "no padding": (values, torch.full((6,), 5)),
        "double precision, every second row": (values.double()[::2], lengths[::2]),
        "no row": (values[:0], lengths[:0]),
    }  # fmt: skip


masked_mean = Exercise(
    lesson="01",
    name="masked_mean",
    title="A mean without the padding",
    minutes=8,
    difficulty=2,
    hints=(
        "You need to know, for each place of the tensor, whether a word stands there or padding. "
        "And you must divide by the right number.",
        "torch.arange(T) < lengths[:, None] is a tensor (B, T): True at the words, False at the "
        "padding.",
        "(values * mask).sum(1) / lengths",
    ),
    why="The mask is True where the place is smaller than the row's length; times the values, it "
    "makes the padding 0, whatever stood there. The sum then holds the words alone, and dividing "
    "by the length gives their mean. The column lengths[:, None] meets the row torch.arange(T), "
    "and PyTorch compares each with each.",
    solution_function=my_masked_mean,
    cases=_mean_cases,
    mistakes={
        "You averaged over the padding too: sum the words only, and divide by the length of the "
        "row, not by the width of the tensor.": lambda values, lengths: values.mean(1),
        "You left the padding out of the sum, but divided by the width of the tensor: divide by "
        "the length.": lambda values, lengths: (values * _mask(values, lengths)).mean(1),
        "You divided by the length, but the padding is still in the sum. It is not always 0.": (
            lambda values, lengths: values.sum(1) / lengths
        ),
        "You averaged over the batch: dimension 0 counts sentences, dimension 1 words.": (
            lambda values, lengths: (
                (values * _mask(values, lengths)).sum(0) / _mask(values, lengths).sum(0)
            )
        ),
        "You forgot to divide by the length: this is the sum.": (
            lambda values, lengths: (values * _mask(values, lengths)).sum(1)
        ),
        "Your mask is one place too long: a row of length 2 has the places 0 and 1, so use < and "
        "not <=.": lambda values, lengths: (values * _mask(values, lengths + 1)).sum(1) / lengths,
        "You averaged all sentences into one number. Each keeps its own mean.": (
            lambda values, lengths: values[_mask(values, lengths)].mean()
        ),
    },
)
