"""What the playground of α and β says of itself, in a lesson or on its own page."""

import re

import pytest

from tests.browser.jupyter import eventually

SPOKEN = re.compile(
    r"Card (?P<card>\d+): picture f = (?P<f>\S+), message g = (?P<g>\S+), "
    r"v = (?P<alpha>\S+) · f \+ (?P<beta>\S+) · g = (?P<v>\S+), mood m = (?P<m>\S+)\. "
    r"Over all \d+ cards: R² = (?P<r2>\S+)\. Best: α = (?P<best_alpha>\S+), "
    r"β = (?P<best_beta>\S+)\."
)


def status(page) -> dict[str, float]:
    """The numbers in the line of text, as soon as it has them all."""

    def line_matches():
        return SPOKEN.search(page.text_content(".mbm-status"))

    found = eventually(page, line_matches)
    return {name: float(value) for name, value in found.groupdict().items()}


def slider(page, name: str):
    """The slider with this label."""
    return page.locator(".mbm-playground").first.get_by_label(name)


def settled(page, letter: str, name: str) -> dict[str, float]:
    """What the text says as soon as it is where the slider is."""

    def text_follows_slider():
        said = status(page)
        return said[letter] == pytest.approx(float(slider(page, name).input_value())) and said

    return eventually(page, text_follows_slider)


def assert_formula(said) -> None:
    """v is αf + βg, as far as two decimals tell."""
    v = said["alpha"] * said["f"] + said["beta"] * said["g"]
    assert said["v"] == pytest.approx(v, abs=0.015)
