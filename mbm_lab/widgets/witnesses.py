"""The two witnesses of some cards, made worse: noise in every picture, smudged words."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import datasets, preprocessing, training


class Witnesses:
    """The pictures and messages of some cards, as bad as one likes, and what the readers read.

    cards: N postcards with images; clean: the readings f and g of them as they are, each (N,);
    readers: (f, g), of pictures and of messages; vocabulary: the words of g. The noise of every
    pixel and the fate of every word are fixed numbers: more noise or dropout only scales them. The
    browser makes the same ones for itself (`playground.js`).
    """

    def __init__(
        self,
        cards: datasets.Postcards,
        clean: tuple[Tensor, Tensor],
        readers: tuple[nn.Module, nn.Module],
        vocabulary: preprocessing.Vocabulary,
    ):
        self.cards, self.clean = cards, clean
        self.readers, self.vocabulary = readers, vocabulary
        count, channels, height, width = cards.images.shape
        noise = normal(np.arange(cards.images.numel())).reshape(count, height, width, channels)
        self.pixel_noise = torch.from_numpy(noise).float().permute(0, 3, 1, 2)
        self.tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
        places = np.arange(self.tokens.numel()) + WORDS_FROM
        self.word_fate = torch.from_numpy(uniform(places)).view(self.tokens.shape)

    def noisy_images(self, which: slice | int, noise: float) -> Tensor:
        """The pictures of these cards under noise of this standard deviation, from 0 to 1."""
        return (self.cards.images[which] + noise * self.pixel_noise[which]).clamp(0, 1)

    def dropped(self, which: slice | int, dropout: float) -> Tensor:
        """Which words of these cards are smudged when this share of all words is: True or False."""
        words = self.tokens[which] > preprocessing.UNK
        return words & (self.word_fate[which] < dropout)

    def words(self) -> list[list[tuple[str, float]]]:
        """Each card's words, and from which word dropout on each is smudged (1: never)."""
        fates = self.word_fate.masked_fill(self.tokens <= preprocessing.UNK, 1.0)
        return [
            [(self.vocabulary.words[t], fate) for t, fate in zip(*card, strict=True) if t]
            for card in zip(self.tokens.tolist(), fates.tolist(), strict=True)
        ]

    def message(self, index: int, dropout: float) -> str:
        """The message of this card, with a line in the place of every smudged word."""
        if dropout == 0:
            return self.cards.messages[index]
        return " ".join("____" if fate < dropout else word for word, fate in self.words()[index])

    def read(self, noise: float, dropout: float) -> tuple[Tensor, Tensor]:
        """What the readers say of all cards: f (N,) and g (N,). What is clean is not read again."""
        f, g = self.clean
        image_reader, message_reader = self.readers
        if noise > 0:
            f = training.predict(image_reader, self.noisy_images(slice(None), noise))
        if dropout > 0:
            smudged = self.tokens.masked_fill(self.dropped(slice(None), dropout), preprocessing.UNK)
            g = training.predict(message_reader, smudged)
        return f, g


WORDS_FROM = 2**30
"""Where the chances of words begin; those of pixels begin at 0."""


def uniform(places: np.ndarray) -> np.ndarray:
    """A number from 0 to 1 for each whole number: a hash that mixes its 32 bits."""
    x = places.astype(np.uint32)
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return (x ^ (x >> np.uint32(16))) / 2.0**32


def normal(places: np.ndarray) -> np.ndarray:
    """Numbers of the normal distribution, two uniform ones for each (Box and Muller, 1958)."""
    one, other = uniform(2 * places), uniform(2 * places + 1)
    return np.sqrt(-2 * np.log(1 - one)) * np.cos(2 * np.pi * other)
