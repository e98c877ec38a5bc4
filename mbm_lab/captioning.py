"""From a picture to a sentence (lesson 06).

The captioner is the encoder of lesson 02 and a GRU that writes; what writes word after word, for
any decoder, is in `writing`. The second part tells what a caption says of each factor of a card.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mbm_lab import albums, cnn, datasets, postcards, preprocessing, stored, training, writing
from mbm_lab.device import device_of, seeded
from mbm_lab.preprocessing import PAD
from mbm_lab.stored import Result
from mbm_lab.writing import Captions, State

FEATURES = 48
"""Numbers that the captioner's encoder gives for a picture. Lessons 07, 09 and 10 use them, too."""

# --- The captioner


class Decoder(nn.Module):
    """A GRU that writes sentences about a feature vector f (B, dim).

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


class Captioner(nn.Module):
    """Pictures (B, 3, 64, 64) and prefixes of K captions each (B, K, T) to scores (B, K, T, V).

    The encoder is f of lesson 02, with a layer normalisation (Ba et al., 2016) in the place of its
    tanh; one decoder writes all languages. The true caption enters only as the shifted prefix: the
    score of a word sees the words before it.
    """

    def __init__(self, vocabulary_size: int):
        super().__init__()
        self.encoder = cnn.ImageEncoder(FEATURES, last=nn.LayerNorm(FEATURES))
        self.decoder = Decoder(vocabulary_size)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        prefix = inputs["prefix"]  # (B, K, T)
        features = self.encoder(inputs["image"])  # (B, 48)
        features = features.repeat_interleave(prefix.shape[1], 0)  # (B * K, 48)
        scores = self.decoder(features, prefix.flatten(0, 1))  # (B * K, T, V)
        return scores.unflatten(0, prefix.shape[:2])


def caption(
    model: Captioner, images: Tensor, language: str, vocabulary: preprocessing.Vocabulary
) -> list[str]:
    """Writes a caption for each picture (N, 3, 64, 64), greedily."""
    features = training.predict(model.encoder, images).to(device_of(model.decoder))
    return writing.write(model.decoder, model.decoder.start(features), vocabulary, language)


# --- What a caption says

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
    """For each factor, whether each sentence says what the true one says: (N,) bool."""
    return {
        factor: torch.tensor(
            [
                factor_in(ours, factor, language) == factor_in(theirs, factor, language)
                for ours, theirs in zip(written, true, strict=True)
            ]
        )
        for factor in PHRASES[language]
    }


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
    with seeded(seed):
        model = Captioner(len(vocabulary))
    reader, _ = stored.load("image_reader")
    model.encoder.convolutions.load_state_dict(reader.encoder.convolutions.state_dict())
    return model


def train_captioner(
    model: Captioner,
    cards: datasets.Postcards | albums.Album,
    vocabulary: preprocessing.Vocabulary,
    epochs: int = 10,
    seed: int = 0,
) -> training.History:
    """The recipe of lesson 06: about one second an epoch for 2,000 cards on one thread."""
    prefix, target = writing.teacher_forcing(captions_of(cards), vocabulary)
    return training.fit(
        model,
        {"image": cards.images, "prefix": prefix},
        target,
        writing.next_word_loss,
        epochs=epochs,
        batch_size=32,
        learning_rate=6e-3,
        one_cycle=True,
        augment=move_pictures,
        seed=seed,
    )


def image_features(images: Tensor, seed: int = 0) -> Tensor:
    """What the stored captioner's encoder gives for pictures: (N, 3, 64, 64) to (N, 48).

    Lessons 07, 09, 10 and 12.
    """
    captioner, _ = stored.load("captioner", seed)
    return training.predict(captioner.encoder, images)


def retrain(seed: int, epochs: int = 60) -> list[stored.Model]:
    """The captioner of `data/weights`, trained anew (a minute)."""
    cards = datasets.load_postcards("train")
    vocabulary = writing.build_vocabulary(captions_of(cards))
    model = new_captioner(vocabulary, seed)
    train_captioner(model, cards, vocabulary, epochs, seed)
    return [stored.Model("captioner", model, {"vocabulary_size": len(vocabulary)}, vocabulary)]


# --- How good is it?


def quality(
    model: Captioner, cards: datasets.Postcards, vocabulary: preprocessing.Vocabulary
) -> list[Result]:
    """What one model reaches on test cards, of seen and unseen combinations."""
    results = []
    order = torch.randperm(len(cards), generator=torch.Generator().manual_seed(0))
    for language, captions in captions_of(cards):
        true = writing.tidy(captions, language)
        written = caption(model, cards.images, language, vocabulary)
        right = writing.exact(written, true)
        for name, chosen, wanted in (("seen", cards.seen, 0.90), ("unseen", ~cards.seen, 0.75)):
            share = right[chosen].float().mean().item()
            results.append(Result(f"exact match, {language}, {name}", share, at_least=wanted))
        for name, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
            rows = chosen.nonzero()[:, 0].tolist()
            score = writing.bleu([written[i] for i in rows], [true[i] for i in rows], language)
            results.append(Result(f"BLEU, {language}, {name}", score))
        shuffled = writing.exact([written[i] for i in order.tolist()], true).float().mean().item()
        what = f"exact match, {language}, shuffled pictures"
        results.append(Result(what, shuffled, at_most=0.02))
    return results


def exam(seed: int) -> list[Result]:
    """What the stored captioner of this seed (0, 1 or 2) reaches on all test cards."""
    model, vocabulary = stored.load("captioner", seed)
    return quality(model, datasets.load_postcards("test"), vocabulary)
