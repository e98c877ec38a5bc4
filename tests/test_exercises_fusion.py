"""exercises/fusion.py: mistakes and right answers in other words than the catalogue's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression
from torch import nn

from mbm_lab import fusion
from mbm_lab.exercises import fusion as ex


def every(one):
    """All inputs of an exercise, those one step further too."""
    return [*one.cases().values(), *one.beyond().values()]


def test_the_solutions_are_what_the_course_and_the_libraries_compute():
    for f, g, alpha, beta in every(ex.weighted_sum):
        ours = ex.my_weighted_sum(f, g, alpha, beta)
        assert torch.equal(ours, fusion.weighted_sum(f, g, alpha, beta))
    for readings, m in every(ex.best_weights):
        library = LinearRegression().fit(readings.T.double(), m.double())
        ours = ex.my_best_weights(readings, m).tolist()
        assert ours == pytest.approx(library.coef_.tolist(), abs=1e-5)
        if len(readings) == 2:
            assert ours == pytest.approx(fusion.best_weights(*readings, m)[:2], abs=1e-5)
    for f, g, m, alpha, beta, rate in every(ex.step):
        weights = torch.tensor([alpha, beta], dtype=f.dtype, requires_grad=True)
        fusion.mean_squared_error(fusion.weighted_sum(f, g, *weights), m).backward()
        expected = (weights - rate * weights.grad).tolist()
        assert ex.my_step(f, g, m, alpha, beta, rate) == pytest.approx(expected, abs=1e-6)


def test_other_right_answers(said):
    def by_numpy(readings, m):
        columns = np.concatenate([np.ones((1, len(m))), readings.numpy()]).T
        weights = np.linalg.lstsq(columns, m.numpy(), rcond=None)[0][1:]
        return torch.tensor(weights, dtype=m.dtype)

    def by_autograd(f, g, m, alpha, beta, learning_rate):
        weights = torch.tensor([alpha, beta], dtype=f.dtype, requires_grad=True)
        ((weights[0] * f + weights[1] * g - m) ** 2).mean().backward()
        return tuple((weights - learning_rate * weights.grad).tolist())

    class OneParameterList(nn.Module):
        def __init__(self):
            super().__init__()
            self.alpha = nn.Parameter(torch.ones(()))
            self.beta = nn.Parameter(torch.ones(()))

        def forward(self, f, g):
            return torch.add(self.alpha * f, g * self.beta)

    assert "Right." in said(ex.best_weights, by_numpy)
    assert "Right." in said(ex.step, by_autograd)
    assert "Right." in said(ex.weighted_sum_module, OneParameterList)
    assert "Right." in said(ex.weighted_sum, lambda f, g, alpha, beta: f * alpha + g * beta)


def test_the_same_mistakes_in_other_words(said):
    def article(f, g, alpha, beta):
        return torch.stack([f, g]).sum(0)

    def through_zero(readings, m):
        return torch.linalg.lstsq(readings.T, m[:, None]).solution[:, 0]

    def each_alone(readings, m):
        slopes = [np.polyfit(r.double().numpy(), m.double().numpy(), 1)[0] for r in readings]
        return torch.tensor(np.array(slopes), dtype=m.dtype)

    def uphill(f, g, m, alpha, beta, learning_rate):
        error = alpha * f + beta * g - m
        return (
            float(alpha + 2 * learning_rate * (error * f).mean()),
            float(beta + 2 * learning_rate * (error * g).mean()),
        )

    class InAList(nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = [nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(1.0))]

        def forward(self, f, g):
            return self.weights[0] * f + self.weights[1] * g

    assert "without their weights" in said(ex.weighted_sum, article)
    assert "did not subtract the mean" in said(ex.best_weights, through_zero)
    assert "fitted each witness alone" in said(ex.best_weights, each_alone)
    assert "leads uphill" in said(ex.step, uphill)
    assert "are not registered" in said(ex.weighted_sum_module, InAList)


def test_a_module_is_judged_by_what_an_optimizer_sees(said):
    class OfOneNumber(nn.Module):
        def __init__(self):
            super().__init__()
            self.beta, self.alpha = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

        def forward(self, f, g):
            return self.alpha * f + self.beta * g

    class MadeWhenCalled(nn.Module):
        def forward(self, f, g):
            if not hasattr(self, "alpha"):
                self.alpha, self.beta = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
            return self.alpha * f + self.beta * g

    assert "Right." in said(ex.weighted_sum_module, OfOneNumber)
    assert "Right." not in said(ex.weighted_sum_module, MadeWhenCalled)
