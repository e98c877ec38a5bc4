"""A folder for a USB stick, with all that a room without network needs: `make stick STICK=folder`.

    course/        the course as a folder: what git has, without anybody's own lessons
    wheels/        the course as a package, and all packages that learners need
    workshop/      the four views, if `make workshop` has built them
    install.py     what a learner runs: `python install.py`
    contents.json  what is there; written last, so that a stick without it is not complete

Packages are fetched for other systems than this one, too. PyTorch for Linux comes from PyTorch's
own index, in its small form for computers without a graphics card, or from a folder that is named.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from mbm_lab import __version__, atomic, doctor, place

MARKER = ".made-by-make-stick"
"""A file in a folder that this command has made: such a folder may be completed, no other."""

TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch for Linux without its part for graphics cards, which takes gigabytes."""

FOR_GRAPHICS_CARDS = ("nvidia-", "cuda-", "triton")
"""Packages that only the large PyTorch needs."""

AS_SOURCE = ("jieba",)
"""Packages that no index has as a wheel. They are Python alone, so one built here suits all."""

LINUX = [f"manylinux_2_{minor}_x86_64" for minor in (28, 27, 26, 24, 17, 12, 5)]
LINUX += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]


class System(NamedTuple):
    """A kind of computer. uv: its name for uv; platforms: the names of its wheels for pip."""

    uv: str
    platforms: list[str]


SYSTEMS = {
    "linux-x86_64": System("x86_64-manylinux_2_28", LINUX),
    "windows-amd64": System("x86_64-pc-windows-msvc", ["win_amd64"]),
    "darwin-arm64": System("aarch64-apple-darwin", ["macosx_14_0_arm64", "macosx_14_0_universal2"]),
}
"""By the names that `install.py` gives them."""

PYTHONS = [f"3.{minor}" for minor in range(doctor.OLDEST_PYTHON[1], doctor.NEWEST_PYTHON[1] + 1)]


def write(
    folder: str | Path,
    systems: list[str],
    pythons: list[str],
    torch: str = TORCH_INDEX,
    views: Path = place.COURSE / "build" / "workshop",
) -> Path:
    """Puts everything into a folder; one that was left half done is completed.

    systems, pythons: those of the learners ("windows-amd64", "3.12"). torch: where PyTorch for
    Linux comes from: the address of an index, or a folder with the file. Raises FileExistsError
    when the folder holds something else, ValueError when a package cannot be had.
    """
    folder = prepare(Path(folder))
    print("The course ...", flush=True)
    copy_course(folder / "course")
    if views.is_dir():
        shutil.copytree(views, folder / "workshop", dirs_exist_ok=True)
    else:
        print("The views are not built, so they are left out: `make workshop` builds them.")
    build_course(folder / "course", folder / "wheels")
    targets = {}
    for system in systems:
        for python in pythons:
            print(f"Packages for {system}, Python {python} ...", flush=True)
            asked = locked(system, python)
            targets[f"{system}/{python}"] = fetch(folder, system, python, asked, torch)
    write_contents(folder, targets)
    return folder


def prepare(folder: Path) -> Path:
    """Makes the folder, or finds it as this command left it. Raises FileExistsError when it holds
    something else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARKER).exists():
        raise FileExistsError(
            f"{folder} is not empty, and this command has not made what is in it: name a new one."
        )
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()
    (folder / "contents.json").unlink(missing_ok=True)
    return folder


# The course


def copy_course(to: Path) -> None:
    """Copies the files that git has: nobody's own lessons, and no history. Raises ValueError where
    the course was not got with git."""
    command = ["git", "ls-files", "-z"]
    done = subprocess.run(command, cwd=place.COURSE, capture_output=True, text=True)
    if done.returncode:
        raise ValueError(
            f"A stick is made from a clone of the course, and {place.COURSE} is none: get one with "
            "git."
        )
    for name in filter(None, done.stdout.split("\0")):
        source = place.COURSE / name
        if source.is_file():  # one that was deleted is still known to git
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, to / name)


def build_course(course: Path, wheels: Path) -> None:
    """Builds the course's own package, from a copy that may be written into."""
    for old in wheels.glob("mbm_lab-*.whl"):
        old.unlink()
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch, "course")
        shutil.copytree(course, copy)
        _pip("wheel", "--no-deps", "--wheel-dir", str(wheels), str(copy))


# The packages of others


def locked(system: str, python: str) -> list[str]:
    """The packages that a learner needs there, as `name==version`, at the course's versions."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header"]
    command += ["--no-annotate", "--python-platform", SYSTEMS[system].uv]
    command += ["--python-version", python, "-c", str(place.COURSE / "constraints.txt")]
    oldest = {"MACOSX_DEPLOYMENT_TARGET": "14.0"}  # of the Macs for which there is a PyTorch
    done = subprocess.run(
        [*command, str(place.COURSE / "pyproject.toml")],
        env=os.environ | oldest, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise ValueError(
            f"uv finds no packages for {system}, Python {python}: name another Python or system.\n"
            f"{done.stderr}"
        )
    lines = [line.partition(";")[0].strip() for line in done.stdout.splitlines()]
    return [one for one in lines if one and not one.startswith((*FOR_GRAPHICS_CARDS, "#"))]


def fetch(
    folder: Path, system: str, python: str, asked: list[str], torch: str, *options: str
) -> list[str]:
    """Fetches packages for a system and a Python into the stick; returns their files' names, the
    course's own among them.

    asked: as `locked` returns them; options: more for pip. Raises ValueError when one cannot be
    had.
    """
    wheels = folder / "wheels"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        binary = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
        for name in SYSTEMS[system].platforms:
            binary += ["--platform", name]
        into = ["download", "--no-deps", "--dest", scratch, *options]
        by_name = {doctor.package_name(one): one for one in asked}
        source = [by_name.pop(name) for name in AS_SOURCE if name in by_name]
        if system.startswith("linux") and "torch" in by_name:
            where = ["--index-url", torch] if "://" in torch else ["--find-links", torch]
            where += [] if "://" in torch else ["--no-index"]
            _pip(*into, *binary, *where, by_name.pop("torch"))
        if by_name:
            _pip(*into, *binary, *by_name.values())
        for one in source:
            _pip("wheel", "--no-deps", "--wheel-dir", scratch, *options, one)
        got = sorted(path.name for path in Path(scratch).glob("*.whl"))
        for name in got:
            if not (wheels / name).exists():
                os.replace(Path(scratch, name), wheels / name)
    return got + [path.name for path in wheels.glob("mbm_lab-*.whl")]


def _pip(*arguments: str) -> None:
    """Runs pip; raises ValueError with its own last words when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        said = errors[-1] if errors else done.stderr.strip()
        raise ValueError(
            f"A package cannot be had: connect this computer to the internet, and try again. pip "
            f"says: “{said}”."
        )


# What a learner runs


def write_contents(folder: Path, targets: dict[str, list[str]]) -> None:
    """Adds what the learner runs and reads, and writes down all that is there: the last step.

    targets: {"linux-x86_64/3.11": names of files in wheels}.
    """
    shutil.copy(Path(__file__).with_name("install.py"), folder)
    (folder / "README.txt").write_text(START, encoding="utf-8")
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    needs = {}
    for target, names in targets.items():
        system = target.partition("/")[0]
        unpacked = sum(_unpacked(folder / "wheels" / name) for name in names)
        needs[system] = max(needs.get(system, 0), int(1.2 * unpacked) + 100_000_000)
    contents = {"course": __version__, "targets": targets, "bytes": needs, "files": sizes}
    text = json.dumps(contents, indent=1) + "\n"
    atomic.write_whole(
        folder / "contents.json", lambda part: part.write_text(text, encoding="utf-8")
    )


START = """MBM Lab, without a network

Copy this folder to your computer, or leave it on the stick. Open a terminal in it and type

    python install.py

(on Linux and macOS: python3 install.py; on Windows also: py install.py). It installs the course
into the folder mbm-lab in your home folder and opens the lessons in your browser. To install into
another folder: python install.py FOLDER

Nothing is fetched from the internet, and nothing outside of that folder is changed.

Without Python: open workshop/index.html in a browser, to read.
"""


def _unpacked(wheel: Path) -> int:
    """The bytes of a package when it is installed."""
    with zipfile.ZipFile(wheel) as file:
        return sum(one.file_size for one in file.infolist())


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="workshop.stick", description=__doc__.splitlines()[0])
    parser.add_argument("folder", metavar="FOLDER", help="a new folder, or an empty stick")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    parser.add_argument("--pythons", nargs="+", choices=PYTHONS, default=PYTHONS)
    parser.add_argument(
        "--torch", default=TORCH_INDEX, metavar="PLACE",
        help="where PyTorch for Linux comes from: an index, or a folder (%(default)s)",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    try:
        folder = write(options.folder, options.systems, options.pythons, options.torch)
    except (ValueError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError) and error.strerror:
            where = error.filename or options.folder
            said = f"{where} cannot be written ({error.strerror}): make room, or name another."
        print(f"make stick: {said}", file=sys.stderr)
        return 2
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder} is complete: {size / 1e9:.1f} GB. Learners run `python install.py` in it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
