"""From English to Chinese, alone and with the picture's help (lesson 10).

The first part is attention by hand; the second the translator, an encoder and a decoder with
attention over the words; the third asks whether a picture helps.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mbm_lab import captioning, datasets, postcards, preprocessing, stored, training, writing
from mbm_lab.device import device_of, lent, seeded
from mbm_lab.preprocessing import PAD
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

# --- Attention


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Looks up: a weighted mean of the values, by how well each key fits the query.

    query (B, D), keys (B, T, D), values (B, T, E), mask (B, T): True where there is a word. The
    weights are softmax(query · key / √D), 0 where there is none (Bahdanau et al., 2015; in this
    form Vaswani et al., 2017). Returns the mean (B, E) and the weights (B, T).
    """
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
    the vocabulary numbers."""
    here = device_of(model)
    with training.evaluating(model):
        state = model.start(source.to(here), image.to(here))
    return writing.write(model, state, vocabulary, language)


def trace(
    model: Translator, source: Tensor, image: Tensor, prefix: Tensor
) -> tuple[Tensor, Tensor]:
    """What one sentence's translation looks at: source (1, S), image (1, 48), prefix (1, T).

    Returns the attention (T, S), and how far the picture moves the scores at each place, (T,): the
    standard deviation over the vocabulary of what it adds.
    """
    attention, moved = [], []
    with lent(model, source.device), training.evaluating(model):
        state, blind = model.start(source, image), model.start(source, torch.zeros_like(image))
        for words in prefix.unbind(1):
            scores, state = model.step(words, state)
            without, blind = model.step(words, blind)
            attention.append(state[-1][0])
            moved.append((scores - without)[0].std())
    return torch.stack(attention), torch.stack(moved)


# --- Does the picture help?


def is_ambiguous(captions: Sequence[str]) -> Tensor:
    """Whether each English caption has a word of AMBIGUOUS: (N,) bool."""
    return torch.tensor(
        [captioning.factor_in(caption, "object") in AMBIGUOUS for caption in captions]
    )


def text_limit(english: Sequence[str], chinese: Sequence[str]) -> float:
    """How often the best possible reader of the text alone names the right object.

    Of all sentences with the same English words, it always says the most frequent Chinese object.
    """
    alike: dict[str, Counter] = defaultdict(Counter)
    for source, target in zip(english, chinese, strict=True):
        noun = captioning.factor_in(source, "object")
        alike[noun][captioning.factor_in(target, "object", "zh")] += 1
    right = sum(counts.most_common(1)[0][1] for counts in alike.values())
    return right / len(english)


def in_all_colours(english: Sequence[str], chinese: Sequence[str]) -> tuple[list[str], list[str]]:
    """Each pair of sentences six times, once for each colour: 6 N English, 6 N Chinese.

    Training cards do not show every object in every colour. Told so often enough, a model would
    guess the kind of bat from the colour of the face. (Such counterfactual data: Zmigrod et al.,
    2019.)
    """
    sources, targets = [], []
    for colour, (_, colour_zh) in postcards.COLOURS.items():
        for source, target in zip(english, chinese, strict=True):
            own = captioning.factor_in(source, "colour")
            sources.append(source.replace(f"{own} face", f"{colour} face"))
            targets.append(target.replace(postcards.COLOURS[own][1], colour_zh))
    return sources, targets


# --- Trained models


Vocabularies = tuple[preprocessing.Vocabulary, preprocessing.Vocabulary]


def train_text(
    model: Translator,
    sources: Sequence[str],
    targets: Sequence[str],
    vocabularies: Vocabularies,
    epochs: int = 5,
    seed: int = 0,
    language: str = "zh",
) -> training.History:
    """The first half of lesson 10's recipe, without pictures: N English sentences and the same in
    `language`. About three seconds an epoch for the 12,000 of lesson 10."""
    source = encode_source(sources, vocabularies[0])
    prefix, target = writing.teacher_forcing([(language, targets)], vocabularies[1])
    inputs = {
        "source": source,
        "image": torch.zeros(len(source), captioning.FEATURES),
        "prefix": prefix[:, 0],
    }
    return _fit(model, inputs, target[:, 0], epochs, seed)


def train_picture(
    model: Translator,
    cards: datasets.Postcards,
    features: Tensor,
    vocabularies: Vocabularies,
    epochs: int = 3,
    seed: int = 0,
) -> training.History:
    """The second half: only `ask` and `look` learn, from the cards as they are.

    All that the text can tell is known by then, so they learn what it cannot.
    """
    source = encode_source(cards.captions, vocabularies[0])
    prefix, target = writing.teacher_forcing([("zh", cards.captions_zh)], vocabularies[1])
    inputs = {"source": source, "image": features, "prefix": prefix[:, 0]}
    model.requires_grad_(False)
    for part in (model.ask, model.look):
        part.requires_grad_(True)
    try:
        return _fit(model, inputs, target[:, 0], epochs, seed)
    finally:
        model.requires_grad_(True)


def _fit(
    model: Translator, inputs: dict[str, Tensor], target: Tensor, epochs: int, seed: int
) -> training.History:
    return training.fit(
        model, inputs, target, writing.next_word_loss, epochs=epochs, batch_size=64,
        learning_rate=5e-3, one_cycle=True, seed=seed,
    )  # fmt: skip


def retrain(seed: int, epochs: int = 6) -> list[stored.Model]:
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
    train_text(model, *pairs, vocabularies, epochs, seed)
    features = captioning.image_features(cards.images, seed)
    train_picture(model, cards, features, vocabularies, max(1, epochs // 2), seed)
    return [stored.Model("translator", model, sizes, vocabularies)]


# --- How good is it?


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
    order = torch.randperm(len(cards), generator=torch.Generator().manual_seed(0))
    pictures = {
        "text alone": torch.zeros_like(features),
        "with the picture": features,
        "shuffled pictures": features[order],
    }
    ambiguous = is_ambiguous(cards.captions)
    bounds = {
        "with the picture": {"at_least": 0.95},
        "text alone": {"at_most": 0.60},
        "shuffled pictures": {"at_most": 0.60},
    }
    results = []
    for what, image in pictures.items():
        written = translate(model, source, image, vocabularies[1])
        objects = captioning.factors_right(written, true, "zh")["object"].float()
        whole = writing.exact(written, true).float()
        for name, chosen in (("seen", cards.seen), ("unseen", ~cards.seen)):
            share = objects[ambiguous & chosen].mean().item()
            results.append(Result(f"ambiguous word, {what}, {name}", share, **bounds[what]))
            share = whole[~ambiguous & chosen].mean().item()
            results.append(Result(f"other sentences, exact, {what}, {name}", share))
        results.append(Result(f"BLEU, all sentences, {what}", writing.bleu(written, true, "zh")))
    return results


def exam(seed: int) -> list[Result]:
    """What the stored translator of this seed (0, 1 or 2) reaches on test cards."""
    cards = datasets.load_postcards("test")
    model, vocabularies = stored.load("translator", seed)
    return quality(model, cards, captioning.image_features(cards.images, seed), vocabularies)
