"""place: where the course is, and where the learner's own folder."""

from pathlib import Path

import pytest

from mbm_lab import place


def test_a_downloaded_course_is_its_learners_folder():
    assert not place.INSTALLED
    assert place.home() == place.COURSE
    assert (place.COURSE / "pyproject.toml").is_file()


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """As after `pip install`, with a home folder of this test's own."""
    monkeypatch.setattr(place, "INSTALLED", True)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


def test_an_installed_course_has_its_folder_in_the_home_folder(installed):
    assert place.home(here=installed / "elsewhere") == installed / "mbm-lab"


def test_a_named_folder_counts_most(installed):
    (installed / "mine" / "my_lessons" / ".course").mkdir(parents=True)
    assert place.home("~/other", here=installed / "mine") == installed / "other"
    assert place.home("here").is_absolute()


def test_inside_a_folder_with_lessons_it_is_this_one(installed):
    mine = installed / "mine"
    (mine / "my_lessons" / ".course").mkdir(parents=True)
    assert place.home(here=mine) == place.home(here=mine / "my_lessons") == mine
    (installed / "other" / "my_lessons").mkdir(parents=True)  # somebody else's folder of that name
    assert place.home(here=installed / "other") == installed / "mbm-lab"


def test_the_variable_names_it_for_the_lessons_kernels(monkeypatch):
    import subprocess
    import sys

    command = [sys.executable, "-c", "from mbm_lab import place; print(place.HOME)"]
    monkeypatch.setenv("MBM_HOME", "/somewhere/mine")
    done = subprocess.run(command, cwd=place.COURSE, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()) == Path("/somewhere/mine")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [("~/sets", "sets"), ("$HOME/sets", "sets"), ('"~/sets"', "sets"), (" ~ ", ""), ("", None)],
)
def test_a_variable_names_a_place_as_a_shell_would(installed, monkeypatch, said, wanted):
    monkeypatch.setenv("MBM_DATA_HOME", said)
    named = place.named("MBM_DATA_HOME")
    assert named == (None if wanted is None else installed / wanted)


@pytest.mark.parametrize("said", ["sets", "./sets", "~nobody_at_all/sets", "$NOT_SET_AT_ALL/sets"])
def test_a_place_that_depends_on_where_one_is_is_refused(monkeypatch, said):
    monkeypatch.setenv("MBM_DATA_HOME", said)
    with pytest.raises(ValueError, match="MBM_DATA_HOME is .*another place in each folder"):
        place.named("MBM_DATA_HOME")
