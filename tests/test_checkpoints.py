"""checkpoints.py: a run that is cut off goes on as if nothing had happened."""

import copy
import errno
import os
import tempfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mbm_lab import atomic, stored, training
from tests.small_runs import (
    MSE,
    PowerCut,
    contents,
    cut_after,
    same,
    small_model,
    small_task,
    train,
)

pytestmark = pytest.mark.usefixtures("on_one_thread")


@pytest.mark.parametrize("options", [{}, {"one_cycle": True}, {"patience": 4}])
def test_a_power_cut_costs_nothing(tmp_path, options):
    """Cut in epoch 4 of 6, resumed in a new model: every weight as if nothing had happened."""
    whole, cut, resumed = small_model(), small_model(), small_model(seed=9)
    expected = train(whole, **options)
    (x, y), val = small_task(), small_task(50, 1)
    rest = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "progress": False, **options}
    with pytest.raises(PowerCut):  # 7 batches and one look at the validation cards an epoch
        training.fit(cut, x, y, cut_after(27), val=val, checkpoint=tmp_path, **rest)
    torch.rand(5)  # other things happen in between
    history = train(resumed, checkpoint=tmp_path, resume=True, **options)
    assert same(whole, resumed)
    assert history.train_loss == expected.train_loss
    assert history.val_loss == expected.val_loss
    assert history.best_epoch == expected.best_epoch


@given(
    batches=st.integers(1, 47),
    one_cycle=st.booleans(),
    patience=st.sampled_from([None, 2, 9]),
    optimizer=st.sampled_from([torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop]),
)
@settings(max_examples=25)
def test_a_run_that_is_cut_anywhere_and_resumed_has_the_same_bits(
    batches, one_cycle, patience, optimizer
):
    """Cut at any look at the model, in training or validation, in any epoch, then resumed."""
    options = {"one_cycle": one_cycle, "patience": patience, "optimizer": optimizer}
    whole, cut, resumed = small_model(), small_model(), small_model(seed=9)
    expected = train(whole, **options)
    with tempfile.TemporaryDirectory() as folder:
        (x, y), val = small_task(), small_task(50, 1)
        rest = {"epochs": 6, "batch_size": 16, "learning_rate": 0.01, "progress": False, **options}
        try:
            training.fit(cut, x, y, cut_after(batches), val=val, checkpoint=folder, **rest)
        except PowerCut:
            begun = os.path.exists(os.path.join(folder, "state.pt"))
            resumed = resumed if begun else small_model()  # a run without a checkpoint starts anew
            history = train(resumed, checkpoint=folder, resume=begun, **options)
        else:  # early stopping came before the cut
            history = train(resumed, checkpoint=folder, resume=True, **options)
    assert same(whole, resumed)
    assert history.train_loss == expected.train_loss
    assert history.val_loss == expected.val_loss


def test_resuming_a_run_that_is_over_trains_no_more(tmp_path):
    model, again = small_model(), small_model(seed=9)
    history = train(model, checkpoint=tmp_path)
    assert train(again, checkpoint=tmp_path, resume=True).train_loss == history.train_loss
    assert same(model, again)


def test_resume_after_early_stopping(tmp_path):
    """A stopped run stays stopped, on its best weights; with more patience it goes on."""
    x, y = small_task()
    options = {"val": (x, -y), "batch_size": 16, "progress": False, "checkpoint": tmp_path}
    stopped, again, patient = small_model(), small_model(seed=9), small_model(seed=9)
    first = training.fit(stopped, x, y, MSE, epochs=9, patience=2, **options)
    second = training.fit(again, x, y, MSE, epochs=9, patience=2, resume=True, **options)
    assert second.val_loss == first.val_loss
    assert len(second.val_loss) == 3
    assert same(stopped, again)
    third = training.fit(patient, x, y, MSE, epochs=9, patience=4, resume=True, **options)
    assert len(third.val_loss) == 5
    assert third.val_loss[:3] == first.val_loss


def test_a_run_is_not_overwritten_unasked(tmp_path):
    train(small_model(), checkpoint=tmp_path)
    before = contents(tmp_path)
    model = small_model(seed=3)
    untouched = copy.deepcopy(model)
    with pytest.raises(FileExistsError, match="pass resume=True to go on with that run, or name"):
        train(model, checkpoint=tmp_path)
    assert contents(tmp_path) == before
    assert same(model, untouched)


def test_a_checkpoint_is_three_files(tmp_path):
    history = train(small_model(), checkpoint=tmp_path / "run")
    best = f"best_epoch_{history.best_epoch + 1:04}.safetensors"
    names = {best, "last_epoch_0006.safetensors", "state.pt"}
    assert set(contents(tmp_path / "run")) == names
    stored.load_weights(small_model(), tmp_path / "run" / best)


def test_a_checkpoint_of_another_model_or_run(tmp_path):
    train(small_model(), checkpoint=tmp_path)
    wide = small_model(hidden=9)
    untouched = copy.deepcopy(wide)
    with pytest.raises(ValueError, match='another model than this Sequential: they differ at "0.b'):
        train(wide, checkpoint=tmp_path, resume=True)
    assert same(wide, untouched)
    with pytest.raises(ValueError, match="its batch_size is 16, not 20"):
        train(small_model(), checkpoint=tmp_path, resume=True, batch_size=20)
    with pytest.raises(ValueError, match="its learning_rate is 0.01, not 0.1"):
        train(small_model(), checkpoint=tmp_path, resume=True, learning_rate=0.1)
    with pytest.raises(FileNotFoundError, match="no checkpoint in"):
        train(small_model(), checkpoint=tmp_path / "nothing", resume=True)
    (tmp_path / "state.pt").write_bytes(b"torn")
    with pytest.raises(ValueError, match="is damaged: start the run anew"):
        train(small_model(), checkpoint=tmp_path, resume=True)


@pytest.mark.parametrize("file", ["last_epoch", "state"])
def test_a_disk_that_fills_up_while_saving_leaves_the_last_checkpoint(tmp_path, monkeypatch, file):
    """The third epoch cannot be saved; the second is whole, and the run goes on from it."""
    whole, resumed = small_model(), small_model(seed=9)
    train(whole)
    replace = os.replace

    def full(source, target):
        name = os.path.basename(target)
        epochs_saved = len(list(tmp_path.glob("last_epoch_0003*"))) > 0
        if name.startswith("last_epoch_0003") if file == "last_epoch" else epochs_saved:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="read-only or full.*what was there before is untouched"):
        train(small_model(), checkpoint=tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob("*.part"))
    history = train(resumed, checkpoint=tmp_path, resume=True)
    assert same(whole, resumed)
    assert len(history.train_loss) == 6
    assert len(list(tmp_path.iterdir())) == 3
