"""One model for every task of lessons 04 to 10 (lesson 13).

Pictures, films, voices and words become tokens of one sequence, an instruction says what is wanted,
and a transformer (`attention`) writes the answer, word after word.
"""

from __future__ import annotations

import functools
import math
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mbm_lab import (
    arguments,
    attention,
    captioning,
    cnn,
    datasets,
    fusion,
    postcards,
    preprocessing,
    questions,
    speech,
    stored,
    training,
    translation,
    video,
    writing,
)
from mbm_lab.device import device_of, seeded
from mbm_lab.preprocessing import BOS, EOS, PAD, SPECIAL_WORDS, UNK
from mbm_lab.stored import Result
from mbm_lab.writing import State

# --- Everything becomes tokens

PATCHES, PATCH = 16, 128
"""A picture becomes 16 tokens: 4 × 4 patches of 128 numbers, see `picture_patches`."""

LONGEST_VOICE = 50
"""The most frames of a voice: 4 seconds, 80 milliseconds each."""

LONGEST_PROMPT = 32
"""The most words of a prompt: the instruction, and what is asked or told."""

LONGEST_WORDS = LONGEST_PROMPT + writing.LONGEST
"""The most words of a sequence: the prompt, and the answer."""

SIZES = {
    "picture": (PATCHES, PATCH),
    "film": (8, video.FRAME),
    "voice": (LONGEST_VOICE, 128),
}
"""For each modality but words: the most tokens, and the numbers of each."""


def picture_patches(images: Tensor, seed: int = 0) -> Tensor:
    """Pictures (N, 3, 64, 64) as 16 patches of the stored captioner's convolutions: (N, 16, 128).

    The encoder of lesson 06 stays as it is (the design of LLaVA: Liu et al., 2023). Each 2 × 2
    cells of its last map make one patch, row by row. Raises ValueError as `captioning.image_cells`.
    """
    captioner, _ = stored.load("captioner", seed)
    cells = captioning.image_cells(captioner.encoder, images)  # (N, 64, 32)
    maps = cells.transpose(1, 2).unflatten(2, (8, 8))  # (N, 32, 8, 8)
    return nn.functional.pixel_unshuffle(maps, 2).flatten(2).transpose(1, 2)  # (N, 16, 128)


def raw_patches(images: Tensor) -> Tensor:
    """Pictures as 16 patches of 16 × 16 pixels, normalised: (N, 3, 64, 64) to (N, 16, 768).

    As the Vision Transformer takes them (Dosovitskiy et al., 2021). Raises ValueError as
    `cnn.ImageEncoder` for pictures that it refuses.
    """
    arguments.check_pictures("raw_patches", images)
    cnn.check_shape("raw_patches", images)
    pixels = preprocessing.normalise(images)
    return nn.functional.pixel_unshuffle(pixels, 16).flatten(2).transpose(1, 2)


def cover(images: Tensor, patch: int) -> Tensor:
    """Pictures (N, 3, 64, 64) with grey over one of the 16 squares, as a copy.

    patch: from 0 to 15, row by row, as `picture_patches` counts them. Raises ValueError for another
    patch, and as `cnn.ImageEncoder` for pictures that it refuses. Lesson 13.
    """
    arguments.check_pictures("cover", images)
    arguments.check_count("patch", patch, 0, 5, PATCHES - 1)
    across = round(PATCHES**0.5)
    side = images.shape[-1] // across
    top, left = (side * place for place in divmod(int(patch), across))
    covered = images.clone()
    covered[..., top : top + side, left : left + side] = 0.5
    return covered


def voice_frames(inputs: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """Recordings, as `speech.mels_of` gives them, as what lesson 09's recogniser hears of them.

    {"voice": (N, 50, 128), frames of 80 milliseconds, 0 after the end, "frames": (N,), how many
    there are}. Raises ValueError for anything else than `mels_of` gives, and for NaN.
    """
    if not isinstance(inputs, dict) or not {"mel", "frames"} <= inputs.keys():
        raise arguments.ArgumentError(
            f"voice_frames takes what speech.mels_of gives, and got {arguments.kind(inputs)} "
            'without "mel" and "frames": pass speech.mels_of([recording, …]).'
        )
    arguments.check_finite('voice_frames: the powers of "mel"', inputs["mel"])
    helped, _ = stored.load("recogniser", seed)
    with training.evaluating(helped.alone):
        states, over = helped.alone.states(inputs)  # (N, T, 128), (N, T)
    states = states.masked_fill(over[..., None], 0)[:, :LONGEST_VOICE]
    states = nn.functional.pad(states, (0, 0, 0, LONGEST_VOICE - states.shape[1]))
    return {"voice": states, "frames": (~over).sum(1).clamp(max=LONGEST_VOICE)}


# --- Tasks


class Task(NamedTuple):
    """sees: "picture", "film" or "voice"; reads: the language of the prompt, "" for none; writes:
    the language of the answer, or "number" for a mood."""

    sees: str
    reads: str
    writes: str


TASKS = {
    "<caption en>": Task("picture", "", "en"),
    "<caption zh>": Task("picture", "", "zh"),
    "<translate>": Task("picture", "en", "zh"),
    "<ask>": Task("picture", "en", "en"),
    "<mood>": Task("picture", "en", "number"),
    "<film>": Task("film", "", "en"),
    "<transcribe>": Task("voice", "", "en"),
}
"""What the model can be told to do: its instructions, each of which is a word."""

BLIND = ("<translate>", "<mood>")
"""Tasks that can be tried without their picture, too."""

MOODS = [f"<{tenth / 10:+.1f}>" for tenth in range(-10, 11)]
"""The words for a mood: "<-1.0>", "<-0.9>", … "<+1.0>"."""

MOOD_VALUES = torch.arange(-10, 11) / 10


def mood_word(mood: float) -> str:
    """The word for a mood from -1 to 1: 0.234 is "<+0.2>". Raises ValueError for other numbers."""
    arguments.check_number("mood", mood, 0.2)
    if not -1 <= mood <= 1:
        raise ValueError(f"A mood is between -1 and 1, and this is {mood}: divide it, or cut it.")
    return MOODS[round(10 * mood) + 10]


def build_vocabulary(
    cards: datasets.Postcards, asked: Sequence[questions.Question]
) -> preprocessing.Vocabulary:
    """One vocabulary for all: the special words, the instructions, the numbers, and the words of
    these cards and questions, English and Chinese."""
    texts = {
        "en": [*cards.captions, *cards.messages, *filter(None, cards.summaries),
               *filter(None, cards.note_texts),
               *(text for one in asked for text in (one.text, one.answer))],
        "zh": cards.captions_zh,
    }  # fmt: skip
    words = {
        word for language, several in texts.items() for text in set(several)
        for word in preprocessing.tokenize(text, language)
    }  # fmt: skip
    return preprocessing.Vocabulary([*SPECIAL_WORDS, *TASKS, *MOODS, *sorted(words)])


def prompt(task: str, text: str | None, vocabulary: preprocessing.Vocabulary) -> list[int]:
    """An instruction, and what is asked or told, as numbers. text: None where there is none.

    An instruction inside of a text is none: "<mood>" is cut into "<", "mood" and ">".
    Raises ValueError for an unknown instruction, a text for a task that reads none, a task without
    the text that it reads (only a mood can do without), a text of which the vocabulary knows no
    word, and one that is too long.
    """
    arguments.check_choice("instruction", task, TASKS)
    if task not in vocabulary.index:
        raise ValueError(
            f"This vocabulary has no instruction {task}: make it with one_model.build_vocabulary."
        )
    reads = TASKS[task].reads
    if text is None and reads and task != "<mood>":
        raise ValueError(f"{task} reads a text, and got None: pass what to translate, or to ask.")
    if text is None:
        return [vocabulary.index[task]]
    if not reads:
        raise ValueError(f"{task} reads no text, and got {text!r}: leave the text out.")
    if not isinstance(text, str):
        raise arguments.ArgumentError(
            f"{task} reads a text, and got {arguments.kind(text)}: pass a text, or a list of texts "
            "where there are several."
        )
    words = preprocessing.tokenize(text, reads)
    if len(words) >= LONGEST_PROMPT:
        raise ValueError(
            f"A prompt has at most {LONGEST_PROMPT} words, the instruction among them, and "
            f'"{text[:40]}…" makes {len(words) + 1}: shorten it, since the model has learned no '
            "places beyond."
        )
    numbers = _encode(words, text, vocabulary)
    return [vocabulary.index[task], *numbers]


def _encode(words: list[str], text: str, vocabulary: preprocessing.Vocabulary) -> list[int]:
    """The numbers of a text's words. Raises ValueError when it knows none but marks."""
    numbers = vocabulary.encode(words)
    known = (word for word, number in zip(words, numbers, strict=True) if number != UNK)
    if not any(map(preprocessing.has_word, known)):
        raise ValueError(
            f'The vocabulary knows no word of "{text}": write with the words of the postcards.'
        )
    return numbers


def prompts(task: str, texts: Sequence[str | None], vocabulary: preprocessing.Vocabulary) -> Tensor:
    """One prompt a text, padded: (N, T). Raises ValueError as `prompt`, and when there is none."""
    arguments.check_lists("prompts", texts=texts)
    return preprocessing.pad([prompt(task, text, vocabulary) for text in texts])


def with_answers(
    task: str,
    texts: Sequence[str | None],
    answers: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
) -> tuple[Tensor, Tensor]:
    """What the model reads while it learns, and what it should say next: (N, T) each.

    The words are instruction, text, <bos>, answer. The target is PAD, which the loss leaves out, up
    to the last word of the prompt; from <bos> on it is the answer, one word ahead, to <eos>.
    Raises ValueError unless there are as many answers as texts, and as `prompt`; for an answer that
    is too long, of which the vocabulary knows no word, or that is none of MOODS for a mood.
    """
    arguments.check_texts("with_answers", answers=answers)
    arguments.check_lists("with_answers", texts=texts, answers=answers)
    language = TASKS[task].writes if task in TASKS else ""
    words, target = [], []
    for text, answer in zip(texts, answers, strict=True):
        told = prompt(task, text, vocabulary)
        if language == "number":
            arguments.check_choice("mood", answer, MOODS)
            said = vocabulary.encode([answer])
        else:
            said = _encode(preprocessing.tokenize(answer, language), answer, vocabulary)
        if len(said) >= writing.LONGEST:
            raise ValueError(
                f'An answer has at most {writing.LONGEST - 1} words, and "{answer[:40]}…" makes '
                f"{len(said)}: shorten it, since no model would write it to its end."
            )
        words.append([*told, BOS, *said])
        target.append([PAD] * len(told) + [*said, EOS])
    return preprocessing.pad(words), preprocessing.pad(target)


# --- The model


class OneModel(nn.Module):
    """A transformer that reads tokens of any modality, and writes words.

    {"picture": (B, 16, 128), or "film": (B, 8, 512), or "voice": (B, 50, 128) with "frames": (B,),
    or none of them; "words": (B, T)} to scores of each next word, (B, T, V).

    A linear layer, the projector, makes tokens of what is seen or heard; what is seen comes first
    and sees itself, and words see what came before. The table of words is used twice, to read and
    to write (Press and Wolf, 2017). `alpha` and `beta` scale the tokens of what is seen, and of the
    words: v = α f, β g, before the places are added; both are 1 unless you change them. Lesson 13.

    patch: numbers of a picture's patch. positions, residual, norm: 0 takes that part out.
    """

    def __init__(
        self,
        vocabulary_size: int,
        width: int = 96,
        blocks: int = 3,
        heads: int = 4,
        patch: int = PATCH,
        positions: int = 1,
        residual: int = 1,
        norm: int = 1,
    ):
        super().__init__()
        arguments.check_count("vocabulary_size", vocabulary_size, len(SPECIAL_WORDS), 225)
        arguments.check_count("width", width, 1, 96)
        arguments.check_count("blocks", blocks, 1, 3)
        arguments.check_count("patch", patch, 1, PATCH)
        self.alpha = self.beta = 1.0
        self.positions = bool(positions)
        self.embedding = nn.Embedding(vocabulary_size, width)
        self.projectors, self.places = nn.ModuleDict(), nn.ParameterDict()
        for name, (most, numbers) in SIZES.items():
            numbers = patch if name == "picture" else numbers
            self.projectors[name] = nn.Linear(numbers, width)
            self.places[name] = nn.Parameter(0.02 * torch.randn(most, width))
        self.places["words"] = nn.Parameter(0.02 * torch.randn(LONGEST_WORDS, width))
        self.blocks = nn.ModuleList(
            attention.Block(width, heads, residual=bool(residual), norm=bool(norm))
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.register_buffer("vocabulary", torch.zeros((), dtype=torch.int64))
        nn.init.normal_(self.embedding.weight, std=0.05)

    def knows(self, vocabulary: preprocessing.Vocabulary) -> OneModel:
        """Remembers which vocabulary it learns, so that `answer` refuses another; gives itself."""
        check_size(self, vocabulary)
        self.vocabulary.fill_(fingerprint(vocabulary))
        return self

    # Reading

    def word_tokens(self, words: Tensor, place: Tensor) -> Tensor:
        """Words (B, T) at these places (B, T) as tokens (B, T, width)."""
        arguments.check_number("beta", self.beta, 1.0)
        tokens = self.beta * self.embedding(words)
        return tokens + self.places["words"][place] if self.positions else tokens

    def tokens(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, int]:
        """The sequence (B, P + T, width), where there is a token in it (B, P + T), and P."""
        name = check_inputs(self, inputs)
        arguments.check_number("alpha", self.alpha, 1.0)
        words = inputs["words"]
        place = torch.arange(words.shape[1], device=words.device)
        x, known, prefix = self.word_tokens(words, place), words != PAD, 0
        if name:
            seen = inputs[name]
            tokens = self.alpha * self.projectors[name](seen.to(x.dtype))
            prefix = tokens.shape[1]
            if self.positions:
                tokens = tokens + self.places[name][:prefix]
            there = torch.arange(prefix, device=x.device)
            frames = inputs.get("frames", torch.full_like(words[:, 0], prefix))
            x = torch.cat([tokens, x], 1)
            known = torch.cat([there < frames[:, None], known], 1)
        return x, known, prefix

    def mask(self, known: Tensor, prefix: int) -> Tensor:
        """Who may look at whom: (B, 1, P + T, P + T), see `attention.prefix_mask`."""
        mask = attention.prefix_mask(prefix, known.shape[1]).to(known.device)
        return attention.hide_padding(mask, known)

    def score(self, x: Tensor) -> Tensor:
        """Tokens (…, width) to scores of the next word (…, V): the likeness to each word."""
        return self.norm(x) @ self.embedding.weight.T

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        x, known, prefix = self.tokens(inputs)
        mask = self.mask(known, prefix)
        for block in self.blocks:
            x = block(x, mask)
        return self.score(x[:, prefix:])

    def attention(self, inputs: dict[str, Tensor]) -> Tensor:
        """How much each token looks at each: (B, blocks, heads, P + T, P + T)."""
        x, known, prefix = self.tokens(inputs)
        mask, weights = self.mask(known, prefix), []
        for block in self.blocks:
            weights.append(block.weights(x, mask))
            x = block(x, mask)
        return torch.stack(weights, 1)

    # Writing, with a memory: the key–value cache

    def start(self, inputs: dict[str, Tensor]) -> State:
        """Reads the prompts, without <bos>: the state for `writing.greedy` and its kin.

        Four tensors: keys and values (B, blocks, heads, P + T, width / heads), where there is a
        token (B, P + T), and the place of the next word (B,).
        """
        x, known, prefix = self.tokens(inputs)
        mask, keys, values = self.mask(known, prefix), [], []
        for block in self.blocks:
            x, (key, value) = block.read(x, mask)
            keys.append(key)
            values.append(value)
        place = (inputs["words"] != PAD).sum(1)
        return torch.stack(keys, 1), torch.stack(values, 1), known, place

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one word a sentence (B,): the scores of the next word (B, V), and the new state.

        What was read before is not read again: its keys and values are in the state. Raises
        ValueError for a word that the model does not know, for more words than it has places, and
        for another state than its own.
        """
        check_step(self, words, state)
        keys, values, known, place = state
        if int(place.max()) >= LONGEST_WORDS:
            raise ValueError(
                f"The model has learned {LONGEST_WORDS} places, and this is word "
                f"{int(place.max()) + 1}: give a shorter prompt, or end the answer before."
            )
        x = self.word_tokens(words[:, None], place[:, None])  # (B, 1, width)
        itself = torch.ones_like(known[:, :1])
        mask, now = torch.cat([known, itself], 1)[:, None, None], []
        for number, block in enumerate(self.blocks):
            x, cache = block.read(x, mask, (keys[:, number], values[:, number]))
            now.append(cache)
        keys, values = (torch.stack(parts, 1) for parts in zip(*now, strict=True))
        known = torch.cat([known, (words != PAD)[:, None]], 1)  # as `forward`, which hides PAD
        return self.score(x)[:, 0], (keys, values, known, place + 1)


class ReadAgain(nn.Module):
    """The same model without a memory: each step reads the whole sequence again. Lesson 13."""

    def __init__(self, model: OneModel):
        super().__init__()
        self.model, self.names = model, []

    def start(self, inputs: dict[str, Tensor]) -> State:
        """The state is all that was read; write to its end before you start another one.

        Raises ValueError as `check_inputs`, and for prompts of several lengths.
        """
        check_inputs(self.model, inputs)
        lengths = preprocessing.lengths(inputs["words"])
        if lengths.min() < inputs["words"].shape[1]:
            raise ValueError(
                f"ReadAgain reads prompts of one length, and these have {int(lengths.min())} to "
                f"{int(lengths.max())} words: pass one after the other, or use the model itself."
            )
        self.names = sorted(inputs.keys() - {"words"})
        return *(inputs[name] for name in self.names), inputs["words"]

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """As `OneModel.step`."""
        *seen, told = state
        told = torch.cat([told, words[:, None]], 1)
        inputs = dict(zip(self.names, seen, strict=True)) | {"words": told}
        return self.model(inputs)[:, -1], (*seen, told)


def check_inputs(model: OneModel, inputs: dict[str, Tensor]) -> str:
    """The name of the modality among a model's inputs, or "" when there are words alone.

    Raises ValueError when there are no words or too many, for a prompt that begins with padding,
    for an unknown or a second modality, for other shapes than the model's, for NaN, and for a voice
    without its length.
    """
    if not isinstance(inputs, dict) or "words" not in inputs:
        raise arguments.ArgumentError(
            'One model reads {"words": (B, T)} and what is seen, such as "picture", and got '
            f"{arguments.kind(inputs)} without words: pass what one_model.ask gives."
        )
    words = inputs["words"]
    arguments.check_tokens("OneModel", words, model.embedding.num_embeddings)
    if words.numel() == 0 or bool((words[:, 0] == PAD).any()):
        raise arguments.ArgumentError(
            f"Each prompt begins with a word, and not all of these {tuple(words.shape)} do: make "
            "them with one_model.prompts, which pads at the end."
        )
    if words.shape[1] > LONGEST_WORDS:
        raise arguments.ArgumentError(
            f"The model has learned {LONGEST_WORDS} places for words, and these are "
            f"{words.shape[1]}: shorten the prompt."
        )
    names = [name for name in inputs if name not in ("words", "frames")]
    for name in names:
        arguments.check_choice("modality", name, SIZES)
    if len(names) > 1:
        raise arguments.ArgumentError(
            f"One model sees one thing at a time, and got {' and '.join(names)}: pass one of them."
        )
    name = names[0] if names else ""
    if name:
        _check_seen(model, name, inputs[name], len(words))
    if ("frames" in inputs) != (name == "voice"):
        raise arguments.ArgumentError(
            f'"frames" says how long each voice is, and comes with a voice alone (here with '
            f'"{name or "words"}"): pass what voice_frames gives.'
        )
    if name == "voice":
        _check_frames(inputs["frames"], inputs["voice"])
    return name


def _check_seen(model: OneModel, name: str, values: Tensor, count: int) -> None:
    arguments.check_tensor(f'"{name}"', values)
    most, numbers = SIZES[name][0], model.projectors[name].in_features
    fits = values.ndim == 3 and len(values) == count and 0 < values.shape[1] <= most
    if not fits or values.shape[2] != numbers or not values.is_floating_point():
        raise arguments.ArgumentError(
            f'The "{name}" of {count} prompts is ({count}, {most}, {numbers}) of fractions '
            f"(float32), and this is {tuple(values.shape)} of {arguments.dtype(values)}: pass what "
            "one_model.examples gives."
        )
    arguments.check_finite(f'The numbers of "{name}"', values)


def _check_frames(frames: Tensor, voice: Tensor) -> None:
    arguments.check_tensor('"frames"', frames)
    whole = not frames.is_floating_point() and frames.dtype != torch.bool
    if frames.shape != voice.shape[:1] or not whole:
        raise arguments.ArgumentError(
            f'"frames" says how long each of {len(voice)} voices is, as whole numbers, and got '
            f"{arguments.dtype(frames)} of shape {tuple(frames.shape)}: pass what voice_frames "
            "gives."
        )
    low, high = (int(end) for end in frames.aminmax())
    if not 1 <= low <= high <= voice.shape[1]:
        raise arguments.ArgumentError(
            f'"frames" goes from {low} to {high}, and a voice here has 1 to {voice.shape[1]}: pass '
            "what voice_frames gives."
        )


def check_step(model: OneModel, words: Tensor, state: State) -> None:
    """Raises ValueError unless this is a state of the model's, with one known word for each of its
    sentences."""
    writing.check_state(state)
    block = model.blocks[0]
    width = block.query_key_value.in_features
    sizes = len(model.blocks), block.heads, width // block.heads
    keys = state[0]
    if len(state) != 4 or keys.ndim != 5 or (*keys.shape[1:3], keys.shape[4]) != sizes:
        raise arguments.ArgumentError(
            f"The state of this model holds four tensors, the first (B, {sizes[0]}, {sizes[1]}, T, "
            f"{sizes[2]}), and this one has {len(state)}, the first {tuple(keys.shape)}: pass what "
            "the same model's start gave."
        )
    arguments.check_tensor("words", words)
    if words.shape != keys.shape[:1]:
        raise arguments.ArgumentError(
            f"A step reads one word for each of {len(keys)} sentences, ({len(keys)},), and got "
            f"{tuple(words.shape)}: pass as many."
        )
    arguments.check_tokens("OneModel", words[:, None], model.embedding.num_embeddings)


def fingerprint(vocabulary: preprocessing.Vocabulary) -> int:
    """A number that two vocabularies have in common only if their words are the same, but for one
    chance in four thousand million; never 0."""
    return zlib.crc32("\n".join(vocabulary.words).encode()) + 1


def check_size(model: OneModel, vocabulary: preprocessing.Vocabulary) -> None:
    """Raises ValueError when a vocabulary is not that of the model."""
    if not isinstance(model, OneModel):
        raise arguments.ArgumentError(
            f"The model is {arguments.kind(model)}: pass a OneModel, such as stored.load gives."
        )
    if not isinstance(vocabulary, preprocessing.Vocabulary):
        raise arguments.ArgumentError(
            f"The vocabulary is {arguments.kind(vocabulary)}: pass the Vocabulary that was loaded "
            "with the model."
        )
    own, known = model.embedding.num_embeddings, int(model.vocabulary)
    if own != len(vocabulary) or known not in (0, fingerprint(vocabulary)):
        raise ValueError(
            f"The model's {own} words are those of another vocabulary than this one of "
            f"{len(vocabulary)}: load both together, with stored.load, or build a new model."
        )


# --- Answers


def answer(
    model: OneModel,
    task: str,
    seen: dict[str, Tensor],
    vocabulary: preprocessing.Vocabulary,
    texts: Sequence[str | None] | None = None,
    blind: bool = False,
) -> list[str]:
    """The model's answers to N prompts, written greedily.

    seen: {"picture": (N, 16, 128)}, or {"film": …}, or {"voice": …, "frames": …}. texts: N texts to
    translate, or questions, or messages. blind: without the picture, from the texts alone; seen is
    then {}. A mood is written as a word, such as "<+0.2>"; `read_mood` is more exact.

    Raises ValueError for an unknown instruction, when what the task sees or reads is missing, when
    the vocabulary is not the model's, and as `prompts`.
    """
    inputs = ask(model, task, seen, vocabulary, texts, blind)
    here = device_of(model)
    inputs = {name: values.to(here) for name, values in inputs.items()}
    with training.evaluating(model):
        written = writing.greedy(model, model.start(inputs)).cpu()
    language = TASKS[task].writes
    return writing.read_out(written, vocabulary, "en" if language == "number" else language)


def ask(
    model: OneModel,
    task: str,
    seen: dict[str, Tensor],
    vocabulary: preprocessing.Vocabulary,
    texts: Sequence[str | None] | None = None,
    blind: bool = False,
) -> dict[str, Tensor]:
    """What the model reads before it answers: `seen`, and the prompts as "words". As `answer`."""
    arguments.check_choice("instruction", task, TASKS)
    check_size(model, vocabulary)
    arguments.check_switch("blind", blind)
    wanted, reads, _ = TASKS[task]
    if blind and task not in BLIND:
        raise ValueError(
            f"{task} cannot do without its {wanted}: pass it, or try {' or '.join(BLIND)} blind."
        )
    _check_given(task, seen, blind)
    if texts is None and (reads and task != "<mood>" or blind):
        raise ValueError(f"{task} reads a text for each {wanted}: pass texts=[…].")
    count = len(texts) if blind else len(seen[wanted])
    texts = [None] * count if texts is None else texts
    arguments.check_lists(task, texts=texts)
    if len(texts) != count:
        raise ValueError(
            f"{task} got {count} of {wanted} and {len(texts)} texts: pass as many of each."
        )
    if blind and any(text is None for text in texts):
        raise ValueError(f"{task} is blind, and one of its texts is None: pass a text for each.")
    home = seen[wanted].device if seen else None
    return {**seen, "words": prompts(task, texts, vocabulary).to(home)}


def _check_given(task: str, seen: dict[str, Tensor], blind: bool) -> None:
    """Raises ValueError unless this is what the task sees, and nothing else."""
    wanted = TASKS[task].sees
    names = {wanted, "frames"} if wanted == "voice" else {wanted}
    if not isinstance(seen, dict):
        raise arguments.ArgumentError(
            f'{task} got {arguments.kind(seen)} as what is seen: pass {{"{wanted}": …}}.'
        )
    if blind and seen:
        raise ValueError(
            f"{task} got {' and '.join(map(str, seen))} although it is blind: pass {{}}."
        )
    if not blind and wanted not in seen:
        raise ValueError(f'{task} is without its {wanted}: pass {{"{wanted}": …}}.')
    for name in seen:
        arguments.check_choice(f"name of what {task} sees", name, sorted(names))
        arguments.check_tensor(f'"{name}"', seen[name])
    if not blind and len(seen[wanted]) == 0:
        raise ValueError(f"{task} got 0 of {wanted}: pass at least one.")


def first_scores(model: OneModel, inputs: dict[str, Tensor]) -> Tensor:
    """The scores of each word as the first of the answer: (N, V), where the inputs are.

    inputs: what `ask` gives for N prompts. Raises ValueError as `OneModel.start`.
    """
    check_inputs(model, inputs)
    home, here = inputs["words"].device, device_of(model)
    inputs = {name: values.to(here) for name, values in inputs.items()}
    first = torch.full_like(inputs["words"][:, 0], BOS)
    with training.evaluating(model):
        scores, _ = model.step(first, model.start(inputs))
    return scores.to(home)


def read_mood(
    model: OneModel,
    seen: dict[str, Tensor],
    vocabulary: preprocessing.Vocabulary,
    messages: Sequence[str] | None = None,
) -> Tensor:
    """The mood of N cards, from pictures, messages, or both: (N,), each from -1 to 1.

    The mean of all moods, each weighted with the probability that the model gives to its word:
    which is better than the likeliest word, as the mean is for a squared error (lesson 04).
    Raises ValueError as `answer`.
    """
    inputs = ask(model, "<mood>", seen, vocabulary, messages, blind=seen == {})
    scores = first_scores(model, inputs)[:, vocabulary.encode(MOODS)]  # (N, 21)
    return scores.softmax(1) @ MOOD_VALUES.to(scores.device)


def look_and_cover(
    model: OneModel,
    vocabulary: preprocessing.Vocabulary,
    images: Tensor,
    captions: Sequence[str],
    words: Sequence[str],
    seed: int = 0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the model looks when it writes a word, and what the word needs: (N, 16) each.

    images: N pictures (N, 3, 64, 64); captions: what is written about each; words: a word of each
    caption. The model has written what stands before that word. First, the share of attention that
    each patch gets there, a mean over blocks and heads; second, by how much log p of the word falls
    when the patch is covered with grey; third, whether another word is then the likeliest. seed:
    that of the encoder. Lesson 13.

    Raises ValueError when the lists differ in length, and for a word that is not in its caption.
    """
    arguments.check_texts("look_and_cover", captions=captions, words=words)
    arguments.check_lists("look_and_cover", images=images, captions=captions)
    covered = torch.cat([images, *(cover(images, patch) for patch in range(PATCHES))])
    picture = picture_patches(covered, seed).unflatten(0, (1 + PATCHES, -1))  # row 0: all is seen
    here, rows = device_of(model), []
    for number, (caption, word) in enumerate(zip(captions, words, strict=True)):
        said = preprocessing.tokenize(caption, "en")
        if word not in said:
            raise ValueError(f'"{caption}" has no word {word!r}: choose one that it has.')
        told = [*prompt("<caption en>", None, vocabulary), BOS]
        told += vocabulary.encode(said[: said.index(word)])
        inputs = {"picture": picture[:, number], "words": torch.tensor([told] * (1 + PATCHES))}
        inputs = {name: values.to(here) for name, values in inputs.items()}
        with training.evaluating(model):
            log_p = model(inputs)[:, -1].log_softmax(1).cpu()  # (17, V)
            shares = model.attention({name: values[:1] for name, values in inputs.items()})
        fall = (log_p[0] - log_p[1:])[:, vocabulary.index[word]]
        other = log_p[1:].argmax(1) != log_p[0].argmax()
        rows.append((shares[0, :, :, -1, :PATCHES].mean((0, 1)).cpu(), fall, other))
    looked, falls, others = (torch.stack(one) for one in zip(*rows, strict=True))
    return looked, falls, others


# --- What it learns from


@dataclass(frozen=True)
class Examples:
    """N examples of one task: what M cards show, which of them each is about, words and target.

    seen: {"picture": (M, 16, 128)}, or as `OneModel` takes it; card (N,); words, target (N, T), as
    `with_answers` gives them.
    """

    task: str
    seen: dict[str, Tensor]
    card: Tensor
    words: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.card)

    def take(self, rows: Tensor, blind: bool = False) -> tuple[dict[str, Tensor], Tensor]:
        """The examples of these rows as a batch, as long as its longest: inputs and targets."""
        words = self.words[rows]
        longest = int((words != PAD).sum(1).max())
        inputs = {"words": words[:, :longest]}
        if not blind:
            cards = self.card[rows]
            inputs |= {name: values[cards] for name, values in self.seen.items()}
        return inputs, self.target[rows, :longest]


def examples(
    task: str,
    seen: dict[str, Tensor],
    texts: Sequence[str | None] | None,
    answers: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
    card: Tensor | None = None,
) -> Examples:
    """Examples of a task, one for each answer. card (N,): which of what is seen each is about; in
    their order unless you say else. Raises ValueError as `with_answers`; when what the task sees is
    missing; and when a number of `card` is none of what is seen."""
    arguments.check_choice("instruction", task, TASKS)
    _check_given(task, seen, blind=False)
    arguments.check_lists("examples", answers=answers)
    texts = [None] * len(answers) if texts is None else texts
    words, target = with_answers(task, texts, answers, vocabulary)
    card = torch.arange(len(answers)) if card is None else card
    arguments.check_places("examples", card, len(answers), len(seen[TASKS[task].sees]))
    return Examples(task, seen, card, words, target)


SIMPLE = 4
"""Simple questions to each card, beside five of lesson 07's."""


def simple_questions(
    cards: datasets.Postcards, per_card: int = SIMPLE, seed: int = 0
) -> list[questions.Question]:
    """`per_card` questions to each card that ask for one thing, to be answered with yes or no: "is
    it raining?", "is the face red?". Half of them are to be answered with yes.

    Lesson 07 asks for two things at once. Without these simpler questions, a model that answers by
    the weather alone learned nothing more in 600 steps (lesson 13); with them it took 200.
    Raises ValueError as `questions.ask_all`.
    """
    arguments.check_count("per_card", per_card, 1, SIMPLE)
    arguments.check_seed(seed)
    rng, asked = random.Random(seed), []
    for place, card in enumerate(cards.cards):
        for _ in range(per_card):
            kind, yes = rng.choice(("colour", "weather")), rng.random() < 0.5
            true, all_of = getattr(card, kind), getattr(postcards, f"{kind.upper()}S")
            named = true if yes else rng.choice([one for one in all_of if one != true])
            text = f"is the face {named}" if kind == "colour" else questions.SAY_WEATHER[named]
            asked.append(questions.Question(place, kind, f"{text}?", "yes" if yes else "no"))
    return asked


def picture_examples(
    cards: datasets.Postcards,
    picture: Tensor,
    vocabulary: preprocessing.Vocabulary,
    per_card: int = 5,
    seed: int = 0,
    simple: int = SIMPLE,
) -> list[Examples]:
    """All tasks that see a picture, for N cards with these patches (N, 16, 128).

    per_card, seed: the questions, see `questions.ask_all`; simple: so many of `simple_questions`
    to each card. The mood comes twice, with the message and without it.
    """
    asked = questions.ask_all(cards, per_card, seed)
    asked += simple_questions(cards, simple, seed) if simple else []
    about = torch.tensor([one.place for one in asked])
    moods = [mood_word(mood) for mood in cards.mood.tolist()]
    seen = {"picture": picture}
    rows = [
        ("<caption en>", None, cards.captions),
        ("<caption zh>", None, cards.captions_zh),
        ("<translate>", cards.captions, cards.captions_zh),
        ("<mood>", cards.messages, moods),
        ("<mood>", None, moods),
    ]
    made = [examples(task, seen, texts, answers, vocabulary) for task, texts, answers in rows]
    texts, answers = [one.text for one in asked], [one.answer for one in asked]
    return [*made, examples("<ask>", seen, texts, answers, vocabulary, about)]


def film_examples(seed: int, vocabulary: preprocessing.Vocabulary) -> Examples:
    """The films of the training cards, turned around as in lesson 08: 2,560."""
    cards = video.filmed(datasets.load_postcards("train", parts=("clip",)))
    frames, told = video.turned_around(torch.stack(cards.clips), cards.cards, seed)
    return examples("<film>", {"film": frames}, None, told, vocabulary)


def voice_examples(seed: int, vocabulary: preprocessing.Vocabulary, times: int = 8) -> Examples:
    """The spoken notes of the training cards, `times` times: as they are, and distorted as in
    lesson 09, which makes other voices of them."""
    cards = speech.noted("train")
    mels, heard = speech.mels_of(cards.notes), []
    generator = torch.Generator().manual_seed(seed)
    for time in range(times):
        copied = {name: values.clone() for name, values in mels.items()}
        heard.append(voice_frames(speech.distort(copied, generator) if time else copied, seed))
    seen = {name: torch.cat([one[name] for one in heard]) for name in heard[0]}
    return examples("<transcribe>", seen, None, cards.note_texts * times, vocabulary)


SHARES = {
    "<caption en>": 1.5,
    "<caption zh>": 1.5,
    "<translate>": 1.2,
    "<ask>": 5.5,
    "<mood>": 4.0,
    "<film>": 3.0,
    "<transcribe>": 1.2,
}
"""How often a batch is of each task, against the others: more for what is hard to learn."""

BLINDFOLD = 0.1
"""The share of the batches of BLIND tasks without their picture: modality dropout (Neverova et al.,
2016)."""


class Batches(IterableDataset):
    """`steps` batches an epoch, each of one task, drawn by its share; rows are drawn by chance.

    Gives pairs (inputs, target) for `training.fit`, in a `DataLoader` with batch_size=None. The
    next epoch goes on with other batches. BLIND tasks are without their picture in a share of
    `blindfold` of their batches; a second list of a task, as the mood without messages, gets such a
    share, too. Raises ValueError when there are no examples.
    """

    def __init__(
        self,
        several: Sequence[Examples],
        steps: int,
        batch_size: int = 128,
        blindfold: float = BLINDFOLD,
        seed: int = 0,
    ):
        arguments.check_lists("Batches", several=several)
        arguments.check_count("steps", steps, 1, 150)
        arguments.check_count("batch_size", batch_size, 1, 128)
        arguments.check_number("blindfold", blindfold, BLINDFOLD)
        arguments.check_seed(seed)
        if not 0 <= blindfold <= 1:
            raise ValueError(f"blindfold is {blindfold}, and is a share: choose one from 0 to 1.")
        for one in several:
            if not isinstance(one, Examples):
                raise arguments.ArgumentError(
                    f"Batches draws from several Examples, and got {arguments.kind(one)}: make "
                    "them with one_model.examples."
                )
            arguments.check_choice("instruction", one.task, SHARES)
        self.several, self.steps = list(several), steps
        self.batch_size, self.blindfold = batch_size, blindfold
        tasks = [one.task for one in self.several]
        self.shares = torch.tensor(
            [
                SHARES[task] * (blindfold if task in tasks[:place] else 1.0)
                for place, task in enumerate(tasks)
            ]
        )
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        for _ in range(self.steps):
            chosen = self.several[int(torch.multinomial(self.shares, 1, generator=self.generator))]
            rows = torch.randint(len(chosen), (self.batch_size,), generator=self.generator)
            hidden = float(torch.rand((), generator=self.generator)) < self.blindfold
            yield chosen.take(rows, blind=hidden and chosen.task in BLIND)


STEPS = 150
"""Batches an epoch."""


def train(
    model: OneModel,
    several: Sequence[Examples],
    epochs: int = 60,
    seed: int = 0,
    batch_size: int = 128,
    learning_rate: float = 3e-3,
    blindfold: float = BLINDFOLD,
) -> training.History:
    """The recipe of lesson 13: AdamW (Loshchilov and Hutter, 2019), with a one-cycle rate.

    The loss is the cross-entropy of the answers' words alone: `writing.next_word_loss` leaves PAD
    out, which `with_answers` writes in place of the prompt.
    """
    batches = Batches(several, STEPS, batch_size, blindfold, seed)
    return training.fit(
        model,
        DataLoader(batches, batch_size=None),
        loss=writing.next_word_loss,
        epochs=epochs,
        learning_rate=learning_rate,
        one_cycle=True,
        optimizer=functools.partial(torch.optim.AdamW, weight_decay=0.05),
        clip_norm=1.0,
        seed=seed,
    )


# --- Trained models

FRESH = 1000
"""Cards that each epoch of `retrain` brings, beside the 2,000 of the data set."""


def new_model(vocabulary: preprocessing.Vocabulary, seed: int = 0, **sizes: int) -> OneModel:
    """An untrained model for these words; sizes: as `OneModel` takes them."""
    with seeded(seed):
        return OneModel(len(vocabulary), **sizes).knows(vocabulary)


def course_vocabulary() -> preprocessing.Vocabulary:
    """The vocabulary of the training cards and of questions to them."""
    cards = datasets.load_postcards("train", ())
    return build_vocabulary(cards, questions.ask_all(cards))


def fresh_examples(
    count: int, vocabulary: preprocessing.Vocabulary, seed: int = 0
) -> Iterator[list[Examples]]:
    """All tasks that see a picture, for `count` fresh cards of the combinations that training may
    see, 1,000 at a time. The seed is that of the captioner, and decides the cards, too."""
    for start in range(0, count, FRESH):
        several = min(FRESH, count - start)
        cards = datasets.draw_postcards(several, 13_000_000 + 1_000_000 * seed + start, "seen")
        picture = picture_patches(cards.images, seed)
        yield picture_examples(cards, picture, vocabulary, seed=start + 1)


def joined(several: Sequence[list[Examples]]) -> list[Examples]:
    """The same tasks on several lists of cards as on one. Raises ValueError when there is none, or
    they are not of the same tasks in the same order."""
    arguments.check_lists("joined", several=several)
    tasks = {tuple(one.task for one in examples) for examples in several}
    if len(tasks) > 1:
        raise ValueError(f"joined needs lists of the same tasks, and got {tasks}: pass these.")
    first, starts = several[0], [0]
    for examples in several:
        starts.append(starts[-1] + len(next(iter(examples[0].seen.values()))))
    seen = {
        name: torch.cat([examples[0].seen[name] for examples in several]) for name in first[0].seen
    }

    def padded(rows: Sequence[Tensor]) -> Tensor:
        longest = max(row.shape[1] for row in rows)
        return torch.cat([nn.functional.pad(row, (0, longest - row.shape[1])) for row in rows])

    made = []
    for same in zip(*several, strict=True):
        card = torch.cat([one.card + start for one, start in zip(same, starts, strict=False)])
        words, target = padded([one.words for one in same]), padded([one.target for one in same])
        made.append(Examples(same[0].task, seen, card, words, target))
    return made


def course_examples(
    fresh: int, vocabulary: preprocessing.Vocabulary, seed: int = 0
) -> list[Examples]:
    """What `retrain` learns from: the course's training cards, `fresh` more cards, films, voices.

    The seed is that of the models of lessons 06 and 09 that see and hear. Three minutes for 60,000
    cards.
    """
    cards = datasets.load_postcards("train")
    own = picture_examples(cards, picture_patches(cards.images, seed), vocabulary)
    several = joined([own, *fresh_examples(fresh, vocabulary, seed)])
    return [*several, film_examples(seed, vocabulary), voice_examples(seed, vocabulary)]


def retrain(seed: int, epochs: int = 60) -> list[stored.Model]:
    """The model of `data/weights`, trained anew (half an hour). Each epoch brings 1,000 fresh
    cards, so that a mood is not learned by heart."""
    vocabulary = course_vocabulary()
    model = new_model(vocabulary, seed)
    train(model, course_examples(FRESH * epochs, vocabulary, seed), epochs, seed)
    sizes = {"vocabulary_size": len(vocabulary)}
    return [stored.Model("one_model", model, sizes, vocabulary)]


# --- How good is it?

Scores = dict[str, float]
"""What was measured, and the figure: shares of right answers, an R², a word error rate."""

CAPTIONS = {"caption, English": ("<caption en>", "en"), "caption, Chinese": ("<caption zh>", "zh")}
FACTORS = ("colour", "object", "weather")


class Written(NamedTuple):
    """What somebody answers about N cards, and to Q questions.

    captions: {"en": N, "zh": N}; translations: N in Chinese; answers: Q.
    """

    captions: dict[str, list[str]]
    translations: list[str]
    answers: list[str]


def written_by(
    model: OneModel,
    vocabulary: preprocessing.Vocabulary,
    cards: datasets.Postcards,
    picture: Tensor,
    asked: Sequence[questions.Question],
) -> Written:
    """What the model says of N cards with these patches (N, 16, 128), and to these questions."""
    seen = {"picture": picture}
    about = {"picture": picture[[one.place for one in asked]]}
    return Written(
        {language: answer(model, task, seen, vocabulary) for task, language in CAPTIONS.values()},
        answer(model, "<translate>", seen, vocabulary, cards.captions),
        answer(model, "<ask>", about, vocabulary, [one.text for one in asked]),
    )


def written_by_specialists(
    cards: datasets.Postcards, asked: Sequence[questions.Question], seed: int = 0
) -> Written:
    """What the stored models of lessons 06, 07 and 10 say: each was made for its task alone."""
    captioner, words = stored.load("captioner", seed)
    features = training.predict(captioner.encoder, cards.images)
    translator, (english, chinese) = stored.load("translator", seed)
    source = translation.encode_source(cards.captions, english)
    answerers, (known, options) = stored.load("answerers", seed)
    quiz = questions.question_tensors(asked, features, known, options)
    chosen = training.predict(answerers["low-rank"], quiz.inputs).argmax(1)
    return Written(
        {
            language: captioning.caption(captioner, cards.images, language, words)
            for _, language in CAPTIONS.values()
        },
        translation.translate(translator, source, features, chinese),
        [options[number] for number in chosen.tolist()],
    )


def by_chance(cards: datasets.Postcards, asked: Sequence[questions.Question]) -> Written:
    """What someone says who sees no picture, but knows English, Chinese and 2,000 other cards: the
    commonest caption, the commonest answer to each question, the commoner meaning of each English
    word, and the mean of all moods."""
    train = datasets.of_cards(postcards.draw(2000, 138_000, "seen"))

    def commonest(told: Sequence[str], said: Sequence[str], asked: Sequence[str]) -> list[str]:
        counts: dict[str, Counter] = defaultdict(Counter)
        for question, reply in zip(told, said, strict=True):
            counts[question][reply] += 1
        return [counts[question].most_common(1)[0][0] for question in asked]

    def things(captions: Sequence[str], language: str) -> list[str]:
        return [captioning.factor_in(text, "object", language) for text in captions]

    meanings = commonest(
        things(train.captions, "en"), things(train.captions_zh, "zh"), things(cards.captions, "en")
    )
    pairs = [(one.text, one.answer) for one in questions.ask_all(train, QUESTIONS)]
    return Written(
        {
            language: commonest([""] * len(train), texts, [""] * len(cards))
            for language, texts in captioning.captions_of(train)
        },
        translation.paste(writing.tidy(cards.captions_zh, "zh"), meanings),
        commonest(*zip(*pairs, strict=True), [one.text for one in asked]),
    )


def judged(said: Written, cards: datasets.Postcards, asked: Sequence[questions.Question]) -> Scores:
    """How much of what was said is right: for each task, the share."""
    scores = {}
    for name, (_, language) in CAPTIONS.items():
        true = writing.tidy(dict(captioning.captions_of(cards))[language], language)
        scores[f"{name}, exact"] = _share(writing.exact(said.captions[language], true))
        factors = captioning.factors_right(said.captions[language], true, language)
        scores |= {f"{name}, {factor}": _share(factors[factor]) for factor in FACTORS}
    true = writing.tidy(cards.captions_zh, "zh")
    things = captioning.factors_right(said.translations, true, "zh")["object"]
    ambiguous = translation.is_ambiguous(cards.captions)
    scores["translation, ambiguous word"] = _share(things[ambiguous])
    scores["translation, exact"] = _share(writing.exact(said.translations, true))
    right = writing.exact(said.answers, writing.tidy([one.answer for one in asked], "en"))
    both = torch.tensor([one.kind == "both" for one in asked])
    scores["question, one thing"] = _share(right[~both])
    scores["question, two at once"] = _share(right[both])
    return scores


def _share(right: Tensor) -> float:
    return right.float().mean().item()


def film_scores(
    model: OneModel, vocabulary: preprocessing.Vocabulary, cards: datasets.Postcards, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Films: the share of exact sentences of the one model, of lesson 08's, and with the films of
    other cards. The cards must have films."""
    frames = video.frame_features(torch.stack(cards.clips), seed)
    summariser, words = stored.load("summariser", seed)

    def right(written: Sequence[str]) -> float:
        return _share(writing.exact(written, writing.tidy(cards.summaries, "en")))

    own = right(answer(model, "<film>", {"film": frames}, vocabulary))
    order = translation.orders(len(cards), 1)[0]
    others = right(answer(model, "<film>", {"film": frames[order]}, vocabulary))
    return {"film, exact": (own, right(video.summarise(summariser, frames, words)), others)}


def voice_scores(
    model: OneModel, vocabulary: preprocessing.Vocabulary, cards: datasets.Postcards, seed: int = 0
) -> dict[str, tuple[float, float, float]]:
    """Spoken notes: the word error rate of the one model, of lesson 09's recogniser, and with the
    voices of other cards. The cards must have notes."""
    mels, true = speech.mels_of(cards.notes), cards.note_texts
    helped, words = stored.load("recogniser", seed)
    heard = training.predict(helped.alone, mels)
    theirs = [" ".join(words.decode(numbers)) for numbers in speech.greedy_words(heard)]
    seen = voice_frames(mels, seed)
    order = translation.orders(len(cards), 1)[0]
    own, others = (
        answer(model, "<transcribe>", {n: values[rows] for n, values in seen.items()}, vocabulary)
        for rows in (torch.arange(len(cards)), order)
    )
    rates = (speech.error_rates(written, true)["all"] for written in (own, theirs, others))
    return {"voice, word errors": tuple(rates)}


class Row(NamedTuple):
    """One line of lesson 13's table: what was measured, the one model's figure, the specialist's,
    chance, with the pictures (films, voices) of other cards, and the limit; with the words
    (questions, messages, sentences) of others, None where a task reads none."""

    what: str
    one_model: float
    specialist: float
    chance: float
    other_pictures: float
    limit: float = 1.0
    other_words: float | None = None


QUESTIONS = 5
"""Questions to each card of an exam."""


def table(
    model: OneModel,
    vocabulary: preprocessing.Vocabulary,
    cards: datasets.Postcards,
    seed: int = 0,
) -> list[Row]:
    """What one model reaches on cards with pictures, task by task, beside the specialists; the mood
    is `mood_row`. seed: that of the models of lessons 06 to 10. Twelve seconds for 250 cards."""
    picture = picture_patches(cards.images, seed)
    asked = questions.ask_all(cards, QUESTIONS, seed=1)
    order = translation.orders(len(cards), 1)[0]
    told = replace(cards, captions=[cards.captions[i] for i in order.tolist()])
    exchanged = translation.orders(len(asked), 1)[0].tolist()
    other = [one._replace(text=asked[i].text) for one, i in zip(asked, exchanged, strict=True)]
    own, pictures, words = (
        judged(written_by(model, vocabulary, *given), cards, asked)
        for given in (
            (cards, picture, asked), (cards, picture[order], asked), (told, picture, other),
        )
    )  # fmt: skip
    specialist = judged(written_by_specialists(cards, asked, seed), cards, asked)
    chance = judged(by_chance(cards, asked), cards, asked)
    rows = []
    for what in own:
        reads = None if what.startswith("caption") else words[what]
        found = (own[what], specialist[what], chance[what], pictures[what])
        rows.append(Row(what, *found, other_words=reads))
    return rows


def read_by_specialists(cards: datasets.Postcards) -> tuple[Tensor, Tensor]:
    """What lessons 02 and 03 read in the pictures and messages of N cards: f (N,) and g (N,)."""
    f, _ = stored.load("image_reader")
    g, vocabulary = stored.load("message_reader")
    tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
    return training.predict(f, cards.images), training.predict(g, tokens)


def mood_row(
    model: OneModel,
    vocabulary: preprocessing.Vocabulary,
    cards: datasets.Postcards,
    seed: int = 0,
) -> Row:
    """The R² of the mood of N cards, read from picture and message. The specialist is lesson 04's
    v = α f + β g, with the best weights on the validation cards. Ten seconds for 2,400 cards."""
    picture, order = picture_patches(cards.images, seed), translation.orders(len(cards), 1)[0]
    others = [cards.messages[i] for i in order.tolist()]
    own, other_pictures, other_words = (
        training.r_squared(
            read_mood(model, {"picture": shown}, vocabulary, messages), cards.mood
        )
        for shown, messages in (
            (picture, cards.messages), (picture[order], cards.messages), (picture, others),
        )
    )  # fmt: skip
    f, g = read_by_specialists(cards)
    val = datasets.load_postcards("val")
    f_val, g_val = read_by_specialists(val)
    alpha, beta, intercept = fusion.best_weights(f_val, g_val, val.mood)
    v = fusion.weighted_sum(f, g, alpha, beta) + intercept
    specialist, chance = (
        training.r_squared(said, cards.mood) for said in (v, val.mood.mean().expand(len(cards)))
    )
    limit = fusion.limit_of(cards)
    return Row("mood, R²", own, specialist, chance, other_pictures, limit, other_words)


def table_of_films_and_voices(
    model: OneModel, vocabulary: preprocessing.Vocabulary, seed: int = 0
) -> list[Row]:
    """The same for the films and the spoken notes of the test cards."""
    cards = datasets.load_postcards("test", parts=("clip", "note"))
    films = video.filmed(cards)
    notes = cards.subset([i for i, note in enumerate(cards.notes) if note is not None])
    film = film_scores(model, vocabulary, films, seed)
    voice = voice_scores(model, vocabulary, notes, seed)
    guess = Counter(films.summaries).most_common(1)[0][1] / len(films)
    rows = []
    for (what, (own, theirs, others)), chance, limit in zip(
        (film | voice).items(), (guess, 1.0), (1.0, 0.0), strict=True
    ):
        rows.append(Row(what, own, theirs, chance, others, limit))
    return rows


WANTED = {
    "exact": 0.85, "colour": 0.98, "object": 0.98, "weather": 0.98, "ambiguous word": 0.95,
    "one thing": 0.98, "two at once": 0.90, "R²": 0.70,
}  # fmt: skip
"""What a model must reach on combinations that training has not shown, by the end of its name."""

_CAPTIONS_EXACT = [f"{name}, exact" for name in CAPTIONS]

EXAM_CARDS, MOOD_CARDS = 600, 2400
"""Cards of an exam; and those of which the mood is read, more, since an R² scatters more."""


def exam(seed: int) -> list[Result]:
    """What the stored model of this seed reaches, on cards of unseen combinations that are drawn
    afresh with this seed, and on the test cards' films and notes.

    The baselines are the models of lessons 04 to 10, which have learned from 2,000 cards; this one
    from 62,000.
    """
    model, vocabulary = stored.load("one_model", seed)
    drawn = datasets.draw_postcards(max(EXAM_CARDS, MOOD_CARDS), 139_000 + seed, "unseen")
    rows = table(model, vocabulary, drawn[:EXAM_CARDS], seed)
    results = []
    for row in (*rows, mood_row(model, vocabulary, drawn[:MOOD_CARDS], seed)):
        wanted = WANTED[row.what.rpartition(", ")[2]]
        against = {"baseline": row.specialist, "rival": "the specialist", "limit": row.limit}
        results.append(Result(f"{row.what}, unseen", row.one_model, wanted, **against))
        most = 0.02 if row.what in _CAPTIONS_EXACT else math.inf
        results.append(Result(f"{row.what}, shuffled pictures", row.other_pictures, at_most=most))
        if row.other_words is not None:
            results.append(Result(f"{row.what}, shuffled words", row.other_words))
    for row in table_of_films_and_voices(model, vocabulary, seed):
        bound = {"at_most": 0.25} if row.limit == 0 else {"at_least": 0.50}
        against = {"baseline": row.specialist, "rival": "the specialist", "limit": row.limit}
        results.append(Result(row.what, row.one_model, **bound, **against))
    return results
