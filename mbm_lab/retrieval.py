"""Searching across modalities (lesson 07; its questions to a picture are in `questions`).

The first part is a dual encoder: pictures and texts as vectors in one space, where near means
alike. The second part searches with them, also for "this card, but with rain":
α f(picture) + β g(text).

Pictures enter as the features of lesson 06's trained encoder, which stays as it is (Zhai et al.,
2022, call this a locked image encoder).
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mbm_lab import (
    arguments,
    captioning,
    datasets,
    fusion,
    postcards,
    preprocessing,
    rnn,
    rows,
    stored,
    training,
    writing,
)
from mbm_lab.device import device_of, seeded
from mbm_lab.preprocessing import UNK
from mbm_lab.stored import Result

# --- One space for pictures and texts

SPACE = 48
"""Numbers of a vector in the space that pictures and texts share."""


def similarities(f: Tensor, g: Tensor) -> Tensor:
    """The cosine of every f with every g: (N, dim) and (M, dim) to (N, M), from -1 to 1.

    Raises ValueError for other shapes.
    """
    arguments.check_dims("similarities", f=f, g=g)
    f, g = (nn.functional.normalize(vectors, dim=1) for vectors in (f, g))
    return f @ g.T


def check_square(function: str, scores: Tensor, target: Tensor | None = None) -> None:
    """Raises ValueError unless scores are (N, N), and target, where there is one, (N,)."""
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise arguments.ArgumentError(
            f"{function} needs scores (N, N), of every picture with every text, and got "
            f"{arguments.shape(scores)}: let the model return f @ g.T."
        )
    if target is not None and target.shape != scores.shape[:1]:
        raise arguments.ArgumentError(
            f"{function} needs targets of shape {arguments.shape(scores[0])}, the number of each "
            f"pair's caption, and got {arguments.shape(target)}: pass one number a pair."
        )


def pull_together(scores: Tensor, target: Tensor | None = None) -> Tensor:
    """The mean squared distance |f - g|² of the pairs, from their cosines (N, N).

    For vectors of length 1 it is 2 - 2 f · g. It looks at the pairs alone, so it is 0 when all
    vectors are the same: it collapses. `target` is not needed. Raises ValueError unless scores are
    (N, N).
    """
    check_square("pull_together", scores)
    return 2 - 2 * scores.diagonal().mean()


def info_nce(scores: Tensor, target: Tensor) -> Tensor:
    """The contrastive loss: every picture must find its text among all in the batch, and back.

    scores: (N, N), scaled cosines, row i for picture i, column j for text j; target: (N,) the
    number of each pair's caption. Pairs with the same number are right, too. The mean of two
    cross-entropies (van den Oord et al., 2018; Radford et al., 2021). Raises ValueError for other
    shapes.
    """
    check_square("info_nce", scores, target)
    same = (target[:, None] == target[None]).to(scores.dtype)  # (N, N)
    right = same / same.sum(1, keepdim=True)  # each row sums to 1
    find_text = -(right * scores.log_softmax(1)).sum(1).mean()
    find_picture = -(right * scores.T.log_softmax(1)).sum(1).mean()
    return (find_text + find_picture) / 2


class DualEncoder(nn.Module):
    """f for pictures, g for texts, one space of 48 numbers, vectors of length 1.

    forward takes {"image": features (B, 48), "text": tokens (B, T)} and gives the scaled cosines of
    every picture with every text, (B, B). The scale, which is 1 / temperature, is learned, and kept
    between 1 and 100: without a bound it may run away (Radford et al., 2021). features: how many
    numbers an encoder gives for a picture, 48 in this course.
    """

    def __init__(self, vocabulary_size: int, features: int = captioning.FEATURES):
        super().__init__()
        self.f = nn.Linear(features, SPACE)
        self.g = nn.Sequential(rnn.TextEncoder(vocabulary_size, 64), nn.Linear(64, SPACE))
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    @property
    def scale(self) -> Tensor:
        """1 / temperature: one number, from 1 to 100."""
        return self.log_scale.exp().clamp(1, 100)

    def image(self, features: Tensor) -> Tensor:
        """Features of pictures (B, 48) as vectors of length 1: (B, 48)."""
        return nn.functional.normalize(self.f(features), dim=1)

    def text(self, tokens: Tensor) -> Tensor:
        """Tokens (B, T) as vectors of length 1: (B, 48)."""
        return nn.functional.normalize(self.g(tokens), dim=1)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        f, g = self.image(inputs["image"]), self.text(inputs["text"])  # (B, 48) each
        return self.scale * f @ g.T  # (B, B)


def image_vectors(model: DualEncoder, features: Tensor) -> Tensor:
    """Features of pictures (N, 48) in a trained model's space: (N, dim), where the features are."""
    with training.evaluating(model), arguments.explained(model, features):
        return model.image(features.to(device_of(model))).to(features.device)


def text_vectors(model: DualEncoder, tokens: Tensor) -> Tensor:
    """Texts as tokens (N, T) in a trained model's space: (N, dim), where the tokens are."""
    arguments.check_tokens("text_vectors", tokens, model.g[0].embedding.num_embeddings)
    with training.evaluating(model):
        return model.text(tokens.to(device_of(model))).to(tokens.device)


# --- Texts to search with

CAPTION = re.compile(
    r"an? (?:(sad|calm|happy) )?(\w+ face) (beside .+?|with .+ on its head) "
    r"((?:in (?:the|a) |at )\w+)"
)
"""A postcard's caption in phrases: mood, colour, object, weather."""

SMALL = r"(?:an?|the|is|are|in|on|at|of|to|with|by|from|near|into|while|and|his|her|its|their)"
CHUNK = re.compile(rf"(?:{SMALL}\b\s*)*(?:(?!{SMALL}\b)[^\s]+\s*)*")
"""Any other caption's phrases: small words, and the words up to the next small one."""

VARIANTS = 8
BATCH = 128
"""Pictures and texts in one step of training: each has the others of its batch as negatives."""


def phrases(caption: str) -> list[str]:
    """The phrases of a caption: "sad", "red face", "beside a bat", "in the rain"; of any other
    text, "a dog", "on a sofa"; of Chinese text, its words.

    Raises ValueError when the text is empty.
    """
    if not isinstance(caption, str) or not caption.strip():
        raise ValueError(
            f"An empty caption has no phrases, and this is {rows.shown(repr(caption))}: write at "
            "least one word."
        )
    found = CAPTION.fullmatch(caption)
    if found:
        parts = found.groups()
    elif preprocessing.CHINESE.search(caption):
        parts = preprocessing.tokenize(caption, "zh")
    else:
        parts = CHUNK.findall(preprocessing.clean(caption))
    cut = [phrase.strip(" .,!?，。！？、") for phrase in parts if phrase]
    return [phrase for phrase in cut if preprocessing.has_word(phrase)] or [caption.strip()]


def variants(caption: str, rng: random.Random, count: int = VARIANTS) -> list[str]:
    """The caption, and `count` - 1 times some of its phrases, in their order.

    People search with a few words, so the model must see few words in training. Raises ValueError
    when the text is empty or `count` below 1.
    """
    arguments.check_count("count", count, 1, VARIANTS)
    parts = phrases(caption)
    texts = [caption]
    for _ in range(count - 1):
        kept = sorted(rng.sample(range(len(parts)), rng.randint(1, len(parts))))
        text = " ".join(parts[i] for i in kept)
        texts.append(text if preprocessing.has_word(text) else caption)
    return texts


def pick_variant(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Takes one of the variants (B, K, T) of each text at random; the caption itself half of the
    time. An `augment` for `training.fit`."""
    texts = inputs["texts"]
    which = torch.randint(2 * texts.shape[1] - 2, (len(texts),), generator=generator)
    which = (which - texts.shape[1] + 2).clamp(min=0)  # 0, the caption, in half of all cases
    text = texts[torch.arange(len(texts)), which.to(texts.device)]
    return {"image": inputs["image"], "text": text}


def false_negatives(captions: Sequence[str], seed: int = 0) -> list[int]:
    """For the text of each card, of how many other captions of its batch it is true, too.

    As in training, the text is the whole caption half of the time, and some of its phrases
    otherwise. The loss takes these pictures for wrong ones. Raises ValueError when there are fewer
    captions than one batch takes.
    """
    arguments.check_texts("false_negatives", captions=captions)
    arguments.check_seed(seed)
    if len(captions) < BATCH:
        raise ValueError(
            f"false_negatives looks at batches of {BATCH} captions, and got {len(captions)}: pass "
            "more."
        )
    rng, counts = random.Random(seed), []
    for start in range(0, len(captions) - BATCH + 1, BATCH):
        cards = [set(phrases(caption)) for caption in captions[start : start + BATCH]]
        for own in cards:
            some = rng.sample(sorted(own), rng.randint(1, len(own)))
            text = own if rng.random() < 0.5 else set(some)
            counts.append(sum(text <= other != own for other in cards))
    return counts


def query_tokens(text: str, vocabulary: preprocessing.Vocabulary) -> Tensor:
    """A query as tokens (1, T).

    Raises ValueError when it is empty, or when the vocabulary knows none of its words.
    """
    if not isinstance(text, str) or not text.strip():
        raise ValueError('The query is empty: write what you look for, for example "in the rain".')
    tokens = preprocessing.text_to_tensor([preprocessing.spaced(text)], vocabulary)
    if bool((tokens == UNK).all()):
        every = vocabulary.words[len(preprocessing.SPECIAL_WORDS) :]
        words = [word for word in every if word.isalpha()] or every
        known = ([w for w in words if len(w) > 3 or preprocessing.CHINESE.match(w)] or words)[:4]
        raise ValueError(
            f'None of the words of "{text}" was in the training captions: use words such as '
            f"{', '.join(known)}."
        )
    return tokens


# --- Searching


def compose(f: Tensor, g: Tensor, alpha: float, beta: float) -> Tensor:
    """The query α f + β g, scaled to length 1: (N, dim) (Vo et al., 2019, compare ways to compose a
    picture and a text)."""
    return nn.functional.normalize(fusion.weighted_sum(f, g, alpha, beta), dim=1)


def search(queries: Tensor, gallery: Tensor, k: int, leave_out: Tensor | None = None) -> Tensor:
    """The k nearest of the gallery to each query, nearest first: (Q, k) numbers.

    queries (Q, dim), gallery (N, dim); leave_out (Q,): one place of the gallery that each query
    must not find, such as itself. Raises ValueError when k is below 1 or larger than what can be
    found, when the vectors are not of one length, and when leave_out names no place.
    """
    arguments.check_dims("search", queries=queries, gallery=gallery)
    arguments.check_count("k", k, 1, 10)
    if leave_out is not None:
        arguments.check_places("search", leave_out, len(queries), len(gallery))
    if k > len(gallery) - (leave_out is not None):
        raise ValueError(f"The gallery has only {len(gallery)} pictures: ask for fewer than {k}.")
    scores = similarities(queries, gallery)  # (Q, N)
    if leave_out is not None:
        scores[torch.arange(len(queries)), leave_out] = -torch.inf
    return scores.topk(k, dim=1).indices


def recall(found: Tensor, captions: Sequence[str], wanted: Sequence[str], k: int) -> Tensor:
    """Whether a picture with the wanted caption is among the first k found: (Q,) bool.

    found: (Q, at least k) places in the gallery; captions: the gallery's, N; wanted: Q captions.
    Raises ValueError when these do not match, and when k is below 1 or more than were found.
    """
    arguments.check_count("k", k, 1, 10)
    arguments.check_texts("recall", captions=captions)
    arguments.check_texts("recall", wanted=wanted)
    arguments.check_lists("recall", found=found, wanted=wanted)
    arguments.check_tokens("recall", found, len(captions), "place")
    if found.shape[1] < min(k, len(captions)):
        raise ValueError(
            f"recall among the first {k} needs as many found places, and got {found.shape[1]}: "
            f"ask search for k={k}."
        )
    return torch.tensor(
        [
            any(captions[place] == caption for place in row[:k])
            for row, caption in zip(found.tolist(), wanted, strict=True)
        ]
    )


def chance(captions: Sequence[str], wanted: Sequence[str], k: int) -> float:
    """The mean probability that k pictures drawn blindly hold a right one.

    Raises ValueError when there are fewer than k.
    """
    arguments.check_count("k", k, 1, 10)
    arguments.check_texts("chance", captions=captions)
    arguments.check_texts("chance", wanted=wanted)
    if k > len(captions):
        raise ValueError(f"The gallery has only {len(captions)} pictures: ask for fewer than {k}.")
    n = len(captions)
    total = 0.0
    for caption in wanted:
        right = captions.count(caption)
        total += 1 - math.comb(n - right, k) / math.comb(n, k)
    return total / len(wanted)


class Wish(NamedTuple):
    """A composed query: "this card, but {text}", and the caption of what is wished for."""

    text: str
    caption: str


def redraw(card: postcards.Card, rng: random.Random, **changes: str) -> postcards.Card:
    """A card like this one, at another place and size, with `changes` to colour, weather or mood.

    The mood is a mood word ("sad", "calm", "happy"); the expression is drawn anew among those that
    the word allows. Raises ValueError for what is no colour, weather or mood word.
    """
    known = {"colour": postcards.COLOURS, "weather": postcards.WEATHERS,
             "mood": ("", *postcards.MOOD_WORDS)}  # fmt: skip
    for what, value in changes.items():
        if value not in known.get(what, ()):
            raise ValueError(
                f'A card cannot be redrawn with {what} "{value}": change its colour, weather or '
                f"mood, to one of {', '.join(filter(None, known.get(what, known)))}."
            )
    word = changes.pop("mood", postcards.mood_word(card.expression))
    expression = math.nan
    while postcards.mood_word(expression) != word or math.isnan(expression):
        expression = postcards.clip_to_range(rng.gauss(0, 0.42))
    card = replace(
        card,
        name=f"{card.name}_redrawn",
        expression=expression,
        side=rng.choice(("left", "right")),
        face_x=round(rng.uniform(-0.03, 0.03), 3),
        face_y=round(rng.uniform(-0.04, 0.04), 3),
        face_radius=round(rng.uniform(0.225, 0.265), 3),
        **changes,
    )
    drawn = (card.expression, card.colour, card.object, card.relation, card.weather)
    return replace(card, caption=postcards.caption_en(*drawn))


def edit(caption: str, wish: str) -> str:
    """The caption with its mood, colour or weather exchanged for the wish: the rival of composing
    vectors, which must know what a caption consists of."""
    if wish in postcards.MOOD_WORDS:
        bare = caption.replace(f"a {captioning.factor_in(caption, 'mood')} ", "a ", 1)
        return bare.replace("a ", f"a {wish} ", 1)
    if wish.endswith(" face"):
        return caption.replace(f"{captioning.factor_in(caption, 'colour')} face", wish, 1)
    return caption.replace(captioning.factor_in(caption, "weather"), wish, 1)


class Gallery(NamedTuple):
    """What is searched: pictures and captions, N of each, and Q queries with their wishes.

    The first Q of the gallery are the cards that are searched with: place i is query i's own.
    """

    images: Tensor  # (N, 3, 64, 64)
    captions: list[str]
    wishes: list[Wish]
    seen: Tensor  # (Q,) bool


def draw_gallery(cards: datasets.Postcards, seed: int = 0) -> Gallery:
    """The cards; a twin of each, drawn anew with the same caption; and each one's wish come true.

    A wish changes the weather, the colour or the mood. So every query has its answer in the
    gallery, beside the twin, which is the likeliest mistake. Raises ValueError for a seed that is
    no whole number.
    """
    arguments.check_seed(seed)
    rng = random.Random(seed)
    twins, answers, wishes = [], [], []
    for card in cards.cards:
        twins.append(redraw(card, rng))
        kind = rng.choice(("weather", "colour", "mood"))
        if kind == "weather":
            to = rng.choice([weather for weather in postcards.WEATHERS if weather != card.weather])
            text = postcards.WEATHERS[to][0]
        elif kind == "colour":
            to = rng.choice([colour for colour in postcards.COLOURS if colour != card.colour])
            text = f"{to} face"
        else:
            now = postcards.mood_word(card.expression)
            to = text = rng.choice([word for word in postcards.MOOD_WORDS if word != now])
        answers.append(redraw(card, rng, **{kind: to}))
        wishes.append(Wish(text, answers[-1].caption))
    images = torch.cat([cards.images, datasets.paint([*twins, *answers])])
    captions = [*cards.captions, *(card.caption for card in [*twins, *answers])]
    return Gallery(images, captions, wishes, cards.seen)


# --- Trained models


def train_dual_encoder(
    model: DualEncoder,
    features: Tensor,
    captions: Sequence[str],
    vocabulary: preprocessing.Vocabulary,
    loss=info_nce,
    epochs: int = 30,
    seed: int = 0,
    same: Tensor | None = None,
) -> training.History:
    """The recipe of lesson 07: four seconds for 2,000 cards on one thread.

    features (N, 48) and N captions; same (N,): rows with the same number show the same thing. By
    default these are the rows with the same caption. Raises ValueError unless there are as many
    captions as features.
    """
    arguments.check_texts("train_dual_encoder", captions=captions)
    arguments.check_lists("train_dual_encoder", features=features, captions=captions)
    arguments.check_seed(seed)
    rng = random.Random(seed)
    flat = [text for caption in captions for text in variants(caption, rng)]
    texts = preprocessing.text_to_tensor(flat, vocabulary).unflatten(0, (-1, VARIANTS))
    if same is None:
        numbers = {caption: i for i, caption in enumerate(dict.fromkeys(captions))}
        same = torch.tensor([numbers[caption] for caption in captions])
    return training.fit(
        model,
        {"image": features, "texts": texts},
        same,
        loss,
        epochs=epochs,
        batch_size=BATCH,
        learning_rate=5e-3,
        one_cycle=True,
        augment=pick_variant,
        seed=seed,
    )


def retrain(seed: int, epochs: int = 30) -> list[stored.Model]:
    """The dual encoder of `data/weights`, trained anew (a few seconds)."""
    cards = datasets.load_postcards("train")
    vocabulary = preprocessing.Vocabulary.build(map(preprocessing.tokenize, cards.captions))
    features = captioning.image_features(cards.images, seed)
    with seeded(seed):
        model = DualEncoder(len(vocabulary))
    train_dual_encoder(model, features, cards.captions, vocabulary, epochs=epochs, seed=seed)
    return [stored.Model("dual_encoder", model, {"vocabulary_size": len(vocabulary)}, vocabulary)]


# --- How good is it?

BEST = (0.45, 0.55)
"""α and β of composed queries, found on validation cards in lesson 07."""

CARDS = 300
"""How many test cards are searched with; the gallery holds three times as many pictures."""


FACTORS = ("mood", "colour", "object", "weather")
"""What a caption names and a wish may change; `factors_of` adds where the object is."""


def factors_of(caption: str) -> list[str]:
    """A caption's mood, colour, object and weather, and whether the object is on the head."""
    where = "on" if "on its head" in caption else "beside"
    return [*(captioning.factor_in(caption, factor) for factor in FACTORS), where]


def by_factors(
    features: Tensor, captions: Sequence[str], gallery: Tensor, wanted: Sequence[str]
) -> Tensor:
    """The rival of text to image: one logistic regression a factor of `factors_of`, (Q, N) scores.

    features (M, 48) and captions: training cards; gallery (N, 48); wanted: Q captions. A picture's
    score is the sum of log p of the caption's factors. It is told what a caption consists of, which
    the dual encoder must find out. A factor that training never showed scores nothing.
    """
    from sklearn.linear_model import LogisticRegression

    known, asked = map(factors_of, captions), list(map(factors_of, wanted))
    scores = torch.zeros(len(asked), len(gallery))
    for column, values in enumerate(zip(*known, strict=True)):
        reader = LogisticRegression(max_iter=300).fit(features.cpu().numpy(), values)
        log_p = torch.tensor(reader.predict_log_proba(gallery.cpu().numpy())).float().T
        places = {value: place for place, value in enumerate(reader.classes_)}
        for row, factors in enumerate(asked):
            if factors[column] in places:
                scores[row] += log_p[places[factors[column]]]
    return scores


def edited_captions(features: Tensor, wishes: Sequence[Wish], seed: int = 0) -> list[str]:
    """The rival of "this card, but": lesson 06 writes a caption, and one phrase in it is exchanged.

    features (N, 48): the cards of these N wishes, from the encoder of this seed.
    """
    captioner, words = stored.load("captioner", seed)
    state = captioner.decoder.start(features.cpu())
    written = writing.write(captioner.decoder, state, words, "en")
    return [edit(text, wish.text) for text, wish in zip(written, wishes, strict=True)]


def quality(
    model: DualEncoder,
    gallery: Gallery,
    features: Tensor,
    vocabulary: preprocessing.Vocabulary,
    rival: Tensor | None = None,
    edited: Sequence[str] | None = None,
) -> list[Result]:
    """Recall of all kinds of search, for seen and unseen combinations.

    features: those of the gallery's pictures, (N, 48); rival: `by_factors` of the captions, (Q, N);
    edited: the Q `edited_captions`.
    The limit of every recall is 1: the gallery holds a right picture for each query.
    """
    size = len(gallery.wishes)
    own, wanted = gallery.captions[:size], [wish.caption for wish in gallery.wishes]
    texts = [*own, *(wish.text for wish in gallery.wishes)]
    tokens = preprocessing.text_to_tensor(texts, vocabulary).to(features.device)
    vectors, (captions, g) = image_vectors(model, features), text_vectors(model, tokens).split(size)
    f, itself = vectors[:size], torch.arange(size)
    order = torch.randperm(len(vectors), generator=torch.Generator().manual_seed(0))
    alone = search(f, vectors, 10, itself)
    searches = {
        "text to image": (search(captions, vectors, 10), own, {5: {"at_least": 0.90}}),
        "image to image": (alone, own, {}),
        "this card, but": (
            search(compose(f, g, *BEST), vectors, 10, itself), wanted, {5: {"at_least": 0.75}},
        ),
        "this card, but, card alone": (alone, wanted, {}),
        "this card, but, words alone": (search(g, vectors, 10, itself), wanted, {}),
        "text to image, shuffled": (
            search(captions, vectors[order], 10), own, {5: {"at_most": 0.10}},
        ),
    }  # fmt: skip
    rivals = {"this card, but": (alone, "card alone")}
    if rival is not None:
        found = rival.topk(10, dim=1).indices
        rivals["text to image"] = (found, "logistic regression of factors")
    if edited is not None:
        tokens = preprocessing.text_to_tensor(edited, vocabulary).to(features.device)
        found = search(text_vectors(model, tokens), vectors, 10, itself)
        rivals["this card, but"] = (found, "caption, edited")
    results = []
    for what, (found, right, bounds) in searches.items():
        cheap, name_of_rival = rivals.get(what, (None, ""))
        for k in (1, 5, 10):
            hits = recall(found, gallery.captions, right, k).float()
            for name, chosen in (("seen", gallery.seen), ("unseen", ~gallery.seen)):
                more = dict(bounds.get(k, {}))
                if cheap is not None:
                    base = recall(cheap, gallery.captions, right, k).float()[chosen].mean().item()
                    more |= {"baseline": base, "rival": name_of_rival, "limit": 1.0}
                label = f"{what}, recall@{k}, {name}"
                results.append(Result(label, hits[chosen].mean().item(), **more))
    return results


def exam(seed: int) -> list[Result]:
    """What the stored dual encoder of this seed (0, 1 or 2) reaches on test cards."""
    train, test = (datasets.load_postcards(split) for split in ("train", "test"))
    gallery = draw_gallery(test[:CARDS])
    model, vocabulary = stored.load("dual_encoder", seed)
    features = captioning.image_features(gallery.images, seed)
    known = captioning.image_features(train.images, seed)
    rival = by_factors(known, train.captions, features, gallery.captions[: len(gallery.wishes)])
    edited = edited_captions(features[: len(gallery.wishes)], gallery.wishes, seed)
    return quality(model, gallery, features, vocabulary, rival, edited)
