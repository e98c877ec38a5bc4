"""The exercises of lesson 01: normalise, segment, number, average, listen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from mbm_lab import preprocessing
from mbm_lab.exercises.exercise import Cases, Exercise

# --- 1. Break and fix: the test cards' own mean


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


# --- 2. Chinese, cut from the right


def my_cut(text: str, words: list[str]) -> list[str]:
    """Cuts a text into words, always taking the longest word that fits at its end."""
    pieces = []
    while text:
        fitting = [word for word in words if text.endswith(word)]
        pieces.insert(0, max(fitting, key=len, default=text[-1]))
        text = text.removesuffix(pieces[0])
    return pieces


def _cut_right(text: str, words: list[str], choose=max, unknown: bool = True) -> list[str]:
    pieces = []
    while text:
        fitting = [word for word in words if text.endswith(word)]
        piece = choose(fitting, key=len, default=text[-1])
        if fitting or unknown:
            pieces.insert(0, piece)
        text = text[: -len(piece)]
    return pieces


cut = Exercise(
    lesson="01",
    name="cut",
    title="Cut from the right",
    minutes=10,
    difficulty=2,
    hints=(
        "The loop is that of longest match. Look at the end of the text instead of its beginning.",
        "text.endswith(word) says whether a word fits. Of those that fit, take the longest; if "
        "none fits, take the last character, text[-1].",
        "What you find last stands first: pieces.insert(0, piece). Then go on with "
        "text[: -len(piece)].",
    ),
    why="研究生命的起源 now comes out right: at the end stands 起源, then 的, then 生命, and 研究 "
    "is left over. But this rule fails, too: 从小学电脑 (to learn computers from childhood on) "
    "becomes 从 小学 电脑, from the primary school. A rule that looks at lengths alone does not "
    "know what is meant.",
    solution_function=my_cut,
    cases=lambda: {
        "one word": ("起源", ["起源"]),
        "the sentence of the lesson": (
            "研究生命的起源", ["研究", "研究生", "生命", "的", "起源"]),
        "Latin letters": ("abcab", ["ab", "abc", "bc", "ca"]),
        "a character that no word holds": ("红老虎", ["红", "老鼠"]),
        "no words at all": ("红脸", []),
        "an empty text": ("", ["红"]),
        "a word inside a longer one": ("有一只老鼠", ["老", "鼠", "老鼠", "一只", "有"]),
    },
    mistakes={
        "You cut from the left, as the lesson does. Begin at the end of the text.": (
            preprocessing.longest_match
        ),
        "Your words are right, but in the wrong order: what you find last stands first.": (
            lambda text, words: my_cut(text, words)[::-1]
        ),
        "Of the words that fit you take the shortest. Take the longest.": (
            lambda text, words: _cut_right(text, words, choose=min)
        ),
        "You take the first word of the list that fits. Take the longest of all that fit.": (
            lambda text, words: _cut_right(text, words, lambda fit, key, default: (
                fit[0] if fit else default))
        ),
        "A character that no word holds gets lost. It becomes a word of its own.": (
            lambda text, words: _cut_right(text, words, unknown=False)
        ),
        "You cut into characters. Words of several characters stay together.": (
            lambda text, words: list(text)
        ),
    },
)  # fmt: skip


# --- 3. Numbers for words, known and unknown


def my_numbers(sentences: list[list[str]], new: list[str], min_count: int) -> list[int]:
    """The numbers of a new sentence's words; those seen less than min_count times are unknown."""
    counts = {}
    for sentence in sentences:
        for word in sentence:
            counts[word] = counts.get(word, 0) + 1
    kept = [word for word in counts if counts[word] >= min_count]
    kept.sort(key=lambda word: (-counts[word], word))
    index = {word: number for number, word in enumerate(kept, start=4)}
    return [index.get(word, 1) for word in new]


def _numbers(
    sentences: Sequence[Sequence[str]],
    new: Sequence[str],
    min_count: int,
    order=lambda word, count: (-count, word),
    start: int = 4,
    unknown: int | None = 1,
    once: bool = False,
) -> list[int]:
    """Numbered in this order, from this number on; once: counted by sentence."""
    counts = Counter(
        word for sentence in sentences for word in (dict.fromkeys(sentence) if once else sentence)
    )
    kept = [word for word in counts if counts[word] >= min_count]
    kept.sort(key=lambda word: order(word, counts[word]))
    index = {word: number for number, word in enumerate(kept, start)}
    if unknown is None:
        return [index[word] for word in new if word in index]
    return [index.get(word, unknown) for word in new]


def _numbers_cases() -> Cases:
    two = [["the", "sea", "was", "lovely"], ["the", "food", "was", "bad"]]
    many = [["b", "a", "b", "b"], ["c", "a", "d"], ["c", "d", "a"], ["e"]]
    return {
        "two known words": ([["the", "sea", "the"]], ["sea", "the"], 1),
        "a new word": (two, ["the", "sea", "was", "cold"], 1),
        "words seen once are unknown": (two, ["the", "sea", "was", "bad"], 2),
        "one sentence holds a word often": (many, ["a", "b", "c", "d", "e"], 1),
        "the same, at least three times": (many, ["a", "b", "c", "d", "e"], 3),
        "no word is frequent enough": (two, ["the"], 9),
        "an empty sentence": (two, [], 1),
    }


numbers = Exercise(
    lesson="01",
    name="numbers",
    title="Numbers for words, known and unknown",
    minutes=10,
    difficulty=2,
    hints=(
        "Three steps: count the words of all sentences; sort those that are frequent enough; look "
        "the new words up.",
        "counts[word] = counts.get(word, 0) + 1 counts in a dictionary. sorted(words, "
        "key=lambda word: (-counts[word], word)) puts the most frequent first, and words of the "
        "same count in the order of the alphabet.",
        "enumerate(words, start=4) numbers them, and index.get(word, 1) gives 1 for what is not "
        "there.",
    ),
    why="The vocabulary is made from the training sentences alone, and the new sentence is only "
    "looked up. A rare word is better unknown than known from one sentence: so the model also "
    "meets <unk> while it learns, and is not surprised by it later.",
    solution_function=my_numbers,
    cases=_numbers_cases,
    mistakes={
        "Your numbers begin at 0, but 0 to 3 are taken by the special words: begin at 4.": (
            lambda *inputs: _numbers(*inputs, start=0)
        ),
        "Your numbers do not begin at 4: 0, 1, 2 and 3 are the four special words.": (
            lambda *inputs: _numbers(*inputs, start=5)
        ),
        "You number the words as they come. The most frequent comes first.": (
            lambda *inputs: _numbers(*inputs, order=lambda word, count: 0)
        ),
        "You number by the alphabet alone. The most frequent comes first.": (
            lambda *inputs: _numbers(*inputs, order=lambda word, count: word)
        ),
        "Your most frequent word comes last. Sort by the negative count.": (
            lambda *inputs: _numbers(*inputs, order=lambda word, count: (count, word))
        ),
        "Words of the same count stand as they came: sort them by the alphabet.": (
            lambda *inputs: _numbers(*inputs, order=lambda word, count: -count)
        ),
        "You keep rare words: only those seen at least min_count times have a number.": (
            lambda sentences, new, min_count: _numbers(sentences, new, 1)
        ),
        "A word seen exactly min_count times is kept: compare with >=, not with >.": (
            lambda sentences, new, min_count: _numbers(sentences, new, min_count + 1)
        ),
        "You leave unknown words out. They become 1, so that the sentence keeps its length.": (
            lambda *inputs: _numbers(*inputs, unknown=None)
        ),
        "Unknown words became 0, which is padding. They are 1.": (
            lambda *inputs: _numbers(*inputs, unknown=0)
        ),
        "You count each word once a sentence. Count every time it occurs.": (
            lambda *inputs: _numbers(*inputs, once=True)
        ),
        "A word that is not in the vocabulary stops your function. Look it up with "
        "index.get(word, 1).": lambda *inputs: _or_error(_numbers(*inputs, unknown=-1)),
    },
)


def _or_error(numbers: list[int]) -> list[int]:
    """As a dictionary does that is asked for a missing word."""
    if -1 in numbers:
        raise KeyError("unknown")
    return numbers


# --- 4. A mean without the padding


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


# --- 5. How loud, and when


def my_loudness(wave: Tensor, size: int, hop: int) -> Tensor:
    """The mean square of each window of `size` samples that starts every `hop` samples: (W,)."""
    starts = range(0, len(wave) - size + 1, hop)
    return torch.stack([wave[start : start + size].square().mean() for start in starts])


def _windows(wave: Tensor, size: int, hop: int, rest: bool = False) -> list[Tensor]:
    last = len(wave) if rest else len(wave) - size + 1
    return [wave[start : start + size] for start in range(0, last, hop)]


def _by_window(measure, wave: Tensor, size: int, hop: int, rest: bool = False) -> Tensor:
    return torch.stack([measure(window) for window in _windows(wave, size, hop, rest)])


def _loudness_cases() -> Cases:
    wave = torch.randn(23, generator=torch.Generator().manual_seed(0))
    return {
        "two windows": (torch.tensor([1.0, 1, 0, 2]), 2, 2),
        "windows that overlap": (torch.tensor([3.0, -1, 1, 3, 0]), 3, 1),
        "a rest that fills no window": (torch.tensor([1.0, 2, 3, 4, 9]), 2, 2),
        "one window": (torch.tensor([2.0, -2, 4]), 3, 1),
        "23 samples": (wave, 8, 3),
        "double precision, every second sample": (wave.double()[::2], 4, 2),
        "windows with gaps between them": (wave, 2, 5),
    }


loudness = Exercise(
    lesson="01",
    name="loudness",
    title="How loud, and when",
    minutes=8,
    difficulty=2,
    hints=(
        "Window number k holds the samples from k * hop up to k * hop + size. Which is the last "
        "window that is still whole?",
        "range(0, len(wave) - size + 1, hop) gives the starts. Or let wave.unfold(0, size, hop) "
        "cut all windows at once: (W, size).",
        "Square the samples first, then take the mean of each window.",
    ),
    why="Pressure swings up and down around 0, so its mean says nothing: squares do not cancel. "
    "`log_mel` does the same with each band of frequencies. With it you can find the pauses "
    "between words.",
    solution_function=my_loudness,
    cases=_loudness_cases,
    mistakes={
        "You took the mean of the samples. They cancel each other: square them first.": (
            lambda *inputs: _by_window(lambda window: window.mean(), *inputs)
        ),
        "You squared the mean. Take the mean of the squares.": (
            lambda *inputs: _by_window(lambda window: window.mean() ** 2, *inputs)
        ),
        "You took the mean of the absolute values. Take that of the squares.": (
            lambda *inputs: _by_window(lambda window: window.abs().mean(), *inputs)
        ),
        "You took the sum of the squares. Divide by the size of the window.": (
            lambda *inputs: _by_window(lambda window: window.square().sum(), *inputs)
        ),
        "You took the root as well. The mean square itself is wanted.": (
            lambda *inputs: _by_window(lambda window: window.square().mean().sqrt(), *inputs)
        ),
        "Your windows stand side by side. One starts every `hop` samples.": (
            lambda wave, size, hop: my_loudness(wave, size, size)
        ),
        "Your last windows are cut off. Only whole windows count.": (
            lambda *inputs: _by_window(lambda window: window.square().mean(), *inputs, rest=True)
        ),
        "The last whole window is missing: the last start is len(wave) - size.": (
            lambda wave, size, hop: (
                my_loudness(wave[:-1], size, hop) if len(wave) > size else wave[:0]
            )
        ),
    },
)
