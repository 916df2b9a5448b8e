"""The paper's lower bound for alpha, against the values it prints."""

import math

import pytest

from lit_l2softmax.alpha import alpha_lower_bound


@pytest.mark.parametrize(
    ("num_classes", "probability", "expected"),
    [
        (10, 0.9, 4.277),
        (100, 0.9, 6.782),
        (1000, 0.9, 9.103),
        (13403, 0.9, 11.70),
        (10, 0.99, 6.675),
        (13403, 0.99, 14.10),
    ],
)
def test_it_has_the_published_values(num_classes, probability, expected):
    assert alpha_lower_bound(num_classes, probability) == pytest.approx(expected, abs=0.006)


def test_at_the_bound_the_papers_model_reaches_the_probability():
    alpha = alpha_lower_bound(50, 0.8)
    assert math.exp(alpha) / (math.exp(alpha) + 50 - 2) == pytest.approx(0.8, rel=1e-12)


@pytest.mark.parametrize(("num_classes", "probability"), [(2, 0.9), (0, 0.9), (10, 0.0), (10, 1.0), (10, float("nan"))])
def test_it_refuses_what_the_model_does_not_cover(num_classes, probability):
    with pytest.raises(ValueError, match=r"must be in|at least 3"):
        alpha_lower_bound(num_classes, probability)
