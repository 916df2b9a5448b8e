"""Histograms of what goes on inside a network: the right tensors, at the right steps, the training unchanged."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import NetworkSummaries
from lit_l2softmax.loggers import RunWandbLogger

LAYERS = ["network.conv1", "network.conv2"]
OPTIONS = [
    "--trainer.max_steps=5",
    "--trainer.limit_val_batches=0",
    "--checkpoint.monitor=null",
    "--trainer.log_every_n_steps=1",
    "--data.source=digits",
]
SUMMARIES = [
    "--trainer.callbacks=lit_l2softmax.callbacks.NetworkSummaries",
    "--trainer.callbacks.rectified_layers=[network.conv1, network.conv2]",
    "--trainer.callbacks.every_n_steps=2",
]


class Recorded(RunWandbLogger):
    """Keeps what it is given, each call with its arguments in their order."""

    name = version = "recorded"
    save_dir = log_dir = root_dir = None

    def __init__(self):
        self.calls = []

    def __getattribute__(self, name):
        if name in ("calls", "of", "name", "version", "save_dir", "log_dir", "root_dir") or name.startswith("__"):
            return object.__getattribute__(self, name)
        return lambda *arguments, **named: self.calls.append((name, *arguments, *named.values()))

    def of(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture
def recorded(monkeypatch):
    logger = Recorded()
    monkeypatch.setattr("lit_l2softmax.cli.RunWandbLogger", lambda *_: logger)
    monkeypatch.setattr("lit_l2softmax.cli.LitCLI._finish_loggers", lambda self, status: None)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return logger


class Spy(Callback):
    """What the step of each batch is made of, before and after it."""

    def __init__(self):
        self.seen = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        images = batch[0]
        with torch.no_grad():
            pl_module.eval()
            first = pl_module.network.conv1(images).relu()
            logits = pl_module(images)
            pl_module.train()
        weights = {name: weight.detach().clone() for name, weight in pl_module.named_parameters()}
        self.seen[trainer.global_step] = {"conv1": first, "logits": logits, "weights": weights, "batch": batch}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        gradients = {name: weight.grad.clone() for name, weight in pl_module.named_parameters()}
        self.seen[trainer.global_step]["gradients"] = gradients


def assert_counts(histogram, tensor):
    counts, edges = histogram
    values = tensor.detach().float().flatten().numpy()
    assert counts.sum() == values.size
    if values.min() < values.max():
        assert (edges[0], edges[-1]) == (values.min(), values.max())
    # A value on an edge may fall to either side of it, by rounding.
    expected, _ = np.histogram(values, edges)
    assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 2 + 1e-4 * values.size


def test_the_step_that_is_due_is_recorded_as_it_was(fit, recorded, monkeypatch):
    spy = Spy()
    monkeypatch.setattr(NetworkSummaries, "on_train_start", lambda self, *a: spy.seen.clear())
    for hook in ("on_train_batch_start", "on_before_optimizer_step"):
        original = getattr(NetworkSummaries, hook)

        def both(self, *arguments, original=original, hook=hook):
            getattr(spy, hook)(*arguments)
            original(self, *arguments)

        monkeypatch.setattr(NetworkSummaries, hook, both)
    fit("mnist", *OPTIONS, *SUMMARIES)
    histograms = {}
    for found, step in recorded.of("log_histograms"):
        histograms.setdefault(step, {}).update(found)
    assert sorted(histograms) == [0, 2, 4]
    for step, found in histograms.items():
        seen = spy.seen[step]
        assert {name for name in found if name.startswith("activations/")} == {
            f"activations/{name}" for name in (*LAYERS, "logits")
        }
        assert_counts(found["activations/network.conv1"], seen["conv1"])
        assert_counts(found["activations/logits"], seen["logits"])
        for name, weight in seen["weights"].items():
            assert_counts(found[f"weights/{name}"], weight)
            assert_counts(found[f"gradients/{name}"], seen["gradients"][name])
    sparsity = {step: found for found, step in recorded.of("log_metrics") if "sparsity/logits" in found}
    assert sorted(sparsity) == [0, 2, 4]
    for step, found in sparsity.items():
        zeros = float((spy.seen[step]["conv1"] == 0).float().mean())
        assert found["sparsity/network.conv1"] == pytest.approx(zeros)
        assert 0 < zeros < 1
        assert found["sparsity/logits"] == 0
    shown = [call for call in recorded.of("log_pictures") if call[0] == "train/images"]
    assert [step for *_, step in shown] == [0, 2, 4]
    for _, pictures, captions, step in shown:
        images, labels = spy.seen[step]["batch"]
        assert captions == [str(label) for label in labels[:3].tolist()]
        for picture, image in zip(pictures, images[:3, 0], strict=True):
            assert np.array_equal(picture, (image * 255).round().byte().numpy())


def test_watching_changes_nothing_of_a_training(fit, recorded):
    watched, _ = fit("mnist", *OPTIONS, *SUMMARIES)
    plain, _ = fit("mnist", *OPTIONS)
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (watched, plain)]
    for name, weight in states[1]["state_dict"].items():
        assert torch.equal(states[0]["state_dict"][name], weight), name


def test_accumulated_batches_are_recorded_once(fit, recorded):
    fit("mnist", *OPTIONS, *SUMMARIES, "--trainer.accumulate_grad_batches=2", "--trainer.max_steps=3")
    assert [step for found, step in recorded.of("log_metrics") if "sparsity/logits" in found] == [0, 2]


def test_a_run_without_wandb_computes_none_of_it(fit, monkeypatch):
    monkeypatch.setattr("lit_l2softmax.callbacks.network_summaries._activations", None)
    monkeypatch.setattr("lit_l2softmax.callbacks.network_summaries._histogram", None)
    fit("mnist", *OPTIONS, *SUMMARIES)


def test_values_that_are_not_numbers_are_left_out():
    from lit_l2softmax.callbacks.network_summaries import _histogram

    counts, edges = _histogram(torch.tensor([1.0, 2.0, float("nan"), float("inf"), 2.0]))
    assert (counts.sum(), edges[0], edges[-1]) == (3, 1, 2)
    for constant in (torch.full((5,), 3.0), torch.full((5,), float("nan")), torch.zeros(0)):
        counts, edges = _histogram(constant)
        assert counts.sum() == (5 if constant.isfinite().all() and constant.numel() else 0)
        assert edges[0] < edges[-1]


def test_a_layer_that_is_not_there_is_named_with_what_it_could_be(capsys, tmp_path):
    runs = f"--runs={tmp_path / 'runs'}"
    wrong = "--trainer.callbacks.rectified_layers=[network.conv3]"
    assert main(["fit", "--config=mnist", *OPTIONS, SUMMARIES[0], wrong, runs]) == 2
    error = capsys.readouterr().err
    assert "rectified_layers: there is no layer 'network.conv3'; did you mean 'network.conv" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", ["every_n_steps", "images"])
def test_a_number_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        NetworkSummaries(**{name: 0})
