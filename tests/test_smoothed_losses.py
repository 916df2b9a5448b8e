"""Losses as moving averages: the tutorial's biased ones, and ours."""

import pytest
import torch
from run_records import column_of

from lit_l2softmax.callbacks import SmoothedLosses

SMOOTHED = "--trainer.callbacks=lit_l2softmax.callbacks.SmoothedLosses"


@pytest.mark.parametrize("debias", [True, False])
def test_every_loss_is_recorded_raw_and_smoothed(fit, debias):
    run, _ = fit(
        "mnist",
        SMOOTHED,
        f"--trainer.callbacks.debias={str(debias).lower()}",
        "--model.weight_decay=0.01",
        "--model.decayed_weights=[network.dense.weight]",
        "--trainer.max_steps=12",
        "--trainer.log_every_n_steps=1",
        "--trainer.limit_val_batches=0",
        "--checkpoint.monitor=null",
        "--data.source=digits",
    )
    names = ("loss", "cross_entropy", "weight_decay/network.dense.weight")
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
    trainer = type("T", (), {"_logger_connector": type("C", (), {"should_update_logs": True})})()
    module = type("M", (), {"log_dict": lambda self, values: logged.append(values["train/loss_smoothed"])})()

    def train(callback, losses):
        for loss in losses:
            callback.on_train_batch_end(trainer, module, {"losses": {"loss": loss}}, None, 0)

    losses = torch.arange(1.0, 7.0)
    train(SmoothedLosses(), losses)
    first, then = SmoothedLosses(), SmoothedLosses()
    train(first, losses[:3])
    then.load_state_dict(first.state_dict())
    train(then, losses[3:])
    assert logged[:6] == logged[6:]


def test_a_step_that_was_skipped_has_no_losses():
    callback = SmoothedLosses()
    callback.on_train_batch_end(None, None, None, None, 0)
    assert callback.state_dict()["steps"] == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"the decay of smoothed losses must be in \[0, 1\), got"):
        SmoothedLosses(decay)
