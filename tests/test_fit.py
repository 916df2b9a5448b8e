"""A training through the command line: what it prints, what it leaves, and what the other commands make of it."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from lit_l2softmax import runs
from lit_l2softmax.__main__ import main
from lit_l2softmax.data import MNISTData

SHORT = [
    "--trainer.max_steps=20",
    "--trainer.val_check_interval=10",
    "--trainer.log_every_n_steps=5",
    "--data.source=digits",
    "--data.batch_size=32",
]


def metrics_of(run):
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def trained(fit):
    return fit("mnist", *SHORT)


def test_a_run_leaves_one_folder_with_its_config_metrics_checkpoints_and_result(trained):
    run, printed = trained
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "plots",
        "result.json",
    ]
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run.name)
    assert run.parent.name == "mnist"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]

    result = json.loads((run / "result.json").read_text())
    expected = {"data/source": "digits", "seed": 0, "steps": 20, "data/test_size": 400, "selected_by": "val/accuracy"}
    assert expected.items() <= result.items()
    assert result["checkpoint"] == "checkpoints/best.ckpt"
    assert 0 < result["test/accuracy"] <= 1
    assert result["test/loss"] > 0
    assert result["seconds"] > 0

    rows = metrics_of(run)
    assert [int(row["step"]) for row in rows if row["train/loss"]] == [4, 9, 14, 19]
    assert [int(row["step"]) for row in rows if row["val/accuracy"]] == [9, 19]
    assert [float(row["test/accuracy"]) for row in rows if row["test/accuracy"]] == [result["test/accuracy"]]

    *progress, line, folder = printed.out.splitlines()
    assert [text.split()[1] for text in progress] == ["10/20", "20/20"]
    assert line.startswith(f"test/accuracy {result['test/accuracy']:.4f}  test/loss")
    assert "on 400 images of scikit-learn's digits, NOT MNIST (best by val/accuracy; 20 steps" in line
    assert folder == str(run)
    assert printed.err == ""


def test_the_best_checkpoint_on_validation_is_the_one_tested(fit):
    # A learning rate that ruins the network after the first validation.
    run, _ = fit("mnist", *SHORT, "--trainer.max_steps=40", "--optimizer.lr=0.05")
    rows = metrics_of(run)
    validated = {int(row["step"]): float(row["val/accuracy"]) for row in rows if row["val/accuracy"]}
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert validated[best - 1] == max(validated.values())
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 40


def test_the_record_says_what_the_constraint_does(fit):
    run, _ = fit("mnist", *SHORT, "--model.head.learn_alpha=true")
    rows = [row for row in metrics_of(run) if row["train/loss"]]
    assert all(float(row["train/feature_norm"]) > 0 for row in rows)
    assert {float(row["train/learning_rate"]) for row in rows} == {torch.tensor(0.001).item()}
    alphas = [float(row["train/alpha"]) for row in rows]
    assert len(set(alphas)) == len(alphas)
    assert all(abs(alpha - 16) < 0.1 for alpha in alphas)


def test_a_run_trained_on_the_digits_is_not_tested_on_mnist_nor_the_reverse(trained, tmp_path):
    run, _ = trained
    config = yaml.safe_load(runs.rebuilding_config(run / "checkpoints" / "best.ckpt"))
    assert config["data"]["init_args"]["source"] == "digits"


@pytest.mark.filterwarnings("ignore:.*your dataloader is not resumable")
def test_a_learning_rate_of_the_command_line_beats_that_of_the_checkpoint(trained, fit):
    run, _ = trained
    again, _ = fit(
        "mnist",
        *SHORT,
        "--trainer.max_steps=25",
        "--optimizer.lr=0.25",
        f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}",
    )
    rates = {row["train/learning_rate"] for row in metrics_of(again) if row["train/loss"]}
    assert rates == {"0.25"}


def test_bf16_mixed_precision_trains(fit):
    run, _ = fit("mnist", *SHORT, "--trainer.precision=bf16-mixed")
    assert json.loads((run / "result.json").read_text())["test/accuracy"] > 0.3
    assert (
        yaml.safe_load(runs.rebuilding_config(run / "checkpoints" / "best.ckpt"))["trainer"]["precision"]
        == "bf16-mixed"
    )


def test_a_config_that_selects_nothing_tests_the_last_checkpoint_and_says_so(fit):
    run, printed = fit("mnist_tutorial", "--trainer.max_steps=3", "--data.source=digits")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "last; nothing was selected; 3 steps" in printed.out
    assert json.loads((run / "result.json").read_text())["selected_by"] is None


def test_a_training_shorter_than_an_interval_keeps_and_tests_its_last_weights(fit):
    run, printed = fit("mnist", *SHORT, "--trainer.max_steps=5")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "last; nothing was selected; 5 steps" in printed.out


def test_steps_after_the_last_validation_are_kept(fit):
    run, _ = fit("mnist", *SHORT, "--trainer.max_steps=13")
    steps = {path.stem: torch.load(path, weights_only=True)["global_step"] for path in (run / "checkpoints").iterdir()}
    assert steps == {"best": 10, "last": 13}


def test_a_run_can_be_repeated_from_its_own_config(trained, fit):
    first, _ = trained
    again, _ = fit(first / "config.yaml")
    assert again != first
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (first, again))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert yaml.safe_load((first / "config.yaml").read_text()) == yaml.safe_load((again / "config.yaml").read_text())


def test_another_seed_is_another_training(trained, fit):
    first, _ = trained
    other, _ = fit("mnist", *SHORT, "--seed_everything=1")
    a, b = (torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (first, other))
    assert not torch.equal(a["head.weight"], b["head.weight"])


def test_the_seed_of_a_run_orders_its_data(fit, monkeypatch):
    seen = []
    monkeypatch.setattr(MNISTData, "train_dataloader", lambda self: seen.append(self.seed) or original(self))
    fit("mnist", *SHORT, "--seed_everything=7", "--trainer.max_steps=10")
    assert set(seen) == {7}


original = MNISTData.train_dataloader


def test_alpha_can_be_0_or_learned(fit):
    fit("mnist", *SHORT, "--model.head.alpha=0")
    run, _ = fit("mnist", *SHORT, "--model.head.learn_alpha=true")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["head.alpha"] != 16


def test_the_other_commands_score_a_run_and_a_checkpoint_alone(trained, capsys, tmp_path):
    run, _ = trained
    result = json.loads((run / "result.json").read_text())
    assert main(["test", "--run", str(run)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"test/accuracy {result['test/accuracy']:.4f}  test/loss {result['test/loss']:.4f}  on scikit"
    )

    alone = tmp_path / "alone.ckpt"
    (run / "checkpoints" / "last.ckpt").rename(alone)
    assert main(["validate", f"--ckpt_path={alone}"]) == 0
    rows = metrics_of(run)
    last = [row["val/accuracy"] for row in rows if row["val/accuracy"]][-1]
    assert capsys.readouterr().out.startswith(f"val/accuracy {float(last):.4f}")

    assert main(["predict", f"--run={run}", "--data.predict_images=3"]) == 0
    *lines, picture = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert Path(picture).parent == run / "plots"
    assert Path(picture).is_file()
    assert all(re.fullmatch(r"test image \d: \d  \(probability [01]\.\d{4}\)", line) for line in lines)


def test_options_of_the_data_beat_those_of_the_checkpoint(trained, capsys):
    run, _ = trained
    assert main(["predict", "--run", str(run), "--data.predict_images=2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 1  # and the picture


def test_real_mnist_is_called_mnist_and_its_first_four_predictions_are_made(fit, mnist_root, capsys):
    run, printed = fit(
        "mnist", f"--data.root={mnist_root}", "--trainer.max_steps=100", "--trainer.val_check_interval=100"
    )
    assert "on 10,000 images of MNIST" in printed.out
    assert "NOT" not in printed.out
    assert json.loads((run / "result.json").read_text())["data/source"] == "mnist"
    assert main(["predict", "--run", str(run), f"--data.root={mnist_root}"]) == 0
    assert [line.split(": ")[1][0] for line in capsys.readouterr().out.splitlines()[:-1]] == list("7210")
