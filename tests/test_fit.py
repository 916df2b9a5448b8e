"""A training through the command line: what it prints, what it leaves, and what the other commands make of it."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from run_records import result_of, rows_of

from lit_l2softmax import runs
from lit_l2softmax.__main__ import main
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData

SHORT = [
    "--trainer.max_steps=20",
    "--trainer.val_check_interval=10",
    "--trainer.log_every_n_steps=5",
    "--data.source=digits",
    "--data.batch_size=32",
]


@pytest.fixture
def trained(fit):
    return fit("mnist", *SHORT)


@pytest.fixture
def ruined_after_20_steps(monkeypatch):
    def ruin(self, *_):
        if self.global_step == 20:
            self.trainer.optimizers[0].param_groups[0]["lr"] = 1.0

    monkeypatch.setattr(LitClassification, "on_train_batch_start", ruin)


def test_a_run_leaves_one_folder_with_its_config_metrics_checkpoints_and_result(trained):
    run, printed = trained
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "plots",
        "report.html",
        "result.json",
    ]
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", run.name)
    assert run.parent.name == "mnist"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]

    result = result_of(run)
    expected = {"data/source": "digits", "seed": 0, "steps": 20, "test/images": 400, "selected_by": "val/accuracy"}
    assert expected.items() <= result.items()
    assert result["checkpoint"] == "checkpoints/best.ckpt"
    assert 0 < result["test/accuracy"] <= 1
    assert result["test/loss"] > 0
    assert 0 < result["seconds"] < 300

    rows = rows_of(run)
    assert [int(row["step"]) for row in rows if row["train/loss"]] == [4, 9, 14, 19]
    assert [int(row["step"]) for row in rows if row["val/accuracy"]] == [9, 19]
    assert [float(row["test/accuracy"]) for row in rows if row["test/accuracy"]] == [result["test/accuracy"]]

    *progress, line, folder = printed.out.splitlines()
    assert [text.split()[1] for text in progress] == ["10/20", "20/20"]
    figures = [f"{name} {result[name]:.4f}" for name in ("test/accuracy", "test/calibration_error", "test/loss")]
    assert line.startswith("  ".join(figures))
    assert "on 400 images of scikit-learn's digits, NOT MNIST (best by val/accuracy; 20 steps" in line
    assert folder == str(run)
    assert printed.err == ""


def test_the_best_checkpoint_on_validation_is_the_one_tested(fit, capsys, ruined_after_20_steps):
    run, _ = fit("mnist", *SHORT, "--trainer.max_steps=40")
    rows = rows_of(run)
    validated = {int(row["step"]): float(row["val/accuracy"]) for row in rows if row["val/accuracy"]}
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["global_step"]
    assert validated[best - 1] == max(validated.values())
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 40
    assert best < 40
    result = result_of(run)
    assert result["val/accuracy"] == max(validated.values())
    capsys.readouterr()
    assert main(["test", f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"]) == 0
    figures = (f"test/accuracy {result['test/accuracy']:.4f}  ", f"  test/loss {result['test/loss']:.4f}  on 400")
    printed = capsys.readouterr().out
    assert all(figure in printed for figure in figures)
    assert main(["test", f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"]) == 0
    printed = capsys.readouterr().out
    assert not any(figure in printed for figure in figures)


def test_runs_go_below_the_working_folder_unless_told_otherwise(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config=mnist", *SHORT]) == 0
    folder = Path(capsys.readouterr().out.splitlines()[-1])
    assert folder.parts[:2] == ("runs", "mnist")
    assert result_of(folder)["checkpoint"] == "checkpoints/best.ckpt"
    assert main(["test", f"--run={folder}"]) == 0
    assert main(["predict", f"--run={folder}"]) == 0
    assert len(list(folder.glob("plots/predictions-*.png"))) == 1


def test_of_several_kept_checkpoints_the_best_is_tested(fit, ruined_after_20_steps):
    run, _ = fit("mnist", *SHORT, "--trainer.max_steps=40", "--checkpoint.save_top_k=-1")
    result = result_of(run)
    validated = [float(row["val/accuracy"]) for row in rows_of(run) if row["val/accuracy"]]
    assert len(list((run / "checkpoints").iterdir())) == 5
    assert result["val/accuracy"] == max(validated)
    step = torch.load(run / result["checkpoint"], weights_only=True)["global_step"]
    assert step == 10 * (1 + validated.index(max(validated)))
    assert runs.judged_checkpoint(run) == run / result["checkpoint"]


def test_a_run_that_was_not_finished_is_judged_by_what_it_has(trained):
    run, _ = trained
    (run / "result.json").unlink()
    assert runs.judged_checkpoint(run).name == "best.ckpt"
    (run / "checkpoints" / "best.ckpt").unlink()
    assert runs.judged_checkpoint(run).name == "last.ckpt"


def test_selection_and_test_see_different_images(fit, monkeypatch):
    seen = {}
    for stage in ("val", "test"):
        original = getattr(MNISTData, f"{stage}_dataloader")

        def spy(self, stage=stage, original=original):
            seen[stage] = original(self)
            return seen[stage]

        monkeypatch.setattr(MNISTData, f"{stage}_dataloader", spy)
    fit("mnist", *SHORT)
    rows = {stage: {image.numpy().tobytes() for image in loader.dataset.images} for stage, loader in seen.items()}
    assert (len(rows["val"]), len(rows["test"])) == (200, 400)
    assert not rows["val"] & rows["test"]


def test_metrics_are_means_over_images_whatever_the_batches(trained, capsys):
    run, _ = trained
    lines = set()
    for size in (400, 150, 7):
        assert main(["test", f"--run={run}", f"--data.eval_batch_size={size}"]) == 0
        lines.add(capsys.readouterr().out)
    assert len(lines) == 1


@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader`")
def test_a_module_of_ones_own_that_counts_no_images_has_its_line(tmp_path, monkeypatch, capsys):
    """`--model` takes any LightningModule; its result must not be lost for want of a metric of ours."""
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "from lightning.pytorch import LightningModule\n"
        "class Own(LightningModule):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(784, 10)\n"
        "    def training_step(self, batch):\n"
        "        return torch.nn.functional.cross_entropy(self.layer(batch[0].flatten(1)), batch[1])\n"
        "    def test_step(self, batch):\n"
        "        self.log('test/loss', self.training_step(batch))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = [
        "--trainer.limit_val_batches=0",
        "--trainer.max_steps=2",
        "--optimizer=torch.optim.SGD",
        "--optimizer.lr=0.1",
        f"--runs={tmp_path}/runs",
    ]
    data = ["--data=lit_l2softmax.data.MNISTData", "--data.source=digits", "--checkpoint.monitor=null"]
    assert main(["fit", "--model=own.Own", *data, *options]) == 0
    assert "on scikit-learn's digits, NOT MNIST (last; nothing was selected; 2 steps" in capsys.readouterr().out


def test_only_what_was_tested_is_counted(fit):
    run, printed = fit("mnist", *SHORT, "--trainer.limit_test_batches=1", "--data.eval_batch_size=20")
    assert "on 20 images" in printed.out
    assert result_of(run)["test/images"] == 20


def test_a_figure_that_is_not_a_number_is_null(fit, monkeypatch):
    loss = LitClassification._loss

    def of_tests_none(self, *arguments):
        return loss(self, *arguments) * (float("nan") if self.trainer.testing else 1)

    monkeypatch.setattr(LitClassification, "_loss", of_tests_none)
    run, _ = fit("mnist", *SHORT)
    assert json.loads((run / "result.json").read_text(), parse_constant=pytest.fail)["test/loss"] is None


def test_records_are_on_disk_as_soon_as_they_are_made(fit, monkeypatch):
    on_disk = []

    def look(self, *_):
        path = Path(self.trainer.log_dir) / "metrics.csv"
        on_disk.append(len(path.read_text().splitlines()) if path.exists() else 0)

    monkeypatch.setattr(LitClassification, "on_train_batch_start", look)
    fit("mnist", *SHORT, "--trainer.val_check_interval=20")
    assert on_disk[4] == 0
    assert on_disk[5] == 2  # the head and the first record
    assert on_disk[19] == 4


def test_a_terminal_gets_a_bar_that_counts_from_one_and_names_no_run(fit, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, printed = fit("mnist", *SHORT, "--trainer.enable_model_summary=false")
    assert "epoch 1 " in printed.out
    assert "/-2" not in printed.out
    assert "v_num" not in printed.out
    assert "val/accuracy: " in printed.out


def test_without_validation_there_are_ten_lines_of_progress(fit):
    _, printed = fit("mnist_tutorial", "--data.source=digits")
    assert [line.split()[1] for line in printed.out.splitlines()[:-2]] == [f"{10 * n}/100" for n in range(1, 11)]


def test_epochs_without_validation_have_a_line_each(fit):
    _, printed = fit(
        "mnist_tutorial",
        "--data.source=digits",
        "--trainer.max_steps=-1",
        "--trainer.max_epochs=2",
        "--data.batch_size=200",
    )
    assert [line.split()[1] for line in printed.out.splitlines()[:-2]] == ["6", "12"]


def test_accumulated_batches_are_one_step(fit):
    _, printed = fit(
        "mnist_tutorial", "--data.source=digits", "--trainer.max_steps=4", "--trainer.accumulate_grad_batches=4"
    )
    assert [line.split()[1] for line in printed.out.splitlines()[:-2]] == ["1/4", "2/4", "3/4", "4/4"]


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_other_precisions_train(fit, precision):
    fit("mnist", *SHORT, "--trainer.max_steps=2", f"--trainer.precision={precision}")


def test_a_shipped_configuration_can_be_named_beside_a_run(trained, capsys):
    run, _ = trained
    assert main(["test", f"--run={run}", "--config", "mnist"]) == 0
    assert "on 400 images of scikit-learn's digits" in capsys.readouterr().out  # on what it was trained on


def test_a_checkpoint_callback_of_ones_own_does_not_judge_the_run(fit):
    run, printed = fit("mnist", *SHORT, "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint")
    assert result_of(run)["checkpoint"] == "checkpoints/best.ckpt"
    assert "best by val/accuracy" in printed.out


def test_a_run_of_two_configurations_has_both_names(fit):
    run, _ = fit("mnist", "--config=mnist_softmax", *SHORT)
    assert run.parent.name == "mnist+mnist_softmax"


@pytest.mark.parametrize("content", ["[]", '{"checkpoint": null}', "{", "{}"])
def test_a_damaged_result_does_not_hide_the_checkpoints(trained, content):
    run, _ = trained
    (run / "result.json").write_text(content)
    assert runs.judged_checkpoint(run).name == "best.ckpt"


@pytest.mark.filterwarnings("always:training on scikit-learn")
def test_the_substitution_is_visible_at_the_start_and_beside_the_result(fit):
    options = [option for option in SHORT if "source" not in option]
    run, printed = fit("mnist", *options, "--data.source=auto")
    (warning,) = [line for line in printed.err.splitlines() if line.startswith("warning: ")]
    assert "training on scikit-learn's 8x8 digits instead of MNIST" in warning
    assert "NOT MNIST" in printed.out
    assert result_of(run)["data/source"] == "digits"


def test_the_record_says_what_the_constraint_does(fit):
    run, _ = fit("mnist", *SHORT, "--model.head.learn_alpha=true")
    rows = [row for row in rows_of(run) if row["train/loss"]]
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
    rates = {row["train/learning_rate"] for row in rows_of(again) if row["train/loss"]}
    assert rates == {"0.25"}


def test_bf16_mixed_precision_trains(fit):
    run, _ = fit("mnist", *SHORT, "--trainer.precision=bf16-mixed")
    assert result_of(run)["test/accuracy"] > 0.3
    assert (
        yaml.safe_load(runs.rebuilding_config(run / "checkpoints" / "best.ckpt"))["trainer"]["precision"]
        == "bf16-mixed"
    )


def test_a_config_that_selects_nothing_tests_the_last_checkpoint_and_says_so(fit):
    run, printed = fit("mnist_tutorial", "--trainer.max_steps=3", "--data.source=digits")
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["last.ckpt"]
    assert "last; nothing was selected; 3 steps" in printed.out
    assert result_of(run)["selected_by"] is None


def test_a_second_config_cannot_drop_what_a_run_needs(fit, tmp_path):
    second = tmp_path / "second.yaml"
    head = {"init_args": {"alpha": 9.0}}
    changes = {"trainer": {"callbacks": [], "max_steps": 3}, "model": {"init_args": {"head": head}}}
    second.write_text(yaml.safe_dump(changes))
    run, printed = fit("mnist", *SHORT[1:], f"--config={second}")
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "plots",
        "report.html",
        "result.json",
    ]
    told = yaml.safe_load((run / "config.yaml").read_text())
    assert told["model"]["init_args"]["head"]["init_args"]["alpha"] == 9
    assert result_of(run)["steps"] == 3
    assert printed.out.startswith("test/accuracy")


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
    assert again.parent == first.parent
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
    monkeypatch.setattr(LitClassification, "on_train_batch_start", lambda self, batch, _: seen.append(batch[1]))
    for seed in (7, 7, 8):
        fit("mnist", *SHORT, f"--seed_everything={seed}", "--trainer.max_steps=1", "--trainer.val_check_interval=1")
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])


def test_alpha_can_be_0_or_learned(fit):
    fit("mnist", *SHORT, "--model.head.alpha=0")
    run, _ = fit("mnist", *SHORT, "--model.head.learn_alpha=true")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["head.alpha"] != 16


def test_the_other_commands_score_a_run_and_a_checkpoint_alone(trained, capsys, tmp_path):
    run, _ = trained
    result = result_of(run)
    assert main(["test", "--run", str(run)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"test/accuracy {result['test/accuracy']:.4f}  ")
    assert f"  test/loss {result['test/loss']:.4f}  on 400" in printed

    alone = tmp_path / "alone.ckpt"
    (run / "checkpoints" / "last.ckpt").rename(alone)
    assert main(["validate", f"--ckpt_path={alone}"]) == 0
    rows = rows_of(run)
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
    assert result_of(run)["data/source"] == "mnist"
    assert main(["predict", "--run", str(run), f"--data.root={mnist_root}"]) == 0
    assert [line.split(": ")[1][0] for line in capsys.readouterr().out.splitlines()[:-1]] == list("7210")
