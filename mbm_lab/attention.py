"""Attention and the transformer's block, from nothing (lesson 13).

A sequence is a tensor (B, T, width): T tokens, each a vector. Attention lets each token look up
what it needs in the others; a mask says which ones it may look at; a block adds what was found, and
then thinks about each token alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mbm_lab import arguments

Cache = tuple[Tensor, Tensor]
"""The keys and the values of the tokens that were read: (B, heads, T, width / heads) each."""


def dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Each query's weighted mean of the values: (…, Q, E), and the weights (…, Q, K).

    query (…, Q, D), key (…, K, D), value (…, K, E). The weights of query q are the softmax over k
    of query[q] · key[k] / √D, so they are positive and sum to 1. mask (…, Q, K), bool: True where q
    may look at k; the other weights are 0. Without a mask all may be looked at. Lesson 13; Vaswani
    et al. (2017), formula 1.

    Raises ValueError when the shapes do not fit together, the mask is not of True and False, or a
    query may look at nothing.
    """
    tensors = {"query": query, "key": key, "value": value}
    for name, tensor in tensors.items():
        arguments.check_tensor(name, tensor)
        if not tensor.is_floating_point() or tensor.dtype != query.dtype:
            raise ValueError(
                f"dot_product_attention needs fractions of one kind, such as float32, and {name} "
                f"holds {arguments.dtype(tensor)}: write {name}.float()."
            )
    if not _fit_together(query, key, value):
        raise ValueError(
            "dot_product_attention needs query (…, Q, D), key (…, K, D) and value (…, K, E), and "
            f"got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(value.shape)}: change the "
            "one that does not fit."
        )
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (…, Q, K)
    if mask is not None:
        _check_mask(mask, scores.shape)
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(-1)
    return weights @ value, weights


def _fit_together(query: Tensor, key: Tensor, value: Tensor) -> bool:
    if min(query.ndim, key.ndim, value.ndim) < 2 or 0 in (*key.shape[-2:], query.shape[-2]):
        return False
    alike = query.shape[-1] == key.shape[-1] and key.shape[-2] == value.shape[-2]
    return alike and _broadcast(query.shape[:-2], key.shape[:-2], value.shape[:-2]) is not None


def _broadcast(*shapes: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape that these become together; None when they do not fit."""
    try:
        return torch.broadcast_shapes(*shapes)
    except RuntimeError:
        return None


def _check_mask(mask: Tensor, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless this is a mask for scores of this shape, (…, Q, K)."""
    arguments.check_tensor("mask", mask)
    fits = mask.shape[-2:] == shape[-2:] and _broadcast(mask.shape, shape) == shape
    if mask.dtype != torch.bool or not fits:
        raise ValueError(
            f"The mask of {shape[-2]} queries and {shape[-1]} keys is (…, {shape[-2]}, "
            f"{shape[-1]}) of True and False, and this is {tuple(mask.shape)} of "
            f"{arguments.dtype(mask)}: make it with causal_mask, prefix_mask or hide_padding."
        )
    if not bool(mask.any(-1).all()):
        row = int((~mask.any(-1)).nonzero()[0, -1])
        raise ValueError(
            f"The mask lets query {row} look at no key, so there is nothing to take a mean of: let "
            "each token look at least at itself."
        )


# --- Who may look at whom


def causal_mask(length: int) -> Tensor:
    """Each token sees itself and what came before: (T, T) bool, row q, column k. Lesson 13.

    Raises ValueError for a length below 1.
    """
    return prefix_mask(0, length)


def prefix_mask(prefix: int, length: int) -> Tensor:
    """The first `prefix` tokens see each other, all others what came before: (T, T) bool.

    So a picture's tokens, which have no order, all see each other, and no word sees a later one.
    Lesson 13; Raffel et al. (2020), figure 4. Raises ValueError unless 0 <= prefix <= length, and
    for a length below 1.
    """
    arguments.check_count("length", length, 1, 4)
    arguments.check_count("prefix", prefix, 0, 0)
    if prefix > length:
        raise ValueError(
            f"The prefix has {prefix} tokens and the whole sequence {length}: give a length of at "
            "least the prefix."
        )
    place = torch.arange(length)
    before = place[None, :] <= place[:, None]  # (T, T): key k is not after query q
    return before | (place[None, :] < prefix)


def hide_padding(mask: Tensor, known: Tensor) -> Tensor:
    """The same mask for each of B sequences, in which nobody looks at padding: (B, 1, T, T).

    mask (T, T); known (B, T), bool: True where there is a token. Padding may look at itself, so
    that it has something to take a mean of; nobody reads what it finds. The dimension of 1 stands
    for the heads. Lesson 13. Raises ValueError when the shapes do not fit.
    """
    arguments.check_tensor("mask", mask)
    arguments.check_tensor("known", known)
    fits = known.ndim == 2 and mask.shape == 2 * known.shape[1:]
    if not fits or {known.dtype, mask.dtype} != {torch.bool}:
        raise ValueError(
            "hide_padding needs mask (T, T) and known (B, T) of True and False, and got "
            f"{tuple(mask.shape)} of {arguments.dtype(mask)} and {tuple(known.shape)} of "
            f"{arguments.dtype(known)}: make the mask with causal_mask or prefix_mask, and known "
            "with tokens != PAD."
        )
    itself = torch.eye(len(mask), dtype=torch.bool, device=mask.device)
    return ((mask & known[:, None, :]) | itself)[:, None]


# --- The block


class Block(nn.Module):
    """One block of a transformer: look around, then think alone. (B, T, width) to (B, T, width).

    x = x + attention(norm(x)), and then x = x + feed_forward(norm(x)): each part adds to what was
    there, which is called residual connection (He et al., 2016). The layer normalisation comes
    first in each part (Xiong et al., 2020). Lesson 13.

    heads: so many attentions side by side, each with width / heads numbers. hidden: units of the
    feed-forward part, 4 · width unless you say else. residual, norm: False takes the part out, to
    see what it is for. Raises ValueError when the width cannot be divided by the heads.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int | None = None,
        residual: bool = True,
        norm: bool = True,
    ):
        super().__init__()
        arguments.check_count("width", width, 1, 96)
        arguments.check_count("heads", heads, 1, 4)
        if width % heads:
            raise ValueError(
                f"A width of {width} cannot be divided among {heads} heads: choose a multiple of "
                f"{heads}, such as {(width // heads + 1) * heads}."
            )
        hidden = 4 * width if hidden is None else hidden
        arguments.check_count("hidden", hidden, 1, 4 * width)
        self.heads, self.residual = heads, residual
        self.norm_1 = nn.LayerNorm(width) if norm else nn.Identity()
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width) if norm else nn.Identity()
        self.feed_forward = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)
        )

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of tokens (B, T, width): (B, heads, T, width / heads) each.

        Raises ValueError for tokens of another shape.
        """
        arguments.check_tensor("x", x)
        width = self.query_key_value.in_features
        if x.ndim != 3 or x.shape[2] != width:
            raise ValueError(
                f"A block of width {width} takes tokens (B, T, {width}), and got "
                f"{tuple(x.shape)}: pass a batch of sequences of such tokens."
            )
        parts = self.query_key_value(self.norm_1(x)).unflatten(2, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        return query, key, value

    def finish(self, x: Tensor, found: Tensor) -> Tensor:
        """Adds what the heads found (B, heads, T, width / heads) to x; then each token alone."""
        found = self.out(found.transpose(1, 2).flatten(2))  # (B, T, width)
        x = x + found if self.residual else found
        thought = self.feed_forward(self.norm_2(x))
        return x + thought if self.residual else thought

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.read(x, mask)[0]

    def read(self, x: Tensor, mask: Tensor, before: Cache | None = None) -> tuple[Tensor, Cache]:
        """The new tokens (B, T, width), and the keys and values of all, for the next call.

        before: those of the tokens that were read already; mask is then (…, T, earlier + T).
        Raises ValueError as `project`, and for a mask that `dot_product_attention` refuses.
        """
        query, key, value = self.project(x)
        if before is not None:
            key, value = torch.cat([before[0], key], 2), torch.cat([before[1], value], 2)
        if mask is not None:
            _check_mask(mask, (*query.shape[:3], key.shape[2]))
        found = nn.functional.scaled_dot_product_attention(query, key, value, mask)
        return self.finish(x, found), (key, value)

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """How much each token looks at each other one: (B, heads, T, T), rows with sum 1."""
        return dot_product_attention(*self.project(x), mask)[1]
