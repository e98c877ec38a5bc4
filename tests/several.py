"""Trainings that must end alike, whether one process does them or several: see test_workers.

Under torchrun this is a program: each process runs every case, and process 0 keeps the results.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from mbm_lab import scaling, training, workers

MSE = nn.functional.mse_loss
CPU = torch.device("cpu")
Result = dict[str, Tensor]


def data(count: int = 47) -> tuple[Tensor, Tensor]:
    """Pictures (N, 2, 5, 5) and targets (N,), of doubles."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(count, 2, 5, 5, generator=generator, dtype=torch.float64)
    return x, x.mean((1, 2, 3)) + 0.3 * torch.randn(count, generator=generator, dtype=x.dtype)


def network(norm: bool = False, dropout: float = 0.0) -> nn.Module:
    """A small network of doubles; norm: with batch normalisation over all processes."""
    torch.manual_seed(3)
    normed = [scaling.SyncBatchNorm(4)] if norm else []
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, bias=not norm), *normed, nn.ReLU(), nn.Dropout(dropout), nn.Flatten(),
        nn.Linear(36, 1), nn.Flatten(0),
    ).double()  # fmt: skip


def trained(model: nn.Module, *inputs: object, **options: object) -> Result:
    """The weights after training, the losses, and the next random numbers of the caller."""
    settings = {"epochs": 3, "batch_size": 10, "learning_rate": 0.01, "seed": 5}
    settings |= {"device": CPU, "progress": False, "loss": MSE} | options
    torch.manual_seed(11)
    history = training.fit(model, *inputs, **settings)
    said = {name: one.clone() for name, one in model.state_dict().items()}
    said["train loss"] = torch.tensor(history.train_loss, dtype=torch.float64)
    said["validation loss"] = torch.tensor(history.val_loss, dtype=torch.float64)
    return said | {"next": torch.rand(2)}


def plain(_: Path) -> Result:
    return trained(network(), *data())


def all_options(_: Path) -> Result:
    """Uneven shares, a schedule, clipped gradients, validation, patience, batches put together."""
    x, y = data(61)
    options = {"one_cycle": True, "clip_norm": 0.05, "val": data(9), "patience": 1}
    return trained(network(), x, y, batch_size=7, accumulate=2, **options)


def fewer_examples_than_processes(_: Path) -> Result:
    return trained(network(), *data(22), batch_size=10)  # the last batch has 2


def augmented(_: Path) -> Result:
    def noisy(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + 0.1 * torch.randn(x.shape, generator=generator, dtype=x.dtype)

    return trained(network(), *data(), augment=noisy)


def batch_normalisation(_: Path) -> Result:
    return trained(network(norm=True), *data(45))


def validated_by_a_loader(_: Path) -> Result:
    """Validation cards in random order: the processes must agree on the best epoch all the same."""
    val = DataLoader(TensorDataset(*data(9)), 2, shuffle=True)
    return trained(network(), *data(), val=val, patience=1, epochs=6)


def a_loader(_: Path) -> Result:
    """A DataLoader that shuffles with PyTorch's own random numbers; its data set draws, too."""

    class Noisy(TensorDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x + 0.1 * torch.rand(1), y

    return trained(network(), DataLoader(Noisy(*data()), 10, shuffle=True))


def a_dealing_loader(_: Path) -> Result:
    """A DistributedSampler deals the examples out, another hand each epoch."""
    known = TensorDataset(*data(48))
    if workers.count() == 1:  # what the processes read together, in one
        order = [DistributedSampler(known, 3, rank, seed=2) for rank in range(3)]
        batches = []
        for epoch in range(3):
            for one in order:
                one.set_epoch(epoch)
            hands = [torch.tensor(list(one)).split(4) for one in order]
            batches += [torch.cat(hand) for hand in zip(*hands, strict=True)]
        model, (x, y) = network(), data(48)
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        for index in batches:
            loss = MSE(model(x[index]), y[index])
            adam.zero_grad()
            loss.backward()
            adam.step()
        return dict(model.state_dict())
    sampler = DistributedSampler(known, seed=2)
    return trained(network(), DataLoader(known, 4, sampler=sampler))


SAME = (
    plain, all_options, fewer_examples_than_processes, augmented, batch_normalisation, a_loader,
    a_dealing_loader, validated_by_a_loader,
)  # fmt: skip
"""Cases that end with the same weights in one process and in three."""


def own_batch_normalisation(_: Path) -> Result:
    model = network(norm=True)
    model[1] = nn.BatchNorm2d(4).double()
    return trained(model, *data(45))


def whole(_: Path) -> Result:
    """With dropout, of which every process draws its own."""
    return trained(network(dropout=0.5), *data(), epochs=4)


def resumed(folder: Path) -> Result:
    """The same, cut off after two epochs."""
    place = folder / f"run_of_{workers.count()}"
    trained(network(dropout=0.5), *data(), epochs=2, checkpoint=place)
    return trained(network(dropout=0.5), *data(), epochs=4, checkpoint=place, resume=True)


def read(_: Path) -> Result:
    """Which examples a process reads, while the model draws as many numbers as its share is long:
    together the processes must read each example once an epoch."""
    seen = []

    class Draws(nn.Module):
        def forward(self, x):
            seen.append(x[:, 0])
            torch.rand(len(x))
            return x

    x = torch.arange(47.0)[:, None].expand(-1, 3)
    model = nn.Sequential(Draws(), nn.Linear(3, 1), nn.Flatten(0))
    trained(model, DataLoader(TensorDataset(x, x[:, 0]), 10, shuffle=True))
    return {"examples": torch.cat(seen)}


def half_precision(_: Path) -> Result:
    x, y = data()
    return trained(network().float(), x.float(), y.float(), autocast=torch.bfloat16)


def dropped(_: Path) -> Result:
    """What dropout leaves of ones: the processes must not drop the same."""
    seen = []

    class Look(nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return x

    model = nn.Sequential(nn.Dropout(0.5), Look(), nn.Flatten(), nn.Linear(50, 1), nn.Flatten(0))
    trained(model.double(), torch.ones(12, 2, 5, 5).double(), torch.zeros(12).double(), epochs=1)
    return {"left": (seen[0][:3] > 0).double()}


def refused(folder: Path) -> Result:
    """A folder that holds another run: every process hears it from process 0."""
    try:
        trained(network(), *data(), checkpoint=folder / f"run_of_{workers.count()}")
    except FileExistsError as error:
        return {"said": torch.tensor(list(str(error).encode()))}
    return {}


def idle(_: Path) -> Result:
    """A layer that no forward pass uses."""

    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = network(), nn.Linear(2, 2)

        def forward(self, x):
            return self.used(x)

    try:
        return trained(Idle().double(), *data())
    except ValueError as error:
        return {"said": torch.tensor(list(str(error).encode()))}


OTHERS = (
    own_batch_normalisation, whole, resumed, read, half_precision, dropped, refused, idle,
)  # fmt: skip

if __name__ == "__main__":
    torch.set_num_threads(1)
    out = Path(sys.argv[1])
    workers.join(CPU)
    results = {case.__name__: case(out) for case in (*SAME, *OTHERS)}
    held = [None] * workers.count()
    torch.distributed.all_gather_object(held, results)
    if workers.rank() == 0:
        torch.save(held, out / "results.pt")
