"""exercises/cnn.py: mistakes and right answers in other words than the catalogue's."""

import torch
from scipy.signal import convolve2d
from torch.nn import functional as F

from mbm_lab.exercises import cnn as ex


def by_library(x, k, stride=1):
    return F.conv2d(x[None, None], k[None, None], stride=stride)[0, 0]


def by_autograd(x, k, y):
    k = k.clone().requires_grad_()
    F.mse_loss(by_library(x, k), y).backward()
    return k.grad


def every(one):
    """All inputs of an exercise, those one step further too."""
    return [*one.cases().values(), *one.beyond().values()]


def test_the_solutions_are_what_pytorch_computes():
    for x, k, stride in every(ex.convolve):
        assert torch.allclose(ex.my_convolve(x, k, stride), by_library(x, k, stride), atol=1e-5)
    for x, k, y in every(ex.kernel_slope):
        assert torch.allclose(ex.my_kernel_slope(x, k, y), by_autograd(x, k, y), atol=1e-5)
    for scores, answers in every(ex.cross_entropy):
        library = F.cross_entropy(scores, answers)
        assert torch.allclose(ex.my_cross_entropy(scores, answers), library)


def test_other_right_answers(said):
    def by_matrix(x, k, stride=1):
        windows = x.unfold(0, k.shape[0], stride).unfold(1, k.shape[1], stride)
        return windows.flatten(2) @ k.flatten()

    def stable(scores, answers):
        scores = scores - scores.max(1, keepdim=True).values
        right = scores[torch.arange(len(answers)), answers]
        return (scores.exp().sum(1).log() - right).mean()

    def number_by_number(x, k, y):
        error = by_library(x, k) - y
        slope = torch.zeros_like(k)
        for a in range(k.shape[0]):
            for b in range(k.shape[1]):
                slope[a, b] = 2 * (error * x[a:, b:][: y.shape[0], : y.shape[1]]).mean()
        return slope

    def with_try(model, images):
        mode = model.training
        model.train(False)
        try:
            return model(images).detach()
        finally:
            model.train(mode)

    assert "Right." in said(ex.convolve, by_matrix)
    assert "Right." in said(ex.convolve, by_library)
    assert "Right." in said(ex.cross_entropy, stable)
    assert "Right." in said(ex.cross_entropy, F.cross_entropy)
    assert "Right." in said(ex.read, with_try)
    assert "Right." in said(ex.kernel_slope, by_autograd)
    assert "Right." in said(ex.kernel_slope, number_by_number)


def test_the_same_mistakes_in_other_words(said):
    def by_scipy(x, k, stride=1):
        full = torch.from_numpy(convolve2d(x.numpy(), k.numpy(), mode="valid"))
        return full[::stride, ::stride].to(x.dtype)

    def no_stride(x, k, stride=1):
        return by_library(x, k)

    def every_card_with_the_others(scores, answers):
        probabilities = scores.exp() / scores.exp().sum(0, keepdim=True)
        return -probabilities[torch.arange(len(answers)), answers].log().mean()

    def summed(scores, answers):
        return F.cross_entropy(scores, answers, reduction="sum")

    def slope_of_the_sum(x, k, y):
        return by_autograd(x, k, y) * y.numel()

    def half(x, k, y):
        error = by_library(x, k) - y
        return by_library(x, error) / error.numel()

    def left_in_eval(model, images):
        model.eval()
        return model(images).detach()

    assert "You turned the kernel by 180°" in said(ex.convolve, by_scipy)
    assert "The stride is ignored" in said(ex.convolve, no_stride)
    assert "Right." not in said(ex.cross_entropy, every_card_with_the_others)
    assert "You summed over the cards" in said(ex.cross_entropy, summed)
    assert "stays in evaluation mode" in said(ex.read, left_in_eval)
    assert "You summed over the places" in said(ex.kernel_slope, slope_of_the_sum)
    assert "The factor 2 is missing" in said(ex.kernel_slope, half)
