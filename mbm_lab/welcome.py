"""The small trained readers that lesson 00 plays with (lesson 00).

Lesson 00 previews the whole course, so this module alone imports those of later lessons.
"""

from __future__ import annotations

import torch
from torch import nn

from mbm_lab import cnn, datasets, preprocessing, rnn, stored, training
from mbm_lab.device import seeded


class ImageReader(cnn.Reader):
    """f: images (B, 3, 64, 64) to the expression, (B,), on the scale from -1 to 1."""

    def __init__(self):
        super().__init__(cnn.ImageEncoder())


class MessageReader(cnn.Reader):
    """g: tokens (B, T) to the sentiment, (B,), on the scale from -1 to 1."""

    def __init__(self, vocabulary_size: int):
        super().__init__(rnn.TextEncoder(vocabulary_size))


def load_readers() -> tuple[ImageReader, MessageReader, preprocessing.Vocabulary]:
    """f and g, trained, and the words that g knows: what `read` needs beside the cards."""
    f, _ = stored.load("image_reader")
    g, vocabulary = stored.load("message_reader")
    return f, g, vocabulary


def read(
    cards: datasets.Postcards, f: nn.Module, g: nn.Module, vocabulary: preprocessing.Vocabulary
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the two readers say of each card: f (N,) and g (N,)."""
    tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
    return training.predict(f, cards.images), training.predict(g, tokens)


def retrain(seed: int, epochs: int = 30) -> list[stored.Model]:
    """Both readers of `data/weights`, trained anew (two minutes).

    Each learns its own rating, the expression or the sentiment, and never sees the mood.
    """
    cards = datasets.load_postcards("train")
    vocabulary = preprocessing.Vocabulary.build(map(preprocessing.tokenize, cards.messages))
    tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
    with seeded(seed):
        f, g = ImageReader(), MessageReader(len(vocabulary))
    recipe = {"loss": nn.functional.mse_loss, "epochs": epochs, "learning_rate": 6e-3,
              "one_cycle": True, "seed": seed}  # fmt: skip
    training.fit(f, cards.images, cards.expression, augment=preprocessing.augment, **recipe)
    training.fit(g, tokens, cards.sentiment, **recipe)
    return [
        stored.Model("image_reader", f, {}, None, half=False),
        stored.Model(
            "message_reader", g, {"vocabulary_size": len(vocabulary)}, vocabulary, half=False
        ),  # fmt: skip
    ]
