"""Several processes that train one model: what each knows of the others (lesson 11).

`torchrun` starts the processes, and they find each other through PyTorch (torch.distributed): by
gloo on CPUs, by NCCL on graphics cards. Each holds a whole copy of the model and reads its share of
every batch; in the backward pass the gradients are averaged (DistributedDataParallel, Li et al.,
2020), so all copies take the same step. In a program that `torchrun` did not start there is one
process, and everything here does nothing.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

T = TypeVar("T")

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The variables by which torchrun tells a process who it is, and where it finds the others."""


class Parted(RuntimeError):
    """Another process has stopped, so this one cannot go on."""


def join(device: torch.device) -> None:
    """Finds the other processes, if torchrun started this one along with others. Once is enough; at
    the end of the program the process leaves them by itself.

    device: where this process computes, which decides how the processes talk.
    """
    alone = os.environ.get("WORLD_SIZE", "1") == "1" or any(name not in os.environ for name in TOLD)
    if alone or dist.is_initialized():
        return
    store, number, processes = next(dist.rendezvous("env://"))
    store = dist.PrefixStore(_agree(store, number, processes), store)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=processes)
    atexit.register(leave)


def _agree(store: dist.Store, number: int, processes: int) -> str:
    """A name for this start of all processes, which no earlier start had.

    The processes find each other's addresses in a store, which torchrun keeps when it starts them
    again: what the dead wrote is still there, and who reads it waits for the dead. So process 0
    makes up a name, and tells it to those who have just said hello: it keeps looking until each has
    heard it.
    """
    own = secrets.token_hex(8)
    others = range(1, processes)
    if number == 0:
        heard: list[bytes] = []
        while heard != [own.encode()] * len(others):
            hellos = b" ".join(store.get(f"hello {one}") for one in others)
            store.set("start", own.encode() + b" " + hellos)
            time.sleep(0.01)
            keys = [f"heard {one}" for one in others]
            heard = [store.get(key) for key in keys] if store.check(keys) else []
        return own
    store.set(f"hello {number}", own)
    while own.encode() not in (said := store.get("start").split())[1:]:
        time.sleep(0.01)
    store.set(f"heard {number}", said[0])
    return said[0].decode()


def leave() -> None:
    """Leaves the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def count() -> int:
    """How many processes train together; 1 if this one is alone."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which of the processes this one is. The first, 0, also writes the files and the progress."""
    return dist.get_rank() if count() > 1 else 0


# --- The model and its batches


def spread(model: nn.Module) -> nn.Module:
    """The model as all processes train it together: each begins with the weights of process 0, and
    each backward pass ends with the mean of all gradients. One process gets the model as it is."""
    return model if count() == 1 else DistributedDataParallel(model)


def inside(model: nn.Module) -> nn.Module:
    """The model itself, without what `spread` put around it."""
    return model.module if isinstance(model, DistributedDataParallel) else model


class Share(NamedTuple):
    """What one process reads of a batch.

    Of n processes' gradients the plain mean is taken. So that it is the gradient of the whole
    batch, the mean loss of a share counts n · counted / whole.
    """

    inputs: Any  # (K, …), or one a modality
    targets: Tensor  # (K, …)
    counted: int  # of these examples so many count: all, or none where all are read elsewhere
    whole: int  # the examples of the whole batch, over all processes


def shares(batches: Iterable[tuple[Any, Tensor]], divided: bool = False) -> Iterator[Share]:
    """Of each batch the share of this process.

    Process r of n takes the examples r, r + n, r + 2n, … Where a batch has fewer examples than
    there are processes, those that get none read the first one, which then counts for nothing: all
    must take part in every step. divided: whether each process has batches of its own already.
    """
    first, step = rank(), count()
    for x, y in batches:
        if step == 1 or divided:
            yield Share(x, y, len(y), step * len(y))
            continue
        taken = len(y[first::step])
        mine = slice(first, None, step) if taken else slice(0, 1)
        part = {name: one[mine] for name, one in x.items()} if isinstance(x, dict) else x[mine]
        yield Share(part, y[mine], taken, len(y))


def divides(batches: object) -> bool:
    """Whether each process gets batches of its own already: from a DataLoader whose
    DistributedSampler deals the examples out."""
    return isinstance(batches, DataLoader) and isinstance(batches.sampler, DistributedSampler)


# --- Random numbers


class Numbers:
    """Random numbers for several processes: those that all draw alike (the order of the examples,
    augmentation) and each one's own (dropout). Alone, a process has one kind for both.

    To be made when PyTorch's random numbers have just been given the same seed everywhere.
    """

    def __init__(self, seed: int) -> None:
        if count() > 1:
            self.alike = torch.get_rng_state()
            torch.manual_seed((1_000_003 * (seed + 1) + rank()) % 2**63)

    def drawn_alike(self, batches: Iterable[T]) -> Iterator[T]:
        """The batches, for which every process draws the same numbers."""
        if count() == 1:
            yield from batches
            return
        batches = iter(batches)
        while True:
            own = torch.get_rng_state()
            torch.set_rng_state(self.alike)
            one = next(batches, None)
            self.alike = torch.get_rng_state()
            torch.set_rng_state(own)
            if one is None:
                return
            yield one

    def state(self) -> dict[str, Any]:
        """All that decides which numbers come next: "torch" and "cuda", and of several processes
        also "processes", each one's own. All processes must ask together."""
        own = {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }
        if count() == 1:
            return own
        each: list[Any] = [None] * count()
        dist.all_gather_object(each, own)
        return own | {"torch": self.alike, "processes": each}

    def put_back(self, state: dict[str, Any]) -> None:
        """The numbers go on from such a state."""
        own = state["processes"][rank()] if count() > 1 else state
        if count() > 1:
            self.alike = state["torch"]
        torch.set_rng_state(own["torch"])
        if torch.cuda.is_available() and len(own["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(own["cuda"])


# --- What all do together


def summed(values: Tensor) -> Tensor:
    """The sum over all processes, where `values` are."""
    if count() > 1:
        dist.all_reduce(values)
    return values


def same_buffers(model: nn.Module) -> None:
    """Gives every process the buffers of process 0, such as the running means of batch
    normalisation, which each has gathered from its own share."""
    if count() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def first_does(action: Callable[[], T]) -> T:
    """Process 0 does this while the others wait; all get what it gives, or its error."""
    if count() == 1:
        return action()
    said: list[Any] = [None, None]
    if rank() == 0:
        try:
            said[0] = action()
        except Exception as error:
            said[1] = error
    dist.broadcast_object_list(said)
    if said[1] is not None:
        raise said[1]
    return said[0]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Where another process stops, or is ended, in this block, Parted says so in a sentence; and
    ValueError where a weight has no gradient, which several processes need."""
    try:
        yield
    except RuntimeError as error:
        if count() > 1 and "finished reduction" in str(error):
            raise ValueError(
                f"Some weights of the model had no part in a step, and {count()} processes cannot "
                "average gradients that are not there: freeze these weights "
                "(requires_grad_(False)), or let every forward pass use all of them."
            ) from error
        if count() > 1 and _is_of_another(error):
            raise Parted(
                f"Another of the {count()} processes has stopped, so process {rank()} cannot go "
                "on: look at what the other one said. Begin again with resume=True, or let "
                "torchrun begin again: --max-restarts."
            ) from None
        raise


def _is_of_another(error: RuntimeError) -> bool:
    """Whether an error says that a connection to another process was lost."""
    said = str(error)
    return isinstance(error, dist.DistError) or any(
        word in said for word in ("gloo", "Connection closed by peer", "NCCL")
    )
