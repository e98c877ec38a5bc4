"""From English to Chinese, alone and with the picture's help (lesson 10).

The first part is attention by hand; the second the translator, an encoder and a decoder with
attention over the words; the third asks whether a picture helps, and what else would.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mbm_lab import (
    arguments,
    captioning,
    datasets,
    postcards,
    preprocessing,
    stored,
    training,
    writing,
)
from mbm_lab.device import device_of, lent, seeded
from mbm_lab.preprocessing import PAD, UNK
from mbm_lab.stored import Result
from mbm_lab.writing import State

LONGEST_SOURCE = 20
"""The most words of an English sentence: training saw at most 16."""

AMBIGUOUS = {
    english
    for english, count in Counter(noun for noun, _ in postcards.OBJECTS.values()).items()
    if count == 2
}
"""The English phrases that are drawn in two ways and have two Chinese translations: "a bat", …"""

OTHER = {
    one: other
    for one, (noun, _) in postcards.OBJECTS.items()
    for other, (its_noun, _) in postcards.OBJECTS.items()
    if one != other and noun == its_noun
}
"""For each drawing of an ambiguous phrase the other one: "bat (animal)" to "bat (sport)"."""

WRONG = 0.2
"""The share of training sentences that get the picture of another card. On validation cards 0.1 was
a little too few for one of three seeds, and 0.5 made the picture speak too softly."""

# --- Attention


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Looks up: a weighted mean of the values, by how well each key fits the query.

    query (B, D), keys (B, T, D), values (B, T, E), mask (B, T): True where there is a word. The
    weights are softmax(query · key / √D), 0 where there is none (Bahdanau et al., 2015; in this
    form Vaswani et al., 2017). Returns the mean (B, E) and the weights (B, T).
    Raises ValueError when the shapes do not fit together.
    """
    if not (
        query.ndim == 2 and keys.ndim == values.ndim == 3 and mask.dtype == torch.bool
        and keys.shape[::2] == query.shape and values.shape[:2] == mask.shape == keys.shape[:2]
    ):  # fmt: skip
        raise ValueError(
            "attend needs query (B, D), keys (B, T, D), values (B, T, E) and mask (B, T) of "
            f"True and False, and got {tuple(query.shape)}, {tuple(keys.shape)}, "
            f"{tuple(values.shape)} and {tuple(mask.shape)} of {arguments.dtype(mask)}: change the "
            "one that does not fit."
        )
    scores = (keys @ query[:, :, None])[..., 0] / math.sqrt(query.shape[1])  # (B, T)
    scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(1)  # (B, T)
    return (weights[:, None] @ values)[:, 0], weights


# --- The translator


class Translator(nn.Module):
    """English tokens and a picture's features to scores of words of another language.

    {"source": (B, S), "image": (B, 48), "prefix": (B, T)} to (B, T, V). A GRU that reads in both
    directions gives a state for each English word. The decoder's state h asks them (`attend`), and
    asks the picture as lesson 06's decoder does: scores = W [h; c] + b + P ((A [h; c] + a) ⊙ f),
    with c what attention found. Without a picture f is 0, and nothing is added: text alone.
    """

    def __init__(self, english: int, chinese: int, hidden: int = 64):
        super().__init__()
        self.hidden = hidden
        self.read = nn.Embedding(english, 32, padding_idx=PAD)
        self.encoder = nn.GRU(32, hidden // 2, batch_first=True, bidirectional=True)
        self.write = nn.Embedding(chinese, 32, padding_idx=PAD)
        self.gru = nn.GRU(32, hidden, batch_first=True)
        self.query = nn.Linear(hidden, hidden)
        self.ask = nn.Linear(2 * hidden, captioning.FEATURES)
        self.out = nn.Linear(2 * hidden, chinese)
        self.look = nn.Linear(captioning.FEATURES, chinese, bias=False)

    def start(self, source: Tensor, image: Tensor) -> State:
        """Reads the English sentences: the state before the first Chinese word.

        Its tensors: h (B, H), the English words' states (B, S, H), where there are words (B, S),
        the picture's features (B, 48), and the attention's last weights (B, S).
        """
        lengths = preprocessing.lengths(source)
        packed = pack_padded_sequence(
            self.read(source), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        states, _ = pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=source.shape[1]
        )  # (B, S, H)
        mask = source != PAD
        h = states.sum(1) / lengths[:, None]  # (B, H): the mean of all words
        return h, states, mask, image, torch.zeros_like(mask, dtype=states.dtype)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads one Chinese word (B,): the scores of the next one (B, V), and the new state."""
        h, states, mask, image, _ = state
        h = self.gru(self.write(words)[:, None], h[None])[1][0]  # (B, H)
        context, weights = attend(self.query(h), states, states, mask)  # (B, H), (B, S)
        text = torch.cat([h, context], 1)  # (B, 2 H)
        from_text = self.out(text)  # (B, V)
        from_picture = self.look(self.ask(text) * image)  # (B, V)
        return from_text + from_picture, (h, states, mask, image, weights)

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        state, scores = self.start(inputs["source"], inputs["image"]), []
        for words in inputs["prefix"].unbind(1):
            one, state = self.step(words, state)
            scores.append(one)
        return torch.stack(scores, 1)  # (B, T, V)


def encode_source(sentences: Sequence[str], vocabulary: preprocessing.Vocabulary) -> Tensor:
    """English sentences as tokens (N, S), EOS at the end.

    Raises ValueError when one is empty, has more than LONGEST_SOURCE words, or has no word that the
    vocabulary knows.
    """
    arguments.check_texts("encode_source", sentences=sentences)
    rows = []
    for text in sentences:
        words = preprocessing.tokenize(text)
        if len(words) > LONGEST_SOURCE:
            raise ValueError(
                f"The sentence has {len(words)} words, and training saw at most {LONGEST_SOURCE}: "
                "cut it into shorter ones."
            )
        rows.append(writing.encode(text, "en", vocabulary)[1:])
    return preprocessing.pad(rows)


def translate(
    model: Translator,
    source: Tensor,
    image: Tensor,
    vocabulary: preprocessing.Vocabulary,
    language: str = "zh",
) -> list[str]:
    """Translates greedily: source (N, S), image (N, 48), to N sentences of `language`, whose words
    the vocabulary numbers. Raises ValueError unless there are as many pictures as sentences."""
    arguments.check_tokens("translate", source, model.read.num_embeddings)
    arguments.check_dims("translate", image=image)
    arguments.check_lists("translate", source=source, image=image)
    here = device_of(model)
    with training.evaluating(model):
        state = model.start(source.to(here), image.to(here))
    return writing.write(model, state, vocabulary, language)


def trace(
    model: Translator, source: Tensor, image: Tensor, prefix: Tensor
) -> tuple[Tensor, Tensor]:
    """What one sentence's translation looks at: source (1, S), image (1, 48), prefix (1, T).

    Returns the attention (T, S), and how far the picture moves the next word's probabilities at
    each place, (T,): the share that moves to other words, from 0 to 1. Raises ValueError unless
    there is one row of each.
    """
    _check_one("trace", model, source, image, prefix)
    attention, moved = [], []
    with lent(model, source.device), training.evaluating(model):
        state, blind = model.start(source, image), model.start(source, torch.zeros_like(image))
        for words in prefix.unbind(1):
            scores, state = model.step(words, state)
            without, blind = model.step(words, blind)
            attention.append(state[-1][0])
            moved.append((scores.softmax(1) - without.softmax(1)).abs().sum() / 2)
    return torch.stack(attention), torch.stack(moved)


def _check_one(
    function: str, model: Translator, source: Tensor, image: Tensor, prefix: Tensor
) -> None:
    """Raises ValueError unless these are one sentence, its picture, and the translation's words."""
    arguments.check_tokens(function, source, model.read.num_embeddings)
    arguments.check_tokens(function, prefix, model.write.num_embeddings)
    arguments.check_dims(function, image=image)
    for name, rows in {"source": source, "image": image, "prefix": prefix}.items():
        if len(rows) != 1:
            raise ValueError(
                f"{function} looks at one sentence, and {name} has {len(rows)} rows: pass "
                f"{name}[:1]."
            )


@torch.no_grad()
def cover(model: Translator, source: Tensor, image: Tensor, prefix: Tensor) -> Tensor:
    """What each English word is worth: source (1, S), image (1, 48), prefix (1, T + 1), whole.

    Each English word in turn is covered by <unk>. Returns (T, S): by how much log p of each word of
    the translation falls, in nats. Near 0: the translation does without it, whatever the attention
    to it (Jain and Wallace, 2019, compare attention with such measures). Raises ValueError unless
    there is one row of each.
    """
    _check_one("cover", model, source, image, prefix)
    words, target = source.shape[1], prefix[0, 1:]
    covered = source.repeat(words + 1, 1)  # the last row stays as it is
    covered[range(words), range(words)] = UNK
    rows = {"source": covered, "image": image, "prefix": prefix[:, :-1]}
    rows = {name: values.expand(words + 1, -1) for name, values in rows.items()}
    log_p = training.predict(model, rows).log_softmax(2)[:, range(len(target)), target]
    return (log_p[-1] - log_p[:-1]).T  # (T, S)


# --- Does the picture help?


def is_ambiguous(captions: Sequence[str]) -> Tensor:
    """Whether each English caption has a word of AMBIGUOUS: (N,) bool. Raises ValueError for one
    text instead of several."""
    if isinstance(captions, str):
        raise ValueError(
            f"is_ambiguous needs a list of captions, and got {arguments.kind(captions)}: write "
            "[text]."
        )
    return torch.tensor(
        [captioning.factor_in(caption, "object") in AMBIGUOUS for caption in captions]
    )


def text_limit(
    english: Sequence[str], chinese: Sequence[str], reads: Sequence[str] | None = None
) -> float:
    """How often the best possible reader of the text alone names the right object.

    Nobody who reads only the text passes it: equal sentences get equal answers, and of these the
    most frequent Chinese object is taken. reads: of those who look only at these factors ("object",
    "colour", "weather", "mood") of the sentence, instead of at all of it.

    Sentences that occur once say nothing, so give it cards as `in_both_meanings` makes them. Raises
    ValueError unless there are as many English as Chinese sentences.
    """
    arguments.check_texts("text_limit", english=english, chinese=chinese)
    alike: dict[str | tuple, Counter] = defaultdict(Counter)
    for source, target in zip(english, chinese, strict=True):
        read = source if reads is None else tuple(captioning.factor_in(source, r) for r in reads)
        alike[read][captioning.factor_in(target, "object", "zh")] += 1
    right = sum(counts.most_common(1)[0][1] for counts in alike.values())
    return right / len(english)


def in_both_meanings(cards: datasets.Postcards) -> datasets.Postcards:
    """The N cards with an ambiguous word, and then a twin of each, which shows the other meaning.

    Nothing else differs between the two, and their English sentences are equal. So the text alone
    is right in exactly one of both, whoever reads it (a contrastive test set, as that of Futeral et
    al., 2023). 2 N cards; messages, voices and the rest are the first card's.
    """
    cards = cards.subset(is_ambiguous(cards.captions))
    twins = []
    for card in cards.cards:
        other = OTHER[card.object]
        drawn = (card.expression, card.colour, other, card.relation, card.weather)
        seen = (card.colour, other) not in postcards.UNSEEN
        written = postcards.caption_zh(*drawn)
        twins.append(replace(card, object=other, caption_zh=written, seen=seen))
    both = cards.subset([*range(len(cards)), *range(len(cards))])
    return replace(
        both,
        images=torch.cat([cards.images, datasets.paint(twins)]),
        captions_zh=[*cards.captions_zh, *(twin.caption_zh for twin in twins)],
        seen=torch.cat([cards.seen, torch.tensor([twin.seen for twin in twins])]),
        cards=[*cards.cards, *twins],
    )


def in_all_colours(english: Sequence[str], chinese: Sequence[str]) -> tuple[list[str], list[str]]:
    """Each pair of sentences six times, once for each colour: 6 N English, 6 N Chinese.

    Training cards do not show every object in every colour. Told so often enough, a model would
    guess the kind of bat from the colour of the face. (Such counterfactual data: Zmigrod et al.,
    2019.) Raises ValueError unless there are as many English as Chinese sentences, which each name
    a colour.
    """
    arguments.check_texts("in_all_colours", english=english, chinese=chinese)
    sources, targets = [], []
    for colour, (_, colour_zh) in postcards.COLOURS.items():
        for source, target in zip(english, chinese, strict=True):
            own = captioning.factor_in(source, "colour")
            if not own:
                raise ValueError(f'"{source}" names no colour: leave such sentences out.')
            sources.append(source.replace(f"{own} face", f"{colour} face"))
            targets.append(target.replace(postcards.COLOURS[own][1], colour_zh))
    return sources, targets


# --- Rivals of the fusion: the same text, the same picture, and nothing learned about the two


class Added(nn.Module):
    """A translator of the text alone and a captioner, whose log p of each next word are added.

    No training: the two were trained apart. It writes with `writing.write`, as any decoder.
    places (V,): for each word of the translator's vocabulary its number in the captioner's.
    """

    def __init__(self, translator: Translator, decoder: captioning.Decoder, places: Tensor):
        super().__init__()
        self.translator, self.decoder = translator, decoder
        self.register_buffer("places", places)

    def start(self, source: Tensor, image: Tensor) -> State:
        """The translator's state, without the picture, and then the captioner's."""
        return *self.translator.start(source, torch.zeros_like(image)), *self.decoder.start(image)

    def step(self, words: Tensor, state: State) -> tuple[Tensor, State]:
        """Reads a word (B,): the sums of log p of the next one (B, V), and both new states."""
        text, told = self.translator.step(words, state[:5])
        picture, seen = self.decoder.step(self.places[words], state[5:])
        log_p = text.log_softmax(1) + picture.log_softmax(1)[:, self.places]
        return log_p, (*told, *seen)


def paste(translated: Sequence[str], captions: Sequence[str]) -> list[str]:
    """The translations, each with the object that the caption of its picture names: N sentences.

    Raises ValueError unless there are as many captions as translations.
    """
    arguments.check_texts("paste", translated=translated, captions=captions)
    pasted = []
    for text, caption in zip(translated, captions, strict=True):
        own, seen = (captioning.factor_in(one, "object", "zh") for one in (text, caption))
        pasted.append(text.replace(own, seen) if own and seen else text)
    return pasted


def write_rivals(
    model: Translator,
    captioner: captioning.Captioner,
    source: Tensor,
    image: Tensor,
    vocabularies: Sequence[preprocessing.Vocabulary],
) -> dict[str, list[str]]:
    """What five rivals of the fusion write in Chinese: {rival: N sentences}.

    source (N, S), image (N, 48); vocabularies: English, Chinese, and the captioner's. "pasted where
    ambiguous" is told which English words are ambiguous; the others are not.
    """
    english, chinese, known = vocabularies
    here = device_of(model)
    text = translate(model, source, torch.zeros_like(image), chinese)
    with lent(captioner, here):
        decoder = captioner.decoder
        seen = writing.write(decoder, decoder.start(image.to(here)), known, "zh")
        added = Added(model, decoder, torch.tensor(known.encode(chinese.words), device=here))
        with training.evaluating(added):
            state = added.start(source.to(here), image.to(here))
        summed = writing.write(added, state, chinese, "zh")
    pasted = paste(text, seen)
    ambiguous = is_ambiguous([writing.spell(english.decode(row), "en") for row in source.tolist()])
    where = [new if is_so else old for new, old, is_so in zip(pasted, text, ambiguous, strict=True)]
    return {
        "text alone": text,
        "picture alone": seen,
        "log p added": summed,
        "pasted": pasted,
        "pasted where ambiguous": where,
    }


def exact_shares(
    model: Translator,
    captioner: captioning.Captioner,
    cards: datasets.Postcards,
    images: Sequence[Tensor],
    vocabularies: Sequence[preprocessing.Vocabulary],
) -> dict[str, float]:
    """For each rival, and for the "fusion", the share of sentences that are exactly right.

    images: one or several (N, 48), of which the mean is taken, as with shuffled pictures; the rest
    is as in `write_rivals`.
    """
    source = encode_source(cards.captions, vocabularies[0])
    true = writing.tidy(cards.captions_zh, "zh")
    shares: dict[str, float] = defaultdict(float)
    for image in images:
        written = write_rivals(model, captioner, source, image, vocabularies)
        written["fusion"] = translate(model, source, image, vocabularies[1])
        for rival, sentences in written.items():
            shares[rival] += writing.exact(sentences, true).float().mean().item() / len(images)
    return dict(shares)


# --- Trained models


Vocabularies = tuple[preprocessing.Vocabulary, preprocessing.Vocabulary]


def train_text(
    model: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    vocabularies: Vocabularies,
    epochs: int = 4,
    seed: int = 0,
    language: str = "zh",
    learning_rate: float = 5e-3,
) -> training.History:
    """The first half of lesson 10's recipe, without pictures: N English sentences and the same in
    `language`. About six seconds an epoch for the 12,000 of lesson 10."""
    source = encode_source(sources, vocabularies[0])
    prefix, target = writing.teacher_forcing([(language, targets)], vocabularies[1])
    inputs = {
        "source": source,
        "image": torch.zeros(len(source), captioning.FEATURES),
        "prefix": prefix[:, 0],
    }
    return _fit(model, inputs, target[:, 0], epochs, learning_rate, seed)


def exchange_pictures(inputs: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """Gives WRONG of a batch's rows the "image" of another row, whatever their words say. An
    `augment` for `training.fit`."""
    image = inputs["image"]
    other = torch.randperm(len(image), generator=generator).to(image.device)
    wrong = (torch.rand(len(image), generator=generator) < WRONG).to(image.device)
    return {**inputs, "image": torch.where(wrong[:, None], image[other], image)}


def train_picture(
    model: Translator,
    cards: datasets.Postcards,
    features: Tensor,
    vocabularies: Vocabularies,
    epochs: int = 9,
    seed: int = 0,
    augment=exchange_pictures,
) -> training.History:
    """The second half: only `ask` and `look` learn. About half a second an epoch for 2,000 cards.

    All that the text can tell is known by then, so they learn what it cannot. Some pictures are of
    other cards: so they also learn to be silent where the text is clear. augment=None: not so.
    """
    source = encode_source(cards.captions, vocabularies[0])
    prefix, target = writing.teacher_forcing([("zh", cards.captions_zh)], vocabularies[1])
    inputs = {"source": source, "image": features, "prefix": prefix[:, 0]}
    model.requires_grad_(False)
    for part in (model.ask, model.look):
        part.requires_grad_(True)
    try:
        return _fit(model, inputs, target[:, 0], epochs, 5e-3, seed, augment)
    finally:
        model.requires_grad_(True)


def _fit(
    model: Translator, inputs: dict[str, Tensor], target: Tensor, epochs: int, rate: float,
    seed: int, augment=None,
) -> training.History:  # fmt: skip
    return training.fit(
        model, inputs, target, writing.next_word_loss, epochs=epochs, batch_size=64,
        learning_rate=rate, one_cycle=True, augment=augment, seed=seed,
    )  # fmt: skip


def retrain(seed: int, epochs: int = 4) -> list[stored.Model]:
    """The translator of `data/weights`, trained anew (half a minute)."""
    cards = datasets.load_postcards("train")
    vocabularies = (
        writing.build_vocabulary([("en", cards.captions)]),
        writing.build_vocabulary([("zh", cards.captions_zh)]),
    )
    sizes = dict(zip(("english", "chinese"), map(len, vocabularies), strict=True))
    with seeded(seed):
        model = Translator(**sizes)
    pairs = in_all_colours(cards.captions, cards.captions_zh)
    train_text(model, *pairs, vocabularies, epochs, seed, learning_rate=1e-2)
    features = captioning.image_features(cards.images, seed)
    train_picture(model, cards, features, vocabularies, 3 * epochs if epochs > 1 else 1, seed)
    return [stored.Model("translator", model, sizes, vocabularies)]


# --- How good is it?

ORDERS = 5
"""How many times pictures are shuffled over the sentences: what is told is the mean."""


def quality(
    model: Translator,
    cards: datasets.Postcards,
    features: Tensor,
    vocabularies: Vocabularies,
) -> list[Result]:
    """What one model reaches on test cards, of seen and unseen combinations."""
    source, true = (
        encode_source(cards.captions, vocabularies[0]),
        writing.tidy(cards.captions_zh, "zh"),
    )
    pictures = {
        "text alone": [torch.zeros_like(features)],
        "with the picture": [features],
        "shuffled pictures": [features[order] for order in orders(len(cards))],
    }
    ambiguous = is_ambiguous(cards.captions)
    bounds = {
        "with the picture": ({"at_least": 0.95}, {"at_least": 0.97}),
        "text alone": ({"at_most": 0.60}, {"at_least": 0.97}),
        "shuffled pictures": ({"at_most": 0.60}, {"at_least": 0.97}),
    }
    results = []
    for what, images in pictures.items():
        runs = [translate(model, source, image, vocabularies[1]) for image in images]
        named = [captioning.factors_right(run, true, "zh")["object"].float() for run in runs]
        objects = torch.stack(named).mean(0)
        whole = torch.stack([writing.exact(run, true).float() for run in runs]).mean(0)
        for name, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
            share = objects[ambiguous & chosen].mean().item()
            results.append(Result(f"ambiguous word, {what}, {name}", share, **bounds[what][0]))
            share = whole[~ambiguous & chosen].mean().item()
            label = f"other sentences, exact, {what}, {name}"
            results.append(Result(label, share, **bounds[what][1], limit=1.0))
        results.append(Result(f"all sentences, exact, {what}", whole.mean().item()))
        scores = [writing.bleu(run, true, "zh") for run in runs]
        results.append(Result(f"BLEU, all sentences, {what}", sum(scores) / len(scores)))
    return results


def orders(count: int, times: int = ORDERS) -> list[Tensor]:
    """`times` orders of so many pictures, drawn by chance: (count,) numbers each."""
    arguments.check_count("count", count, 1)
    arguments.check_count("times", times, 1, ORDERS)
    generator = torch.Generator().manual_seed(0)
    return [torch.randperm(count, generator=generator) for _ in range(times)]


def both_meanings(
    model: Translator,
    captioner: captioning.Captioner,
    pairs: datasets.Postcards,
    features: Tensor,
    vocabularies: Sequence[preprocessing.Vocabulary],
) -> list[Result]:
    """The same where each sentence stands beside both of its pictures: cards as `in_both_meanings`
    gives them, with the strongest rival and the limit. The rest is as in `write_rivals`."""
    source = encode_source(pairs.captions, vocabularies[0])
    true = writing.tidy(pairs.captions_zh, "zh")

    def right(written: Sequence[str]) -> float:
        return captioning.factors_right(written, true, "zh")["object"].float().mean().item()

    rivals = write_rivals(model, captioner, source, features, vocabularies)
    shares = {rival: right(written) for rival, written in rivals.items()}
    best = max(shares, key=shares.get)
    fused = right(translate(model, source, features, vocabularies[1]))
    limit = text_limit(pairs.captions, pairs.captions_zh)
    results = [Result(f"both meanings, {rival}", share) for rival, share in shares.items()]
    results[0] = results[0]._replace(limit=limit)
    main = Result("both meanings, with the picture", fused, 0.95, None, shares[best], best, 1.0)
    return [main, *results]


def exam(seed: int) -> list[Result]:
    """What the stored translator of this seed (0, 1 or 2) reaches on test cards."""
    cards = datasets.load_postcards("test")
    model, vocabularies = stored.load("translator", seed)
    captioner, known = stored.load("captioner", seed)
    features = captioning.image_features(cards.images, seed)
    pairs = in_both_meanings(cards)
    seen = captioning.image_features(pairs.images, seed)
    results = quality(model, cards, features, vocabularies)
    return [*both_meanings(model, captioner, pairs, seen, (*vocabularies, known)), *results]
