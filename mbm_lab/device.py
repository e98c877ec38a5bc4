"""Where tensors and models live: on the CPU, or on a graphics card (GPU).

Every lesson asks once, `device = pick_device()`, and puts every tensor and model there, so that
the same cells run on a laptop and on a large machine.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
from torch import nn


def pick_device() -> torch.device:
    """The device to compute on: a CUDA GPU where there is one, else the CPU.

    The environment variable MBM_DEVICE decides instead when it is set: `cpu`, `cuda`, `cuda:1`
    (the second GPU), or `mps` (the GPU of an Apple computer, which is used on request only).
    Of the processes that torchrun starts, each gets the GPU of its own number (lesson 11).
    Raises ValueError when it names no device, or one that this computer does not offer.
    """
    wish = os.environ.get("MBM_DEVICE", "").strip().lower()
    if not wish:
        return _own(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        device = torch.device(wish)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"MBM_DEVICE is {wish!r}: set it to cpu, cuda, cuda:1 or mps.")
    if not _is_there(device):
        raise ValueError(
            f"MBM_DEVICE asks for {wish}, but PyTorch finds no such device here: "
            "set MBM_DEVICE=cpu, or run `mbm-lab doctor` to see why."
        )
    return _own(device)


def _own(device: torch.device) -> torch.device:
    """The GPU that is this process's own, where torchrun has started several on this computer."""
    place = os.environ.get("LOCAL_RANK")
    if device != torch.device("cuda") or place is None:
        return device
    own = torch.device(f"cuda:{place}")
    if not _is_there(own):
        raise ValueError(
            f"Process {place} of this computer has no GPU of its own, since there are "
            f"{torch.cuda.device_count()}: start fewer with --nproc-per-node, or set "
            "MBM_DEVICE=cpu."
        )
    return own


def describe_device(device: torch.device | None = None) -> str:
    """One line about a device in plain words, e.g. `GPU cuda: NVIDIA T4, 15 GB`.

    Without an argument it describes the device that `pick_device` picks.
    """
    device = pick_device() if device is None else torch.device(device)
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        return f"GPU {device}: {card.name}, {card.total_memory / 2**30:.0f} GB"
    if device.type == "mps":
        return "GPU mps: the graphics part of this Apple computer"
    cores = _count(os.cpu_count() or 1, "core")
    return f"CPU: {cores}, {_count(torch.get_num_threads(), 'thread')}"


def device_of(model: object, otherwise: torch.device | None = None) -> torch.device:
    """Where a model's parameters are; `otherwise` (or the CPU) for what has none."""
    if isinstance(model, nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            return tensor.device
    return otherwise or torch.device("cpu")


@contextlib.contextmanager
def lent(model: nn.Module, device: torch.device | None = None) -> Iterator[torch.device]:
    """Lends a model to another device for as long as the block lasts: the one of `pick_device`
    unless you say else. Lesson 05.

    Afterwards every parameter and buffer is the same tensor as before, where it was before, with
    the values that it got in the block. (The device "meta" holds no values: what was lent to it
    comes back as it was.) Gradients of the block are not kept. Raises ValueError for a device that
    PyTorch does not know, or that is not there.
    """
    device = pick_device() if device is None else device
    try:
        device = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
    except (RuntimeError, TypeError, AssertionError):
        raise ValueError(
            f"device is {device!r}, which this computer does not have: leave it out, or pass one "
            'such as torch.device("cpu").'
        ) from None
    homes = [
        (module, name, tensor, tensor.data, tensor.grad)
        for module in model.modules()
        for tensors in (module.named_parameters, module.named_buffers)
        for name, tensor in tensors(recurse=False)
    ]
    if all(tensor.device == device for _, _, tensor, _, _ in homes):
        yield device
        return
    try:
        for _, _, tensor, _, _ in homes:
            tensor.grad = None
        model.to(device)  # inside, since a GPU that is full may take only a part
        yield device
    finally:
        for module, name, tensor, home, gradient in homes:
            now = getattr(module, name)
            if now.device.type != "meta":
                home.copy_(now.detach())
            tensor.data = home
            tensor.grad = gradient
            setattr(module, name, tensor)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's random numbers from this seed for as long as the block lasts; afterwards those of
    the caller go on as if nothing had been drawn. Lesson 05."""
    cards = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(cards):
        torch.manual_seed(seed)
        yield


def _is_there(device: torch.device) -> bool:
    """Whether PyTorch can use this device on this computer."""
    if device.type == "cuda":
        return torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count()
    if device.type == "mps":
        return torch.backends.mps.is_available()
    return True


def _count(number: int, thing: str) -> str:
    """`1 core`, `2 cores`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
