"""Search with a picture and with words: this card, but ... (lesson 07); one's own album (12)."""

from __future__ import annotations

import ipywidgets
import numpy as np
import torch
from torch import Tensor, nn

from mbm_lab import albums, preprocessing, real_data, retrieval, stored, training
from mbm_lab.widgets.drawing import png_bytes, spoken


class ComposePlayground(ipywidgets.VBox):
    """Search with α f(picture) + β g(words), and see what is found.

    model: a trained dual encoder; vocabulary: its words; gallery: what is searched; features: those
    of the gallery's pictures, (N, 48).
    """

    FOUND = 5

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
        style = {"layout": {"width": "420px"}, "style": {"description_width": "60px"}}
        weight = {"min": 0.0, "max": 1.0, "step": 0.05, **style}
        self.alpha = ipywidgets.FloatSlider(value=0.5, description="α", **weight)
        self.beta = ipywidgets.FloatSlider(value=0.5, description="β", **weight)
        last = len(gallery.wishes) - 1
        self.card = ipywidgets.IntSlider(description="card", min=0, max=last, **style)
        self.words = ipywidgets.Text(
            value=gallery.wishes[0].text, description="words", continuous_update=False, **style
        )
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        self.card.observe(self._wish, "value")
        for slider in (self.alpha, self.beta, self.words):
            slider.observe(self._update, "value")
        self._update()
        rows = [ipywidgets.HBox([self.alpha, self.beta]), ipywidgets.HBox([self.card, self.words])]
        super().__init__([*rows, self.plot, self.text])

    def _wish(self, _change: dict | None = None) -> None:
        """Each card comes with its own wish, whose answer is in the gallery."""
        wish = self.gallery.wishes[self.card.value].text
        if self.words.value == wish:
            self._update()
        else:
            self.words.value = wish  # and this updates

    def _draw(self, places: list[int]) -> bytes:
        """The query's card, if it has one (α is not 0), a gap, and the pictures that were found."""
        size = 2 * preprocessing.IMAGE_SIZE
        width = (1 + self.FOUND) * (size + 6) + 24
        row = np.full((size, width, 3), 255, dtype=np.uint8)
        for number, place in enumerate([self.card.value if self.alpha.value else None, *places]):
            if place is None:
                continue
            pixels = (self.shown[place] * 255).byte().permute(1, 2, 0).numpy()
            left = number * (size + 6) + (24 if number else 0)
            row[:, left : left + size] = pixels.repeat(2, 0).repeat(2, 1)
        return png_bytes(row)

    def _update(self, _change: dict | None = None) -> None:
        alpha, beta, card = self.alpha.value, self.beta.value, self.card.value
        places: list[int] = []
        try:
            if alpha == 0 and beta == 0:
                raise ValueError("α and β are both 0, so there is no query: move one of them.")
            others = len(self.vectors) - (alpha != 0)
            if others == 0:
                raise ValueError("This is the only picture: with α = 0, words find it.")
            tokens = retrieval.query_tokens(self.words.value, self.vocabulary)
            g = retrieval.text_vectors(self.model, tokens)
            query = retrieval.compose(self.vectors[card][None], g, alpha, beta)
            itself = torch.tensor([card]) if alpha else None  # the card is a part of the query
            most = min(self.FOUND, others)
            places = retrieval.search(query, self.vectors, most, itself)[0].tolist()
            captions = "; ".join(self.gallery.captions[place] for place in places)
            self.said = (
                f"{alpha:.2f} · “{self.gallery.captions[card]}” + {beta:.2f} · "
                f"“{self.words.value.strip()}” finds: {captions}."
            )
        except ValueError as error:
            self.said = str(error)
        self.plot.value = self._draw(places)
        self.text.value = spoken(self.said)


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
