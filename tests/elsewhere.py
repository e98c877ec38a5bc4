"""A make-believe GPU for computers that have none: it computes, and refuses to mix.

    with elsewhere.borders() as gpu:
        model.to(gpu)
        model(batch)  # RuntimeError: Expected all tensors to be on the same device …

Inside the block `cuda` is a second device. Its tensors are ordinary tensors of the CPU, so every
number is the one that the CPU computes; a table remembers which *storages* are over there, and so
views, `.data`, parameters and changes in place are followed for free. Two modes of PyTorch do the
rest. One sees every call from Python (`.to`, `.device`, `torch.zeros(…, device=…)`), the other
every operator, also those of backward and of optimizers, and raises what CUDA raises when an
operator gets tensors from both sides. What CUDA allows is allowed: `copy_` from either side, a
number of the CPU (a tensor without dimensions) beside tensors of the GPU, an index of the CPU into
a tensor of the GPU.

What it cannot see: a float64 that Apple's GPU lacks, memory, streams, `torch.cuda` itself (which
still says that there is no GPU), and the gradient of `x[i] = y` with x and y on different devices.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

GPU = torch.device("cuda", 0)
CPU = torch.device("cpu")
UNDECIDED = None
"""Where a tensor is that PyTorch made for itself inside a call, until it meets another one."""

WRONG_GENERATOR = "Expected a 'cuda' device type for generator but found 'cpu'"
WRONG_LENGTHS = "'lengths' argument should be a 1D CPU int64 tensor, but got 1D cuda:0 Long tensor"

_open: list[_Places] = []  # the borders that are open now: one at most

refused: list[str] = []
"""What was refused since the borders were opened, also where the error was caught, and the line of
the course or of a cell that asked for it."""


def _refuse(kind: type[Exception], message: str) -> Exception:
    """The error to raise, after it was noted."""
    frame = sys._getframe(1)
    while frame is not None and not re.search(r"mbm_lab|<ipython-input", frame.f_code.co_filename):
        frame = frame.f_back
    where = f" at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame else ""
    refused.append(message + where)
    return kind(message)


def is_elsewhere(tensor: Tensor) -> bool:
    """Whether a tensor is on the make-believe GPU; never outside `borders`."""
    return bool(_open) and _open[0].of(tensor) is not CPU


@contextlib.contextmanager
def borders() -> Iterator[torch.device]:
    """Gives `torch.device("cuda")`, which is a device of its own inside this block.

    Threads that are started in the block are inside too. Raises RuntimeError when the borders are
    open already. Afterwards everything is an ordinary tensor of the CPU again.
    """
    if _open:
        raise RuntimeError("The borders are open already: use the device that they gave.")
    refused.clear()
    places = _Places()
    run = threading.Thread.run

    def run_inside(thread: threading.Thread) -> None:
        with _modes(places):
            run(thread)

    packages = torch.serialization._package_registry
    package = (0, places.tag, places.restore)  # 0: asked before those of PyTorch
    packages.insert(0, package)
    _open.append(places)
    try:
        with (
            mock.patch.object(threading.Thread, "run", run_inside),
            mock.patch("torch.backends.cudnn.is_acceptable", return_value=False),
            _modes(places),
        ):
            yield torch.device("cuda")
    finally:
        _open.remove(places)
        packages.remove(package)
        places.forget()


@contextlib.contextmanager
def course() -> Iterator[torch.device]:
    """`borders`, in which the course's `pick_device()` gives the make-believe GPU."""
    card = SimpleNamespace(name="make-believe", total_memory=2**34)
    with (
        mock.patch.dict("os.environ", {"MBM_DEVICE": "cuda"}),
        mock.patch("mbm_lab.device._is_there", return_value=True),
        mock.patch("torch.cuda.get_device_properties", return_value=card),
        borders() as device,
    ):
        yield device


@contextlib.contextmanager
def outside() -> Iterator[None]:
    """Inside the borders, for what is slow and only of the CPU: nothing here is watched."""
    with torch._C.DisableTorchFunction(), _disable_current_modes():
        yield


@contextlib.contextmanager
def _modes(places: _Places) -> Iterator[None]:
    """Both modes, for one thread."""
    operators = _Operators(places)
    with operators, _Calls(places, operators):
        yield


# Where tensors are


class _Places:
    """Which storages are on the make-believe GPU, or undecided; all others are on the CPU."""

    def __init__(self) -> None:
        self.known: dict[int, tuple[StorageWeakRef, torch.device | None]] = {}
        self.most = 1000  # the size at which it is time to tidy up

    def of(self, tensor: Tensor) -> torch.device | None:
        """Where a tensor is: CPU, GPU or UNDECIDED."""
        return self.at(tensor.untyped_storage()._cdata)

    def at(self, key: int) -> torch.device | None:
        return self.known[key][1] if key in self.known else CPU

    def put(self, tensor: Tensor, place: torch.device | None) -> Tensor:
        """Notes that a tensor, and all that share its storage, are there."""
        self.put_storage(tensor.untyped_storage(), place)
        return tensor

    def put_storage(self, storage: torch.UntypedStorage, place: torch.device | None) -> None:
        if place is CPU:
            self.known.pop(storage._cdata, None)
            return
        if len(self.known) >= self.most:
            self.tidy()
            self.most = max(1000, 2 * len(self.known))
        # The weak reference keeps the pointer from being used again while it is in the table.
        self.known[storage._cdata] = StorageWeakRef(storage), place

    def tidy(self) -> None:
        """Forgets the storages that are no longer in use."""
        self.known = {key: one for key, one in self.known.items() if not one[0].expired()}

    def forget(self) -> None:
        self.known = {}

    # Files: a tensor of the GPU is saved as one, and comes back as one.

    def tag(self, storage: torch.UntypedStorage) -> str | None:
        return str(GPU) if self.at(storage._cdata) is not CPU else None

    def restore(self, storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage | None:
        if not location.startswith("cuda"):
            return None
        self.put_storage(storage, GPU)
        return storage


# Operators: what CUDA refuses, and where results are


class _Operators(TorchDispatchMode):
    """Sees every operator: refuses a mixture, and notes where the results are."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self.places = places
        self.call: tuple = ()  # the arguments of the call from Python that is running
        self.undecided: list[Tensor] = []  # made in this call

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled here, and the guard against it takes time

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if not self.places.known:
            return operator(*args, **kwargs)
        inputs = list(_tensors((*args, *kwargs.values())))
        keys = [tensor.untyped_storage()._cdata for tensor in inputs]
        places = [self.places.at(key) for key in keys]
        name = operator.overloadpacket.__name__
        if GPU in places:
            self._check(operator, name, args, kwargs, CPU in places)
        self._decide(inputs, places)
        result = operator(*args, **kwargs)
        if inputs:
            place = self._place_of_result(name, places)
        else:
            place = self._place_of_new()
        if place is not CPU and name != "set_":  # set_ makes a tensor of a storage that is known
            self._note(name, result, place, keys)
        return result

    def _check(self, operator, name: str, args: tuple, kwargs: dict, mixed: bool) -> None:
        """Raises RuntimeError if CUDA would, for an operator with a tensor of the GPU."""
        if kwargs.get("generator") is not None:
            raise _refuse(RuntimeError, WRONG_GENERATOR)
        if name == "_pack_padded_sequence" and self.places.of(args[1]) is GPU:
            raise _refuse(RuntimeError, WRONG_LENGTHS)
        if not mixed or name in FREE:
            return
        if name.startswith("_foreach_"):
            groups = _groups(args)
        elif name.startswith("_ctc_loss"):
            names = [argument.name for argument in operator._schema.arguments]
            groups = [[a for n, a in zip(names, args, strict=False) if not n.endswith("lengths")]]
        else:
            groups = [[*args, *kwargs.values()]]
        rule = RULES.get(name)
        if rule is None:
            numbers_may_mix = torch.Tag.pointwise in operator.tags or name.startswith("_foreach_")
            rule = _pointwise if numbers_may_mix else _strict
        for group in groups:
            complaint = rule(self.places.of, operator, group)
            if complaint:
                raise _refuse(RuntimeError, f"{complaint} (in the operator {operator})")

    def _decide(self, inputs: list[Tensor], places: list[torch.device | None]) -> None:
        """Undecided inputs are where the others are."""
        if UNDECIDED not in places or len(set(places)) == 1:
            return
        shaped = any(p is CPU and t.dim() > 0 for t, p in zip(inputs, places, strict=True))
        if GPU in places or shaped:
            place = GPU if GPU in places else CPU
            for number, tensor in enumerate(inputs):
                if places[number] is UNDECIDED:
                    self.places.put(tensor, place)
                    places[number] = place

    def _place_of_result(self, name: str, places: list) -> torch.device | None:
        if name in FOLLOWS_FIRST:
            return places[0]
        if GPU in places:
            return GPU
        return UNDECIDED if UNDECIDED in places else CPU

    def _place_of_new(self) -> torch.device | None:
        """Where a tensor is that was made from no other.

        Python says where it wants a tensor, and that is dealt with in `_Calls`. Inside PyTorch's
        own code new tensors go where the arguments are; but all that shows here is `cpu`.
        """
        backward = torch._C._current_autograd_node() is not None
        if backward or any(self.places.of(tensor) is GPU for tensor in _tensors(self.call)):
            return UNDECIDED
        return CPU

    def _note(self, name: str, result, place: torch.device | None, keys: list[int]) -> None:
        """Notes where the results are that do not share the storage of an input."""
        outputs = [result[0]] if name == "_pack_padded_sequence" else _tensors((result,))
        for tensor in outputs:
            if tensor.untyped_storage()._cdata not in keys:
                self.places.put(tensor, place)
                if place is UNDECIDED:
                    self.undecided.append(tensor)

    def run(self, function: Callable, args: tuple, kwargs: dict):
        """A call from Python, at whose end nothing is undecided."""
        self.call = (*args, *kwargs.values())
        try:
            return function(*args, **kwargs)
        finally:
            if self.undecided:
                gpu = any(self.places.of(tensor) is GPU for tensor in _tensors(self.call))
                for tensor in self.undecided:
                    if self.places.of(tensor) is UNDECIDED:
                        self.places.put(tensor, GPU if gpu else CPU)
                self.undecided = []
            self.call = ()


Where = Callable[[Tensor], torch.device | None]


def _tensors(values) -> Iterator[Tensor]:
    """The tensors among values and in lists of them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _groups(args: tuple) -> list[list]:
    """The arguments of an operator on lists, as one list of arguments for every place in them."""
    size = len(args[0])
    lists = [isinstance(a, (list, tuple)) and len(a) == size for a in args]
    return [[a[i] if many else a for a, many in zip(args, lists, strict=True)] for i in range(size)]


def _two_devices() -> str:
    return (
        "Expected all tensors to be on the same device, "
        f"but found at least two devices, {GPU} and {CPU}!"
    )


def _strict(where: Where, operator, args: list) -> str:
    """No mixture at all."""
    return _two_devices() if len({where(tensor) for tensor in _tensors(args)} - {None}) > 1 else ""


def _pointwise(where: Where, operator, args: list) -> str:
    """One number of the CPU may come along, but nothing of the CPU is written to."""
    cpu = [tensor for tensor in _tensors(args) if where(tensor) is CPU]
    if len(cpu) == len(list(_tensors(args))):
        return ""
    written = [
        args[place]
        for place, argument in enumerate(operator._schema.arguments[: len(args)])
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    if any(tensor.dim() > 0 or any(tensor is one for one in written) for tensor in cpu):
        return _two_devices()
    if len(cpu) > 1 and operator.overloadpacket.__name__ != "where":
        return "Trying to pass too many CPU scalars to non-CPU kernel!"
    return ""


def _index(where: Where, operator, args: list) -> str:
    """An index may be on the CPU; what is put in may be one number of anywhere."""
    place = where(args[0])
    if place is CPU and any(where(index) is GPU for index in _tensors([args[1]])):
        return "indices should be either on cpu or on the same device as the indexed tensor (cpu)"
    values = list(_tensors(args[2:]))
    return _two_devices() if any(t.dim() > 0 and where(t) is not place for t in values) else ""


def _masked_fill(where: Where, operator, args: list) -> str:
    """The mask is where the tensor is; the value may be a number of the CPU."""
    place, mask = where(args[0]), where(args[1])
    if place is not mask:
        return (
            f"expected self and mask to be on the same device, but got mask on {mask} "
            f"and self on {place}"
        )
    return _two_devices() if place is CPU else ""


# Operators that take tensors from both sides.
FREE = {"copy_", "copy", "_to_copy", "fill_", "fill", "set_", "_pack_padded_sequence"}
RULES = {
    "index": _index,
    "index_put": _index,
    "index_put_": _index,
    "_index_put_impl_": _index,
    "_unsafe_index": _index,
    "_unsafe_index_put": _index,
    "masked_fill": _masked_fill,
    "masked_fill_": _masked_fill,
}
FOLLOWS_FIRST = FREE | set(RULES)


# Calls from Python: devices that are asked for, and those that are told


class _Calls(TorchFunctionMode):
    """Sees every call of PyTorch from Python, and answers those that speak of devices."""

    def __init__(self, places: _Places, operators: _Operators) -> None:
        super().__init__()
        self.places = places
        self.operators = operators

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function in SPECIAL:

            def run(*args, **kwargs):
                return self.operators.run(function, args, kwargs)

            return SPECIAL[function](self.places, run, *args, **kwargs)
        if kwargs.get("device") is not None:
            place = _place(kwargs["device"])
            if place is not None:
                return self._make(function, args, kwargs, place)
        return self.operators.run(function, args, kwargs)

    def _make(self, function, args: tuple, kwargs: dict, place: torch.device) -> Tensor:
        """A new tensor at the place that was asked for."""
        if place is GPU and kwargs.get("generator") is not None:
            raise _refuse(RuntimeError, WRONG_GENERATOR)
        if function in (torch.as_tensor, torch.asarray):  # may give what it was given
            rest = {name: value for name, value in kwargs.items() if name != "device"}
            return _send(self.places, self.operators.run(function, args, rest), place)
        result = self.operators.run(function, args, {**kwargs, "device": CPU})
        return self.places.put(result, place)


def _place(device: torch.device | str | int) -> torch.device | None:
    """CPU or GPU; None for any other device, such as `meta`."""
    kind = "cuda" if isinstance(device, int) else torch.device(device).type
    return {"cpu": CPU, "cuda": GPU}.get(kind)


class _Crossing(torch.autograd.Function):
    """A copy on the other device, from which the gradient comes back."""

    @staticmethod
    def forward(ctx, tensor: Tensor, places: _Places, place: torch.device) -> Tensor:
        ctx.places, ctx.home = places, places.of(tensor)
        return places.put(tensor.clone(), place)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return ctx.places.put(gradient.clone(), ctx.home), None, None


def _send(places: _Places, tensor: Tensor, place: torch.device) -> Tensor:
    """The tensor itself if it is there, else a copy of it."""
    if places.of(tensor) is place:
        return tensor
    if tensor.requires_grad and torch.is_grad_enabled():
        return _Crossing.apply(tensor, places, place)
    return places.put(tensor.clone(), place)


def _to(places: _Places, to: Callable, tensor: Tensor, *args, copy: bool = False, **kwargs):
    other = args[0] if args else kwargs.get("other")
    if isinstance(other, Tensor):
        place, dtype, layout = places.of(other), other.dtype, None
    else:
        device, dtype, _, layout = torch._C._nn._parse_to(*args, **kwargs)
        place = places.of(tensor) if device is None else _place(device)
        if place is None:
            return to(tensor, *args, copy=copy, **kwargs)
    copy = copy and places.of(tensor) is place  # going over is a copy
    sent = _send(places, tensor, place)
    return torch.Tensor.to(
        sent, dtype or tensor.dtype, copy=copy, memory_format=layout or torch.preserve_format
    )


def _cpu(places: _Places, function: Callable, tensor: Tensor, *args, **kwargs) -> Tensor:
    return _send(places, tensor, CPU)


def _cuda(places: _Places, function: Callable, tensor: Tensor, *args, **kwargs) -> Tensor:
    return _send(places, tensor, GPU)


def _device(places: _Places, function: Callable, tensor: Tensor) -> torch.device:
    return function(tensor) if places.of(tensor) is CPU else GPU


def _is_cuda(places: _Places, function: Callable, tensor: Tensor) -> bool:
    return places.of(tensor) is not CPU


def _is_cpu(places: _Places, function: Callable, tensor: Tensor) -> bool:
    return places.of(tensor) is CPU


def _get_device(places: _Places, function: Callable, tensor: Tensor) -> int:
    return -1 if places.of(tensor) is CPU else 0


def _numpy(places: _Places, function: Callable, tensor: Tensor, *args, **kwargs):
    if places.of(tensor) is not CPU:
        raise _refuse(
            TypeError,
            f"can't convert {GPU} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first.",
        )
    return function(tensor, *args, **kwargs)


def _deepcopy(places: _Places, function: Callable, tensor: Tensor, *args, **kwargs) -> Tensor:
    return places.put(function(tensor, *args, **kwargs), places.of(tensor))


def _copy_(places: _Places, function: Callable, tensor: Tensor, source: Tensor, *args, **kwargs):
    if isinstance(source, Tensor) and source.requires_grad:
        source = _send(places, source, places.of(tensor))
    return function(tensor, source, *args, **kwargs)


def _set_gradient(places: _Places, function: Callable, tensor: Tensor, gradient: Tensor | None):
    if gradient is not None and places.of(gradient) is not places.of(tensor):
        raise _refuse(
            RuntimeError,
            f"attempting to assign a gradient with device type '{places.of(gradient).type}' to a "
            f"tensor with device type '{places.of(tensor).type}'.",
        )
    return function(tensor, gradient)


def _ctc_loss(places, function, log_probs, targets, input_lengths, target_lengths, *args, **kwargs):
    """Lengths may come from anywhere: PyTorch takes them to where it needs them."""
    lengths = [
        _send(places, torch.as_tensor(length), places.of(log_probs))
        for length in (input_lengths, target_lengths)
    ]
    return function(log_probs, targets, *lengths, *args, **kwargs)


def _pad_packed(places: _Places, function: Callable, *args, **kwargs) -> tuple[Tensor, Tensor]:
    padded, lengths = function(*args, **kwargs)
    return padded, places.put(lengths, CPU)


SPECIAL = {
    Tensor.to: _to,
    Tensor.cpu: _cpu,
    Tensor.cuda: _cuda,
    Tensor.device.__get__: _device,
    Tensor.is_cuda.__get__: _is_cuda,
    Tensor.is_cpu.__get__: _is_cpu,
    Tensor.get_device: _get_device,
    Tensor.numpy: _numpy,
    Tensor.__array__: _numpy,
    Tensor.__deepcopy__: _deepcopy,
    Tensor.copy_: _copy_,
    Tensor.grad.__set__: _set_gradient,
    torch.nn.functional.ctc_loss: _ctc_loss,
    torch.ctc_loss: _ctc_loss,
    torch._VF._pad_packed_sequence: _pad_packed,
}
