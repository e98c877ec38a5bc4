"""`mbm-lab doctor --classroom`: is this computer ready to teach with, the day before?

The checks are made as those of `doctor` are: each returns findings, and what it looks at comes in
as an argument with the usual value, so that tests can show it a fault. Nothing is asked of the
internet.
"""

import json
import shutil
import sys
import webbrowser
from collections.abc import Callable
from pathlib import Path

from mbm_lab import doctor, lessons, place
from mbm_lab.doctor import Finding

READERS = ("image_reader", "message_reader")

SPECIALISTS = ("captioner", "answerers", "summariser", "recogniser", "translator")

MODELS = {
    "00": READERS,
    "01": (),
    "02": READERS[:1],
    "03": READERS[1:],
    "04": READERS,
    "05": READERS,
    "06": ("captioner", "attention_decoder", "image_reader"),
    "07": ("dual_encoder", "answerers", "captioner"),
    "08": ("summariser", "captioner"),
    "09": ("recogniser", "captioner", *READERS),
    "10": ("translator", "captioner"),
    "11": READERS[1:],
    "12": ("captioner", *READERS),
    "13": ("one_model", *SPECIALISTS, *READERS),
    "14": ("one_model", "dual_encoder", "attention_decoder", *SPECIALISTS, *READERS),
}
"""The stored models that each lesson loads, so that it can be begun without the lessons before."""

SEEDS = 3
"""So many of each model are stored, but of the readers one."""

LAPTOP_GB, LEARNER_GB, SERVER_GB = 2.0, 0.65, 1.0
"""Memory: of one laptop with a lesson, a browser and the system; of each learner on a server, and
of the server itself, as `workshop/README.md` has it from the rehearsal."""

LEARNER_DISK_GB = 0.2
"""Disk for each learner's own folder on a server."""

PORTS = {8000: "the classroom's server", 8888: "JupyterLab and the poll"}

BROWSERS = (
    "google-chrome", "chromium", "chromium-browser", "firefox", "microsoft-edge", "brave-browser",
)  # fmt: skip


def examine(learners: int = 1, hub: bool = False, stick: str | Path | None = None) -> list[Finding]:
    """Makes the checks of `doctor`, and those of a classroom.

    learners: how many come; hub: whether they work on a server on this computer; stick: the folder
    that `make stick` has made. Raises ValueError when there are no learners.
    """
    if learners < 1:
        raise ValueError(
            f"A classroom has at least one learner, and not {learners}: give --learners 12, for "
            "example."
        )
    seats = learners if hub else 0
    findings = [one for one in doctor.examine() if one.what not in ("disk", "memory")]
    checks: list[Callable[[], list[Finding]]] = [
        lambda: check_disk(seats),
        lambda: check_memory(seats),
        check_models,
        check_browser,
        check_ports,
        check_views,
        check_network,
    ]
    if stick is not None:
        checks.append(lambda: check_stick(Path(stick)))
    for check in checks:
        findings.extend(check())
    return findings


def check_disk(seats: int = 0, free_bytes: int | None = None) -> list[Finding]:
    """There is room on the disk: 1 GB, and what the learners of a server write."""
    if free_bytes is None:
        free_bytes = shutil.disk_usage(doctor.nearest(place.HOME)).free
    free, needed = free_bytes / 1e9, 1 + seats * LEARNER_DISK_GB
    says = f"{free:.1f} GB free, {needed:.1f} GB needed{_for(seats)}"
    if free >= needed:
        return [Finding("disk", True, says)]
    return [Finding("disk", False, says, "delete something, or take a computer with more room.")]


def check_memory(seats: int = 0, free_bytes: int | None = None) -> list[Finding]:
    """There is memory: for one laptop, or for a server's learners all at once."""
    if free_bytes is None:
        import psutil

        free_bytes = psutil.virtual_memory().available
    needed = SERVER_GB + seats * LEARNER_GB if seats else LAPTOP_GB
    free = free_bytes / 1e9
    says = f"{free:.1f} GB free, {needed:.1f} GB needed{_for(seats)}"
    if free >= needed:
        return [Finding("memory", True, says)]
    if not seats:
        return [Finding("memory", None, says, "close other programs before the workshop.")]
    fit = max(0, int((free - SERVER_GB) / LEARNER_GB))
    todo = f"{fit} learners fit: put others in pairs, or on their own laptops, or take more memory."
    return [Finding("memory", False, says, todo)]


def _for(seats: int) -> str:
    return f" for {seats} {'learner' if seats == 1 else 'learners'} on this server" if seats else ""


def check_models(folder: Path = place.COURSE / "data" / "weights") -> list[Finding]:
    """Every stored model that a lesson loads is there, for those who are late."""
    for number, names in MODELS.items():
        for name in names:
            for seed in range(1 if name in READERS else SEEDS):
                file = folder / f"{name}_{seed}.safetensors"
                if not (file.is_file() and file.stat().st_size):
                    says = f"{file.name} is missing, which lesson {number} loads"
                    todo = "get the course's folder `data` again, from where you have the course."
                    return [Finding("catching up", False, says, todo)]
    return [Finding("catching up", True, "every lesson can be begun without those before it")]


def check_browser(which: Callable[[str], str | None] = shutil.which) -> list[Finding]:
    """There is a browser to open the lessons and the projector's pages in."""
    found = next((name for name in BROWSERS if which(name)), None)
    if found is None and which is shutil.which:
        try:
            found = webbrowser.get().name
        except webbrowser.Error:
            found = "the system's" if sys.platform in ("win32", "darwin") else None
    if found:
        return [Finding("browser", True, f"{Path(found).name} opens the pages")]
    todo = "install Firefox or Chromium, or open the printed addresses on another computer."
    return [Finding("browser", False, "none is found on this computer", todo)]


def check_ports(free: Callable[[int], bool] | None = None) -> list[Finding]:
    """The ports that the course serves on are free."""
    if free is None:
        from mbm_lab import lab

        free = lab.is_free
    taken = [port for port in PORTS if not free(port)]
    if not taken:
        return [Finding("ports", True, f"{' and '.join(map(str, PORTS))} are free")]
    return [
        Finding(
            "ports", None, f"{port} is in use, where {PORTS[port]} would be",
            "end the program there (an old server?), or name another port with --port.",
        )
        for port in taken
    ]  # fmt: skip


def check_views(folder: Path | None = None, notebooks: Path = lessons.NOTEBOOKS) -> list[Finding]:
    """The slides, the notebooks and the site are built, from the lessons as they are now."""
    folder = place.COURSE / "build" / "workshop" if folder is None else folder
    todo = "build them: `make workshop` (a few minutes)."
    if place.INSTALLED and not folder.is_dir():
        says = "not here: slides and site are built from a clone of the course"
        return [Finding("views", None, says, "clone the course, and run `make workshop` there.")]
    pages = [path for path in folder.rglob("*") if path.suffix in (".html", ".ipynb")]
    if not pages:
        return [Finding("views", None, f"slides and site are not built in {folder}", todo)]
    built = min(path.stat().st_mtime for path in pages)
    courses = lessons.course_lessons(notebooks)
    newer = [one.stem[:2] for one in courses if one.stat().st_mtime > built]
    if newer:
        says = f"older than lesson {', '.join(newer)}"
        return [Finding("views", None, says, todo)]
    made = {path.stem for path in pages}
    missing = [one.stem[:2] for one in courses if one.stem not in made]
    if missing:
        return [Finding("views", None, f"without lesson {', '.join(missing)}", todo)]
    return [Finding("views", True, f"{len(pages)} pages, newer than the lessons")]


def check_network(address: str | None = "unknown") -> list[Finding]:
    """Whether this computer is in a network, and its address there. Both are in order: the course
    needs no network, but a server for others does."""
    if address == "unknown":
        from mbm_lab import lab

        address = lab.own_address()
    if address is None:
        says = "none: lessons need none; a server or a poll for others does"
        return [Finding("network", True, says)]
    return [Finding("network", True, f"this computer is {address} in it")]


def check_stick(folder: Path) -> list[Finding]:
    """A stick that `make stick` has made is complete: every file is there, and whole."""
    todo = "make it again: `make stick STICK=folder`."
    try:
        contents = json.loads((folder / "contents.json").read_text(encoding="utf-8"))
        files, targets = dict(contents["files"]), list(contents["targets"])
        version = contents["course"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        says = f"{folder} is no complete stick: its contents.json is missing or damaged"
        return [Finding("stick", False, says, todo)]
    wrong = [
        name for name, size in files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]  # fmt: skip
    if wrong:
        says = f"{wrong[0]} is missing or was not copied whole ({len(wrong)} of {len(files)} files)"
        return [Finding("stick", False, says, todo)]
    from mbm_lab import __version__

    if version != __version__:
        says = f"it holds the course {version}, and this one is {__version__}"
        return [Finding("stick", None, says, todo)]
    return [Finding("stick", True, f"complete, for {', '.join(targets)}")]
