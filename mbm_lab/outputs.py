"""What a notebook keeps of its outputs: no progress bars, and no live views beside a picture.

A live view (of a widget) is dead as soon as its kernel has ended: JupyterLab shows an error in its
place, and hides the picture that is stored beside it.
"""

import re

LIVE = "application/vnd.jupyter.widget-view+json"
STILL = "image/png"
BAR = re.compile(r".*\d%\||\d+it \[")  # how a bar of tqdm begins, as text


def is_progress_bar(output: dict) -> bool:
    """Whether an output is a progress bar: a live view whose text is a bar of tqdm."""
    data = output.get("data", {})
    return LIVE in data and BAR.match("".join(data.get("text/plain", ""))) is not None


def keep_still(output: dict) -> bool:
    """Takes the live view out of an output that has a picture, too; returns whether it did."""
    data = output.get("data", {})
    if LIVE not in data or STILL not in data:
        return False
    del data[LIVE]
    return True


def tidy(outputs: list[dict]) -> list[dict]:
    """The outputs without progress bars, and each with its picture instead of its live view."""
    kept = [output for output in outputs if not is_progress_bar(output)]
    for output in kept:
        keep_still(output)
    return kept
