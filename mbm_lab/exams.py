"""What the models of lessons 02 to 05 reach, which are trained in their lesson and not stored.

Each function trains one anew with a seed, and returns what it reaches on test cards or on cards
drawn afresh, with its strongest cheap rival and its limit. `mbm-lab bench quality` prints them; the
stored models of the other lessons are examined by their own modules.
"""

from __future__ import annotations

import math

import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeCV
from torch import Tensor, nn

from mbm_lab import cnn, datasets, fusion, postcards, preprocessing, rnn, stored, training
from mbm_lab.device import seeded
from mbm_lab.stored import Result


def picture_reader(seed: int, epochs: int = 10) -> list[Result]:
    """Lesson 02: R² of the expression on test cards.

    The reader is trained here, in 15 seconds. Its rival is `cnn.edge_ridge`, which reads far better
    than a linear formula on pixels. The limit is 1: the expression is drawn without noise.
    """
    train, val, test = (datasets.load_postcards(split, ("image",)) for split in datasets.SPLITS)
    with seeded(seed):
        f = cnn.Reader(cnn.ImageEncoder())
    training.fit(f, train.images, train.expression, nn.functional.mse_loss, epochs=epochs,
                 learning_rate=6e-3, one_cycle=True, seed=seed, augment=preprocessing.augment,
                 progress=False)  # fmt: skip
    reading, rivals = training.predict(f, test.images), cnn.edge_ridge(train, val, test.images)
    wanted = {"at_least": 0.96, "rival": "ridge on edge histograms"}
    return _of_readings("expression", reading, rivals, test.expression, test.seen, **wanted)


def message_reader(seed: int, epochs: int = 20) -> list[Result]:
    """Lesson 03: R² of the sentiment on test messages.

    The reader is trained here, in ten seconds. Its rival is ridge regression on words, bigrams and
    trigrams, which is stronger than without the trigrams, and than with longer runs. The limit is
    1: the sentiment is a function of the words.
    """
    train, val, test = (datasets.load_postcards(split, ("message",)) for split in datasets.SPLITS)
    vocabulary = preprocessing.Vocabulary.build(map(preprocessing.tokenize, train.messages))
    tokens, test_tokens = (
        preprocessing.text_to_tensor(cards.messages, vocabulary) for cards in (train, test)
    )
    with seeded(seed):
        g = cnn.Reader(rnn.TextEncoder(len(vocabulary)))
    training.fit(g, tokens, train.sentiment, nn.functional.mse_loss, epochs=epochs,
                 learning_rate=6e-3, one_cycle=True, seed=seed, progress=False)  # fmt: skip
    rival, _ = rnn.ngram_ridge(train, val, longest=3)
    reading, rivals = training.predict(g, test_tokens), rival(test.messages)
    wanted = {"at_least": 0.95, "rival": "ridge on words, bigrams, trigrams"}
    return _of_readings("sentiment", reading, rivals, test.sentiment, test.seen, **wanted)


def _of_readings(
    what: str, reading: Tensor, rivals: Tensor, true: Tensor, seen: Tensor, **more
) -> list[Result]:
    """R² of N readings and of the rival's, for seen and for unseen combinations; the limit is 1."""
    return [
        Result(
            f"R² of the {what}, {name}",
            training.r_squared(reading[which], true[which]),
            baseline=training.r_squared(rivals[which], true[which]),
            limit=1.0,
            **more,
        )
        for name, which in (("seen", seen), ("unseen", ~seen))
    ]


def weights(seed: int, cards: int = 1000) -> list[Result]:
    """Lesson 04: what α and β reach on cards drawn afresh with this seed.

    They are fitted on 800 of these cards and examined on the others, `cards` of them, with the
    readers of `data/weights`. The baseline is the best of: one reading alone, the mean of both
    readings without any training, and ridge on the readers' 64 features.
    """
    drawn = datasets.draw_postcards(800 + cards, seed=40_400 + seed)
    image_reader, _ = stored.load("image_reader")
    message_reader, vocabulary = stored.load("message_reader")
    tokens = preprocessing.text_to_tensor(drawn.messages, vocabulary)
    pairs = ((image_reader, drawn.images), (message_reader, tokens))
    f, g = (training.predict(reader, x) for reader, x in pairs)
    features = torch.cat([training.predict(reader.encoder, x) for reader, x in pairs], 1)
    m, fitted, new = drawn.mood, slice(0, 800), slice(800, None)

    def ridge(x: Tensor) -> float:
        return _ridge(x[fitted], m[fitted], x[new], m[new])

    best = fusion.best_weights(f[fitted], g[fitted], m[fitted])
    v = fusion.weighted_sum(f[new], g[new], best.alpha, best.beta) + best.intercept
    rivals = {
        "picture alone": ridge(f[:, None]),
        "message alone": ridge(g[:, None]),
        "mean of both": training.r_squared((f[new] + g[new]) / 2, m[new]),
        "ridge on features": ridge(features),
    }
    theory = fusion.bayes_weights(
        postcards.PICTURE_NOISE, postcards.MESSAGE_NOISE, postcards.MOOD_SD
    )
    return [
        _of_mood("v = αf + βg", training.r_squared(v, m[new]), 0.74, rivals, drawn[800:]),
        Result("α and β, distance from theory", math.dist(best[:2], theory[:2]), at_most=0.08),
    ]


def train_readers(seed: int, image_epochs: int = 4, message_epochs: int = 12) -> nn.Module:
    """Lesson 05's model before α and β are fitted: f and g, each trained alone on its rating.

    A `fusion.MultimodalModel` of the readers "image" and "message" and a `fusion.WeightedSum`. The
    message is read with the words of the stored message reader. Ten seconds.
    """
    cards = datasets.load_postcards("train")
    vocabulary = stored.load("message_reader")[1]
    tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
    with seeded(seed):
        readers = {
            "image": nn.Sequential(cnn.ImageEncoder(), nn.Linear(32, 1)),
            "message": nn.Sequential(rnn.TextEncoder(len(vocabulary)), nn.Linear(32, 1)),
        }
        model = fusion.MultimodalModel(
            readers, fusion.WeightedSum(("image", "message"), 1), nn.Identity()
        )
    recipe = {"loss": nn.functional.mse_loss, "learning_rate": 6e-3, "one_cycle": True,
              "seed": seed, "progress": False}  # fmt: skip
    training.fit(readers["image"], cards.images, cards.expression[:, None], epochs=image_epochs,
                 batch_size=32, augment=preprocessing.augment, **recipe)  # fmt: skip
    training.fit(
        readers["message"], tokens, cards.sentiment[:, None], epochs=message_epochs, **recipe
    )
    return model


def whole_model(
    seed: int, image_epochs: int = 4, message_epochs: int = 12, cards: int = 1000
) -> list[Result]:
    """Lesson 05: what its model, trained anew, reaches on cards drawn afresh with this seed.

    The baseline is the best of: one reader alone, the mean of both readings without any fitting,
    and ridge on hand-made features, which is fitted on the 2,000 moods of the training cards.
    """
    model = train_readers(seed, image_epochs, message_epochs)
    vocabulary = stored.load("message_reader")[1]
    train, val = datasets.load_postcards("train"), datasets.load_postcards("val")
    fresh = datasets.draw_postcards(cards, seed=50_500 + seed)
    x_val, x = (
        {"image": c.images, "message": preprocessing.text_to_tensor(c.messages, vocabulary)}
        for c in (val, fresh)
    )
    intercept = training.fit_weights(model, x_val, val.mood).intercept
    (f_val, g_val), (f, g) = training.readings(model, x_val), training.readings(model, x)
    counter = CountVectorizer(ngram_range=(1, 2)).fit(train.messages)
    features, new = (fusion.hand_made(c, counter) for c in (train, fresh))
    rivals = {
        "picture alone": _ridge(f_val[:, None], val.mood, f[:, None], fresh.mood),
        "message alone": _ridge(g_val[:, None], val.mood, g[:, None], fresh.mood),
        "mean of both": training.r_squared((f + g) / 2, fresh.mood),
        "hand-made features": _ridge(features, train.mood, new, fresh.mood),
    }
    reached = training.r_squared(training.predict(model, x) + intercept, fresh.mood)
    return [_of_mood("the whole model", reached, 0.72, rivals, fresh)]


def _ridge(x: Tensor, m: Tensor, new: Tensor, true: Tensor) -> float:
    """R² of ridge regression, fitted on x (N, K) and m (N,), on new (M, K) and true (M,)."""
    line = RidgeCV(fusion.RIDGE).fit(x.numpy(), m.numpy())
    return training.r_squared(torch.tensor(line.predict(new.numpy())).float(), true)


def _of_mood(
    what: str, reached: float, wanted: float, rivals: dict[str, float], cards: datasets.Postcards
) -> Result:
    """R² of the mood beside the strongest of the rivals and the limit on these cards."""
    rival = max(rivals, key=rivals.get)
    limit = fusion.limit_of(cards)
    return Result(f"R² of the mood, {what}", reached, wanted, None, rivals[rival], rival, limit)
