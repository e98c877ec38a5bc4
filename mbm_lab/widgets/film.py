"""A film, frame by frame (lesson 08)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from mbm_lab import preprocessing, video
from mbm_lab.widgets.drawing import png_bytes
from mbm_lab.widgets.parts import IntSlider, Line, Panel, Picture


class FilmPlayground(Panel):
    """A slider over the frames of a film, and what the summariser says so far.

    model: a trained summariser; vocabulary: its words; clips: (N, T, 3, 64, 64).
    """

    ACROSS = 4

    def __init__(
        self, model: video.Summariser, vocabulary: preprocessing.Vocabulary, clips: Tensor
    ):
        features = video.frame_features(clips)
        length = clips.shape[1]
        self.clips = clips
        self.sentences = [
            video.summarise(model, features[:, :seen], vocabulary) for seen in range(2, length + 1)
        ]  # T - 1 lists of N sentences
        self.seen = IntSlider(description="frames seen", min=2, max=length, value=2)
        self.film = IntSlider(description="film", min=0, max=len(clips) - 1)
        self.plot, self.text = Picture(), Line()
        for slider in (self.seen, self.film):
            slider.observe(self._update, "value")
        self._update()
        super().__init__([self.seen, self.film], self.plot, self.text)

    def pictures(self) -> list[bytes]:
        return [self.plot.value]

    def _update(self, _change: dict | None = None) -> None:
        seen, film = self.seen.value, self.film.value
        frames = (self.clips[film] * 255).byte().permute(0, 2, 3, 1).numpy()  # (T, 64, 64, 3)
        frames = frames.repeat(2, 1).repeat(2, 2)
        lines = -(-len(frames) // self.ACROSS)
        sheet = np.full((lines * 134, self.ACROSS * 134, 3), 235, dtype=np.uint8)
        for k, frame in enumerate(frames[:seen]):
            top, left = (134 * place for place in divmod(k, self.ACROSS))
            sheet[top : top + 128, left : left + 128] = frame
        self.plot.value = png_bytes(sheet)
        self.plot.alt = f"Film {film}: its first {seen} frames, {self.ACROSS} in a row."
        self.text.value = f"After {seen} of {len(frames)} frames: {self.sentences[seen - 2][film]}."
