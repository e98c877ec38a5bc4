"""beside: a folder takes its place whole or not at all, and nothing stays beside."""

import os
import signal
import subprocess
import sys

import pytest

from mbm_lab import beside

KILLED = """
import sys, time
from mbm_lab import beside
with beside.folder(sys.argv[1]) as made:
    (made / "half").write_text("half of it")
    print(made.name, flush=True)
    time.sleep(60)
"""


def test_the_folder_is_gone_afterwards_whatever_happens(tmp_path):
    with beside.folder(tmp_path / "set") as made:
        assert made.parent == tmp_path
        (made / "whole").mkdir()
        (made / "whole").rename(tmp_path / "set")

    def fail():
        with beside.folder(tmp_path / "set") as made:
            (made / "a file").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    place = tmp_path / "set"
    mine = [tmp_path / name for name in (".set-notes", ".set-here-12-", "set-1")]
    for folder in mine:
        folder.mkdir()
    running = subprocess.Popen([sys.executable, "-c", KILLED, place], stdout=subprocess.PIPE)
    left = tmp_path / running.stdout.readline().decode().strip()
    with beside.folder(place):
        assert (left / "half").exists(), "the other run goes on"
    running.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)
    running.wait()
    running.stdout.close()
    assert (left / "half").exists()
    with beside.folder(place):
        assert not left.exists() or os.name == "nt"
    assert all(folder.is_dir() for folder in mine)
