"""stored.py: weights in files, models that know themselves, and results."""

import copy
import errno
import os

import pytest
import torch

from mbm_lab import rnn, stored
from tests.small_runs import contents, same, small_model, train

# --- Weights in files


def test_weights_go_to_a_file_and_back(tmp_path):
    model, other = small_model(), small_model(seed=1)
    stored.save_weights(model, tmp_path / "model.safetensors")
    assert stored.load_weights(other, tmp_path / "model.safetensors") is other
    assert same(model, other)
    stored.save_weights(small_model(seed=2), tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_weights_of_another_model_change_nothing(tmp_path):
    path = tmp_path / "model.safetensors"
    stored.save_weights(small_model(hidden=9), path)
    model = small_model()
    untouched = copy.deepcopy(model)
    with pytest.raises(ValueError, match="another model"):
        stored.load_weights(model, path)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        stored.load_weights(model, tmp_path / "nothing.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        stored.load_weights(model, path)
    assert same(model, untouched)


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    stored.save_weights(small_model(), path)
    before = path.read_bytes()

    def full(tensors, target, metadata):
        with open(target, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stored, "save_file", full)
    with pytest.raises(OSError, match="read-only or full") as caught:
        stored.save_weights(small_model(seed=1), path)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == {"model.safetensors": before}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.safetensors"
    stored.save_weights(small_model(), path)
    before = path.read_bytes()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="read-only or full"):
            stored.save_weights(small_model(seed=1), path)
        assert contents(tmp_path) == {"model.safetensors": before}
    finally:
        tmp_path.chmod(0o700)


def test_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match="the folder is missing"):
        stored.save_weights(small_model(), tmp_path / "missing" / "model.safetensors")
    with pytest.raises(OSError, match="Could not"):
        stored.save_weights(small_model(), tmp_path / "file" / "model.safetensors")
    with pytest.raises(OSError, match="Could not make the folder"):
        train(small_model(), checkpoint=tmp_path / "file" / "run")


def test_a_file_of_half_the_size_holds_the_same_model(tmp_path):
    model = rnn.TextEncoder(400, 32)
    half = stored.Model("half", model, {"vocabulary_size": 400, "dim": 32}, None)
    files = [
        stored.save(one, 0, "a test", tmp_path)
        for one in (half, half._replace(name="whole", half=False))
    ]
    assert files[0].stat().st_size < 0.6 * files[1].stat().st_size
    loaded, _ = stored.load("half", folder=tmp_path)
    assert loaded.embedding.weight.dtype == torch.float32
    assert torch.allclose(loaded.embedding.weight, model.embedding.weight, atol=2e-3)
