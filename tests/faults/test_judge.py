"""The campaign can fail: each way to end badly is seen when it is planted on purpose."""

import os
import random
import re
import shutil
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from mbm_lab import atomic, place, stored
from tests import faults
from tests.faults import Fault, __main__, conftest


def outcome(folder: Path, act, limit: float = 5, **of_fault) -> str:
    ended = faults.plant(Fault("judge", "planted", act, **of_fault), folder, limit)
    return ended.outcome


def raising(error: Exception, name: str = "planted.py"):
    """An action in which a module of the course raises this error."""
    line = compile("def act(_): raise error", str(place.PACKAGE / name), "exec")
    space = {"error": error}
    exec(line, space)
    return space["act"]


GOOD = "The rate is -1: give one above 0."


def test_a_sentence_with_value_and_cure_is_one(tmp_path):
    def act(folder):
        stored.load_weights(torch.nn.Linear(1, 1), folder / "none.safetensors")

    assert outcome(tmp_path, act, names=("none.safetensors",)) == "sentence"


@pytest.mark.parametrize("wrong", ["", " and then", ": [Errno 28]", " of NoneType.", " a\nb."])
def test_a_half_sentence_and_a_programmers_words_are_raw(tmp_path, wrong):
    assert outcome(tmp_path, raising(ValueError(GOOD + wrong))) == (
        "raw error" if wrong else "sentence"
    )


BAD = {
    "raised elsewhere": lambda _: torch.zeros(2) @ torch.zeros(3),
    "raised in this file": lambda _: (_ for _ in ()).throw(ValueError(GOOD)),
    "raised by Python in a line of the course": lambda folder: atomic.write_whole(None, print),
    "of another kind": raising(KeyError("rate")),
    "an assertion": raising(AssertionError(GOOD)),
    "700 letters and more": raising(ValueError("Give it. " * 80)),
    "ends the program": lambda _: exit(3),
    "another package's warning": lambda _: warnings.warn_explicit(
        "Please ensure the sizes agree.", UserWarning, "torch/loss.py", 1
    ),
    "another command's words": lambda _: (_ for _ in ()).throw(faults.Said(GOOD)),
}


@pytest.mark.parametrize("act", BAD.values(), ids=BAD)
def test_what_is_no_sentence_of_the_course_is_raw(tmp_path, act):
    assert outcome(tmp_path, act, right=lambda _: True) == "raw error"


def test_a_result_is_right_only_where_it_is_said_to_be(tmp_path_factory):
    for right, wanted in ((None, "silently wrong"), (lambda r: r == 4, "silently wrong"),
                          (lambda r: r == 3, "right")):  # fmt: skip
        assert outcome(tmp_path_factory.mktemp("a"), lambda _: 3, right=right) == wanted


def test_a_sentence_names_the_value_and_says_what_to_do(tmp_path_factory):
    for said, names in (
        (GOOD, ("-2",)), ("The rate is -1.", ("-1",)),
        ("It cannot be made that it is running.", ()), ("The load of -1 failed to open.", ()),
    ):  # fmt: skip
        act = raising(ValueError(said))
        assert outcome(tmp_path_factory.mktemp("a"), act, names=names) == "no cure", said


def _with(harm):
    """An action that does harm, and then says the best of sentences."""

    def act(folder):
        harm(folder)
        raising(ValueError(GOOD))(folder)

    return act


LOSSES = {
    "removed": lambda folder: (folder / "notes.txt").unlink(),
    "changed": lambda folder: (folder / "state.pt.old").write_bytes(b""),
    "removed in a folder within": lambda folder: shutil.rmtree(folder / ".older"),
    "changed through a link": lambda folder: (folder / ".linked").write_text("x"),
    "a link removed": lambda folder: (folder / ".linked").unlink(),
    "removed outside": lambda folder: (folder.parent / "last_epoch_0001.safetensors").unlink(),
    "changed at home": lambda _: Path("~/letter.txt").expanduser().write_text("x"),
    "renamed": lambda folder: (folder / "notes.txt").rename(folder / "notes.md"),
    "written far away": lambda _: _write_far_away(),
}


def _write_far_away():
    with open(Path(__file__).with_name("planted.txt"), "w"):
        pass
    Path(__file__).with_name("planted.txt").unlink()


@pytest.mark.parametrize("harm", LOSSES.values(), ids=LOSSES)
def test_what_was_the_users_is_missed(tmp_path, harm):
    assert outcome(tmp_path, _with(harm)) == "lost"


def test_what_is_the_actions_own_may_change(tmp_path):
    act = _with(LOSSES["removed"])
    assert outcome(tmp_path, act, own=(r"notes\..*",)) == "sentence"


def test_a_file_planted_for_the_fault_is_the_users_too(tmp_path):
    act = _with(lambda folder: (folder / "mine").write_text("b"))
    assert outcome(tmp_path, act, plant=lambda folder: (folder / "mine").touch()) == "lost"


@pytest.mark.parametrize("name", ["a.txt.7.part", ".a-x1", "../a", "~/a", "$TMPDIR/a"])
def test_remains_are_seen(tmp_path, name):
    act = _with(lambda _: Path(os.path.expandvars(os.path.expanduser(name))).touch())
    assert outcome(tmp_path, act) == "left behind"


def test_half_a_file_under_its_name_is_seen_where_nothing_may_be_new(tmp_path_factory):
    act = _with(lambda folder: (folder / "words.json").write_text("[half"))
    assert outcome(tmp_path_factory.mktemp("a"), act) == "sentence"
    assert outcome(tmp_path_factory.mktemp("a"), act, nothing_new=True) == "left behind"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders, and no alarm")
def test_what_does_not_end_is_stopped(tmp_path_factory):
    def pipe(folder):
        os.mkfifo(folder / "rows.csv")

    def waits(folder):
        (folder / "rows.csv").read_text()

    assert outcome(tmp_path_factory.mktemp("a"), waits, limit=0.2, plant=pipe) == "hung"
    assert outcome(tmp_path_factory.mktemp("a"), _sleep_on, limit=0.2) == "hung"


def _sleep_on(_):
    for _ in range(100):
        try:
            time.sleep(10)
        except Exception:
            pass


def test_afterwards_everything_is_as_it_was(tmp_path, capsys):
    def state():
        return (
            os.getcwd(), dict(os.environ), tempfile.gettempdir(), random.getstate(),
            torch.get_rng_state().tolist(), torch.get_num_threads(), torch.get_default_dtype(),
        )  # fmt: skip

    def act(folder):
        print("not for the table")
        os.environ["MBM_DEVICE"] = "none"
        os.environ.pop("HOME")
        os.chdir("/")
        random.random(), torch.rand(3), torch.set_num_threads(3)
        torch.set_default_dtype(torch.float64)

    before = state()
    outcome(tmp_path, act)
    assert state() == before
    assert capsys.readouterr() == ("", "")


def test_every_fault_begins_with_the_same_random_numbers(tmp_path_factory):
    drawn = []
    for _ in range(2):
        outcome(
            tmp_path_factory.mktemp("a"),
            lambda _: drawn.append((random.random(), torch.rand(1).item())),
        )
    assert drawn[0] == drawn[1]


def test_a_commands_error_is_judged_without_its_name(tmp_path_factory):
    for words, names, wanted in (
        (("data", "path", "nothing"), ("nothing",), "sentence"),
        (("data", "check", "nowhere"), ("nowhere",), "sentence"),
        (("bench", "fastest"), ("fastest",), "sentence"),
        (("bench", "fastest"), ("slowest",), "no cure"),
    ):
        run = partial(lambda words, _: faults.command(*words), words)
        assert outcome(tmp_path_factory.mktemp("a"), run, names=names) == wanted, words


def test_the_table_counts_each_outcome_and_ends_with_the_sum():
    counts = __main__.counted(
        [("files", one) for one in faults.OUTCOMES] + [("kills", "sentence")] * 2
    )
    table = __main__.table(counts)
    assert [re.findall(r"\d+", line) for line in table.splitlines()[2:]] == [
        list("8" + "1" * 8), list("22") + ["0"] * 7, ["10", "3", *"1" * 7],
    ]  # fmt: skip


def test_the_names_of_tests_are_plain_and_the_same_everywhere():
    assert conftest.short("files: é::\n" + "x" * 200).isascii()
    assert "\n" not in conftest.short("a\nb")
    assert len(conftest.short("x" * 200)) == 120


def test_every_fault_is_a_test_and_the_table_of_contributing_counts_them_all():
    """`python -m tests.faults --write` renews the table."""
    stands = __main__.written()
    counts = __main__.counted((fault.kind, "") for fault in faults.campaign(0))
    assert {kind: row[0] for kind, row in stands.items()} == {
        **{kind: count.total() for kind, count in counts.items()},
        "all": sum(count.total() for count in counts.values()),
    }
    for kind, (planted, sentence, right, *bad) in stands.items():
        assert (sentence + right, sum(bad)) == (planted, 0), kind


def test_random_faults_are_others_with_another_seed_and_the_same_with_one():
    first, again, other = ([fault.what for fault in faults.campaign(seed)] for seed in (0, 0, 7))
    assert first == again
    assert len(first) == len(set(zip((f.kind for f in faults.campaign()), first, strict=True)))
    assert other  # the fixed ones are the same
