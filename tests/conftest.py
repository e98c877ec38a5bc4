"""What several test files use."""

import pytest


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
