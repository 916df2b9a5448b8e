"""Losses that PyTorch does not have."""

import math

import pytest
import torch

from lit_l2softmax.losses import AsymmetricLoss


def test_a_unit_too_many_costs_and_a_unit_missing_loses():
    output, target = torch.tensor([3.0, 1.0, 2.0]), torch.tensor([1.0, 4.0, 2.0])
    assert AsymmetricLoss(2, 7, "none")(output, target).tolist() == [4.0, 21.0, 0.0]
    assert AsymmetricLoss(2, 7)(output, target) == 25.0
    assert AsymmetricLoss(2, 7, "mean")(output, target) == pytest.approx(25 / 3)


def test_its_gradient_is_one_slope_or_the_other_and_tensorflows_where_they_meet():
    output = torch.tensor([3.0, 1.0, 2.0], requires_grad=True)
    AsymmetricLoss(2, 7)(output, torch.tensor([1.0, 4.0, 2.0])).backward()
    assert output.grad.tolist() == [2.0, -7.0, -7.0]


def test_it_is_least_at_the_quantile_of_its_slopes():
    target = torch.rand(20_000, generator=torch.Generator().manual_seed(0))
    loss = AsymmetricLoss(1, 9, "mean")
    values = torch.linspace(0, 1, 201)
    best = values[torch.stack([loss(value.expand_as(target), target) for value in values]).argmin()]
    assert abs(best - 0.9) <= 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost": 0, "profit": 1}, "cost must be positive and finite, got 0"),
        ({"cost": 1, "profit": -1}, "profit must be positive and finite, got -1"),
        ({"cost": math.nan, "profit": 1}, "cost must be positive and finite, got nan"),
        ({"cost": 1, "profit": math.inf}, "profit must be positive and finite, got inf"),
        ({"cost": 1, "profit": 1, "reduction": "max"}, "reduction must be 'sum', 'mean' or 'none', got 'max'"),
    ],
)
def test_slopes_that_are_none_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AsymmetricLoss(**options)


def test_shapes_that_would_be_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"outputs are \(3, 1\), targets \(3,\)"):
        AsymmetricLoss(1, 9)(torch.zeros(3, 1), torch.zeros(3))


def test_print_shows_the_slopes():
    assert repr(AsymmetricLoss(1, 9)) == "AsymmetricLoss(cost=1, profit=9, reduction='sum')"
