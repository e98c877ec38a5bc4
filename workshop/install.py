"""Installs MBM Lab from this folder, without a network: `python install.py`, and nothing else.

    python install.py            into the folder `mbm-lab` in your home folder
    python install.py FOLDER     into another one

It makes a Python environment there, installs the course into it, and opens the lessons. Nothing
outside of that folder is changed. Windows, macOS and Linux; only Python's standard library.
"""

import json
import os
import platform
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OURS = ".installed-by-stick"  # in the learner's folder: the environment there was made by this file


class Trouble(Exception):
    """What is wrong and what to do, in one sentence."""


def main(arguments):
    start = "--no-start" not in arguments
    named = [word for word in arguments if word != "--no-start"]
    if len(named) > 1 or any(word.startswith("-") for word in named):
        print("Usage: python install.py [FOLDER] [--no-start]")
        return 2
    folder = named[0] if named else os.path.join(os.path.expanduser("~"), "mbm-lab")
    folder = os.path.abspath(os.path.expanduser(folder))
    try:
        contents = read_contents(HERE)
        wheels = wheels_for(contents, this_system(), sys.version_info[:2])
        check_files(HERE, contents, wheels)
        program = os.path.join(folder, ".venv", *script("mbm-lab"))
        if not (os.path.exists(os.path.join(folder, OURS)) and os.path.exists(program)):
            check_room(contents, folder, shutil.disk_usage(nearest(folder)).free)
            make_environment(folder)
            install(folder, [os.path.join(HERE, "wheels", name) for name in wheels])
    except Trouble as trouble:
        print(f"This did not work: {trouble}")
        return 1
    print(f"The course is installed in {folder}.")
    print(f"The next time, this is enough: {quoted(program)} lab {quoted(folder)}")
    return subprocess.call([program, "lab", folder]) if start else 0


def quoted(path):
    """A path as one types it."""
    return f'"{path}"' if " " in path else path


def script(name):
    """Where a command of an environment is."""
    return ("Scripts", name + ".exe") if os.name == "nt" else ("bin", name)


def this_system():
    """The system and the processor: linux-x86_64, windows-amd64, darwin-arm64."""
    return f"{platform.system()}-{platform.machine()}".lower()


def read_contents(here):
    """What this folder holds, as `make stick` wrote it down when it was complete."""
    try:
        with open(os.path.join(here, "contents.json"), encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        raise Trouble(
            "the file contents.json beside install.py is missing or damaged, so this folder was "
            "not copied whole: copy the stick again."
        ) from None


def wheels_for(contents, system, version):
    """The names of the packages for this computer."""
    python = "{}.{}".format(*version)
    there = [name.rpartition("/") for name in contents["targets"]]
    pythons = sorted({one for name, _, one in there if name == system}, key=numbers)
    if not pythons:
        systems = ", ".join(sorted({name for name, _, _ in there}))
        raise Trouble(
            f"this stick has no packages for this computer ({system}), only for {systems}: share "
            "a neighbour's screen, or open the page playground.html."
        )
    if python not in pythons:
        word = "old" if numbers(python) < numbers(pythons[0]) else "new"
        raise Trouble(
            "Python {} is too {} for this stick: run install.py with one of Python {} (this one "
            "is {}).".format(python, word, ", ".join(pythons), sys.executable)
        )
    return contents["targets"][f"{system}/{python}"]


def numbers(version):
    return tuple(int(part) for part in version.split("."))


def check_files(here, contents, wheels):
    """Every package is on the stick, as large as it was when the stick was made."""
    for name in wheels:
        path = os.path.join(here, "wheels", name)
        if not os.path.isfile(path):
            raise Trouble(f"the package {name} is missing on this stick: copy the stick again.")
        if os.path.getsize(path) != contents["files"]["wheels/" + name]:
            raise Trouble(f"the package {name} was not copied whole: copy the stick again.")


def nearest(folder):
    """This folder, or the nearest one around it that is already there."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def check_room(contents, folder, free):
    """There is room for the environment."""
    needed = contents["bytes"][this_system()]
    if free < needed:
        raise Trouble(
            f"the disk of {folder} has {free / 1e9:.1f} GB free, and the course needs "
            f"{needed / 1e9:.1f} GB: make room, or name a folder on another disk."
        )


def make_environment(folder):
    """Makes the environment; one that somebody else made is left alone."""
    target, mark = os.path.join(folder, ".venv"), os.path.join(folder, OURS)
    if os.path.exists(target) and not os.path.exists(mark):
        raise Trouble(
            f"there is an environment in {folder} already, which this stick has not made: name "
            "another folder, as in `python install.py FOLDER`."
        )
    print(f"Making an environment in {folder} ...")
    try:
        os.makedirs(folder, exist_ok=True)
        with open(mark, "w", encoding="utf-8"):
            pass
    except OSError as error:
        raise Trouble(
            f"{folder} cannot be written to ({error.strerror}): name another folder, as in "
            "`python install.py FOLDER`."
        ) from None
    command = [sys.executable, "-m", "venv", "--clear", target]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        raise Trouble(
            f"Python could not make an environment in {target}: on Debian and Ubuntu, install "
            f"python3-venv first. It said: “{last_line(done.stdout)}”."
        )


def install(folder, wheels):
    """Installs these files, and nothing from anywhere else."""
    print(f"Installing {len(wheels)} packages; this takes some minutes ...")
    python = os.path.join(folder, ".venv", *script("python"))
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    command += ["--no-index", "--no-deps", "--no-cache-dir"]
    done = subprocess.run(
        command + wheels, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        raise Trouble(
            f"pip could not install the course in {folder}: copy the stick again, or ask the "
            f"instructor. It said: “{last_line(done.stdout)}”."
        )


def last_line(printed):
    lines = printed.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "nothing"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
