"""Pictures of regressions: drawn from what was trained, and refused where there is nothing of the kind to draw."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from run_records import result_of, wandb_of

from lit_l2softmax import plots_of_regressions as plots
from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import DecisionBorder, Descent
from lit_l2softmax.data import PointsData
from lit_l2softmax.errors import ConfigError
from lit_l2softmax.loggers import RunCSVLogger
from lit_l2softmax.networks import LinearUnit
from lit_l2softmax.regression import LitRegression

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
    ((path, weights, rates, loss, title, first),) = calls
    assert weights.tolist() == pytest.approx([5.0, 3.8, 2.8496, 2.0950], abs=1e-4)
    assert rates.tolist() == pytest.approx([0.1, 0.099, 0.09801])
    assert loss(torch.tensor([2.0, -1.0, 0.0])).tolist() == [9.0, 0.0, 1.0]
    assert (title, first) == ("3 steps of SGD", 0)
    assert is_a_picture(path)
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


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*logging interval")
def test_to_draw_a_weights_way_leaves_the_weight_where_it_is(tmp_path):
    module = LitRegression(LinearUnit([5.0]), torch.nn.MSELoss())
    module.configure_optimizers = lambda: torch.optim.SGD(module.parameters(), lr=0.2)
    trainer = Trainer(
        max_steps=3,
        limit_val_batches=0,
        accelerator="cpu",
        logger=RunCSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=[Descent()],
    )
    trainer.fit(module, datamodule=PointsData("parabola", 1, fresh=0))
    assert is_a_picture(tmp_path / "plots" / "descent.png")
    assert module.network.weight.item() == pytest.approx(0.296)


def test_batches_that_end_no_step_are_not_drawn():
    module = LitRegression(LinearUnit([5.0]), torch.nn.MSELoss())
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    descent, trainer = Descent(), type("Trainer", (), {"global_step": 0})()
    descent.on_train_start(trainer, module)
    for accumulated in (True, False, True, False):
        if not accumulated:
            descent.on_before_optimizer_step(trainer, module, optimizer)
        descent.on_train_batch_end(trainer, module, None, None, 0)
    assert (len(descent._weights), len(descent._rates)) == (3, 2)


def test_a_resumed_way_down_goes_on_from_its_step(fit, monkeypatch):
    calls = drawn(monkeypatch, "save_descent")
    run, _ = fit("parabola_staircase", "--trainer.max_steps=2")
    fit("parabola_staircase", "--trainer.max_steps=4", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}")
    _, (_, weights, rates, _, title, first) = calls
    assert weights.tolist() == pytest.approx([2.8496, 2.0950, 1.4944], abs=1e-3)
    assert rates.tolist() == pytest.approx([0.09801, 0.0970299])
    assert (first, title) == (2, "2 steps of SGD")


@pytest.mark.parametrize("config", ["yoghurt", "parabola", "dots"])
@pytest.mark.parametrize("precision", ["64-true", "bf16-true"])
def test_pictures_are_drawn_at_every_precision(fit, config, precision):
    options = ("--trainer.max_steps=2", "--trainer.limit_val_batches=0", f"--trainer.precision={precision}")
    run, _ = fit(config, *options)
    (picture,) = run.glob("plots/*.png")
    assert is_a_picture(picture)


def test_a_picture_that_fails_costs_no_training(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(plots, "save_descent", fail)
    with pytest.raises(OSError, match="no space left"):
        main(["fit", "--config=parabola", f"--runs={tmp_path / 'runs'}"])
    (checkpoint,) = (tmp_path / "runs").glob("*/*/checkpoints/last.ckpt")
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert state["network.weight"].item() == pytest.approx(-1)


def test_no_learning_rate_is_no_warning(fit):
    _, printed = fit("parabola", "--trainer.max_steps=2", "--optimizer.lr=0")
    assert "warning" not in printed.err


def coloured(path):
    """The pixels of a picture, ``(H, W, 3)``, float."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(float)


def test_red_dots_are_red(tmp_path):
    """One of each: red at the top right, blue at the bottom left."""
    points = torch.tensor([[2.0, 2.0], [-2.0, -2.0]])
    values = plots.grid().sum(1)
    plots.save_borders(tmp_path / "dots.png", points, torch.tensor([1.0, 0.0]), [("", values)], 0.5)
    pixels = coloured(tmp_path / "dots.png")
    rows, columns = np.indices(pixels.shape[:2])
    red, blue = (pixels[..., one] - pixels[..., other] > 100 for one, other in ((0, 2), (2, 0)))
    assert rows[red].mean() < rows[blue].mean()
    assert columns[red].mean() > columns[blue].mean()


def test_points_of_a_plane_lie_on_its_lines(tmp_path, monkeypatch):
    """What the other inputs account for is taken off: without noise nothing is off the line."""
    figures = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    inputs, weights = torch.rand(20, 3), torch.tensor([0.5, -2.0, 3.0])
    plots.save_fitted_plane(tmp_path / "plane.png", inputs, inputs @ weights, weights, "")
    for column, axis in enumerate(figures[0].axes):
        points, line = axis.get_lines()
        np.testing.assert_allclose(points.get_xdata(), inputs[:, column])
        np.testing.assert_allclose(points.get_ydata(), inputs[:, column] * weights[column], atol=1e-5)
        np.testing.assert_allclose(line.get_ydata() / line.get_xdata().max(), [0, weights[column]], atol=1e-6)


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
        ("dots", "FittedPlane", "FittedPlane draws network.weight, a row of numbers, which this network has not"),
        ("dots", "Descent", "Descent draws network.weight, a row of numbers, which this network has not"),
        ("parabola", "DecisionBorder", "DecisionBorder draws points of the plane, these inputs are (1, 1)"),
        ("recogniser_mse", "DecisionBorder", "draws points of the plane, these inputs are (1397, 1, 28, 28)"),
        ("yoghurt", "Descent", "Descent draws a single weight, this network has 2"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_first_step(capsys, tmp_path, config, callback, message):
    source = ["--data.source=digits"] if config == "recogniser_mse" else []
    assert main(["fit", f"--config={config}", f"--runs={tmp_path / 'runs'}", f"{CALLBACKS}{callback}", *source]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_weight_that_is_no_row_is_refused(capsys, tmp_path):
    linear = ["--model.network=torch.nn.Linear", "--model.network.in_features=1", "--model.network.out_features=1"]
    assert main(["fit", "--config=parabola", f"--runs={tmp_path / 'runs'}", *linear]) == 2
    assert "a row of numbers, which this network has not" in capsys.readouterr().err


def test_training_without_a_datamodule_has_no_points_to_draw():
    trainer = type("Trainer", (), {"datamodule": None})()
    with pytest.raises(ConfigError, match="NoneType has no training points that could be drawn"):
        DecisionBorder().on_fit_start(trainer, None)


def test_an_average_of_the_weights_can_be_asked_for_by_any_configuration(fit):
    """(w + 1)^2 of the average, which lags behind the weight."""
    run, _ = fit(
        "parabola",
        f"{CALLBACKS}ExponentialMovingAverage",
        "--trainer.callbacks.decay=0.9",
        "--trainer.max_steps=3",
    )
    average, weight = 5.0, 5.0
    for t in range(3):
        weight -= 0.2 * 2 * (weight + 1)
        kept = min(0.9, (1 + t) / (10 + t))
        average = kept * average + (1 - kept) * weight
    assert result_of(run)["test/loss"] == pytest.approx((average + 1) ** 2, rel=1e-5)
    assert result_of(run)["test/loss_raw"] == pytest.approx((weight + 1) ** 2, rel=1e-5)
