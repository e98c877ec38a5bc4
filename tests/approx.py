"""What the course adds to nbval, the pytest plugin that runs notebooks and compares their outputs.

1. A cell tagged `approx`, with a `tolerance` in its metadata, is compared word by word; its
   numbers may differ from the stored ones by at most the tolerance:

       {"tags": ["approx"], "tolerance": 0.05}

   Numbers that come out of training need this: they differ from CPU to CPU. All other cells are
   compared strictly, as nbval does.
2. Progress bars, and live views beside a picture, are not compared: lessons do not store them.
3. A cell that needs a data set which is not here (`%%needs mnist`) says so, and is not compared.
4. A lesson that takes far longer than it says fails.
5. Whatever runs in a test keeps its progress with exercises in a file of its own.

pyproject.toml loads this file into pytest.
"""

import copy
import os
import re
import tempfile
import time
from pathlib import Path

from nbval import plugin

from mbm_lab import lessons, outputs

# A number that is not part of a word: 12, -0.5, +3.1e-05; with either minus sign.
NUMBER = re.compile(r"(?<!\w)[-+\u2212]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")

SLOWER = 3  # how many times slower than stated a computer may be
START_SECONDS = 10  # the first cells import PyTorch


class LessonCell(plugin.IPyNbCell):
    """One code cell of a lesson, as a test."""

    def runtest(self) -> None:
        """Runs the cell, compares its outputs, and watches the lesson's time."""
        before = getattr(self.parent, "seconds", 0.0)
        start = time.perf_counter()
        super().runtest()
        after = self.parent.seconds = before + time.perf_counter() - start
        most = most_seconds(self.parent.path, self.parent.nb)
        if before <= most < after:
            self.raise_cell_error(
                f"{self.parent.path.name} has taken {after:.0f} s up to this cell; "
                f"from the time it states, at most {most:.0f} s are allowed"
            )

    def compare_outputs(self, test, ref, skip_compare=None) -> bool:
        """Whether new outputs (`test`) are the stored ones (`ref`), as far as they must be."""
        test, ref = outputs.tidy(copy.deepcopy(list(test))), outputs.tidy(copy.deepcopy(list(ref)))
        if lessons.missing_data(self.cell.source):
            return True
        if "approx" not in self.cell.metadata.get("tags", []):
            return super().compare_outputs(test, ref, skip_compare)
        tolerance = self.cell.metadata.get("tolerance")
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or tolerance <= 0:
            self.raise_cell_error(
                "This cell is tagged approx, but its metadata states no tolerance: "
                'write for example "tolerance": 0.05'
            )
        same = super().compare_outputs(forgive(test, ref, tolerance), ref, skip_compare)
        if not same:
            self.comparison_traceback.append(
                f"This cell is tagged approx: its numbers may differ by at most {tolerance}, "
                "its words not at all."
            )
        return same


def pytest_configure() -> None:
    """The learner's own progress stays as it is: kernels inherit this variable."""
    folder = tempfile.mkdtemp(prefix="mbm-progress-")
    os.environ["MBM_PROGRESS"] = str(Path(folder) / "progress.json")


def pytest_itemcollected(item) -> None:
    """nbval makes the cells and offers no way to make them of another class: that is done here."""
    if type(item) is plugin.IPyNbCell:
        item.__class__ = LessonCell


def most_seconds(path: Path, notebook) -> float:
    """The seconds that all cells of a lesson may take here: three times what it states."""
    most = SLOWER * lessons.most_seconds(path)
    stated = lessons.times(notebook)
    if stated is None:
        return most
    return min(most, SLOWER * stated[1] + START_SECONDS)


def forgive(test: list, ref: list, tolerance: float) -> list:
    """The new outputs, with each text that is close to the stored one replaced by it."""
    forgiven = copy.deepcopy(list(test))
    for new, stored in zip(forgiven, ref, strict=False):
        if "text" in new and "text" in stored:
            new["text"] = closer(new["text"], stored["text"], tolerance)
        for kind in ("text/plain", "text/html"):
            if kind in new.get("data", {}) and kind in stored.get("data", {}):
                new["data"][kind] = closer(new["data"][kind], stored["data"][kind], tolerance)
    return forgiven


def closer(new: str, stored: str, tolerance: float) -> str:
    """The stored text if the new one is close to it, else the new text."""
    return stored if close(new, stored, tolerance) else new


def close(new: str, stored: str, tolerance: float) -> bool:
    """Whether two texts have the same words, line by line, and numbers within the tolerance."""
    return words(new) == words(stored) and all(
        abs(a - b) <= tolerance + 1e-9 for a, b in zip(numbers(new), numbers(stored), strict=True)
    )


def words(text: str) -> list[list[str]]:
    """The words of each line, with `#` for every number."""
    return [NUMBER.sub("#", line).split() for line in text.splitlines()]


def numbers(text: str) -> list[float]:
    """The numbers in a text, in their order."""
    return [float(number.replace("\u2212", "-")) for number in NUMBER.findall(text)]
