"""Search with a picture and with words: this card, but ... (lesson 07); one's own album (12)."""

from __future__ import annotations

import base64
import html
from functools import cache

import ipywidgets
import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import albums, preprocessing, real_data, retrieval, stored, training
from mbm_lab.widgets.drawing import image_bytes, png_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Slider
from mbm_lab.widgets.waiting import Later


class ComposePlayground(Panel):
    """Search with α f(picture) + β g(words), and see what is found, and what fulfils the wish.

    model: a trained dual encoder; vocabulary: its words; gallery: what is searched; features: those
    of the gallery's pictures, (N, 48). Words that are being typed are searched with as soon as the
    hands rest for PAUSE seconds, or `said` is read.
    """

    FOUND, PAUSE = 5, 0.25
    GREEN = (0, 128, 80)

    def __init__(
        self,
        model: retrieval.DualEncoder,
        vocabulary: preprocessing.Vocabulary,
        gallery: retrieval.Gallery,
        features: Tensor,
    ):
        self.model, self.vocabulary, self.gallery = model, vocabulary, gallery
        self.vectors = retrieval.image_vectors(model, features.cpu())
        size = (preprocessing.IMAGE_SIZE, preprocessing.IMAGE_SIZE)  # an album may have larger ones
        self.shown = nn.functional.interpolate(gallery.images, size, mode="area")
        self.alpha, self.beta = (
            Slider(description=letter, value=0.5, min=0, max=1, step=0.05) for letter in "αβ"
        )
        self.card = IntSlider(description="card", min=0, max=len(gallery.wishes) - 1)
        self.words = ipywidgets.Text(value=gallery.wishes[0].text, description="words")
        self.figures, self.text = ipywidgets.HTML(), Line()
        self._source = cache(self._source)
        self._later = Later(self._update, self.PAUSE)
        self.card.observe(self._wish, "value")
        self.words.observe(self._typed, "value")
        for slider in (self.alpha, self.beta):
            slider.observe(self._update, "value")
        self._update()
        super().__init__([self.alpha, self.beta], [self.card, self.words], self.figures, self.text)

    @property
    def said(self) -> str:
        if self._later.waits:
            self._update()
        return self.text.value

    def _wish(self, _change: dict | None = None) -> None:
        """Each card comes with its own wish, whose answer is in the gallery."""
        self.words.value = self.gallery.wishes[self.card.value].text
        self._update()

    def _typed(self, _change: dict | None = None) -> None:
        self._later.cancel()
        if not self._later.ask():
            self._update()

    def is_own_wish(self) -> bool:
        """Whether the query is the card, changed as its own wish says."""
        wish = self.gallery.wishes[self.card.value]
        return self.alpha.value > 0 and self.words.value.strip() == wish.text

    def fulfils(self, place: int) -> bool:
        """Whether a picture is what was asked for.

        With a card's own wish: the card, so changed. With other words, or without the card: a
        picture whose caption has all the words.
        """
        caption = self.gallery.captions[place]
        if self.is_own_wish():
            return caption == self.gallery.wishes[self.card.value].caption
        asked, has = (
            set(preprocessing.tokenize(preprocessing.spaced(text)))
            for text in (self.words.value, caption)
        )
        return asked <= has

    def _search(self) -> list[int]:
        """The places of what is found. Raises ValueError when there is nothing to search with."""
        alpha, beta, card = self.alpha.value, self.beta.value, self.card.value
        if alpha == 0 and beta == 0:
            raise ValueError("α and β are both 0, so there is no query: move one of them.")
        others = len(self.vectors) - (alpha != 0)
        if others == 0:
            raise ValueError("This is the only picture: set α to 0, and words find it.")
        tokens = retrieval.query_tokens(self.words.value, self.vocabulary)
        g = retrieval.text_vectors(self.model, tokens)
        query = retrieval.compose(self.vectors[card][None], g, alpha, beta)
        itself = torch.tensor([card]) if alpha else None  # the card is a part of the query
        return retrieval.search(query, self.vectors, min(self.FOUND, others), itself)[0].tolist()

    def _update(self, _change: dict | None = None) -> None:
        self._later.cancel()
        self.found, self.fulfilled = [], []
        mark = "As wished" if self.is_own_wish() else "Has the words"
        try:
            self.found = self._search()
            self.fulfilled = [place for place in self.found if self.fulfils(place)]
            self.text.value = self._sentence(mark)
        except ValueError as error:
            self.text.value = str(error)
        query = [self._figure(self.card.value, "This card:")] if self.alpha.value else []
        found = [
            self._figure(place, f"✓ {mark}:" if place in self.fulfilled else "")
            for place in self.found
        ]
        self.figures.value = f"<div class='mbm-found'>{''.join(query + found)}</div>"

    def _sentence(self, mark: str) -> str:
        """The query, what it finds, how many of these fulfil it, and what does not count."""
        alpha, beta, captions = self.alpha.value, self.beta.value, self.gallery.captions
        silent = " α = 0: the card does not count; move α." if alpha == 0 else ""
        silent += " β = 0: the words do not count; move β." if beta == 0 else ""
        return (
            f"{alpha:.2f} · “{captions[self.card.value]}” + {beta:.2f} · "
            f"“{self.words.value.strip()}” finds: "
            f"{'; '.join(captions[place] for place in self.found)}. "
            f"{mark}: {len(self.fulfilled)} of {len(self.found)}.{silent}"
        )

    def _figure(self, place: int, title: str) -> str:
        """A picture with a title, if any, and its caption under it."""
        caption = html.escape(self.gallery.captions[place])
        kind = " class='mbm-fulfilled'" if title.startswith("✓") else ""
        return (
            f"<figure{kind}><img src='{self._source(place)}' alt='Picture of {caption}'>"
            f"<figcaption><b>{title}</b> {caption}</figcaption></figure>"
        )

    def _source(self, place: int) -> str:
        """A picture as the address of an `img`; each is packed once."""
        data = base64.b64encode(image_bytes(self.shown[place], preprocessing.IMAGE_SIZE)).decode()
        return f"data:image/png;base64,{data}"

    def pictures(self) -> list[bytes]:
        """The card, if it has a part in the query, and what is found, framed where it fulfils."""
        places = ([self.card.value] if self.alpha.value else []) + self.found
        size = 2 * preprocessing.IMAGE_SIZE
        sheets = []
        for place in places:
            edge = self.GREEN if place in self.fulfilled else 255
            sheet = np.full((size + 12, size + 12, 3), edge, np.uint8)
            pixels = (self.shown[place] * 255).byte().permute(1, 2, 0).numpy()
            sheet[6:-6, 6:-6] = pixels.repeat(2, 0).repeat(2, 1)
            sheets.append(png_bytes(sheet))
        return sheets


class AlbumPlayground(ComposePlayground):
    """Search in one's own pictures, with words, with a picture, or with both.

    album: some pictures with captions, English or Chinese. encoder: gives the pictures' features,
    (B, dim); lesson 06's unless you bring another. Lesson 07's model is trained on them here, which
    takes a second or two for twenty pictures; it knows the words of their captions.
    """

    STEPS = 300

    def __init__(self, album: albums.Album, encoder: nn.Module | None = None):
        if encoder is None:
            encoder = stored.load("captioner")[0].encoder
        model, vocabulary = real_data.search_model(encoder, album, self.STEPS)
        features = training.predict(encoder, album.images)
        super().__init__(model, vocabulary, real_data.album_gallery(album), features)
        self.alpha.value, self.beta.value = 0.0, 1.0
