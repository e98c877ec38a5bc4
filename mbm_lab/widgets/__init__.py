"""Figures that you can move: α and β (lessons 00 and 04), a kernel (02), a sentence (03), a
learning rate (05), the next word of a caption (06), α and β of a search (07) or of real digits
(12), a film (08), an album of one's own (12), α and β of one model's tokens, temperature and top-p
(13).

The first computes and draws in the browser. Each other figure is drawn once, here. When a slider
moves, only the parts that changed are drawn again over the stored background, and the result is
handed to the browser as a picture. What needs the encoders again arrives a moment later. A line of
text says the same as the picture, for screen readers and for tests. A stored notebook shows a still
picture in a figure's place.
"""

from mbm_lab.widgets.digits import DigitsPlayground
from mbm_lab.widgets.film import FilmPlayground
from mbm_lab.widgets.fusion_figure import fusion_picture
from mbm_lab.widgets.kernel import PRESETS, KernelPlayground
from mbm_lab.widgets.learning_rate import LearningRatePlayground
from mbm_lab.widgets.next_word import NextWordPlayground
from mbm_lab.widgets.one_model import SamplingPlayground, TokensPlayground
from mbm_lab.widgets.playground import FusionPlayground
from mbm_lab.widgets.search import AlbumPlayground, ComposePlayground
from mbm_lab.widgets.sentence import SentencePlayground

__all__ = [
    "PRESETS",
    "AlbumPlayground",
    "ComposePlayground",
    "DigitsPlayground",
    "FilmPlayground",
    "FusionPlayground",
    "KernelPlayground",
    "LearningRatePlayground",
    "NextWordPlayground",
    "SamplingPlayground",
    "SentencePlayground",
    "TokensPlayground",
    "fusion_picture",
]
