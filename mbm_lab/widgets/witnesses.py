"""The two witnesses of some cards, made worse: noise in every picture, smudged words."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mbm_lab import datasets, preprocessing, training


class Witnesses:
    """The pictures and messages of some cards, as bad as one likes, and what the readers read.

    cards: N postcards with images; clean: the readings f and g of them as they are, each (N,);
    readers: (f, g), of pictures and of messages; vocabulary: the words of g. The noise of every
    pixel and the fate of every word are drawn here, once, so that more noise or dropout only scales
    them.
    """

    def __init__(
        self,
        cards: datasets.Postcards,
        clean: tuple[Tensor, Tensor],
        readers: tuple[nn.Module, nn.Module],
        vocabulary: preprocessing.Vocabulary,
        generator: torch.Generator,
    ):
        self.cards, self.clean = cards, clean
        self.readers, self.vocabulary = readers, vocabulary
        self.pixel_noise = torch.randn(cards.images.shape, generator=generator)
        self.tokens = preprocessing.text_to_tensor(cards.messages, vocabulary)
        self.word_fate = torch.rand(self.tokens.shape, generator=generator)

    def noisy_images(self, which: slice | int, noise: float) -> Tensor:
        """The pictures of these cards under noise of this standard deviation, from 0 to 1."""
        return (self.cards.images[which] + noise * self.pixel_noise[which]).clamp(0, 1)

    def dropped(self, which: slice | int, dropout: float) -> Tensor:
        """Which words of these cards are smudged when this share of all words is: True or False."""
        words = self.tokens[which] > preprocessing.UNK
        return words & (self.word_fate[which] < dropout)

    def message(self, index: int, dropout: float) -> str:
        """The message of this card, with a line in the place of every smudged word."""
        if dropout == 0:
            return self.cards.messages[index]
        known = zip(self.tokens[index].tolist(), self.dropped(index, dropout).tolist(), strict=True)
        return " ".join("____" if gone else self.vocabulary.words[t] for t, gone in known if t)

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
