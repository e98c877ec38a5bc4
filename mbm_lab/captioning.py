"""From a picture to a sentence (lesson 06).

The first part writes words one after the other, greedily or with a beam, for any decoder; lessons
08 and 10 use it too. The second part is the captioner: the encoder of lesson 02 and a GRU that
writes. The third measures what it wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from mbm_lab import albums, cnn, datasets, postcards, preprocessing, training
from mbm_lab.preprocessing import BOS, EOS, PAD, UNK

START = {"en": "<en>", "zh": "<zh>"}
"""The word that begins a caption in each language: it tells the decoder which language to write.
A decoder that writes only one language needs no such word, and begins with <bos>."""

LONGEST = 24
"""The most words that a decoder writes before it is stopped."""

FEATURES = 48
"""Numbers that the captioner's encoder gives for a picture. Lessons 07, 09 and 10 use them, too."""

WEIGHTS = datasets.DATA / "weights"

Captions = Sequence[tuple[str, Sequence[str]]]
"""Pairs (language, N sentences): several captions of the same N pictures."""

State = tuple[Tensor, ...]
"""What a decoder remembers between two words: tensors (B, …), one row for each sentence."""


# --- Writing, word after word


@torch.no_grad()
def greedy(decoder: nn.Module, state: State, first: int = BOS, longest: int = LONGEST) -> Tensor:
    """Writes a sentence for each row of the state, always taking the likeliest word. Lesson 06.

    decoder.step(words (B,), state) gives the next word's scores (B, V) and the new state; first:
    the word that begins every sentence. Returns (B, T) without `first`: after the word EOS a row is
    filled up with PAD.
    """
    words = torch.full((len(state[0]),), first, device=state[0].device)
    written, ended = [], torch.zeros_like(words, dtype=torch.bool)
    while len(written) < longest and not bool(ended.all()):
        scores, state = decoder.step(words, state)
        words = scores.argmax(1)
        written.append(words.masked_fill(ended, PAD))
        ended |= words == EOS
    return torch.stack(written, 1)


@torch.no_grad()
def beam_search(
    decoder: nn.Module,
    state: State,
    first: int = BOS,
    width: int = 3,
    longest: int = LONGEST,
) -> list[tuple[list[int], float]]:
    """The likeliest sentences that a beam of `width` finds, best first, with log p. Lesson 06.

    Each step goes on from the `width` likeliest beginnings with every word, and keeps the `width`
    likeliest of all these (Lowerre, 1976). state: of one sentence, tensors (1, …). A sentence has
    neither `first` nor EOS; log p is the sum of the logarithms of its words' probabilities, EOS
    among them.

    Raises ValueError when the state holds more than one sentence, or the width is below 1.
    """
    if len(state[0]) != 1 or width < 1:
        raise ValueError(
            "beam_search writes for one example at a time, with a width of at least 1: it got "
            f"{len(state[0])} examples and width {width}."
        )
    beginnings: list[tuple[list[int], float]] = [([first], 0.0)]
    finished: list[tuple[list[int], float]] = []
    for _ in range(longest):
        words = torch.tensor([sentence[-1] for sentence, _ in beginnings], device=state[0].device)
        scores, state = decoder.step(words, state)
        log_p = scores.log_softmax(1)  # (beginnings, V)
        log_p += log_p.new_tensor([total for _, total in beginnings])[:, None]
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
        finished = sorted(finished, key=lambda pair: -pair[1])[:width]
        # adding words only lowers log p, so a beginning below all finished sentences cannot win
        if not grown or (len(finished) == width and finished[-1][1] >= grown[0][1]):
            break
        beginnings, state = grown, tuple(values[rows] for values in state)
    return finished or [(sentence[1:], total) for sentence, total in beginnings]


class Decoder(nn.Module):
    """A GRU that writes sentences about a feature vector f (B, dim). Lesson 06.

    The GRU reads the words so far. Its hidden state h then asks the picture, feature by feature,
    and scores every word of the vocabulary as the next one: out [h; (A h + a) ⊙ f]. The product
    lets h choose which features matter now: the colour's before "face", the object's after
    "beside" (a simple relative of the attention in Xu et al., 2015).
    """

    def __init__(self, vocabulary_size: int, dim: int = FEATURES, hidden: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, hidden, batch_first=True)
        self.ask = nn.Linear(hidden, dim)
        self.out = nn.Linear(hidden + dim, vocabulary_size)

    def start(self, features: Tensor) -> State:
        """The state before the first word, for feature vectors (B, dim)."""
        return features.new_zeros(len(features), self.gru.hidden_size), features

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one word a sentence (B,): the scores of the next word (B, V), and the new state."""
        h, features = state
        states, h = self.gru(self.embedding(words)[:, None], h[None])  # (B, 1, hidden)
        return self._score(states[:, 0], features), (h[0], features)

    def forward(self, features: Tensor, prefix: Tensor) -> Tensor:
        """Teacher forcing: reads the true words (B, T), and scores each next one: (B, T, V)."""
        states, _ = self.gru(self.embedding(prefix))  # (B, T, hidden)
        return self._score(states, features[:, None])

    def _score(self, h: Tensor, features: Tensor) -> Tensor:
        asked = self.ask(h) * features  # (…, dim)
        return self.out(torch.cat([h, asked], -1))  # (…, V)


# --- The captioner


class Captioner(nn.Module):
    """Pictures (B, 3, 64, 64) and prefixes of K captions each (B, K, T) to scores (B, K, T, V).

    The encoder is f of lesson 02, with a layer normalisation (Ba et al., 2016) in the place of its
    tanh; one decoder writes all languages. The true caption enters only as the shifted prefix: the
    score of a word sees the words before it. Lesson 06.
    """

    def __init__(self, vocabulary_size: int, dim: int = FEATURES, hidden: int = 64):
        super().__init__()
        self.encoder = cnn.ImageEncoder(dim, last=nn.LayerNorm(dim))
        self.decoder = Decoder(vocabulary_size, dim, hidden)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        prefix = inputs["prefix"]  # (B, K, T)
        features = self.encoder(inputs["image"])  # (B, dim)
        features = features.repeat_interleave(prefix.shape[1], 0)  # (B * K, dim)
        scores = self.decoder(features, prefix.flatten(0, 1))  # (B * K, T, V)
        return scores.unflatten(0, prefix.shape[:2])


def build_vocabulary(captions: Captions, min_count: int = 1) -> preprocessing.Vocabulary:
    """The words that occur at least `min_count` times in these captions, numbered; the words of
    START come first. Lesson 06."""
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
    if all(number == UNK for number, word in zip(numbers, words, strict=True) if word.isalnum()):
        raise ValueError(
            f'The vocabulary knows no word of "{text}": write in a language and script that it was '
            f"built from, and name the language (here {language!r})."
        )
    return [first_word(language, vocabulary), *numbers, EOS]


def first_word(language: str, vocabulary: preprocessing.Vocabulary) -> int:
    """The number of the word that begins a sentence in this language: its START, or <bos>."""
    return vocabulary.index[START.get(language, "<bos>")]


def teacher_forcing(
    captions: Captions, vocabulary: preprocessing.Vocabulary
) -> tuple[Tensor, Tensor]:
    """What the decoder reads and what it should say next: two tensors (N, K, T). Lesson 06.

    captions: K pairs (language, N sentences). The prefix begins with the language's START word; the
    target is the same sentence one word further on, to EOS. Both are padded with PAD.
    Raises ValueError as `encode` does, and when the K lists differ in length.
    """
    if len({len(texts) for _, texts in captions}) != 1:
        raise ValueError("Every picture needs as many captions as the others: the lists differ.")
    rows = [
        [encode(text, language, vocabulary) for text in texts] for language, texts in captions
    ]  # K lists of N sentences
    flat = [sentence for sentences in zip(*rows, strict=True) for sentence in sentences]
    prefix = preprocessing.pad([sentence[:-1] for sentence in flat])
    target = preprocessing.pad([sentence[1:] for sentence in flat])
    return prefix.unflatten(0, (-1, len(captions))), target.unflatten(0, (-1, len(captions)))


def next_word_loss(scores: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of the next word, averaged over the words that are not padding. Lesson 06.

    scores (…, V), target (…).
    """
    return nn.functional.cross_entropy(scores.flatten(0, -2), target.flatten(), ignore_index=PAD)


def spell(words: Sequence[str], language: str) -> str:
    """Words as one line: with spaces, or in Chinese without."""
    return "".join(words) if language == "zh" else " ".join(words)


def read_out(written: Tensor, vocabulary: preprocessing.Vocabulary, language: str) -> list[str]:
    """Rows of word numbers (N, T), as `greedy` writes them, as sentences. Lesson 06."""
    sentences = []
    for row in written.tolist():
        row = row[: row.index(EOS)] if EOS in row else row
        sentences.append(spell(vocabulary.decode(row), language))
    return sentences


def tidy(captions: Sequence[str], language: str) -> list[str]:
    """Captions in the form in which a model writes them, so that the two can be compared."""
    return [spell(preprocessing.tokenize(text, language), language) for text in captions]


def caption(
    model: Captioner, images: Tensor, language: str, vocabulary: preprocessing.Vocabulary
) -> list[str]:
    """Writes a caption for each picture (N, 3, 64, 64), greedily. Lesson 06."""
    features = training.predict(model.encoder, images)
    decoder = model.decoder.cpu().eval()
    written = greedy(decoder, decoder.start(features), first_word(language, vocabulary))
    return read_out(written, vocabulary, language)


# --- How good is it?

PHRASES = {
    "en": {
        "colour": list(postcards.COLOURS),
        "object": sorted({english for english, _ in postcards.OBJECTS.values()}),
        "weather": [english for english, _ in postcards.WEATHERS.values()],
        "mood": list(postcards.MOOD_WORDS),
    },
    "zh": {
        "colour": [chinese for _, chinese in postcards.COLOURS.values()],
        "object": [chinese for _, chinese in postcards.OBJECTS.values()],
        "weather": [chinese for _, chinese in postcards.WEATHERS.values()],
        "mood": list(postcards.MOOD_WORDS_ZH.values()),
    },
}
"""How captions name each factor. No mood word is an answer, too."""


def factor_in(sentence: str, factor: str, language: str = "en") -> str:
    """What a caption says of a "colour", "object", "weather" or "mood"; "" if nothing."""
    return next((p for p in PHRASES[language][factor] if p in sentence), "")


def factors_right(
    written: Sequence[str], true: Sequence[str], language: str = "en"
) -> dict[str, Tensor]:
    """For each factor, whether each sentence says what the true one says: (N,) bool. Lesson 06."""
    return {
        factor: torch.tensor(
            [
                factor_in(ours, factor, language) == factor_in(theirs, factor, language)
                for ours, theirs in zip(written, true, strict=True)
            ]
        )
        for factor in PHRASES[language]
    }


def exact(written: Sequence[str], true: Sequence[str]) -> Tensor:
    """Whether each sentence is the true one, word for word: (N,) bool. Lesson 06."""
    return torch.tensor([ours == theirs for ours, theirs in zip(written, true, strict=True)])


def bleu(
    written: Sequence[str], true: Sequence[str | Sequence[str]], language: str = "en"
) -> float:
    """BLEU by sacrebleu, 0 to 100 (Papineni et al., 2002; Post, 2018). Lesson 06.

    true: the N true sentences, or for each written one several that are equally true. How many
    runs of one to four words of the written sentences occur in the true ones; written text that is
    too short is punished. Chinese is compared character by character.
    """
    import sacrebleu

    tokenizer = "zh" if language == "zh" else "13a"
    several = [[one] if isinstance(one, str) else list(one) for one in true]
    references = [list(column) for column in zip(*several, strict=True)]
    score = sacrebleu.corpus_bleu(list(written), references, force=True, tokenize=tokenizer)
    return score.score  # force: no advice about a space before the full stop


# --- Trained models


def captions_of(cards: datasets.Postcards | albums.Album) -> Captions:
    """Both captions of each card: [("en", N sentences), ("zh", N sentences)]. Of an album, the
    first captions of all pictures, the second ones, …: as many as every picture has, in English."""
    if isinstance(cards, albums.Album):
        rounds = range(min(map(len, cards.captions)))
        return [("en", [captions[k] for captions in cards.captions]) for k in rounds]
    return [("en", cards.captions), ("zh", cards.captions_zh)]


def move_pictures(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """`preprocessing.augment` for the pictures only."""
    return {**inputs, "image": preprocessing.augment(inputs["image"], generator)}


def new_captioner(vocabulary: preprocessing.Vocabulary, seed: int = 0) -> Captioner:
    """An untrained captioner whose convolutions are those of lesson 02's trained reader."""
    torch.manual_seed(seed)
    model = Captioner(len(vocabulary))
    reader = cnn.Reader(cnn.ImageEncoder())
    training.load_weights(reader, WEIGHTS / "image_reader.safetensors")
    model.encoder.convolutions.load_state_dict(reader.encoder.convolutions.state_dict())
    return model


def train(
    model: Captioner,
    cards: datasets.Postcards | albums.Album,
    vocabulary: preprocessing.Vocabulary,
    epochs: int = 10,
    seed: int = 0,
) -> training.History:
    """The recipe of lesson 06: about one second an epoch for 2,000 cards on one thread."""
    prefix, target = teacher_forcing(captions_of(cards), vocabulary)
    return training.fit(
        model,
        {"image": cards.images, "prefix": prefix},
        target,
        next_word_loss,
        epochs=epochs,
        batch_size=32,
        learning_rate=6e-3,
        one_cycle=True,
        augment=move_pictures,
        seed=seed,
    )


def load_vocabulary() -> preprocessing.Vocabulary:
    """The words of the training captions, numbered."""
    return preprocessing.Vocabulary.load(WEIGHTS / "caption_words.json")


def load_captioner(seed: int = 0) -> Captioner:
    """A captioner that was trained for 60 epochs, with seed 0, 1 or 2."""
    model = Captioner(len(load_vocabulary()))
    return training.load_weights(model, WEIGHTS / f"captioner_{seed}.safetensors").eval()


def image_features(images: Tensor, seed: int = 0) -> Tensor:
    """What the stored captioner's encoder gives for pictures: (N, 3, 64, 64) to (N, 48).

    Lessons 07, 09, 10 and 12.
    """
    return training.predict(load_captioner(seed).encoder, images)


def retrain(out: str | Path = WEIGHTS, epochs: int = 60, seeds: Sequence[int] = (0, 1, 2)) -> None:
    """Trains the captioners and writes their weights and vocabulary (a minute each)."""
    cards = datasets.load_postcards("train")
    vocabulary = build_vocabulary(captions_of(cards))
    vocabulary.save(Path(out) / "caption_words.json")
    for seed in seeds:
        model = new_captioner(vocabulary, seed)
        train(model, cards, vocabulary, epochs, seed)
        training.save_weights(model, Path(out) / f"captioner_{seed}.safetensors", half=True)


def quality(
    model: Captioner, cards: datasets.Postcards, vocabulary: preprocessing.Vocabulary
) -> list[training.Figure]:
    """The figures of lesson 06 for one model on test cards, seen and unseen combinations."""
    figures = []
    order = torch.randperm(len(cards), generator=torch.Generator().manual_seed(0))
    for language, captions in captions_of(cards):
        true = tidy(captions, language)
        written = caption(model, cards.images, language, vocabulary)
        right = exact(written, true)
        for name, chosen, wanted in (("seen", cards.seen, 0.90), ("unseen", ~cards.seen, 0.75)):
            share = right[chosen].float().mean().item()
            figures.append((f"exact match, {language}, {name}", share, f">= {wanted:.2f}"))
        for name, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
            rows = chosen.nonzero()[:, 0].tolist()
            score = bleu([written[i] for i in rows], [true[i] for i in rows], language)
            figures.append((f"BLEU, {language}, {name}", score, ""))
        shuffled = exact([written[i] for i in order.tolist()], true).float().mean().item()
        figures.append((f"exact match, {language}, shuffled pictures", shuffled, "<= 0.02"))
    return figures


def exam(seed: int) -> list[training.Figure]:
    """The figures of the stored captioner of this seed (0, 1 or 2) on all test cards. Lesson 06."""
    return quality(load_captioner(seed), datasets.load_postcards("test"), load_vocabulary())
