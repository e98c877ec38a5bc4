"""Where the course is on this computer, and where the learner's own folder is.

Downloaded with git or as a ZIP, the two are one: lessons and data lie beside the package. Installed
with `pip install mbm-lab`, lessons and data lie inside the package, where nothing is written, and
the learner's folder is `mbm-lab` in the home folder, or the one that was named to `mbm-lab lab`.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent

INSTALLED = (PACKAGE / "course").is_dir()
"""Whether the course came as one installed package: only then it lies inside of it."""

COURSE = PACKAGE / "course" if INSTALLED else PACKAGE.parent
"""The folder of the course's `notebooks` and `data`."""


def home(named: str | None = None, here: Path | None = None) -> Path:
    """The learner's folder, in which `my_lessons` lies or will lie; it need not be there yet.

    named: as `MBM_HOME` names it; without it, a downloaded course is its own, and of an installed
    one it is the folder around `here` (None: where we are) that already has lessons, or else
    `mbm-lab` in the home folder.
    """
    if named:
        try:
            return Path(named).expanduser().absolute()
        except RuntimeError:  # "~somebody", whom nobody knows
            raise ValueError(
                f"The home folder of {named} is not known: write MBM_HOME without ~."
            ) from None
    if not INSTALLED:
        return COURSE
    here = Path.cwd() if here is None else here
    for folder in (here, *here.parents):
        if (folder / "my_lessons" / ".course").is_dir():
            return folder
    try:
        return Path.home() / "mbm-lab"
    except RuntimeError:  # a user without a home, as in some containers
        return here / "mbm-lab"


def named(variable: str) -> Path | None:
    """The place that an environment variable names, whole; None when it is not set, or empty.

    "~" is the home folder, "~eva" another one's; "$HOME" and quotation marks are understood, too.
    Raises ValueError when the place depends on where one is: a terminal and a notebook are in
    different folders.
    """
    said = os.environ.get(variable, "").strip()
    if len(said) > 1 and said[0] == said[-1] and said[0] in "\"'":
        said = said[1:-1].strip()
    if not said:
        return None
    path = Path(os.path.expanduser(os.path.expandvars(said)))
    if not path.is_absolute():
        raise ValueError(
            f"{variable} is {said[:60]!r}, which means another place in each folder: write it from "
            f"the beginning, such as {Path.home() / path.name[:60]}."
        )
    return path


HOME = home(os.environ.get("MBM_HOME"))
"""The learner's folder, for this run."""
