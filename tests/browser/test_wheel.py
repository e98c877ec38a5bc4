"""The course as one installed package: built, installed into an environment of its own, used."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from mbm_lab import lab, place
from tests.browser.jupyter import code_cells, eventually, run_all

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="lends the packages by links"),
]

MEGABYTES = 40


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the course's files."""
    folder = tmp_path_factory.mktemp("build")
    for name in ("mbm_lab", "notebooks", "data"):
        ignore = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        shutil.copytree(place.COURSE / name, folder / name, ignore=ignore)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(place.COURSE / name, folder)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*command, "--no-deps", "-w", folder / "dist", folder], check=True)
    (built,) = (folder / "dist").iterdir()
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The folder of a fresh Python environment with this wheel. PyTorch and all other packages are
    lent to it by links: the course itself, as it is installed here, is not."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*command, "install", "--quiet", "--no-deps", wheel], check=True)
    site = next(folder.glob("lib/python*/site-packages"))
    lent = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "lent.pth").write_text("\n".join(lent) + "\n")
    for name in ("share", "etc"):  # JupyterLab's own files
        if (Path(sys.prefix) / name).is_dir():
            (folder / name).symlink_to(Path(sys.prefix) / name, target_is_directory=True)
    return folder


def run(environment, folder, *command):
    """What a program of the environment prints, run in a folder outside of the repository."""
    program, *rest = command
    done = subprocess.run(
        [environment / "bin" / program, *rest], cwd=folder, env=surroundings(folder),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def surroundings(folder):
    """Environment variables as of somebody whose home is this folder."""
    unwanted = ("PYTHONPATH", "MBM_HOME", "MBM_PROGRESS")
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "HOME": str(folder), "PYTHONUNBUFFERED": "1"}


def test_the_wheel_is_small_and_holds_the_course_and_nothing_else(wheel):
    assert wheel.stat().st_size < MEGABYTES * 1e6
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in ("notebooks/*.ipynb", "notebooks/*.md", "data/**/*"):
        there = [path for path in place.COURSE.glob(part) if path.is_file()]
        course = {f"mbm_lab/course/{path.relative_to(place.COURSE).as_posix()}" for path in there}
        assert course
        assert course <= names
    assert not [name for name in names if re.search("my_lessons|tests/|__pycache__", name)]


def test_the_course_unfolds_and_lesson_00_runs_in_jupyterlab(
    environment, open_page, watched, tmp_path
):
    mine = tmp_path / "my workshop"
    (mine / "my_lessons").mkdir(parents=True)
    (mine / "my_lessons" / "04_fusion.ipynb").write_text("mine")  # is not a lesson, and stays
    command = [environment / "bin" / "mbm-lab", "lab", mine, "--no-browser"]
    server = subprocess.Popen(
        [*command, "--port", str(lab.free_port())], cwd=tmp_path, env=surroundings(tmp_path),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = ""
        for line in server.stdout:
            said += line
            if "Ctrl+C" in line:
                break
        assert f"Your folder is {mine}." in said
        assert "Checked: everything is as it should be." in said, said
        page = watched(open_page(re.search(r"http://\S+", said)[0]))
        run_all(page, cells=len(code_cells(mine / "my_lessons" / "00_welcome.ipynb")))
        picture = page.locator(".jp-MarkdownOutput img").first
        eventually(page, lambda: picture.evaluate("one => one.naturalWidth") > 0)
    finally:
        server.terminate()
        server.communicate(timeout=60)
    assert (mine / "my_lessons" / "04_fusion.ipynb").read_text() == "mine"
    assert "05" in run(environment, mine / "my_lessons", "mbm-lab", "lessons")
    assert not (tmp_path / "mbm-lab").exists()
    exercises = run(environment, mine, "mbm-lab", "exercises")
    assert str(mine / "my_lessons" / "progress.json") in " ".join(exercises.split())


def test_lesson_04_and_its_modules_tests_pass_outside_of_the_repository(environment, tmp_path):
    course = next(environment.glob("lib/python*/site-packages/mbm_lab/course"))
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "approx.py", "conftest.py", "test_fusion.py"):
        shutil.copy(place.COURSE / "tests" / name, tmp_path / "tests")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    lesson = course / "notebooks" / "04_fusion.ipynb"
    said = run(
        environment, tmp_path, "python", "-m", "pytest", "-q", "-p", "tests.approx",
        "-p", "no:cacheprovider", "-m", "not slow", "--rootdir", tmp_path, "-c", "pytest.ini",
        "--nbval", "--nbval-current-env", "--nbval-cell-timeout=120",
        "tests/test_fusion.py", lesson,
    )  # fmt: skip
    assert re.search(r"\d{2,} passed", said), said
    assert str(course.parent) in run(
        environment, tmp_path, "python", "-c", "import mbm_lab; print(mbm_lab.__file__)"
    )
