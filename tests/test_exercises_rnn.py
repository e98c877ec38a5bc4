"""exercises/rnn.py: mistakes and right answers in other words than the catalogue's."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from mbm_lab import rnn
from mbm_lab.exercises import rnn as ex


def filled(layer, W, U, b):
    """A layer of PyTorch's with these weights."""
    values = [W, U, b, torch.zeros_like(b)]
    for parameter, value in zip(layer.parameters(), values, strict=True):
        parameter.data = value
    return layer


def packed(x, lengths, W, U, b):
    layer = filled(nn.RNN(W.shape[1], len(b), batch_first=True), W, U, b)
    texts = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return layer(texts)[1][0].detach()


def every(one):
    """All inputs of an exercise, those one step further too."""
    return [*one.cases().values(), *one.beyond().values()]


def test_the_solutions_are_what_pytorch_and_the_course_compute():
    for x, h, W, U, b in every(ex.rnn_step):
        cell = filled(nn.RNNCell(W.shape[1], len(b)), W, U, b)
        assert torch.allclose(ex.my_rnn_step(x, h, W, U, b), cell(x, h), atol=1e-6)
    for x, lengths, W, U, b in every(ex.last_state):
        if len(x):
            library = packed(x, lengths, W, U, b)
            assert torch.allclose(ex.my_last_state(x, lengths, W, U, b), library, atol=1e-6)
    for gradients, longest in every(ex.clip):
        weights = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        nn.utils.clip_grad_norm_(weights, longest)
        for weight, ours in zip(weights, ex.my_clip(gradients, longest), strict=True):
            assert torch.allclose(weight.grad, ours, atol=1e-5)
    tokens, _ = ex.shuffle.cases()["five texts"]
    generator = torch.Generator().manual_seed(0)
    ours = ex.my_shuffle(tokens, torch.rand(tokens.shape, generator=generator))
    theirs = rnn.shuffle_words(tokens, torch.Generator().manual_seed(0))
    assert torch.equal(ours.sort(1).values, theirs.sort(1).values)
    assert torch.equal(ours == 0, theirs == 0)


def test_other_right_answers(said):
    def text_by_text(x, lengths, W, U, b):
        rows = []
        for text, length in zip(x, lengths.tolist(), strict=True):
            h = torch.zeros(len(b), dtype=x.dtype)
            for word in text[:length]:
                h = torch.tanh(W @ word + U @ h + b)
            rows.append(h)
        return torch.stack(rows) if rows else x.new_zeros(0, len(b))

    def by_linear(x, h, W, U, b):
        return (nn.functional.linear(x, W, b) + nn.functional.linear(h, U)).tanh()

    def by_hand(gradients, longest):
        numbers = [value for gradient in gradients for value in gradient.flatten().tolist()]
        length = sum(value * value for value in numbers) ** 0.5
        if length <= longest:
            return gradients
        return [gradient / length * longest for gradient in gradients]

    def row_by_row(tokens, keys):
        out = torch.zeros_like(tokens)
        for i, row in enumerate(tokens):
            words = row[row != 0]
            out[i, : len(words)] = words[keys[i][row != 0].argsort()]
        return out

    assert "Right." in said(ex.last_state, text_by_text)
    assert "Right." in said(ex.rnn_step, by_linear)
    assert "Right." in said(ex.shuffle, row_by_row)
    assert "Right." in said(ex.clip, by_hand)


def test_the_same_mistakes_in_other_words(said):
    def last_column(x, lengths, W, U, b):
        layer = filled(nn.RNN(W.shape[1], len(b), batch_first=True), W, U, b)
        return layer(x)[1][0].detach() if len(x) else x.new_zeros(0, len(b))

    def off_by_one(x, lengths, W, U, b):
        h = torch.zeros(len(x), len(b), dtype=x.dtype)
        for t in range(x.shape[1]):
            new = torch.tanh(x[:, t] @ W.T + h @ U.T + b)
            h = torch.where((t <= lengths)[:, None], new, h)
        return h

    def one_by_one(gradients, longest):
        return [
            gradient * min(1.0, longest / (float(gradient.norm()) or 1)) for gradient in gradients
        ]

    def without_memory(x, h, W, U, b):
        return torch.tanh(nn.functional.linear(x, W, b))

    assert "You read the padding too" in said(ex.last_state, last_column)
    assert "One word too many is read" in said(ex.last_state, off_by_one)
    assert "You shortened each gradient by itself" in said(ex.clip, one_by_one)
    assert "You forgot the memory" in said(ex.rnn_step, without_memory)


def test_plain_styles_that_fail_only_one_step_further_are_right(said):
    def without_a_kind(x, lengths, W, U, b):
        h = torch.zeros(len(x), len(b))  # no dtype
        for t in range(x.shape[1]):
            new = torch.tanh(x[:, t] @ W.T + h @ U.T + b)
            h = torch.where((t < lengths)[:, None], new, h)
        return h

    def stacked(x, h, W, U, b):  # fails for an empty batch
        return torch.stack([torch.tanh(W @ a + U @ c + b) for a, c in zip(x, h, strict=True)])

    def with_floats(gradients, longest):  # fails for zeros alone
        length = sum(float((gradient**2).sum()) for gradient in gradients) ** 0.5
        return [min(1.0, longest / length) * gradient for gradient in gradients]

    assert "Right." in said(ex.last_state, without_a_kind)
    assert "Right." in said(ex.rnn_step, stacked)
    assert "Right." in said(ex.clip, with_floats)
