"""Reads messages and notes aloud, with the speech synthesizer espeak-ng."""

from __future__ import annotations

import math
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from mbm_lab import arguments
from mbm_lab.postcards.cards import SEED, Card, note, with_voice

SPEECH_RATE = 16_000


def synthesizer() -> str | None:
    """The path of the speech synthesizer espeak-ng, or None where it is not installed."""
    return shutil.which("espeak-ng")


def voice(card: Card) -> np.ndarray:
    """Reads a card's message aloud: (T,) float32 at SPEECH_RATE, pitch and pace set by its tone.

    Raises ValueError when the card has no voice, FileNotFoundError when espeak-ng is not installed.
    """
    return read_aloud(card, card.message)


def spoken_note(card: Card) -> np.ndarray:
    """Reads a card's note aloud, in its tone and its voice, or in one drawn for it where it has
    none: (T,) float32 at SPEECH_RATE. Lesson 09.

    Raises FileNotFoundError when espeak-ng is not installed.
    """
    card = card if card.voice else with_voice(card, SEED)
    *start, first, _, second = note(card).split()
    return read_aloud(card, f"{' '.join(start)}: {first} and {second}")


def read_aloud(card: Card, text: str) -> np.ndarray:
    """Speaks a text in a card's voice, with its tone: (T,) float32 at SPEECH_RATE.

    Raises ValueError when the card has no voice, FileNotFoundError when espeak-ng is not installed.
    """
    if not card.voice:
        raise ValueError(
            f"Card {card.name} has no voice: give it one with postcards.with_voice(card, seed)."
        )
    program = synthesizer()
    if program is None:
        raise FileNotFoundError(
            "Speech needs the program espeak-ng: install it (for example "
            "`sudo apt install espeak-ng`), then try again."
        )
    pitch, pace = str(round(50 + 32 * card.tone)), str(round(175 + 45 * card.tone))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "voice.wav"
        settings = ["-v", card.voice, "-p", pitch, "-s", pace, "-w", path]
        subprocess.run([program, *settings, text], check=True)
        samples, rate = soundfile.read(path, dtype="float32")
    return resample(samples, rate)


def resample(samples: np.ndarray, rate: int) -> np.ndarray:
    """Changes the sample rate of (T,) samples to SPEECH_RATE, first removing what that cannot
    carry. Raises ValueError for what is no sound of one channel in fractions, and for a rate below
    1.
    """
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ValueError(
            f"resample needs one channel (T,) of fractions, and got {samples.dtype} of shape "
            f"{samples.shape}: take one channel, and divide by 32_768 if it has 16 bits."
        )
    arguments.check_count("rate", rate)
    if rate == SPEECH_RATE:
        return samples
    from scipy.signal import resample_poly

    divisor = math.gcd(rate, SPEECH_RATE)
    return resample_poly(samples, SPEECH_RATE // divisor, rate // divisor).astype(np.float32)
