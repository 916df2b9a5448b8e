"""The regression procedure, in Python: what it minimises, measures and says."""

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from lit_l2softmax.data import PointsData
from lit_l2softmax.errors import DataError
from lit_l2softmax.losses import AsymmetricLoss
from lit_l2softmax.networks import DotsNetwork, LinearUnit
from lit_l2softmax.penalties import WeightPenalty
from lit_l2softmax.regression import LitRegression

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]


def recording(module, optimizer=None):
    """The module in a trainer's place that records every step, and what it logs."""
    logged = {}
    connector = type("Connector", (), {"should_update_logs": True})()
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=0.25)
    module.trainer = type("Trainer", (), {"_logger_connector": connector, "optimizers": [optimizer]})()
    module.log = lambda name, value, **_: logged.update({name: float(value)})
    module.log_dict = lambda values, **_: logged.update({name: float(value) for name, value in values.items()})
    return logged


def test_outputs_are_a_number_a_row_whatever_shape_the_network_gives_them():
    inputs = torch.randn(5, 2)
    column, flat = LitRegression(DotsNetwork(), nn.MSELoss()), LitRegression(LinearUnit([1.0, 2.0]), nn.MSELoss())
    assert column(inputs).shape == flat(inputs).shape == (5,)
    assert torch.equal(flat(inputs), inputs @ torch.tensor([1.0, 2.0]))


def test_half_outputs_are_compared_in_float32():
    module = LitRegression(LinearUnit([1.0]).bfloat16(), nn.MSELoss())
    outputs = module(torch.ones(3, 1, dtype=torch.bfloat16))
    assert outputs.dtype == torch.float32
    # 256 and 257 are one number in bfloat16.
    assert module.objective(outputs + 256, torch.full((3,), 256))["loss"] == 1


@pytest.mark.parametrize("penalised", [False, True])
def test_the_objective_is_the_loss_and_its_penalties(penalised):
    torch.manual_seed(0)
    names = ["network.hidden.weight", "network.output.weight"]
    module = LitRegression(DotsNetwork(), nn.MSELoss(), WeightPenalty(names, l2=0.5) if penalised else None)
    logged = recording(module)
    inputs, targets = torch.randn(8, 2), torch.randn(8)
    step = module.training_step((inputs, targets), 0)
    error = float((module(inputs) - targets).square().mean().detach())
    norms = [float(module.get_parameter(name).detach().square().sum()) / 4 for name in names]
    total = error + (sum(norms) if penalised else 0)
    assert float(step["loss"].detach()) == logged["train/loss"] == pytest.approx(total)
    assert logged["train/learning_rate"] == 0.25
    parts = {"train/data_loss": error, **{f"train/penalty/{n}": norm for n, norm in zip(names, norms, strict=True)}}
    for name, part in parts.items():
        assert logged.get(name) == (pytest.approx(part) if penalised else None)
    assert list(step["losses"]) == [name.removeprefix("train/") for name in parts if penalised] + ["loss"]
    assert not any(term.requires_grad for term in step["losses"].values())
    step["loss"].backward()
    gradient = module.network.output.bias.grad
    torch.testing.assert_close(gradient, 2 * (module(inputs) - targets).mean()[None].detach())


def test_targets_of_any_dtype_are_the_outputs_own():
    """Binary cross-entropy takes no integers and no other precision."""
    module = LitRegression(LinearUnit([1.0]), nn.BCEWithLogitsLoss(), num_classes=2).double()
    outputs = torch.tensor([0.5, -2.0], dtype=torch.float64)
    losses = [module.objective(outputs, torch.tensor([1, 0], dtype=dtype)) for dtype in (torch.int64, torch.float32)]
    expected = (torch.log1p((-outputs[0]).exp()) + torch.log1p(outputs[1].exp())) / 2
    assert [float(loss["loss"]) for loss in losses] == [pytest.approx(float(expected))] * 2


def test_the_nearest_class_is_the_prediction():
    module = LitRegression(LinearUnit([1.0]), nn.MSELoss(), num_classes=10)
    outputs = torch.tensor([-3.0, 0.4, 0.6, 6.4, 8.6, 9.4, 57.0])
    said = module.predict_step((outputs[:, None], None), 0)
    assert said["prediction"].tolist() == [0, 0, 1, 6, 9, 9, 9]
    assert torch.equal(said["output"].detach(), outputs)
    logged = recording(module)
    module.training_step((outputs[:, None], torch.tensor([0, 0, 0, 6, 9, 8, 9])), 0)
    assert logged["train/accuracy"] == pytest.approx(5 / 7)


def test_without_classes_the_output_is_the_prediction():
    module = LitRegression(LinearUnit([2.0]), nn.MSELoss())
    said = module.predict_step(torch.tensor([[1.0], [-4.0]]), 0)
    assert said["prediction"].tolist() == said["output"].tolist() == [2.0, -8.0]
    logged = recording(module)
    module.training_step((torch.ones(2, 1), torch.ones(2)), 0)
    assert "train/accuracy" not in logged


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_evaluation_is_the_mean_over_rows_whatever_training_sums_up(tmp_path, reduction):
    inputs, network = torch.rand(7, 3), LinearUnit([1.0, -2.0, 0.5])
    module = LitRegression(network, AsymmetricLoss(1, 9, reduction), WeightPenalty(["network.weight"], l2=5))
    rows = [(inputs[:4], torch.rand(4)), (inputs[4:], torch.rand(3))]
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    for stage, evaluated in (("test", trainer.test), ("val", trainer.validate)):
        (figures,) = evaluated(module, DataLoader(rows, batch_size=None), verbose=False)
        outputs, targets = module(inputs).detach(), torch.cat([targets for _, targets in rows])
        expected = AsymmetricLoss(1, 9, "none")(outputs, targets).mean()
        assert figures == {f"{stage}/loss": pytest.approx(float(expected)), f"{stage}/images": 7}


def test_accuracy_of_classes_is_measured_in_both_splits(tmp_path):
    data = PointsData("dots", 30, fresh=500)
    module = LitRegression(DotsNetwork(), nn.MSELoss(), num_classes=2)
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    for stage, evaluated in (("test", trainer.test), ("val", trainer.validate)):
        (figures,) = evaluated(module, datamodule=data, verbose=False)
        points, labels = data.test if stage == "test" else data.validation
        assert figures[f"{stage}/points"] == 500
        assert figures[f"{stage}/accuracy"] == pytest.approx(float(((module(points) > 0.5) == labels).float().mean()))
    assert module.validation_metrics == {"val/loss": "min", "val/accuracy": "max"}
    assert LitRegression(DotsNetwork(), nn.MSELoss()).validation_metrics == {"val/loss": "min"}


@pytest.mark.parametrize("label", [-1, 10, 0.5 - 1])
def test_a_label_that_is_no_class_is_refused(label):
    module = LitRegression(LinearUnit([1.0]), nn.MSELoss(), num_classes=10)
    recording(module)
    batch = torch.ones(3, 1), torch.tensor([0, label, 9])
    with pytest.raises(DataError, match="a label is none of the 10 classes: labels lie between"):
        module.training_step(batch, 0)
    with pytest.raises(DataError, match="a label is none of the 10 classes: labels lie between"):
        module._evaluate(batch, "test")


class OwnData(LightningDataModule):
    """Validates on what it calls by another name, and its rows by another too."""

    validation_name, row_name = "seen", "day"

    def val_dataloader(self):
        return DataLoader([(torch.ones(3, 1), torch.zeros(3))], batch_size=None)


def test_data_name_what_they_validate_on(tmp_path):
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False)
    (figures,) = trainer.validate(LitRegression(LinearUnit([2.0]), nn.MSELoss()), datamodule=OwnData(), verbose=False)
    assert figures == {"seen/loss": 4.0, "seen/days": 3.0}


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        ((nn.Linear(2, 3), nn.MSELoss()), {}, "the network gives 3 outputs, a regression wants one"),
        ((DotsNetwork(), nn.MSELoss()), {"num_classes": 1}, "num_classes must be at least 2, got 1"),
        (
            (DotsNetwork(), nn.MSELoss(), WeightPenalty(["network.hiden.weight"])),
            {},
            "there is no weight 'network.hiden.weight'; did you mean 'network.hidden.weight'",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, options, message):
    with pytest.raises(ValueError, match=message):
        LitRegression(*parts, **options)


def test_a_linear_unit_wants_weights():
    with pytest.raises(ValueError, match="initial must hold a weight or more"):
        LinearUnit([])
