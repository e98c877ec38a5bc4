"""From a picture to a sentence (lesson 06).

The captioner is the encoder of lesson 02 and a GRU that writes; what writes word after word, for
any decoder, is in `writing`. Then comes what a caption says of each factor of a card, what a plain
rival reaches, and what nobody can.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mbm_lab import (
    albums,
    arguments,
    cnn,
    datasets,
    postcards,
    preprocessing,
    stored,
    training,
    writing,
)
from mbm_lab.device import device_of, seeded
from mbm_lab.preprocessing import PAD
from mbm_lab.stored import Result
from mbm_lab.writing import Captions, State

FEATURES = 48
"""Numbers that the captioner's encoder gives for a picture. Lessons 07, 09 and 10 use them, too."""

NEAR = 0.05
"""How near to a border of a mood word `twins` looks for them; the farthest found is at 0.02."""

CELLS, CHANNELS = 64, 32
"""The encoder's last map: 8 × 8 cells of 32 numbers."""

# --- Decoders: four ways in which a picture and a sentence meet


class Writer(nn.Module):
    """A GRU that reads the words so far, and writes about a picture.

    Its state h (B, T, hidden) is what the article calls g. The children say how h and what is known
    of the picture become scores of the next word: score(h, picture), (B, T, V).
    """

    def __init__(self, vocabulary_size: int, hidden: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, hidden, batch_first=True)

    def start(self, picture: Tensor) -> State:
        """The state before the first word, for what is known of B pictures: (B, …)."""
        return picture.new_zeros(len(picture), self.gru.hidden_size), picture

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one word a sentence (B,): the scores of the next word (B, V), and the new state."""
        h, picture = state
        states, h = self.gru(self.embedding(words)[:, None], h[None])  # (B, 1, hidden)
        return self.score(states, picture)[:, 0], (h[0], picture)

    def forward(self, picture: Tensor, prefix: Tensor) -> Tensor:
        """Teacher forcing: reads the true words (B, T), and scores each next one: (B, T, V)."""
        states, _ = self.gru(self.embedding(prefix))  # (B, T, hidden)
        return self.score(states, picture)


class SumDecoder(Writer):
    """The article's formula at every word: v = αf + βg, then scores = W v + b.

    f (B, dim) are the picture's features, g is the GRU's state, made as long by a linear layer.
    """

    def __init__(self, vocabulary_size: int, dim: int = FEATURES, hidden: int = 64):
        super().__init__(vocabulary_size, hidden)
        self.g = nn.Linear(hidden, dim)
        self.alpha = nn.Parameter(torch.ones(()))
        self.beta = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(dim, vocabulary_size)

    def score(self, h: Tensor, f: Tensor) -> Tensor:
        """Scores (B, T, V) from h (B, T, hidden) and f (B, dim)."""
        v = self.alpha * f[:, None] + self.beta * self.g(h)  # (B, T, dim)
        return self.out(v)


class ConcatDecoder(Writer):
    """[h; f], side by side, then one linear layer (Vinyals et al., 2015, let the GRU read f once
    instead)."""

    def __init__(self, vocabulary_size: int, dim: int = FEATURES, hidden: int = 64):
        super().__init__(vocabulary_size, hidden)
        self.out = nn.Linear(hidden + dim, vocabulary_size)

    def score(self, h: Tensor, f: Tensor) -> Tensor:
        """Scores (B, T, V) from h (B, T, hidden) and f (B, dim)."""
        return self.out(torch.cat([h, f[:, None].expand(-1, h.shape[1], -1)], -1))


class Decoder(Writer):
    """The captioner's decoder: h asks the picture, feature by feature.

    scores = out [h; (A h + a) ⊙ f]: the product lets h choose which features matter now, the
    colour's before "face", the object's after "beside".
    """

    def __init__(self, vocabulary_size: int, dim: int = FEATURES, hidden: int = 64):
        super().__init__(vocabulary_size, hidden)
        self.ask = nn.Linear(hidden, dim)
        self.out = nn.Linear(hidden + dim, vocabulary_size)

    def score(self, h: Tensor, f: Tensor) -> Tensor:
        """Scores (B, T, V) from h (B, T, hidden) and f (B, dim)."""
        asked = self.ask(h) * f[:, None]  # (B, T, dim)
        return self.out(torch.cat([h, asked], -1))


class AttentionDecoder(Writer):
    """h asks the map of the picture, cell by cell: (B, 64, 32), see `image_cells`.

    Each cell has a key, and its place another; the softmax of their products with the question says
    how much of the cell's value is taken (Xu et al., 2015, in the form of Vaswani et al., 2017).
    """

    def __init__(self, vocabulary_size: int, hidden: int = 64):
        super().__init__(vocabulary_size, hidden)
        self.ask = nn.Linear(hidden, CHANNELS)
        self.key = nn.Linear(CHANNELS, CHANNELS, bias=False)
        self.place = nn.Parameter(torch.zeros(CELLS, CHANNELS))
        self.value = nn.Linear(CHANNELS, FEATURES)
        self.out = nn.Linear(hidden + FEATURES, vocabulary_size)

    def weights(self, h: Tensor, cells: Tensor) -> Tensor:
        """How much of each cell is taken, for h (B, T, hidden): (B, T, 64), rows with sum 1."""
        keys = self.key(cells) + self.place  # (B, 64, 32)
        return (self.ask(h) @ keys.transpose(1, 2) / math.sqrt(CHANNELS)).softmax(-1)

    def score(self, h: Tensor, cells: Tensor) -> Tensor:
        """Scores (B, T, V) from h (B, T, hidden) and the cells."""
        found = self.weights(h, cells) @ self.value(cells)  # (B, T, 48)
        return self.out(torch.cat([h, found], -1))

    def attention(self, cells: Tensor, prefix: Tensor) -> Tensor:
        """Where it looks after each word of the prefixes (B, T): (B, T, 64)."""
        states, _ = self.gru(self.embedding(prefix))
        return self.weights(states, cells)


class Helped(nn.Module):
    """A decoder with its teacher: {"picture": (B, …), "prefix": (B, T)} to scores (B, T, V)."""

    def __init__(self, decoder: Writer):
        super().__init__()
        self.decoder = decoder

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        return self.decoder(inputs["picture"], inputs["prefix"])


# --- The captioner


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
    """Writes a caption for each picture (N, 3, 64, 64), greedily.

    Raises ValueError when the vocabulary does not know the language, and for pictures that the
    encoder refuses (see `cnn.ImageEncoder`).
    """
    arguments.check_choice("language", language, writing.START)
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
    """What a caption says of a "colour", "object", "weather" or "mood"; "" if nothing.

    Raises ValueError for another factor or language.
    """
    arguments.check_choice("language", language, PHRASES)
    arguments.check_choice("factor", factor, PHRASES[language])
    return next((p for p in PHRASES[language][factor] if p in sentence), "")


def factors_right(
    written: Sequence[str], true: Sequence[str], language: str = "en"
) -> dict[str, Tensor]:
    """For each factor, whether each sentence says what the true one says: (N,) bool.

    Raises ValueError unless there are as many written as true sentences.
    """
    arguments.check_choice("language", language, PHRASES)
    arguments.check_texts("factors_right", written=written, true=true)
    return {
        factor: torch.tensor(
            [
                factor_in(ours, factor, language) == factor_in(theirs, factor, language)
                for ours, theirs in zip(written, true, strict=True)
            ]
        )
        for factor in PHRASES[language]
    }


# --- A rival, and a limit


def factor_by_factor(features: Tensor, captions: Sequence[str], new: Tensor) -> list[str]:
    """English captions without a decoder: for each factor, what the true captions say of it is
    learned by a logistic regression, and its answers are filled into the captions' one form.

    features (N, dim) of the pictures with these N captions; new (M, dim): M captions. Raises
    ValueError when the sizes do not match.
    """
    arguments.check_texts("factor_by_factor", captions=captions)
    arguments.check_lists("factor_by_factor", features=features, captions=captions)
    arguments.check_dims("factor_by_factor", features=features, new=new)
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def read(said: list[str]) -> list[str]:
        reader = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        return reader.fit(features.numpy(), said).predict(new.numpy()).tolist()

    colour, thing, weather, mood = (
        read([factor_in(caption, factor) for caption in captions]) for factor in PHRASES["en"]
    )
    beside = read(["beside" if "beside" in caption else "on" for caption in captions])
    return [
        " ".join(
            ["a", *m.split(), c, "face"]
            + (["beside", t] if b == "beside" else ["with", t, "on its head"])
            + [w]
        )
        for c, t, w, m, b in zip(colour, thing, weather, mood, beside, strict=True)
    ]


def twins(cards: datasets.Postcards) -> datasets.Postcards:
    """The cards whose pixels leave two captions open, each as its twin: the same card with the
    expression just across the nearest border of a mood word, which paints the same picture.

    A twin has the caption of its own expression. Cards without a twin are left out.
    """
    borders = sorted(edge for edges in postcards.MOOD_WORDS.values() for edge in edges)
    rows, moved = [], []
    for row, card in enumerate(cards.cards):
        edge = min(borders, key=lambda edge: abs(card.expression - edge))
        near = [round(edge + step, 4) for step in (-1e-4, 0.0, 1e-4)]
        word = postcards.mood_word(card.expression)
        across = [e for e in near if abs(e) <= 1 and postcards.mood_word(e) != word]
        if not across or abs(card.expression - edge) > NEAR:
            continue
        expression = min(across, key=lambda e: abs(e - card.expression))
        drawn = (expression, card.colour, card.object, card.relation, card.weather)
        texts = {
            "caption": postcards.caption_en(*drawn), "caption_zh": postcards.caption_zh(*drawn)
        }  # fmt: skip
        rows.append(row)
        moved.append(replace(card, expression=expression, **texts))
    before = datasets.paint([cards.cards[row] for row in rows])
    same = (before == datasets.paint(moved)).flatten(1).all(1).tolist()
    rows = [row for row, alike in zip(rows, same, strict=True) if alike]
    moved = [card for card, alike in zip(moved, same, strict=True) if alike]
    return replace(
        cards.subset(rows),
        captions=[card.caption for card in moved],
        captions_zh=[card.caption_zh for card in moved],
        expression=torch.tensor([card.expression for card in moved]),
        cards=moved,
    )


def limit(images: Tensor, captions: Sequence[str]) -> float:
    """The most that any reader of pixels gets right of these pictures (N, 3, H, W): who sees two
    equal pictures writes one caption, so of each group of equal ones the commonest counts.

    Raises ValueError unless there are as many captions as pictures.
    """
    arguments.check_lists("limit", images=images, captions=captions)
    groups = defaultdict(Counter)
    for image, caption in zip(images, captions, strict=True):
        groups[image.cpu().numpy().tobytes()][caption] += 1
    return sum(max(group.values()) for group in groups.values()) / len(captions)


# --- Trained models


def captions_of(cards: datasets.Postcards | albums.Album) -> Captions:
    """Both captions of each card: [("en", N sentences), ("zh", N sentences)]. Of an album, the
    first captions of all pictures, the second ones, …: as many as every picture has, in the
    language that their script tells."""
    if isinstance(cards, albums.Album):
        language = preprocessing.language_of(text for several in cards.captions for text in several)
        rounds = range(min(map(len, cards.captions)))
        return [(language, [captions[k] for captions in cards.captions]) for k in rounds]
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
    languages: Sequence[str] | None = None,
) -> training.History:
    """The recipe of lesson 06: about one second an epoch for 2,000 cards on one thread.

    languages: those of the captions that are learned; all if None. Raises ValueError for one in
    which the cards have no captions.
    """
    told = captions_of(cards)
    if languages is not None:
        arguments.check_lists("train_captioner", languages=languages)
        for language in languages:
            arguments.check_choice("language", language, dict(told))
        told = [pair for pair in told if pair[0] in languages]
    prefix, target = writing.teacher_forcing(told, vocabulary)
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


def image_cells(encoder: cnn.ImageEncoder, images: Tensor) -> Tensor:
    """The last map of an encoder, cell by cell: (N, 3, 64, 64) to (N, 64, 32).

    Raises ValueError for other shapes, and for pictures as `cnn.ImageEncoder` does.
    """
    cnn.check_shape("image_cells", images)
    arguments.check_pictures("image_cells", images)
    maps = training.predict(encoder.convolutions, preprocessing.normalise(images))  # (N, 32, 8, 8)
    return maps.flatten(2).transpose(1, 2)


def train_decoder(
    decoder: Writer,
    picture: Tensor,
    captions: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
    epochs: int = 15,
    seed: int = 0,
) -> training.History:
    """Trains a decoder alone on English captions; the encoder stays as it is.

    picture (N, …): what is known of each picture, features (N, 48) or cells (N, 64, 32). About a
    quarter of a second an epoch for 2,000 cards on one thread. Raises ValueError unless there are
    as many captions as pictures.
    """
    arguments.check_texts("train_decoder", captions=captions)
    arguments.check_lists("train_decoder", picture=picture, captions=captions)
    prefix, target = writing.teacher_forcing([("en", captions)], vocabulary)
    return training.fit(
        Helped(decoder),
        {"picture": picture, "prefix": prefix[:, 0]},
        target[:, 0],
        writing.next_word_loss,
        epochs=epochs,
        batch_size=64,
        learning_rate=6e-3,
        one_cycle=True,
        seed=seed,
    )


def train_attention(
    encoder: cnn.ImageEncoder, cards: datasets.Postcards, epochs: int = 60, seed: int = 0
) -> stored.Model:
    """A decoder with attention over the map of a trained encoder (half a minute)."""
    vocabulary = writing.build_vocabulary([("en", cards.captions)])
    with seeded(seed):
        decoder = AttentionDecoder(len(vocabulary))
    cells = image_cells(encoder, cards.images)
    train_decoder(decoder, cells, cards.captions, vocabulary, epochs, seed)
    sizes = {"vocabulary_size": len(vocabulary)}
    return stored.Model("attention_decoder", decoder, sizes, vocabulary)


def retrain(seed: int, epochs: int = 60) -> list[stored.Model]:
    """The models of `data/weights`, trained anew (a minute and a half): the captioner, and a
    decoder with attention to the map of its encoder."""
    cards = datasets.load_postcards("train")
    vocabulary = writing.build_vocabulary(captions_of(cards))
    model = new_captioner(vocabulary, seed)
    train_captioner(model, cards, vocabulary, epochs, seed)
    captioner = stored.Model("captioner", model, {"vocabulary_size": len(vocabulary)}, vocabulary)
    return [captioner, train_attention(model.encoder, cards, epochs, seed)]


# --- How good is it?


def quality(
    model: Captioner,
    cards: datasets.Postcards,
    vocabulary: preprocessing.Vocabulary,
    rivals: Mapping[str, tuple[str, Sequence[str]]] | None = None,
) -> list[Result]:
    """What one model reaches on test cards, of seen and unseen combinations.

    rivals: for a language, the name of a rival and what it writes about these cards.
    """
    results = []
    order = torch.randperm(len(cards), generator=torch.Generator().manual_seed(0))
    others = twins(cards)
    place = {name: row for row, name in enumerate(cards.names)}
    rows_of_twins = [place[name] for name in others.names]
    doubled = torch.cat([cards.images, others.images])
    for language, captions in captions_of(cards):
        true = writing.tidy(captions, language)
        written = caption(model, cards.images, language, vocabulary)
        right = writing.exact(written, true)
        name, theirs = (rivals or {}).get(language, ("", None))
        rival = None if theirs is None else writing.exact(theirs, true)
        for which, chosen, wanted in (("seen", cards.seen, 0.90), ("unseen", ~cards.seen, 0.75)):
            what, share = f"exact match, {language}, {which}", _share(right, chosen)
            baseline = None if rival is None else _share(rival, chosen)
            results.append(Result(what, share, wanted, baseline=baseline, rival=name))
        for which, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
            rows = chosen.nonzero()[:, 0].tolist()
            score = writing.bleu([written[i] for i in rows], [true[i] for i in rows], language)
            results.append(Result(f"BLEU, {language}, {which}", score))
        shuffled = writing.exact([written[i] for i in order.tolist()], true).float().mean().item()
        what = f"exact match, {language}, shuffled pictures"
        results.append(Result(what, shuffled, at_most=0.02))
        both = true + writing.tidy(dict(captions_of(others))[language], language)
        again = [written[row] for row in rows_of_twins]  # the pixels are the same
        share = writing.exact(written + again, both).float().mean().item()
        baseline = None
        if theirs is not None:
            again = [theirs[row] for row in rows_of_twins]
            baseline = writing.exact([*theirs, *again], both).float().mean().item()
        what, most = f"exact match, {language}, cards and their twins", limit(doubled, both)
        results.append(Result(what, share, 0.80, baseline=baseline, rival=name, limit=most))
    return results


def _share(right: Tensor, chosen: Tensor) -> float:
    return right[chosen].float().mean().item()


def exam(
    seed: int, train: datasets.Postcards | None = None, test: datasets.Postcards | None = None
) -> list[Result]:
    """What the stored models of this seed (0, 1 or 2) reach on all test cards, and what one
    logistic regression for each factor reaches on the same features.

    train, test: the course's cards of these splits, where they are loaded already.
    """
    model, vocabulary = stored.load("captioner", seed)
    train = datasets.load_postcards("train") if train is None else train
    test = datasets.load_postcards("test") if test is None else test
    f, f_test = (training.predict(model.encoder, cards.images) for cards in (train, test))
    plain = factor_by_factor(f, train.captions, f_test)
    rivals = {"en": ("one logistic regression a factor", plain)}
    results = quality(model, test, vocabulary, rivals)
    decoder, words = stored.load("attention_decoder", seed)
    state = decoder.start(image_cells(model.encoder, test.images))
    true = writing.tidy(test.captions, "en")
    right = writing.exact(writing.write(decoder, state, words, "en"), true)
    for which, chosen in (("seen", test.seen), ("unseen", ~test.seen)):
        what = f"exact match, en, attention, {which}"
        results.append(Result(what, _share(right, chosen), at_least=0.75))
    return results
