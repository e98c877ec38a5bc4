"""needs.py: cells that run only where their data, or a package, are."""

import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell

from mbm_lab import lessons, needs


@pytest.fixture
def shell(tmp_path, monkeypatch):
    """A notebook's shell that knows %%needs, and a home without data sets."""
    monkeypatch.setenv("MBM_DATA_HOME", str(tmp_path))
    shell = InteractiveShell()
    needs.load_ipython_extension(shell)
    return shell


def have_recordings(home):
    (home / "fsdd" / "recordings").mkdir(parents=True)
    (home / "fsdd" / "recordings" / "0_theo_0.wav").touch()


def test_a_cell_without_its_data_tells_once_how_to_get_them(shell, capsys):
    assert shell.run_cell_magic("needs", "fsdd mnist", "x = 1") is None
    assert capsys.readouterr().out.splitlines() == [
        "Cells that need fsdd are passed over; to have it, type `mbm-lab data get fsdd` in a "
        "terminal (20 MB).",
        "Cells that need mnist are passed over; to have it, type `mbm-lab data get mnist` in a "
        "terminal (12 MB).",
    ]
    shell.run_cell_magic("needs", "mnist", "x = 1")
    assert capsys.readouterr().out == ""
    assert "x" not in shell.user_ns


def test_a_cell_with_its_data_runs_as_any_other(shell, tmp_path, capsys):
    have_recordings(tmp_path)
    shell.user_ns["y"] = 20
    assert shell.run_cell_magic("needs", "fsdd", "x = y + 1\nprint('now')\nx * 2") == 42
    assert capsys.readouterr().out == "now\n"
    assert shell.user_ns["x"] == 21
    assert shell.run_cell_magic("needs", "fsdd", "x = 5") is None
    with pytest.raises(ZeroDivisionError):
        shell.run_cell_magic("needs", "fsdd", "1 / 0")
    with pytest.raises(ValueError, match='no data set "imagenet"'):
        shell.run_cell_magic("needs", "imagenet", "x = 6")


def test_a_cell_that_needs_a_package_runs_only_where_it_is(shell, capsys, monkeypatch):
    monkeypatch.setitem(lessons.PACKAGES, "torch", "run `%pip install torch`")
    assert shell.run_cell_magic("needs", "torch", "1 + 1") == 2
    monkeypatch.setitem(sys.modules, "keras", None)  # as if it were not installed
    assert shell.run_cell_magic("needs", "torch keras", "x = 1") is None
    shell.run_cell_magic("needs", "keras", "x = 1")
    assert "x" not in shell.user_ns
    assert capsys.readouterr().out == (
        "Cells that need keras are passed over; to have it, run `%pip install keras` in a cell, "
        "and then this notebook from the top.\n"
    )
    assert lessons.missing_data("%%needs keras torch fsdd\nx") == ["keras", "fsdd"]
