"""Losses as moving averages: the tutorial's biased ones, and ours."""

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from run_records import column_of
from torch.utils.data import DataLoader

from lit_l2softmax.callbacks import SmoothedLosses
from lit_l2softmax.errors import ConfigError

SMOOTHED = "--trainer.callbacks=lit_l2softmax.callbacks.SmoothedLosses"


@pytest.mark.parametrize("debias", [True, False])
def test_every_loss_is_recorded_raw_and_smoothed(fit, debias):
    run, _ = fit(
        "mnist",
        SMOOTHED,
        f"--trainer.callbacks.debias={str(debias).lower()}",
        "--model.penalty=WeightPenalty",
        "--model.penalty.l2=0.01",
        "--model.penalty.weights=[network.dense.weight]",
        "--trainer.max_steps=12",
        "--trainer.log_every_n_steps=1",
        "--trainer.limit_val_batches=0",
        "--checkpoint.monitor=null",
        "--data.source=digits",
    )
    names = ("loss", "cross_entropy", "penalty/network.dense.weight")
    for name in names:
        raw, smoothed = (column_of(run, f"train/{name}{suffix}") for suffix in ("", "_smoothed"))
        average = 0.0
        for t, (value, found) in enumerate(zip(raw, smoothed, strict=True), start=1):
            average = 0.9 * average + 0.1 * value
            assert found == pytest.approx(average / (1 - 0.9**t) if debias else average, rel=1e-5)
    total, cross_entropy, decay = (column_of(run, f"train/{name}") for name in names)
    assert total == pytest.approx([a + b for a, b in zip(cross_entropy, decay, strict=True)], rel=1e-6)


def test_the_averages_go_on_where_a_training_is_resumed():
    logged = []
    parts = recorder(logged)

    def train(callback, losses):
        for loss in losses:
            callback.on_train_batch_end(*parts, {"losses": {"loss": loss}}, None, 0)

    losses = torch.arange(1.0, 7.0)
    train(SmoothedLosses(), losses)
    first, then = SmoothedLosses(), SmoothedLosses()
    train(first, losses[:3])
    then.load_state_dict(first.state_dict())
    train(then, losses[3:])
    assert logged[:6] == logged[6:]


class Own(LightningModule):
    """Skips its second step, and names its losses or does not."""

    def __init__(self, named):
        super().__init__()
        self.weight, self.named = torch.nn.Parameter(torch.ones(1)), named

    def training_step(self, batch, batch_idx):
        loss = self.weight.square().sum()
        named = {"losses": {"loss": loss.detach()}} if self.named else {}
        return None if batch_idx == 1 else {"loss": loss, **named}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fitted(module, folder):
    callback = SmoothedLosses()
    Trainer(
        accelerator="cpu",
        callbacks=[callback],
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
    ).fit(module, DataLoader(torch.zeros(4)))
    return callback


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec", "ignore:.*returned `None`")
def test_a_step_that_was_skipped_has_no_losses(tmp_path):
    assert fitted(Own(named=True), tmp_path).state_dict()["steps"] == {"loss": 3}


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
def test_a_module_that_names_no_losses_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Own\.training_step returns no 'losses' by name"):
        fitted(Own(named=False), tmp_path)


def recorder(recorded):
    """A trainer that records every step and a module that keeps what it is told to log."""
    trainer = type("T", (), {"_logger_connector": type("C", (), {"should_update_logs": True})})()
    return trainer, type("M", (), {"log_dict": lambda self, values, **_: recorded.append(values)})()


def test_a_loss_that_comes_later_is_not_debiased_as_the_older_ones():
    recorded = []
    callback, parts = SmoothedLosses(), recorder(recorded)
    for losses in ({"a": torch.tensor(2.0)}, {"a": torch.tensor(2.0), "b": torch.tensor(5.0)}):
        callback.on_train_batch_end(*parts, {"losses": losses}, None, 0)
    assert {name: float(value) for name, value in recorded[-1].items()} == pytest.approx(
        {"train/a_smoothed": 2.0, "train/b_smoothed": 5.0}
    )


def test_restored_averages_follow_the_losses_to_their_device():
    callback = SmoothedLosses()
    callback.load_state_dict({"averages": {"loss": torch.tensor(1.0)}, "steps": {"loss": 1}})
    callback.on_train_batch_end(*recorder([]), {"losses": {"loss": torch.ones((), device="meta")}}, None, 0)
    assert callback.state_dict()["averages"]["loss"].is_meta


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"the decay of smoothed losses must be in \[0, 1\), got"):
        SmoothedLosses(decay)
