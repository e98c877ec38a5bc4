"""Several processes train as one: three of them run every case of `several`, once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mbm_lab import workers
from tests import several

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def of_three(tmp_path_factory):
    """What each of three processes has as results, by the case's name."""
    out = tmp_path_factory.mktemp("several")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3",
         "-m", "tests.several", str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}, cwd=ROOT,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [each | {"folder": out / "run_of_3"} for each in torch.load(out / "results.pt")]


def furthest(a: dict, b: dict) -> float:
    """The largest difference of two results, over the weights and losses that both have."""
    shared = [name for name in a if name in b]
    assert len(shared) >= 4
    for name in shared:
        assert a[name].shape == b[name].shape, name
    return max(float((a[n].double() - b[n].double()).abs().max()) for n in shared if a[n].numel())


@pytest.mark.slow
@pytest.mark.parametrize("case", several.SAME, ids=lambda case: case.__name__)
def test_three_processes_end_as_one(case, of_three, tmp_path):
    alone = case(tmp_path)
    for each in of_three:
        assert furthest(alone, each[case.__name__]) < 1e-10


@pytest.mark.slow
def test_the_processes_hold_the_same_bits(of_three):
    for case in (*several.SAME, several.whole, several.own_batch_normalisation):
        first, *others = (each[case.__name__] for each in of_three)
        for other in others:
            assert all(torch.equal(first[name], other[name]) for name in first), case.__name__


@pytest.mark.slow
def test_batch_normalisation_of_each_share_is_something_else(of_three, tmp_path):
    alone = several.own_batch_normalisation(tmp_path)
    assert furthest(alone, of_three[0]["own_batch_normalisation"]) > 1e-4


@pytest.mark.slow
def test_a_resumed_run_of_several_drops_what_it_would_have_dropped(of_three):
    for each in of_three:  # three numbers may be added in another order, so not to the bit
        assert furthest(each["whole"], each["resumed"]) < 1e-12
    assert not torch.allclose(of_three[0]["whole"]["0.weight"], of_three[0]["plain"]["0.weight"])


@pytest.mark.slow
def test_each_example_is_read_once_whatever_the_model_draws(of_three):
    seen = torch.cat([each["read"]["examples"] for each in of_three])
    assert sorted(seen.tolist()) == sorted(3 * list(range(47)))


@pytest.mark.slow
def test_each_process_drops_for_itself(of_three):
    seen = torch.stack([each["dropped"]["left"] for each in of_three])
    assert 0.3 < seen.mean() < 0.7
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


@pytest.mark.slow
def test_in_half_precision_it_learns_nearly_the_same(of_three, tmp_path):
    alone = several.half_precision(tmp_path)
    assert furthest(alone, of_three[0]["half_precision"]) < 0.03
    assert furthest(alone, several.plain(tmp_path)) > 1e-6


@pytest.mark.slow
def test_all_hear_what_process_0_could_not_do(of_three):
    for each in of_three:
        said = bytes(each["refused"]["said"].tolist()).decode()
        assert "already holds a checkpoint" in said
        assert "run_of_3" in said


@pytest.mark.slow
def test_a_layer_that_is_not_used_is_said_in_a_sentence(of_three):
    for each in of_three:
        said = bytes(each["idle"]["said"].tolist()).decode()
        assert said.startswith("Some weights of the model had no part in a step, and 3 processes")


@pytest.mark.slow
def test_a_run_of_three_is_not_gone_on_with_alone(of_three):
    x, y = several.data()
    with pytest.raises(ValueError, match="its number of processes is 3, not 1"):
        several.trained(
            several.network(dropout=0.5), x, y, epochs=5, resume=True,
            checkpoint=of_three[0]["folder"],
        )  # fmt: skip


def test_alone_nothing_is_shared():
    x, y = several.data(7)
    assert workers.count() == 1
    assert workers.rank() == 0
    (share,) = workers.shares([(x, y)])
    assert share.inputs is x
    assert share.targets is y
    assert share.counted == share.whole == 7
    model = several.network()
    assert workers.spread(model) is model
    assert workers.inside(model) is model
    assert workers.first_does(lambda: 3) == 3
    torch.manual_seed(4)
    numbers = workers.Numbers(4)
    drawn = [(one, torch.rand(1)) for one in numbers.drawn_alike([1, 2])]
    torch.manual_seed(4)
    assert all(torch.equal(value, torch.rand(1)) for _, value in drawn)


def test_the_weights_of_all_shares_make_the_whole_batch(monkeypatch):
    """Every example counts once, however many processes there are, and however few examples."""
    x = {"a": torch.arange(11.0), "b": torch.arange(22.0).view(11, 2)}
    for processes in (2, 3, 5):
        for size in (1, 2, 4, 11):
            batch = {name: values[:size] for name, values in x.items()}, x["a"][:size]
            total, seen = 0.0, []
            for rank in range(processes):
                monkeypatch.setattr(workers, "count", lambda: processes)  # noqa: B023
                monkeypatch.setattr(workers, "rank", lambda: rank)  # noqa: B023
                (share,) = workers.shares([batch])
                assert len(share.targets) == len(share.inputs["b"]) >= 1
                assert torch.equal(share.inputs["a"], share.targets)
                weight = processes * share.counted / share.whole
                total += weight * float(share.targets.mean()) / processes
                seen += share.targets.tolist() if share.counted else []
            assert sorted(seen) == list(range(size))
            assert total == pytest.approx(float(batch[1].mean()))


def test_a_process_that_lost_another_says_so_in_a_sentence(monkeypatch):
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "rank", lambda: 1)
    with pytest.raises(workers.Parted, match="Another of the 2 processes has stopped"):
        with workers.together():
            raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")
    with pytest.raises(RuntimeError, match="mine"):
        with workers.together():
            raise RuntimeError("mine")
