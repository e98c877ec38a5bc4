"""What belongs to everybody is put back after an answer ran: settings, random numbers, functions.

An answer may switch gradients off, change the default dtype, close the page, or replace functions
of PyTorch and of Python; the next cell must not notice, and neither must the check itself.
(Gradients, autocast, the default device and the errors of NumPy belong to a thread, and an answer
runs in one of its own.)
"""

from __future__ import annotations

import builtins
import contextlib
import copy
import gc
import io
import math
import os
import random
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

OWNERS = (
    builtins, torch, Tensor, torch.linalg, nn, nn.functional, nn.Module, nn.Parameter, nn.Linear,
    torch.optim, torch.optim.Optimizer, torch.optim.SGD, np, np.random, np.linalg, math, random,
    copy, io, os, time,
)  # fmt: skip
"""Whose functions an answer may replace or delete."""

PAGE = ("stdin", "stdout", "stderr", "excepthook", "displayhook", "path", "argv")


def _functions(owner: Any) -> dict[str, Any]:
    return dict(vars(owner))


ORIGINAL = [_functions(owner) for owner in OWNERS]
"""What they were when the course was imported."""

LENT = {"input", "exit", "quit", "environ", "__warningregistry__"}
"""Names that IPython, or others, replace with good reason while a cell runs."""

_BUILTINS = vars(builtins)
_ORIGINAL_BUILTINS = {name: one for name, one in _BUILTINS.items() if name not in LENT}


def builtins_back() -> None:
    """Puts Python's own functions back. It needs none of them, so it works when all are gone."""
    _BUILTINS.update(_ORIGINAL_BUILTINS)


def _put_functions_back(before: list[dict[str, Any]], only_functions: bool = False) -> None:
    """Gives every owner what it had: what was replaced or deleted, and for a class what is new.

    only_functions: leaves data as they are, which programs may have changed for good reasons.
    """
    for owner, had in zip(OWNERS, before, strict=True):
        has = vars(owner)
        for name, value in had.items():
            if has.get(name, _functions) is value or name in LENT:
                continue
            if only_functions and not callable(value):
                continue
            with contextlib.suppress(AttributeError, TypeError):
                setattr(owner, name, value)
        if isinstance(owner, type):
            for name in [name for name in has if name not in had]:
                with contextlib.suppress(AttributeError, TypeError):
                    delattr(owner, name)


class Kept:
    """All that is shared, as it is now. `put_back` makes it so again."""

    def __init__(self):
        self.functions = [_functions(owner) for owner in OWNERS]
        self.modules = dict(sys.modules)
        self.page = {name: getattr(sys, name, None) for name in PAGE}
        self.path = list(sys.path)
        self.recursion = sys.getrecursionlimit()
        self.switch = sys.getswitchinterval()
        self.environ = dict(os.environ)
        self.collects = gc.isenabled()
        try:
            self.folder = os.getcwd()
        except OSError:  # it was deleted
            self.folder = None
        self.filters = list(warnings.filters)
        self.warn = (warnings.warn, warnings.showwarning)
        self.dtype = torch.get_default_dtype()
        self.threads = torch.get_num_threads()
        self.deterministic = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        )
        self.anomaly = torch.is_anomaly_enabled()
        self.precision = torch.get_float32_matmul_precision()
        self.random = (torch.get_rng_state(), random.getstate(), np.random.get_state())
        on_gpu = torch.cuda.is_initialized()
        self.random_on_gpu = torch.cuda.get_rng_state_all() if on_gpu else None

    def put_back(self, randomness: bool = True) -> None:
        """Puts back what differs. Without randomness random numbers go on from where they are."""
        builtins_back()
        sys.setrecursionlimit(self.recursion)
        _put_functions_back(self.functions)
        for name, module in self.modules.items():
            if sys.modules.get(name) is not module:
                sys.modules[name] = module
        for name, value in self.page.items():
            if getattr(sys, name, None) is not value:
                setattr(sys, name, value)
        if sys.path != self.path:
            sys.path[:] = self.path
        sys.setswitchinterval(self.switch)
        (gc.enable if self.collects else gc.disable)()
        if dict(os.environ) != self.environ:
            os.environ.clear()
            os.environ.update(self.environ)
        if self.folder is not None:
            with contextlib.suppress(OSError):
                os.chdir(self.folder)
        if warnings.filters != self.filters:
            warnings.filters[:] = self.filters
            warnings._filters_mutated()
        warnings.warn, warnings.showwarning = self.warn
        torch.set_default_dtype(self.dtype)
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        now = torch.are_deterministic_algorithms_enabled()
        if (now, torch.is_deterministic_algorithms_warn_only_enabled()) != self.deterministic:
            torch.use_deterministic_algorithms(
                self.deterministic[0], warn_only=self.deterministic[1]
            )
        if torch.is_anomaly_enabled() != self.anomaly:
            torch.set_anomaly_enabled(self.anomaly)
        if torch.get_float32_matmul_precision() != self.precision:
            torch.set_float32_matmul_precision(self.precision)
        if randomness:
            torch.set_rng_state(self.random[0])
            random.setstate(self.random[1])
            np.random.set_state(self.random[2])
            if self.random_on_gpu is not None:
                torch.cuda.set_rng_state_all(self.random_on_gpu)


@contextlib.contextmanager
def kept() -> Iterator[Kept]:
    """Puts back afterwards whatever the block changed."""
    before = Kept()
    try:
        yield before
    finally:
        before.put_back()


@contextlib.contextmanager
def as_imported() -> Iterator[None]:
    """Inside the block the default dtype is float32, and no algorithm is refused; afterwards all is
    as it was before. Functions of PyTorch and Python that somebody deleted or replaced are put
    back for good."""
    builtins_back()
    _put_functions_back(ORIGINAL, only_functions=True)
    with kept():
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)
        yield
