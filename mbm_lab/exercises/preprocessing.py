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


def _own(train: Tensor, test: Tensor, mean_of: str, sd_of: str) -> tuple[Tensor, Tensor]:
    """Normalised with the mean and the spread of "train", of "test", or of "own" pictures."""
    answers = []
    for images in (train, test):
        sources = {"train": train, "test": test, "own": images}
        mean = sources[mean_of].mean((0, 2, 3), keepdim=True)
        sd = sources[sd_of].std((0, 2, 3), correction=0, keepdim=True)
        answers.append((images - mean) / sd)
    return answers[0], answers[1]


def _without_parentheses(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    mean = train.mean((0, 2, 3), keepdim=True)
    sd = train.std((0, 2, 3), correction=0, keepdim=True)
    return train - mean / sd, test - mean / sd


def _without_keepdim(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = train.mean((0, 2, 3)), train.std((0, 2, 3), correction=0)
    return (train - mean) / sd, (test - mean) / sd


def _between_0_and_1(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    low, high = train.amin((0, 2, 3), keepdim=True), train.amax((0, 2, 3), keepdim=True)
    return (train - low) / (high - low), (test - low) / (high - low)


def _one_spread(train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    mean, sd = train.mean((0, 2, 3), keepdim=True), train.std(correction=0)
    return (train - mean) / sd, (test - mean) / sd


def _normalise_cases() -> Cases:
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    train = torch.rand(6, 3, 4, 5, generator=generator) * scale
    test = torch.rand(4, 3, 4, 5, generator=generator) * scale + 0.3
    one = torch.tensor([[2.0, 0.0, 1.0], [4.0, 2.0, 5.0]]).view(2, 3, 1, 1)
    return {
        "two pictures of one pixel to train, one to test": (
            one, torch.tensor([5.0, 1.0, 3.0]).view(1, 3, 1, 1)),
        "two test pictures": (one, 2 * one + 3),
        "six and four colour pictures": (train, test),
        "a single test picture": (train, test[:1]),
        "numbers below zero": (train - 1, test - 1),
    }  # fmt: skip


def _normalise_beyond() -> Cases:
    train, test = _normalise_cases()["six and four colour pictures"]
    return {
        "double precision": (train.double(), test.double()),
        "every second picture (strided tensors)": (train[::2], test[::2]),
    }


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
    beyond=_normalise_beyond,
    mistakes={
        "You put training and test cards together to make the mean. Then the test has leaked into "
        "the training: use the training cards alone.": _pooled,
        "The test cards come out as they came in. They need the same treatment, with the mean and "
        "the spread that train had before it was changed.": _only_train,
        "You left the training cards as they were. They need the same treatment.": (
            lambda train, test: (train, my_normalise(train, test)[1])
        ),
        "The mean is that of the training cards now, but the test cards are still divided by their "
        "own standard deviation.": lambda train, test: _own(train, test, "train", "own"),
        "The standard deviation is that of the training cards now, but the test cards still lose "
        "their own mean.": lambda train, test: _own(train, test, "own", "train"),
        "You turned the sets round: mean and spread of the test cards are used for both.": (
            lambda train, test: _own(train, test, "test", "test")
        ),
        "You return the two sets in the wrong order: first train, then test.": (
            lambda train, test: my_normalise(train, test)[::-1]
        ),
        "Only the test cards come out. Return both sets: first train, then test.": (
            lambda train, test: my_normalise(train, test)[1]
        ),
        "Only the training cards come out. Return both sets: first train, then test.": (
            lambda train, test: my_normalise(train, test)[0]
        ),
        "What comes out is x - mean / sd: there only the mean is divided. Put parentheses around "
        "the difference.": _without_parentheses,
        "Without keepdim=True, mean and sd have the shape (3,), and PyTorch lays the three numbers "
        "along the columns W. They belong to the colours: (1, 3, 1, 1).": _without_keepdim,
        "You subtract each colour's own mean, but divide all colours by one standard deviation.": (
            _one_spread
        ),
        "You multiplied by the standard deviation: divide by it.": (
            lambda train, test: _by(train, test, power=-1.0)
        ),
        "You gave each picture its own mean. Then a dark card looks like a bright one: take the "
        "mean over all training cards.": (
            lambda train, test: _by(train, test, dims=(1, 2, 3), own=True)
        ),
        "You brought the colours between 0 and 1, by their smallest and largest number. Here the "
        "mean is subtracted, and the standard deviation divides.": _between_0_and_1,
        "You gave each colour of each picture its own mean. Take the mean over all training cards, "
        "too: dimensions 0, 2 and 3.": lambda train, test: _by(train, test, dims=(2, 3), own=True),
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


def _backwards(text: str, words: list[str]) -> list[str]:
    """Longest match on the text turned round: the words found are turned round, too."""
    return preprocessing.longest_match(text[::-1], [word[::-1] for word in words])


def _cut_so(text: str, words: list[str], shorter, longest: int = 99) -> list[str]:
    """The right cut, with another way to go on; `longest`: longer words are never looked for."""
    pieces = []
    while text:
        fitting = [word for word in words if text.endswith(word) and len(word) <= longest]
        piece = max(fitting, key=len, default=text[-1])
        pieces.insert(0, piece)
        text = shorter(text, piece)
    return pieces


def _rest_as_one(text: str, words: list[str]) -> list[str]:
    pieces = _until_unknown(text, words)
    rest = text[: len(text) - len("".join(pieces))]
    return [rest, *pieces] if rest else pieces


def _anywhere(text: str, words: list[str]) -> list[str]:
    pieces = []
    while text:
        pieces.insert(0, max([word for word in words if word in text], key=len, default=text[-1]))
        text = text[: -len(pieces[0])]
    return pieces


def _until_unknown(text: str, words: list[str]) -> list[str]:
    pieces = []
    for piece in reversed(my_cut(text, words)):
        if piece not in words:
            break
        pieces.insert(0, piece)
    return pieces


def _unknown_together(text: str, words: list[str]) -> list[str]:
    pieces: list[str] = []
    for piece in my_cut(text, words):
        if pieces and piece not in words and pieces[-1][-1:] and pieces[-1] not in words:
            pieces[-1] += piece
        else:
            pieces.append(piece)
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
        "a word twice": ("老鼠和老鼠", ["老鼠", "猫"]),
        "the text begins with a letter of its last word": ("鼠老鼠", ["老鼠"]),
        "a word of seven letters": ("seaside", ["sea", "side", "seaside", "de"]),
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
        "You take the last word of the list that fits. Take the longest of all that fit.": (
            lambda text, words: _cut_right(text, words, lambda fit, key, default: (
                fit[-1] if fit else default))
        ),
        "Of the words that fit you take the last in the order of the alphabet: max needs key=len "
        "to look at lengths.": (
            lambda text, words: _cut_right(text, words, lambda fit, key, default: (
                max(fit, default=default)))
        ),
        "Only the word at the end comes out. Go on with the rest of the text; does `return` stand "
        "inside the loop?": lambda text, words: my_cut(text, words)[-1:],
        "Only the word at the beginning comes out: collect all of them in a list.": (
            lambda text, words: my_cut(text, words)[:1]
        ),
        "You stop at a character that no word holds. It is a word of its own: go on before it.": (
            _until_unknown
        ),
        "Several characters that no word holds become one word. Each is a word of its own.": (
            _unknown_together
        ),
        "A word that occurs twice gets lost: replace takes it away everywhere. Cut it off at the "
        "end only, text[: -len(word)].": lambda text, words: _cut_so(
            text, words, lambda text, piece: text.replace(piece, "")),
        "Too much is cut off: rstrip(word) takes away every letter of the word, in any order. Use "
        "removesuffix(word), or text[: -len(word)].": lambda text, words: _cut_so(
            text, words, lambda text, piece: text.rstrip(piece)),
        "After each word you go on by one character. Cut off the whole word.": (
            lambda text, words: _cut_so(text, words, lambda text, piece: text[:-1])
        ),
        "Words of more than three characters are never found. Look for words of any length.": (
            lambda text, words: _cut_so(
                text, words, lambda text, piece: text[: -len(piece)], longest=3)
        ),
        "Words of more than two characters are never found. Look for words of any length.": (
            lambda text, words: _cut_so(
                text, words, lambda text, piece: text[: -len(piece)], longest=2)
        ),
        "Text and words are turned round, and so is your answer: turn round the list and each of "
        "its words.": _backwards,
        "The order is right, but each word is spelt backwards: turn round its letters, too.": (
            lambda text, words: _backwards(text, words)[::-1]
        ),
        "Where no word fits, the whole rest becomes one word. Only its last character does: then "
        "go on.": _rest_as_one,
        "You take the longest word that stands anywhere in the text. It must stand at the end: "
        "text.endswith(word).": _anywhere,
        "You return one text with spaces. A list of words is wanted.": (
            lambda text, words: " ".join(my_cut(text, words))
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


def _of_counts(sentences: Sequence[Sequence[str]], new: Sequence[str], min_count: int) -> list[int]:
    counts = Counter(word for sentence in sentences for word in sentence)
    return [counts[word] if counts[word] >= min_count else 1 for word in new]


def _ties_share(
    sentences: Sequence[Sequence[str]], new: Sequence[str], min_count: int
) -> list[int]:
    counts = Counter(word for sentence in sentences for word in sentence)
    ranks = sorted({count for count in counts.values() if count >= min_count}, reverse=True)
    return [4 + ranks.index(counts[word]) if counts[word] in ranks else 1 for word in new]


def _backwards_alphabet(sentences: list[list[str]], new: list[str], min_count: int) -> list[int]:
    counts = Counter(word for sentence in sentences for word in sentence)
    kept = [word for word in counts if counts[word] >= min_count]
    kept.sort(key=lambda word: (counts[word], word), reverse=True)
    index = {word: number for number, word in enumerate(kept, start=4)}
    return [index.get(word, 1) for word in new]


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
        "Your numbers begin at 5: 0, 1, 2 and 3 are the four special words, so 4 is free.": (
            lambda *inputs: _numbers(*inputs, start=5)
        ),
        "Your numbers begin at 1, but 0 to 3 are taken by the special words: begin at 4.": (
            lambda *inputs: _numbers(*inputs, start=1)
        ),
        "Your numbers begin at 2, but 0 to 3 are taken by the special words: begin at 4.": (
            lambda *inputs: _numbers(*inputs, start=2)
        ),
        "Your numbers begin at 3, but 0 to 3 are taken by the special words: begin at 4.": (
            lambda *inputs: _numbers(*inputs, start=3)
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
        "Words of the same count stand in the order of the alphabet backwards. reverse=True turns "
        "round both: sort by (-counts[word], word) instead.": _backwards_alphabet,
        "Words of the same count got the same number. Each word needs its own.": _ties_share,
        "Unknown words became None. index.get(word, 1) gives 1 for them.": (
            lambda *inputs: [n if n >= 0 else None for n in _numbers(*inputs, unknown=-1)]
        ),
        "Unknown words became −1. They are 1.": lambda *inputs: _numbers(*inputs, unknown=-1),
        "Unknown words became 3, which is another special word. They are 1.": (
            lambda *inputs: _numbers(*inputs, unknown=3)
        ),
        "Your vocabulary counts the new sentence, too. Count the given sentences alone.": (
            lambda sentences, new, min_count: _numbers([*sentences, new], new, min_count)
        ),
        "Only the first sentence is counted. Count the words of all sentences, and then number "
        "them; does `return` stand inside the loop?": (
            lambda sentences, new, min_count: _numbers(sentences[:1], new, min_count)
        ),
        "Only the last sentence is counted. Make the dictionary of counts once, before the loop "
        "over the sentences.": (
            lambda sentences, new, min_count: _numbers(sentences[-1:], new, min_count)
        ),
        "This holds for the words of the example alone. Other sentences have other words: count "
        "them.": lambda sentences, new, min_count: [
            {"the": 4, "sea": 5}.get(word, 1) for word in new
        ],
        "These are the counts of the words. The number of a word is its place in the sorted "
        "vocabulary, from 4 on.": _of_counts,
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
    return values.masked_fill(~mask, 0).sum(1) / lengths


def _mask(values: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(values.shape[1]) < lengths[:, None]


def _counting_non_zero(values: Tensor, lengths: Tensor, masked: bool) -> Tensor:
    """The mean of all entries that are not 0, of the words alone or of whole rows."""
    values = values * _mask(values, lengths) if masked else values
    return values.sum(1) / (values != 0).sum(1)


def _mask_as_row(values: Tensor, lengths: Tensor) -> Tensor:
    return (values * (torch.arange(values.shape[1]) < lengths)).sum(1) / lengths


def _mean_cases() -> Cases:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(6, 5, generator=generator)
    lengths = torch.tensor([3, 5, 1, 2, 4, 5])
    return {
        "one row, padded with 0": (torch.tensor([[0.6, 0.8, 0.0, 0.0]]), torch.tensor([2])),
        "one row, where something else stands in the padding": (
            torch.tensor([[0.6, 0.8, 9.0]]), torch.tensor([2])),
        "a word whose number is 0": (torch.tensor([[0.0, 2.0, 9.0]]), torch.tensor([2])),
        "two rows": (torch.tensor([[1.0, 2, 3, 7], [4.0, 0, 5, 5]]), torch.tensor([3, 1])),
        "six rows": (values, lengths),
        "as many rows as columns": (values[:5], lengths[:5]),
        "no padding": (values, torch.full((6,), 5)),
    }  # fmt: skip


def _mean_beyond() -> Cases:
    values, lengths = _mean_cases()["six rows"]
    return {
        "nan in the padding": (torch.tensor([[0.6, 0.8, float("nan")]]), torch.tensor([2])),
        "double precision, every second row": (values.double()[::2], lengths[::2]),
        "no row": (values[:0], lengths[:0]),
    }


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
    why="The mask is True where the place is smaller than the row's length. masked_fill puts 0 "
    "where it is not; values * mask does the same for every number, but not for nan, since nan "
    "times 0 is nan. The sum then holds the words alone, and dividing by the length gives their "
    "mean. The column lengths[:, None] meets the row torch.arange(T), and PyTorch compares each "
    "with each.",
    solution_function=my_masked_mean,
    cases=_mean_cases,
    beyond=_mean_beyond,
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
        "You divided by the number of entries that are not 0. A word's number may be 0 and counts: "
        "divide by the length.": lambda *inputs: _counting_non_zero(*inputs, masked=True),
        "You took the mean of all entries that are not 0. But the padding is not always 0, and a "
        "word's number may be: only the lengths tell.": (
            lambda *inputs: _counting_non_zero(*inputs, masked=False)
        ),
        "Several rows do not work: lengths must stand as a column, lengths[:, None], so that each "
        "row of the mask has its own length.": _mask_as_row,
        "The last number of each row is left out of the sum: a row of length 2 has the places 0 "
        "and 1.": lambda values, lengths: (values * _mask(values, lengths - 1)).sum(1) / lengths,
        "Your mask is one place too long, in the sum and in the count: a row of length 2 has the "
        "places 0 and 1, so use < and not <=.": (
            lambda values, lengths: (
                (values * _mask(values, lengths + 1)).sum(1) / _mask(values, lengths + 1).sum(1)
            )
        ),
        "You rounded the numbers to whole ones before the sum. Leave them as they are.": (
            lambda values, lengths: (values.long() * _mask(values, lengths)).sum(1) / lengths
        ),
        "A column (B, 1) divided by a row (B,) gives a table (B, B). Sum without keepdim, so that "
        "both are (B,).": lambda values, lengths: (
            (values * _mask(values, lengths)).sum(1, keepdim=True) / lengths
        ),
        "You divided by the length minus 1. That is for a spread; a mean divides by the length.": (
            lambda values, lengths: (values * _mask(values, lengths)).sum(1) / (lengths - 1)
        ),
        "You divided by the length plus 1: divide by the length.": (
            lambda values, lengths: (values * _mask(values, lengths)).sum(1) / (lengths + 1)
        ),
        "Your mask is the wrong way round: this sums the padding.": (
            lambda values, lengths: (values * ~_mask(values, lengths)).sum(1) / lengths
        ),
        "You cut all rows to the shortest length. Each row has its own.": (
            lambda values, lengths: values[:, : lengths.min()].mean(1)
        ),
        "You cut all rows to the largest length. Each row has its own.": (
            lambda values, lengths: values[:, : lengths.max()].mean(1)
        ),
        "You cut all rows to the length of the first. Each row has its own.": (
            lambda values, lengths: values[:, : lengths[0]].mean(1)
        ),
        "// divides and rounds down to a whole number: divide with /.": (
            lambda values, lengths: (values * _mask(values, lengths)).sum(1) // lengths
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
        "windows with gaps between them": (wave, 2, 5),
        "a pause of zeros": (torch.tensor([0.0, 0, 0, 3, 1]), 2, 1),
    }


def _loudness_beyond() -> Cases:
    wave = _loudness_cases()["23 samples"][0]
    return {"double precision, every second sample": (wave.double()[::2], 4, 2)}


def _rest_with_zeros(wave: Tensor, size: int, hop: int) -> Tensor:
    windows = _windows(wave, size, hop, rest=True)
    return torch.stack([window.square().sum() / size for window in windows])


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
    beyond=_loudness_beyond,
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
        "A window of yours starts at every sample. One starts every `hop` samples.": (
            lambda wave, size, hop: my_loudness(wave, size, 1)
        ),
        "You swapped size and hop: a window has `size` samples, and one starts every `hop`.": (
            lambda wave, size, hop: my_loudness(wave, hop, size)
        ),
        "You filled the last windows up with zeros. Only whole windows count.": _rest_with_zeros,
        "You made len(wave) // hop windows. The last of them are not whole; there are "
        "(len(wave) - size) // hop + 1.": lambda wave, size, hop: torch.stack(
            [wave[i * hop :][:size].square().mean() for i in range(len(wave) // hop)]
        ),
        "You divided by hop. The mean of a window divides by its size.": (
            lambda wave, size, hop: my_loudness(wave, size, hop) * size / hop
        ),
        "You divided by the length of the wave. The mean of a window divides by its size.": (
            lambda wave, size, hop: my_loudness(wave, size, hop) * size / len(wave)
        ),
        "You took the variance, which subtracts the mean of each window first. The mean of the "
        "squares is wanted.": (
            lambda *inputs: _by_window(lambda window: window.var(correction=0), *inputs)
        ),
        "You took the standard deviation. The mean of the squares is wanted.": (
            lambda *inputs: _by_window(lambda window: window.std(correction=0), *inputs)
        ),
        "You took the absolute value after the mean. By then the samples have cancelled each "
        "other: square them first.": (
            lambda *inputs: _by_window(lambda window: window.mean().abs(), *inputs)
        ),
        "You took the largest square. The mean of the squares is wanted.": (
            lambda *inputs: _by_window(lambda window: window.square().max(), *inputs)
        ),
        "You summed first and squared then: square each sample first.": (
            lambda *inputs: _by_window(lambda window: window.sum() ** 2 / len(window), *inputs)
        ),
        "Only the first window comes out. Does `return` stand inside the loop?": (
            lambda *inputs: my_loudness(*inputs)[:1]
        ),
        "This is the mean square of the whole wave. Each window has its own.": (
            lambda wave, size, hop: wave.square().mean()
        ),
        "This is the mean over all windows. Each keeps its own number.": (
            lambda *inputs: my_loudness(*inputs).mean()
        ),
        "This is in decibels, 10 · log10 of what is wanted. Return the mean square itself.": (
            lambda *inputs: 10 * my_loudness(*inputs).log10()
        ),
    },
)
