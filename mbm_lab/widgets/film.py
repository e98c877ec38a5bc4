"""A film, frame by frame (lesson 08)."""

from __future__ import annotations

import ipywidgets
import numpy as np
from torch import Tensor

from mbm_lab import preprocessing, video
from mbm_lab.widgets.drawing import png_bytes, spoken


class FilmPlayground(ipywidgets.VBox):
    """A slider over the frames of a film, and what the summariser says so far.

    model: a trained summariser; vocabulary: its words; clips: (N, T, 3, 64, 64).
    """

    def __init__(
        self, model: video.Summariser, vocabulary: preprocessing.Vocabulary, clips: Tensor
    ):
        features = video.frame_features(clips)
        length = clips.shape[1]
        self.clips = clips
        self.sentences = [
            video.summarise(model, features[:, :seen], vocabulary) for seen in range(2, length + 1)
        ]  # T - 1 lists of N sentences
        style = {"layout": {"width": "420px"}, "style": {"description_width": "90px"}}
        self.seen = ipywidgets.IntSlider(
            description="frames seen", min=2, max=length, value=2, **style
        )
        self.film = ipywidgets.IntSlider(description="film", min=0, max=len(clips) - 1, **style)
        self.plot = ipywidgets.Image(format="png")
        self.text = ipywidgets.HTML()
        for slider in (self.seen, self.film):
            slider.observe(self._update, "value")
        self._update()
        super().__init__([self.seen, self.film, self.plot, self.text])

    def _update(self, _change: dict | None = None) -> None:
        seen, film = self.seen.value, self.film.value
        frames = (self.clips[film] * 255).byte().permute(0, 2, 3, 1).numpy()  # (T, 64, 64, 3)
        frames = frames.repeat(2, 1).repeat(2, 2)
        row = np.full((128, len(frames) * 134, 3), 235, dtype=np.uint8)
        for k, frame in enumerate(frames[:seen]):
            row[:, k * 134 : k * 134 + 128] = frame
        self.plot.value = png_bytes(row)
        self.said = f"After {seen} of {len(frames)} frames: {self.sentences[seen - 2][film]}."
        self.text.value = spoken(self.said)
