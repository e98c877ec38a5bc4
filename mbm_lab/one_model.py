"""One model for every task of lessons 04 to 10 (lesson 13).

Pictures, films, voices and words become tokens of one sequence, an instruction says what is wanted,
and a transformer (`attention`) writes the answer, word after word.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mbm_lab import (
    arguments,
    attention,
    captioning,
    datasets,
    preprocessing,
    questions,
    speech,
    stored,
    training,
    video,
    writing,
)
from mbm_lab.device import device_of, seeded
from mbm_lab.preprocessing import BOS, EOS, PAD, SPECIAL_WORDS, UNK
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
    """Pictures as 16 patches of the stored captioner's convolutions: (N, 3, 64, 64) to (N, 16, 128).

    The encoder of lesson 06 stays as it is (the design of LLaVA: Liu et al., 2023). Each 2 × 2 cells
    of its last map make one patch, row by row. Raises ValueError as `captioning.image_cells`.
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
    there are}.
    """
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

    Raises ValueError for an unknown instruction, a text for a task that reads none, a text of
    which the vocabulary knows no word, and one that is too long.
    """
    arguments.check_choice("instruction", task, TASKS)
    if task not in vocabulary.index:
        raise ValueError(
            f"This vocabulary has no instruction {task}: make it with one_model.build_vocabulary."
        )
    if text is None:
        return [vocabulary.index[task]]
    if not TASKS[task].reads:
        raise ValueError(f"{task} reads no text, and got {text!r}: leave the text out.")
    words = preprocessing.tokenize(text, TASKS[task].reads)
    if len(words) >= LONGEST_PROMPT:
        raise ValueError(
            f"A prompt has at most {LONGEST_PROMPT} words, the instruction among them, and "
            f'"{text[:40]}…" makes {len(words) + 1}: shorten it, since the model has learned no '
            "places beyond."
        )
    numbers = vocabulary.encode(words)
    if all(number == UNK for number in numbers):
        raise ValueError(
            f'The vocabulary knows no word of "{text}": write with the words of the postcards.'
        )
    return [vocabulary.index[task], *numbers]


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
    Raises ValueError unless there are as many answers as texts, and as `prompt`.
    """
    arguments.check_lists("with_answers", texts=texts, answers=answers)
    language = TASKS[task].writes if task in TASKS else ""
    words, target = [], []
    for text, answer in zip(texts, answers, strict=True):
        told = prompt(task, text, vocabulary)
        said = [answer] if language == "number" else preprocessing.tokenize(answer, language)
        said = vocabulary.encode(said)
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
        arguments.check_count("blocks", blocks, 1, 3)
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
        """Remembers which vocabulary it learns, so that `answer` refuses another; returns itself."""
        check_size(self, vocabulary)
        self.vocabulary.fill_(fingerprint(vocabulary))
        return self

    # Reading

    def word_tokens(self, words: Tensor, place: Tensor) -> Tensor:
        """Words (B, T) at these places (B, T) as tokens (B, T, width)."""
        tokens = self.beta * self.embedding(words)
        return tokens + self.places["words"][place] if self.positions else tokens

    def tokens(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, int]:
        """The sequence (B, P + T, width), where there is a token in it (B, P + T), and P."""
        name = check_inputs(self, inputs)
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

        What was read before is not read again: its keys and values are in the state.
        """
        keys, values, known, place = state
        if int(place.max()) >= LONGEST_WORDS:
            raise ValueError(
                f"The model has learned {LONGEST_WORDS} places, and this is word "
                f"{int(place.max()) + 1}: give a shorter prompt, or end the answer before."
            )
        x = self.word_tokens(words[:, None], place[:, None])  # (B, 1, width)
        known = torch.cat([known, torch.ones_like(known[:, :1])], 1)
        mask, now = known[:, None, None], []
        for number, block in enumerate(self.blocks):
            x, cache = block.read(x, mask, (keys[:, number], values[:, number]))
            now.append(cache)
        keys, values = (torch.stack(parts, 1) for parts in zip(*now, strict=True))
        return self.score(x)[:, 0], (keys, values, known, place + 1)


class ReadAgain(nn.Module):
    """The same model without a memory: each step reads the whole sequence again. Lesson 13."""

    def __init__(self, model: OneModel):
        super().__init__()
        self.model = model

    def start(self, inputs: dict[str, Tensor]) -> State:
        """The state is all that was read; the prompts must be of one length."""
        return *(inputs[name] for name in sorted(inputs) if name != "words"), inputs["words"]

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """As `OneModel.step`."""
        *seen, told = state
        told = torch.cat([told, words[:, None]], 1)
        names = {1: ("picture",), 2: ("frames", "voice")}.get(len(seen), ())
        inputs = dict(zip(names, seen, strict=True)) | {"words": told}
        return self.model(inputs)[:, -1], (*seen, told)


def check_inputs(model: OneModel, inputs: dict[str, Tensor]) -> str:
    """The name of the modality among a model's inputs, or "" when there are words alone.

    Raises ValueError when there are no words or too many, for an unknown or a second modality, and
    for other shapes than the model's.
    """
    if not isinstance(inputs, dict) or "words" not in inputs:
        raise arguments.ArgumentError(
            'One model reads {"words": (B, T)} and what is seen, such as "picture": pass both.'
        )
    words = inputs["words"]
    arguments.check_tokens("OneModel", words, model.embedding.num_embeddings)
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
    for name in names:
        most, numbers = SIZES[name][0], model.projectors[name].in_features
        values = inputs[name]
        fits = values.ndim == 3 and len(values) == len(words) and 0 < values.shape[1] <= most
        if not fits or values.shape[2] != numbers:
            raise arguments.ArgumentError(
                f'The "{name}" of {len(words)} prompts is ({len(words)}, {most}, {numbers}), and '
                f"this is {tuple(values.shape)}: pass what one_model.examples gives."
            )
        if ("frames" in inputs) != (name == "voice"):
            raise arguments.ArgumentError(
                f'"frames" says how long each voice is, and comes with a voice alone (here with '
                f'"{name}"): pass what voice_frames gives.'
            )
    return names[0] if names else ""


def fingerprint(vocabulary: preprocessing.Vocabulary) -> int:
    """A number that two vocabularies have in common only if their words are the same, but for one
    chance in four thousand million; never 0."""
    return zlib.crc32("\n".join(vocabulary.words).encode()) + 1


def check_size(model: OneModel, vocabulary: preprocessing.Vocabulary) -> None:
    """Raises ValueError when a vocabulary is not that of the model."""
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
    wanted, reads, _ = TASKS[task]
    if blind and task not in BLIND:
        raise ValueError(
            f"{task} cannot do without its {wanted}: pass it, or try {' or '.join(BLIND)} blind."
        )
    if blind == (wanted in seen):
        there = f"got a {wanted} although it is blind" if blind else f"is without its {wanted}"
        instead = "leave it out" if blind else f'pass {{"{wanted}": …}}'
        raise ValueError(f"{task} {there}: {instead}.")
    if texts is None and (reads and task != "<mood>" or blind):
        raise ValueError(f"{task} reads a text for each {wanted}: pass texts=[…].")
    count = len(texts) if blind else len(seen[wanted])
    texts = [None] * count if texts is None else texts
    if len(texts) != count:
        raise ValueError(
            f"{task} got {count} of {wanted} and {len(texts)} texts: pass as many of each."
        )
    return {**seen, "words": prompts(task, texts, vocabulary)}


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
    inputs = ask(model, "<mood>", seen, vocabulary, messages, blind=not seen)
    here = device_of(model)
    inputs = {name: values.to(here) for name, values in inputs.items()}
    first = torch.full_like(inputs["words"][:, 0], BOS)
    with training.evaluating(model):
        scores, _ = model.step(first, model.start(inputs))  # (N, V)
    chances = scores[:, vocabulary.encode(MOODS)].softmax(1).cpu()  # (N, 21)
    return chances @ MOOD_VALUES


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
    their order unless you say else. Raises ValueError as `with_answers`."""
    texts = [None] * len(answers) if texts is None else texts
    words, target = with_answers(task, texts, answers, vocabulary)
    card = torch.arange(len(answers)) if card is None else card
    return Examples(task, seen, card, words, target)


def picture_examples(
    cards: datasets.Postcards,
    picture: Tensor,
    vocabulary: preprocessing.Vocabulary,
    per_card: int = 5,
    seed: int = 0,
) -> list[Examples]:
    """All tasks that see a picture, for N cards with these patches (N, 16, 128).

    per_card, seed: the questions, see `questions.ask_all`. The mood comes twice, with the message
    and without it.
    """
    asked = questions.ask_all(cards, per_card, seed)
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
    "<caption en>": 2.0,
    "<caption zh>": 2.0,
    "<translate>": 2.5,
    "<ask>": 4.0,
    "<mood>": 3.0,
    "<film>": 1.0,
    "<transcribe>": 1.0,
}
"""How often a batch is of each task, against the others: more for what is hard to learn."""

BLINDFOLD = 0.1
"""The share of the batches of BLIND tasks without their picture: modality dropout (Neverova et al.,
2016)."""


class Batches(IterableDataset):
    """`steps` batches an epoch, each of one task, drawn by its share; rows are drawn by chance.

    Gives pairs (inputs, target) for `training.fit`, in a `DataLoader` with batch_size=None. The next
    epoch goes on with other batches. Raises ValueError when there are no examples, or a share is
    missing.
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
        arguments.check_seed(seed)
        self.several, self.steps = list(several), steps
        self.batch_size, self.blindfold = batch_size, blindfold
        tasks = [one.task for one in self.several]
        self.shares = torch.tensor([SHARES[task] / tasks.count(task) for task in tasks])
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
    epochs: int = 40,
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
