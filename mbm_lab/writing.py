"""Writing sentences word after word, and judging them (lessons 06, 08, 09, 10, 12).

The first part writes, greedily or with a beam, for any decoder; the second turns sentences into
numbers and back, for teacher forcing; the third compares what was written with what is true.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbm_lab import arguments, preprocessing, training
from mbm_lab.device import device_of
from mbm_lab.preprocessing import BOS, EOS, PAD, UNK

START = {"en": "<en>", "zh": "<zh>"}
"""The word that begins a caption in each language: it tells the decoder which language to write.
A decoder that writes only one language needs no such word, and begins with <bos>."""

LANGUAGES = ("en", "zh", "de")
"""The languages that are written and judged."""

LONGEST = 24
"""The most words that a decoder writes before it is stopped."""

Captions = Sequence[tuple[str, Sequence[str]]]
"""Pairs (language, N sentences): several captions of the same N pictures."""

State = tuple[Tensor, ...]
"""What a decoder remembers between two words: tensors (B, …), one row for each sentence."""


# --- Writing, word after word


@torch.no_grad()
def greedy(decoder: nn.Module, state: State, first: int = BOS, longest: int = LONGEST) -> Tensor:
    """Writes a sentence for each row of the state, always taking the likeliest word. Lesson 06.

    decoder.step(words (B,), state) gives the next word's scores (B, V) and the new state; first:
    the word that begins every sentence. Returns (B, T), where the state is, without `first`: after
    the word EOS a row is filled up with PAD. Raises ValueError when the state holds no sentence,
    and when `longest` is below 1.
    """
    arguments.check_count("first", first, 0, BOS)
    arguments.check_count("longest", longest, 1, LONGEST)
    check_state(state)
    home = state[0].device
    here = device_of(decoder, home)
    state = tuple(values.to(here) for values in state)
    words = torch.full((len(state[0]),), first, device=here)
    written, ended = [], torch.zeros_like(words, dtype=torch.bool)
    while len(written) < longest and not bool(ended.all()):
        scores, state = decoder.step(words, state)
        words = scores.argmax(1)
        written.append(words.masked_fill(ended, PAD))
        ended |= words == EOS
    return torch.stack(written, 1).to(home)


@torch.no_grad()
def sample(
    decoder: nn.Module,
    state: State,
    first: int = BOS,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    longest: int = LONGEST,
) -> Tensor:
    """Writes a sentence for each row of the state, drawing each word by its probability. Lesson 13.

    temperature: scores are divided by it, so that below 1 likely words become likelier still, and
    above 1 rare ones less rare. top_p: only the likeliest words that together have this probability
    are drawn from, see `likeliest`. Everything else is as in `greedy`; the seed decides the draws.
    Raises ValueError when the temperature or top_p is not above 0, or top_p above 1.
    """
    arguments.check_positive("temperature", temperature, 0.7)
    arguments.check_count("first", first, 0, BOS)
    arguments.check_count("longest", longest, 1, LONGEST)
    arguments.check_seed(seed)
    check_state(state)
    home = state[0].device
    here = device_of(decoder, home)
    state = tuple(values.to(here) for values in state)
    generator = torch.Generator().manual_seed(seed)
    words = torch.full((len(state[0]),), first, device=here)
    written, ended = [], torch.zeros_like(words, dtype=torch.bool)
    while len(written) < longest and not bool(ended.all()):
        scores, state = decoder.step(words, state)
        scores = scores.cpu().double()
        scores = (scores - scores.amax(1, keepdim=True)) / temperature  # at most 0: none too large
        chances = likeliest(scores.softmax(1), top_p)
        words = torch.multinomial(chances, 1, generator=generator)[:, 0].to(here)
        written.append(words.masked_fill(ended, PAD))
        ended |= words == EOS
    return torch.stack(written, 1).to(home)


def likeliest(chances: Tensor, top_p: float) -> Tensor:
    """The likeliest words alone, with probabilities that sum to 1 again: (N, V) to (N, V).

    As few of them as together have at least the probability top_p, and always one; all others
    become 0. Called top-p or nucleus sampling (Holtzman et al., 2020). Lesson 13. Raises ValueError
    for another shape, for what is no probabilities, and when top_p is not above 0 and at most 1.
    """
    arguments.check_tensor("chances", chances)
    arguments.check_positive("top_p", top_p, 0.9)
    if chances.ndim != 2 or chances.shape[1] == 0 or top_p > 1:
        raise ValueError(
            f"likeliest takes probabilities (N, V) and a top_p of at most 1, and got "
            f"{tuple(chances.shape)} and {top_p}: pass scores.softmax(1), and a top_p such as 0.9."
        )
    if len(chances) == 0:
        return chances.clone()
    arguments.check_finite("The probabilities", chances)
    far = (chances.sum(1) - 1).abs()
    if not chances.is_floating_point() or chances.min() < 0 or far.max() > 0.01:
        row = int(far.argmax())
        raise ValueError(
            "likeliest takes probabilities, which are fractions of at least 0 with sum 1 in each "
            f"row, and these go from {chances.min().item():.3g} to {chances.max().item():.3g}, and "
            f"sum to {chances[row].sum().item():.3g} in row {row}: pass scores.softmax(1)."
        )
    falling, order = chances.sort(dim=1, descending=True, stable=True)
    before = falling.cumsum(1) - falling  # (N, V): the probability of all likelier words
    kept = falling.masked_fill((before >= top_p) & (top_p < 1), 0)
    kept = torch.zeros_like(chances).scatter(1, order, kept)
    return kept / kept.sum(1, keepdim=True)


@torch.no_grad()
def beam_search(
    decoder: nn.Module,
    state: State,
    first: int = BOS,
    width: int = 3,
    longest: int = LONGEST,
    length_power: float = 0.0,
) -> list[tuple[list[int], float]]:
    """The likeliest sentences that a beam of `width` finds, best first, with log p. Lesson 06.

    Each step goes on from the `width` likeliest beginnings with every word, and keeps the `width`
    likeliest of all these (Lowerre, 1976). state: of one sentence, tensors (1, …). A sentence has
    neither `first` nor EOS; log p is the sum of the logarithms of its words' probabilities, EOS
    among them. "Best" is the largest log p / length**length_power, with EOS in the length: 0 is
    log p itself, 1 its mean over the words, which is fairer to long sentences.

    Raises ValueError when the state holds more than one sentence, or width or `longest` are below
    1.
    """
    arguments.check_count("width", width, 1, 3)
    arguments.check_count("first", first, 0, BOS)
    arguments.check_count("longest", longest, 1, LONGEST)
    check_state(state)
    if len(state[0]) != 1:
        raise ValueError(
            "beam_search writes for one example at a time, with a width of at least 1: it got "
            f"{len(state[0])} examples and width {width}. Pass one row of the state."
        )
    here = device_of(decoder, state[0].device)
    state = tuple(values.to(here) for values in state)
    beginnings: list[tuple[list[int], float]] = [([first], 0.0)]
    finished: list[tuple[list[int], float]] = []
    for _ in range(longest):
        words = torch.tensor([sentence[-1] for sentence, _ in beginnings], device=here)
        scores, state = decoder.step(words, state)
        log_p = scores.log_softmax(1)  # (beginnings, V)
        log_p += torch.tensor([total for _, total in beginnings], device=here)[:, None]
        totals, places = log_p.flatten().topk(min(width, log_p.numel()))
        grown, rows = [], []
        for total, place in zip(totals.tolist(), places.tolist(), strict=True):
            row, word = divmod(place, log_p.shape[1])
            sentence = beginnings[row][0]
            if word == EOS:
                finished.append((sentence[1:], total))
            else:
                grown.append(([*sentence, word], total))
                rows.append(row)
        finished.sort(key=lambda pair: -pair[1] / (len(pair[0]) + 1) ** length_power)
        del finished[width:]
        # adding words only lowers log p, so a beginning below all finished sentences cannot win
        if not grown:
            break
        if length_power == 0 and len(finished) == width and finished[-1][1] >= grown[0][1]:
            break
        beginnings, state = grown, tuple(values[rows] for values in state)
    return finished or [(sentence[1:], total) for sentence, total in beginnings]


def check_state(state: State) -> None:
    """Raises ValueError unless this is a decoder's state, with at least one sentence."""
    if not isinstance(state, tuple) or not state or not isinstance(state[0], Tensor):
        raise arguments.ArgumentError(
            f"The state is {arguments.kind(state)} and must be a tuple of tensors: pass what "
            "decoder.start(…) gives."
        )
    if len(state[0]) == 0:
        raise arguments.ArgumentError("The state holds no sentence: pass at least one picture.")


def write(
    decoder: nn.Module, state: State, vocabulary: preprocessing.Vocabulary, language: str
) -> list[str]:
    """A sentence of this language for each row of the state, written greedily by a decoder in
    evaluation mode."""
    with training.evaluating(decoder):
        written = greedy(decoder, state, first_word(language, vocabulary))
    return read_out(written, vocabulary, language)


# --- Sentences as numbers


def build_vocabulary(captions: Captions, min_count: int = 1) -> preprocessing.Vocabulary:
    """The words that occur at least `min_count` times in these captions, numbered; the words of
    START come first. Lesson 06."""
    arguments.check_count("min_count", min_count, 1, 1)
    starts = [[word] for word in START.values()]
    words = [preprocessing.tokenize(text, language) for language, texts in captions
             for text in texts]  # fmt: skip
    return preprocessing.Vocabulary.build(starts * (min_count + len(words)) + words, min_count)


def encode(text: str, language: str, vocabulary: preprocessing.Vocabulary) -> list[int]:
    """A sentence as numbers, with its language's first word and EOS around it. Lesson 06.

    Raises ValueError when the text is empty, and when the vocabulary knows none of its words.
    """
    words = preprocessing.tokenize(text, language)
    numbers = vocabulary.encode(words)
    known = (word for number, word in zip(numbers, words, strict=True) if number != UNK)
    if not any(map(preprocessing.has_word, known)):
        raise ValueError(
            f'The vocabulary knows no word of "{text}": write in a language and script that it was '
            f"built from, and name the language (here {language!r})."
        )
    return [first_word(language, vocabulary), *numbers, EOS]


def first_word(language: str, vocabulary: preprocessing.Vocabulary) -> int:
    """The number of the word that begins a sentence in this language: its START, or <bos>.

    Raises ValueError for another language, and when the vocabulary has no such word.
    """
    arguments.check_choice("language", language, LANGUAGES)
    word = START.get(language, "<bos>")
    if word not in vocabulary.index:
        raise ValueError(
            f"This vocabulary has no {word}, with which a sentence in {language!r} begins: make it "
            "with writing.build_vocabulary."
        )
    return vocabulary.index[word]


def teacher_forcing(
    captions: Captions, vocabulary: preprocessing.Vocabulary
) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it should say next: two tensors (N, K, T). Lesson 06.

    captions: K pairs (language, N sentences). The prefix begins with the language's START word; the
    target is the same sentence one word further on, to EOS. Both are padded with PAD.
    Raises ValueError as `encode` does, when there is none, and when the K lists differ in length.
    """
    if not captions:
        raise ValueError("teacher_forcing got no captions: pass at least one pair.")
    if len({len(texts) for _, texts in captions}) != 1:
        lengths = ", ".join(str(len(texts)) for _, texts in captions)
        raise ValueError(
            "Every picture needs as many captions as the others: the lists differ in length "
            f"({lengths}), so fill them up or cut them."
        )
    for _, texts in captions:
        arguments.check_texts("teacher_forcing", captions=texts)
    rows = [
        [encode(text, language, vocabulary) for text in texts] for language, texts in captions
    ]  # K lists of N sentences
    flat = [sentence for sentences in zip(*rows, strict=True) for sentence in sentences]
    prefix = preprocessing.pad([sentence[:-1] for sentence in flat])
    target = preprocessing.pad([sentence[1:] for sentence in flat])
    return prefix.unflatten(0, (-1, len(captions))), target.unflatten(0, (-1, len(captions)))


def next_word_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the next word, averaged over the words that are not padding. Lesson 06.

    scores (…, V), target (…). Raises ValueError for other shapes.
    """
    if scores.ndim < 2 or scores.shape[:-1] != target.shape or target.dtype != torch.int64:
        raise ValueError(
            f"next_word_loss needs scores (…, V) and the next words' numbers (…) as int64, and got "
            f"{tuple(scores.shape)} and {tuple(target.shape)} of {arguments.dtype(target)}: pass "
            "what teacher_forcing gives."
        )
    return nn.functional.cross_entropy(scores.flatten(0, -2), target.flatten(), ignore_index=PAD)


def spell(words: Sequence[str], language: str) -> str:
    """Words as one line: with spaces, or in Chinese without. Raises ValueError for another
    language."""
    arguments.check_choice("language", language, LANGUAGES)
    return "".join(words) if language == "zh" else " ".join(words)


def read_out(written: Tensor, vocabulary: preprocessing.Vocabulary, language: str) -> list[str]:
    """Rows of word numbers (N, T), as `greedy` writes them, as sentences. Lesson 06.

    Raises ValueError for another shape, and for a number that the vocabulary does not have.
    """
    arguments.check_tokens("read_out", written, len(vocabulary))
    sentences = []
    for row in written.tolist():
        row = row[: row.index(EOS)] if EOS in row else row
        sentences.append(spell(vocabulary.decode(row), language))
    return sentences


def tidy(captions: Sequence[str], language: str) -> list[str]:
    """Captions in the form in which a model writes them, so that the two can be compared.

    Raises ValueError as `preprocessing.tokenize` does, and for one text instead of several.
    """
    if len(captions) > 0:
        arguments.check_texts("tidy", captions=captions)
    return [spell(preprocessing.tokenize(text, language), language) for text in captions]


# --- How good is it?


def exact(written: Sequence[str], true: Sequence[str]) -> Tensor:
    """Whether each sentence is the true one, word for word: (N,) bool. Lesson 06.

    Raises ValueError unless there are as many true sentences as written ones.
    """
    arguments.check_texts("exact", written=written, true=true)
    return torch.tensor([ours == theirs for ours, theirs in zip(written, true, strict=True)])


def bleu(
    written: Sequence[str], true: Sequence[str | Sequence[str]], language: str = "en"
) -> float:
    """BLEU by sacrebleu, 0 to 100 (Papineni et al., 2002; Post, 2018). Lesson 06.

    true: the N true sentences, or for each written one several that are equally true. How many
    runs of one to four words of the written sentences occur in the true ones; written text that is
    too short is punished. Chinese is compared character by character.
    Raises ValueError unless there are as many true sentences as written ones, and each written one
    has equally many.
    """
    arguments.check_texts("bleu", written=written)
    arguments.check_lists("bleu", written=written, true=true)
    arguments.check_choice("language", language, LANGUAGES)
    import sacrebleu

    tokenizer = "zh" if language == "zh" else "13a"
    several = [[one] if isinstance(one, str) else list(one) for one in true]
    counts = {len(one) for one in several}
    if len(counts) > 1 or counts == {0}:
        raise ValueError(
            "bleu needs equally many true sentences for each written one, and got "
            f"{min(counts)} to {max(counts)}: pass as many for each."
        )
    for one in several:
        arguments.check_texts("bleu", true=one)
    references = [list(column) for column in zip(*several, strict=True)]
    score = sacrebleu.corpus_bleu(list(written), references, force=True, tokenize=tokenizer)
    return score.score  # force: no advice about a space before the full stop
