"""Pictures of regressions: drawn from what was trained, and refused where there is nothing of the kind to draw."""

import numpy as np
import pytest
import torch
from PIL import Image
from run_records import wandb_of

from lit_l2softmax import plots_of_regressions as plots
from lit_l2softmax.__main__ import main

CALLBACKS = "--trainer.callbacks=lit_l2softmax.callbacks."


def drawn(monkeypatch, function):
    """What a drawing function is called with; it draws all the same."""
    calls, real = [], getattr(plots, function)
    monkeypatch.setattr(plots, function, lambda *arguments: (calls.append(arguments), real(*arguments)))
    return calls


def is_a_picture(path):
    with Image.open(path) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20


def test_the_plane_is_drawn_that_was_trained(fit, monkeypatch):
    calls = drawn(monkeypatch, "save_fitted_plane")
    run, _ = fit("yoghurt", "--trainer.max_steps=3", "--trainer.limit_val_batches=0", "--wandb.mode=offline")
    ((path, inputs, targets, weights, title),) = calls
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(weights, state["network.weight"])
    assert (inputs.shape, targets.shape, title) == ((32, 2), (32,), "after 3 steps")
    assert path == run / "plots" / "fitted_plane.png"
    assert is_a_picture(path)
    assert wandb_of(run)["summary"]["plots/fitted_plane"]["count"] == 1


def test_the_way_down_is_drawn_step_by_step(fit, monkeypatch):
    calls = drawn(monkeypatch, "save_descent")
    run, _ = fit("parabola_staircase", "--trainer.max_steps=3")
    ((path, weights, rates, loss, title),) = calls
    assert weights.tolist() == pytest.approx([5.0, 3.8, 2.8496, 2.0950], abs=1e-4)
    assert rates.tolist() == pytest.approx([0.1, 0.099, 0.09801])
    with torch.no_grad():
        assert loss(torch.tensor([2.0, -1.0, 0.0])).tolist() == [9.0, 0.0, 1.0]
    assert title == "3 steps of SGD"
    assert is_a_picture(path)
    # The weight was moved along the curve to draw it, and put back.
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(state["network.weight"], weights[-1:])


def test_the_border_is_drawn_where_the_output_crosses_the_level(fit, monkeypatch):
    calls = drawn(monkeypatch, "save_borders")
    fit("dots", "--trainer.max_steps=2", "--trainer.limit_val_batches=0")
    ((path, inputs, targets, ((title, values),), level),) = calls
    assert (inputs.shape, int(targets.sum()), level) == ((300, 2), 188, 0.5)
    assert len(values) == 600 * 600
    assert title == "output 0.5 after 2 steps"
    assert is_a_picture(path)


def test_the_grid_is_the_sources():
    expected = np.mgrid[-3:3:0.01, -3:3:0.01].reshape(2, -1).T
    np.testing.assert_allclose(plots.grid().numpy(), expected, atol=1e-6)


def test_a_border_lies_where_it_belongs(tmp_path):
    """Half of the square, and the axes not swapped: the picture is black along x_0 = 1 and not along x_1 = 1."""
    values = (plots.grid()[:, 0] > 1).float()
    nothing = torch.zeros(0, 2), torch.zeros(0)
    plots.save_borders(tmp_path / "border.png", *nothing, [("", values)], 0.5)
    with Image.open(tmp_path / "border.png") as picture:
        dark = np.asarray(picture.convert("L")) < 60
    frame_rows, frame_columns = (np.flatnonzero(dark.mean(axis) > 0.5) for axis in (1, 0))
    left, right = frame_columns.min(), frame_columns.max()
    inside = [column for column in frame_columns if left + 3 < column < right - 3]
    assert len(frame_rows) <= 4  # the frame's own
    assert (np.mean(inside) - left) / (right - left) == pytest.approx(4 / 6, abs=0.01)


@pytest.mark.parametrize(
    ("config", "callback", "message"),
    [
        ("dots", "FittedPlane", "FittedPlane draws network.weight, which this network has not"),
        ("dots", "Descent", "Descent draws network.weight, which this network has not"),
        ("yoghurt", "Descent", "Descent draws a single weight, this network has 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_first_step(capsys, tmp_path, config, callback, message):
    assert main(["fit", f"--config={config}", f"--runs={tmp_path / 'runs'}", f"{CALLBACKS}{callback}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
