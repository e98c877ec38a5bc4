"""The small trained readers that lesson 00 plays with, and the command that retrains them (lesson
00).

Lesson 00 previews the whole course, so this module alone imports those of later lessons.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from mbm_lab import cnn, datasets, preprocessing, rnn, training

WEIGHTS = datasets.DATA / "weights"


def load_vocabulary() -> preprocessing.Vocabulary:
    """The words of the training messages, numbered."""
    return preprocessing.Vocabulary.load(WEIGHTS / "vocabulary.json")


def load_readers() -> tuple[cnn.Reader, cnn.Reader]:
    """f and g, trained: the picture's reader of expressions and the message's reader of sentiments.

    f takes images (B, 3, 64, 64), g takes tokens (B, T); both return (B,), on the scale from -1 to
    1.
    """
    f = cnn.Reader(cnn.ImageEncoder())
    g = cnn.Reader(rnn.TextEncoder(len(load_vocabulary())))
    training.load_weights(f, WEIGHTS / "image_reader.safetensors")
    training.load_weights(g, WEIGHTS / "message_reader.safetensors")
    return f.eval(), g.eval()


def read(
    cards: datasets.Postcards, f: nn.Module, g: nn.Module, vocabulary: preprocessing.Vocabulary
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the two readers say of each card: f (N,) and g (N,)."""
    tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
    return training.predict(f, cards.images), training.predict(g, tokens)


def retrain(out: str | Path = WEIGHTS, epochs: int = 30) -> None:
    """Trains both readers on the training cards and writes their weights and vocabulary (two
    minutes).

    Each reader learns its own rating, the expression or the sentiment, and never sees the mood.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    cards, val = datasets.load_postcards("train"), datasets.load_postcards("val")
    vocabulary = preprocessing.Vocabulary.build(
        [preprocessing.tokenize(text) for text in cards.messages]
    )
    tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
    torch.manual_seed(0)
    f, g = cnn.Reader(cnn.ImageEncoder()), cnn.Reader(rnn.TextEncoder(len(vocabulary)))
    recipe = {
        "loss": nn.functional.mse_loss,
        "epochs": epochs,
        "learning_rate": 6e-3,
        "one_cycle": True,
    }
    training.fit(f, cards.images, cards.expression, augment=preprocessing.augment, **recipe)
    training.fit(g, tokens, cards.sentiment, **recipe)
    training.save_weights(f, out / "image_reader.safetensors")
    training.save_weights(g, out / "message_reader.safetensors")
    vocabulary.save(out / "vocabulary.json")
    f_val, g_val = read(val, f, g, vocabulary)
    print(
        f"R² on validation cards: expression {training.r_squared(f_val, val.expression):.3f}, "
        f"sentiment {training.r_squared(g_val, val.sentiment):.3f}"
    )
