"""Penalties on named weights."""

import math

import pytest
import torch
from torch import nn

from lit_l2softmax.penalties import WeightPenalty


@pytest.mark.parametrize("l1", [0.0, 0.3])
@pytest.mark.parametrize("l2", [0.0, 0.7])
def test_a_penalty_is_the_sum_of_both_norms(l1, l2):
    module = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3))
    terms = WeightPenalty(["0.weight", "1.bias"], l1, l2).terms(module)
    assert list(terms) == (["penalty/0.weight", "penalty/1.bias"] if l1 or l2 else [])
    for name, term in terms.items():
        weight = module.get_parameter(name.removeprefix("penalty/")).detach().double()
        expected = l1 * weight.abs().sum() + l2 * weight.square().sum() / 2
        assert float(term.detach()) == pytest.approx(float(expected), rel=1e-6)


def test_its_gradient_pulls_towards_zero():
    module = nn.Linear(3, 1, bias=False)
    module.weight.data = torch.tensor([[2.0, -0.5, 1.0]])
    WeightPenalty(["weight"], l1=0.5, l2=0.1).terms(module)["penalty/weight"].backward()
    torch.testing.assert_close(module.weight.grad, torch.tensor([[0.7, -0.55, 0.6]]))


def test_a_weight_that_is_named_twice_is_penalised_once():
    module = nn.Linear(3, 1)
    assert list(WeightPenalty(["weight", "weight"], l2=1.0).terms(module)) == ["penalty/weight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": ["w"], "l2": -0.1}, "l2 must be 0 or a finite positive number, got -0.1"),
        ({"weights": ["w"], "l1": math.nan}, "l1 must be 0 or a finite positive number, got nan"),
        ({"weights": ["w"], "l1": math.inf}, "l1 must be 0 or a finite positive number, got inf"),
        ({"weights": [], "l2": 0.1}, "l2=0.1 penalises nothing: name weights"),
        ({"weights": [], "l1": 0.1}, "l1=0.1 penalises nothing: name weights"),
    ],
)
def test_a_penalty_of_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WeightPenalty(**options)
