"""The points of System 3 against the source's own program, and fresh ones of the same rules."""

import numpy as np
import pytest
import torch

from lit_l2softmax.data import PointsData


def drawn(source, batch_size, **options):
    data = PointsData(source, batch_size, **options)
    data.setup("fit")
    return data


def test_yoghurt_is_the_sources_points_one_after_another():
    random = np.random.RandomState(23455)
    inputs = random.rand(32, 2)
    targets = [x1 + x2 + (random.rand() / 10.0 - 0.05) for x1, x2 in inputs]
    data = drawn("yoghurt", 8)
    batches = list(data.train_dataloader())
    assert len(batches) == 4
    for number, (x, y) in enumerate(batches):
        rows = slice(8 * number, 8 * number + 8)
        assert torch.equal(x, torch.tensor(inputs[rows], dtype=torch.float32))
        assert torch.equal(y, torch.tensor(targets[rows], dtype=torch.float32))


def test_dots_are_the_sources_points():
    inputs = np.random.RandomState(2).randn(300, 2)
    targets = [int(x0 * x0 + x1 * x1 < 2) for x0, x1 in inputs]
    x, y = drawn("dots", 30).train
    assert torch.equal(x, torch.tensor(inputs, dtype=torch.float32))
    assert y.tolist() == targets
    assert (int(y.sum()), len(y)) == (188, 300)
    assert PointsData("dots", 30).num_classes == 2
    assert PointsData("yoghurt", 8).num_classes is None


def test_the_parabola_is_a_single_point():
    ((x, y),) = drawn("parabola", 1).train_dataloader()
    assert (x.tolist(), y.tolist()) == ([[1.0]], [-1.0])


def test_fresh_points_are_new_and_the_same_in_every_run():
    one, other = (drawn("dots", 30, fresh=1000, seed=seed) for seed in (0, 1))
    for split in ("validation", "test"):
        assert torch.equal(getattr(one, split)[0], getattr(other, split)[0])
        assert len(getattr(one, split)[1]) == 1000
    parts = torch.cat([one.train[0], one.validation[0], one.test[0]])
    assert len(parts.unique(dim=0)) == 2300
    assert (one.test[1] == (one.test[0].square().sum(1) < 2)).float().mean() > 0.99  # but for rounding at the border
    assert "drawn afresh" in one.title


def test_without_fresh_points_the_training_points_are_tested():
    data = drawn("yoghurt", 8, fresh=0)
    ((x, y),) = data.test_dataloader()
    assert torch.equal(x, data.train[0])
    assert torch.equal(y, data.train[1])
    assert torch.equal(next(iter(data.val_dataloader()))[0], x)
    assert data.title == "yoghurt, the training points themselves"


def test_points_can_be_shuffled():
    orders = []
    for seed in (0, 0, 1):
        loader = drawn("yoghurt", 5, shuffle=True, seed=seed).train_dataloader()
        batches = [x for x, _ in loader]
        assert [len(batch) for batch in batches] == [5] * 6
        orders.append(torch.cat(batches))
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_the_first_test_points_are_predicted():
    data = drawn("dots", 30, predict_points=3)
    ((x, _),) = data.predict_dataloader()
    assert torch.equal(x, data.test[0][:3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1 and at most 32, got 0"),
        ({"batch_size": 33}, "batch_size must be at least 1 and at most 32, got 33"),
        ({"batch_size": 8, "fresh": -1}, "fresh must be 0 or the number of points to test on, got -1"),
        ({"batch_size": 8, "predict_points": 0}, "predict_points must be at least 1, got 0"),
    ],
)
def test_sizes_that_leave_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PointsData("yoghurt", **options)
