"""widgets.py: what the sliders show is what the formula says."""

import io
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from mbm_lab import datasets, fusion, widgets


@pytest.fixture(scope="module")
def playground():
    return widgets.FusionPlayground()


def spoken(playground) -> dict[str, float]:
    """The numbers in the playground's line of text."""
    text = playground.text.value
    found = re.search(
        r"f = (\S+), message g = (\S+), v = (\S+) · f \+ (\S+) · g = (\S+), "
        r"mood m = (\S+)\. .* R² = (\S+)\.",
        text,
    )
    return dict(
        zip(("f", "g", "alpha", "beta", "v", "m", "r2"), map(float, found.groups()), strict=True)
    )


def pixels(playground) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(playground.plot.value)).convert("RGB")).astype(int)


@pytest.mark.parametrize(("alpha", "beta"), [(0.33, 0.47), (1.0, -0.25), (-0.5, 0.0)])
def test_text_says_what_the_formula_gives(playground, alpha, beta):
    playground.set(alpha, beta)
    said = spoken(playground)
    assert (said["alpha"], said["beta"]) == (alpha, beta)
    assert said["v"] == pytest.approx(alpha * said["f"] + beta * said["g"], abs=0.015)
    assert said["m"] == pytest.approx(playground.cards.mood[playground.index].item(), abs=0.006)


def test_each_slider_alone_changes_text_and_picture(playground):
    for slider in (playground.alpha, playground.beta):
        playground.set(0.1, 0.2)
        text, before = playground.text.value, pixels(playground)
        slider.value = 0.9
        assert playground.text.value != text
        assert (pixels(playground) != before).any()


def test_the_point_on_the_surface_stands_at_alpha_and_beta(playground):
    drawing = playground.drawing
    for alpha, beta in ((0.0, 0.0), (1.0, 0.5)):
        playground.set(alpha, beta)
        axes = drawing.point.axes
        x, y = axes.transData.transform((alpha, beta))
        picture = pixels(playground)
        colour = picture[picture.shape[0] - 1 - round(y), round(x)]
        assert colour.tolist() == pytest.approx([0xCC, 0x79, 0xA7], abs=3)


def test_the_needle_has_the_length_of_v(playground):
    playground.set(0.5, 0.5)
    assert playground.drawing.needle.get_xdata()[1] == pytest.approx(
        float(playground.v()[playground.index]), abs=1e-6
    )


def test_best_button_moves_to_the_best(playground):
    playground.to_best.click()
    best = fusion.best_weights(playground.f, playground.g, playground.cards.mood)
    assert playground.alpha.value == pytest.approx(best.alpha, abs=0.006)
    assert playground.beta.value == pytest.approx(best.beta, abs=0.006)


def test_card_buttons(playground):
    playground.show_card(0)
    message, picture = playground.message.value, playground.picture.value
    playground.next.click()
    assert playground.index == 1
    assert playground.message.value != message
    assert playground.picture.value != picture
    gaps = (playground.f - playground.g).abs()
    visited = set()
    for _ in range(15):
        playground.disagree.click()
        visited.add(playground.index)
        assert gaps[playground.index] >= gaps.quantile(0.9)
    assert len(visited) == 10


def test_readings_must_fit_the_cards():
    cards = datasets.load_postcards("test")[:3]
    with pytest.raises(ValueError, match="one reading f and one reading g for each card"):
        widgets.FusionPlayground(cards, torch.zeros(2), torch.zeros(2))


def test_a_slider_answers_quickly(playground):
    times = []
    for step in range(30):
        start = time.perf_counter()
        playground.alpha.value = 0.01 * step
        times.append(time.perf_counter() - start)
    assert sorted(times)[15] < 3 * 0.030
