"""What several test files use."""

import os

import pytest
import torch
from hypothesis import settings

# Property tests try the same examples everywhere, however slow the computer, and store none.
settings.register_profile("course", derandomize=True, deadline=None, max_examples=50, database=None)
settings.load_profile("course")


@pytest.fixture(scope="session", autouse=True)
def no_power_cuts():
    """No test cuts the power, so none waits for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture
def said(capsys, tmp_path, monkeypatch):
    """What the check of an exercise prints of an answer, as one line of words.

    Progress goes into a file of this test alone.
    """
    monkeypatch.setenv("MBM_PROGRESS", str(tmp_path / "progress.json"))

    def check(exercise, answer) -> str:
        capsys.readouterr()
        exercise.check(answer)
        return " ".join(capsys.readouterr().out.split())

    return check


@pytest.fixture
def on_one_thread(monkeypatch):
    """Training is compared bit for bit, on the CPU."""
    monkeypatch.setenv("MBM_DEVICE", "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


LONGEST = ("test_solved_course.py", "12_real_data.ipynb", ".ipynb", "test_devices.py", "browser")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that several workers end at about the same time."""

    def place(item):
        return next((i for i, name in enumerate(LONGEST) if name in str(item.path)), len(LONGEST))

    items.sort(key=place)
