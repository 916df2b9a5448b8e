"""System 2 through the command line: averaged weights judged, raw ones beside them, nothing selected on test images."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from run_records import result_of, rows_of, wandb_of

from lit_l2softmax.__main__ import main


@pytest.fixture
def options(tiny_cifar10):
    return [
        f"--data.root={tiny_cifar10}",
        "--data.batch_size=16",
        "--trainer.max_steps=20",
        "--trainer.val_check_interval=10",
        "--optimizer.lr=0.02",
    ]


def test_the_last_averages_are_tested_with_the_raw_weights_beside_them(fit, options):
    run, printed = fit("cifar10", *options)
    assert printed.err == ""
    result = result_of(run)
    assert (result["checkpoint"], result["selected_by"]) == ("checkpoints/last.ckpt", None)
    assert result["data/source"] == "cifar10-unverified"
    assert result["test/images"] == 40
    assert result["test/loss"] != result["test/loss_raw"]
    line = printed.out.splitlines()[-2]
    for name in ("accuracy", "accuracy_raw", "loss", "loss_raw"):
        assert f"test/{name} {result[f'test/{name}']:.4f}" in line
    assert "on 40 images of CIFAR-10 (unverified files) (last; nothing was selected; 20 steps" in line
    recorded = rows_of(run)
    (raw,) = (row for row in recorded if row["test/loss_raw"])
    assert float(raw["test/loss_raw"]) == pytest.approx(result["test/loss_raw"])
    assert [int(row["step"]) for row in recorded if row["test/loss"]] == [9, 19, 20]  # two on the way, one at the end
    assert not any("val/loss" in row for row in recorded)


def test_the_figures_are_those_of_the_checkpoints_two_sets_of_weights(fit, options, capsys):
    run, _ = fit("cifar10", *options)
    result = result_of(run)
    judged = run / "checkpoints" / "last.ckpt"
    swapped = torch.load(judged, weights_only=True)
    swapped["state_dict"] = swapped.pop("current_model_state")
    torch.save(swapped, run / "checkpoints" / "raw.ckpt")
    capsys.readouterr()
    assert main(["test", f"--ckpt_path={run / 'checkpoints' / 'raw.ckpt'}"]) == 0
    alone = capsys.readouterr().out
    assert f"test/loss {result['test/loss_raw']:.4f}" in alone
    assert "_raw" not in alone
    for command in ("test", "validate"):
        assert main([command, f"--run={run}"]) == 0
        line = capsys.readouterr().out
        assert f"test/loss {result['test/loss']:.4f}  test/loss_raw {result['test/loss_raw']:.4f}" in line


def test_images_kept_from_training_select_a_checkpoint(fit, options):
    selected = ["--data.validation=40", "--checkpoint.monitor=val/loss", "--checkpoint.mode=min"]
    run, _ = fit("cifar10", *options, *selected)
    result = result_of(run)
    validated = [float(row["val/loss"]) for row in rows_of(run) if row["val/loss"]]
    assert result["selected_by"] == "val/loss"
    assert result["val/loss"] == pytest.approx(min(validated))
    assert {"test/loss", "test/loss_raw"} <= set(result)


def test_nothing_is_selected_on_test_images(options, tmp_path, capsys):
    folder = tmp_path / "runs"
    assert main(["fit", "--config=cifar10", *options, "--checkpoint.monitor=val/accuracy", f"--runs={folder}"]) == 2
    error = capsys.readouterr().err
    assert "by test images: --checkpoint.monitor=null and no other monitor, or --data.validation=5000" in error
    assert not folder.exists()


@pytest.mark.parametrize(
    "watching",
    [
        ["--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=test/accuracy"],
        ["--lr_scheduler=ReduceLROnPlateau", "--lr_scheduler.monitor=test/loss"],
    ],
)
def test_nothing_is_stopped_or_scheduled_by_test_images(options, tmp_path, capsys, watching):
    assert main(["fit", "--config=cifar10", *options, *watching, f"--runs={tmp_path / 'runs'}"]) == 2
    assert "nothing is selected, stopped or scheduled by test images" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_other_precisions_train_and_keep_their_averages(fit, options, precision):
    run, _ = fit("cifar10", *options, f"--trainer.precision={precision}", "--wandb.mode=offline")
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    average, weight = (checkpoint[part]["network.conv1.weight"] for part in ("state_dict", "current_model_state"))
    kept = {"64-true": torch.float64, "bf16-true": torch.bfloat16, "bf16-mixed": torch.float32}[precision]
    assert (average.dtype, weight.dtype) == (torch.promote_types(kept, torch.float32), kept)
    assert (average - weight).abs().max() > 0


def test_a_resumed_training_goes_on_from_the_weights_and_not_from_their_averages(fit, options):
    first, _ = fit("cifar10", *options, "--trainer.max_steps=12")  # an epoch
    standing = ["--trainer.max_steps=24", "--optimizer.lr=0", f"--ckpt_path={first}/checkpoints/last.ckpt"]
    then, _ = fit("cifar10", *options, *standing)
    before, after = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (first, then))
    kept = 1.0
    for step in range(12, 24):
        kept *= (1 + step) / (10 + step)
    for name, weight in before["current_model_state"].items():
        assert torch.equal(after["current_model_state"][name], weight), name
        expected = weight + kept * (before["state_dict"][name] - weight)
        torch.testing.assert_close(after["state_dict"][name], expected, rtol=1e-5, atol=1e-6)


def test_averages_are_not_taken_for_weights(fit, options, capsys):
    first, _ = fit("cifar10", *options, "--trainer.max_steps=12")
    _, printed = fit(
        "cifar10",
        *options,
        "--model.ema_decay=null",
        f"--ckpt_path={first}/checkpoints/last.ckpt",
        expect=2,
    )
    assert printed.err.startswith(f"error: {first}/checkpoints/last.ckpt holds averaged weights, which training would")
    assert printed.err.endswith("give --model.ema_decay\n")


def test_predictions_have_the_classes_names_and_take_photographs(fit, options, tmp_path, capsys):
    run, _ = fit("cifar10", *options)
    capsys.readouterr()
    assert main(["predict", f"--run={run}"]) == 0
    *lines, picture = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert all(line.split(": ")[1].split()[0] in names for line in lines)
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 300
    photograph = tmp_path / "photograph.jpg"
    Image.linear_gradient("L").convert("RGB").save(photograph)
    assert main(["predict", f"--run={run}", "--images", str(photograph)]) == 0
    assert capsys.readouterr().out.split(": ")[1].split()[0] in names
    assert main(["predict", f"--run={run}", "--images", str(photograph), "--ink=dark"]) == 2
    assert "--ink is for drawings of digits" in capsys.readouterr().err


def test_pictures_are_refused_where_the_data_take_none(fit, options, monkeypatch, capsys, tmp_path):
    run, _ = fit("cifar10", *options)
    monkeypatch.delattr("lit_l2softmax.data.CIFAR10Data.own_images")
    capsys.readouterr()
    assert main(["predict", f"--run={run}", "--images", str(tmp_path / "x.png")]) == 2
    assert "takes no pictures of one's own: leave --images out" in capsys.readouterr().err


def test_without_data_and_network_one_line_says_what_to_do(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("lit_l2softmax.data.downloads._silence", lambda url: "ConnectionError")
    folder = tmp_path / "runs"
    assert main(["fit", "--config=cifar10", f"--data.root={tmp_path / 'data'}", f"--runs={folder}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: CIFAR-10 is not there and no mirror gave it")
    assert error.count("\n") == 1
    assert not folder.exists()


def test_the_last_checkpoint_is_kept_at_every_evaluation(fit, options, monkeypatch):
    """A training of hours that is killed leaves what it had."""
    kept = []
    original = Trainer.save_checkpoint

    def spy(self, path, *arguments):
        original(self, path, *arguments)
        kept.append((self.global_step, Path(path).name, torch.load(path, weights_only=True)["global_step"]))

    monkeypatch.setattr(Trainer, "save_checkpoint", spy)
    fit("cifar10", *options, "--trainer.max_steps=25", "--trainer.num_sanity_val_steps=1")
    assert kept == [(step, "last.ckpt", step) for step in (10, 20, 25)]


def test_wandb_has_the_tutorials_dashboard(fit, options):
    run, printed = fit("cifar10", *options, "--wandb.mode=offline")
    assert printed.err == ""
    recorded = wandb_of(run)
    assert recorded["config"]["data/source"] == "cifar10-unverified"
    summary = recorded["summary"]
    layers = ("network.conv1", "network.conv2", "network.local3", "network.local4")
    for name in (*layers, "logits"):
        assert summary[f"activations/{name}"]["_type"] == "histogram"
        assert 0 <= summary[f"sparsity/{name}"] < 1
    for name in (*layers, "head"):
        for part in ("weights", "gradients"):
            assert sum(summary[f"{part}/{name}.weight"]["values"]) > 0
    for name in ("loss", "cross_entropy", "penalty/network.local3.weight", "penalty/network.local4.weight"):
        assert {f"train/{name}", f"train/{name}_smoothed"} <= set(summary)
    assert summary["train/images"]["count"] == 3
    assert summary["test/loss_raw"] == pytest.approx(result_of(run)["test/loss_raw"])
