"""W&B: offline unless asked for, complete when read back, and never in training's way."""

import os
import signal
import subprocess
import sys

import pytest
import wandb_server
from run_records import result_of, wandb_of

from lit_l2softmax.classification import LitClassification
from lit_l2softmax.loggers import RunWandbLogger
from lit_l2softmax.wandb_options import WandbOptions

SHORT = [
    "--trainer.max_steps=20",
    "--trainer.val_check_interval=10",
    "--trainer.log_every_n_steps=5",
    "--data.source=digits",
]


def test_an_offline_run_can_be_read_back_with_everything_in_it(fit):
    run, printed = fit("mnist", *SHORT, "--wandb.mode=offline", "--wandb.group=sweep", "--wandb.tags=[a,b]")
    assert printed.err == ""
    summary = wandb_of(run)
    result = result_of(run)
    metrics = summary["summary"]
    for key in ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "train/learning_rate", "train/alpha"):
        assert key in metrics, key
    assert metrics["train/feature_norm"] > 0
    assert metrics["test/accuracy"] == pytest.approx(result["test/accuracy"])
    assert "test/confusion_matrix_table" in metrics
    for key in ("train/gradient_norm", "train/images_per_second", "val/calibration_error", "test/class_accuracy/7"):
        assert metrics[key] > 0, key
    assert metrics["test/mistakes"]["count"] > 0
    assert summary["config"]["model"]["init_args"]["head"]["init_args"]["alpha"] == 16
    assert run.name in next((run / "wandb").glob("offline-run-*")).name
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "plots",
        "report.html",
        "result.json",
        "wandb",
    ]


def test_two_runs_of_one_process_are_two_runs(fit):
    first, _ = fit("mnist_tutorial", "--trainer.max_steps=2", "--data.source=digits", "--wandb.mode=offline")
    second, _ = fit("mnist_tutorial", "--trainer.max_steps=2", "--data.source=digits", "--wandb.mode=offline")
    for run in (first, second):
        assert run.name in next((run / "wandb").glob("offline-run-*")).name


def test_a_machine_without_any_network_trains_and_records(tmp_path):
    if subprocess.run(["unshare", "--net", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine makes no network namespaces")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_MODE")}
    done = subprocess.run(
        [
            "unshare",
            "--net",
            sys.executable,
            "-m",
            "lit_l2softmax",
            "fit",
            "--config=mnist",
            *SHORT,
            f"--runs={tmp_path}",
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (run,) = tmp_path.glob("mnist/*")
    assert wandb_of(run)["summary"]["test/images"] == 400


def test_a_run_goes_where_its_options_say(tmp_path):
    options = WandbOptions(project="p", entity="e", group="g", tags=["t"])
    logger = RunWandbLogger(tmp_path / "mnist" / "x", options, "offline", {"alpha": 16})
    expected = {"project": "p", "entity": "e", "group": "g", "tags": ["t"], "mode": "offline", "id": "x"}
    assert expected.items() <= logger._wandb_init.items()
    assert logger._wandb_init["config"] == {"alpha": 16}


def test_a_confusion_matrix_tells_the_truth_from_the_prediction(tmp_path, monkeypatch):
    import wandb

    seen, logged = {}, []
    monkeypatch.setattr(wandb.plot, "confusion_matrix", lambda **options: seen.update(options) or "plot")
    logger = RunWandbLogger(tmp_path / "mnist" / "x", WandbOptions(), "offline", {})
    monkeypatch.setattr(RunWandbLogger, "experiment", type("Run", (), {"log": staticmethod(logged.append)}))
    logger.log_confusion("test/confusion", truth=[0, 1], prediction=[1, 1], classes=["a", "b"])
    assert (seen["y_true"], seen["preds"], seen["class_names"]) == ([0, 1], [1, 1], ["a", "b"])
    assert logged == [{"test/confusion": "plot"}]


def test_pictures_are_recorded_at_their_step(tmp_path, monkeypatch):
    import wandb

    logged = []
    monkeypatch.setattr(wandb, "Image", lambda picture, caption: (picture, caption))
    logger = RunWandbLogger(tmp_path / "run", WandbOptions(), "offline", {})
    monkeypatch.setattr(RunWandbLogger, "experiment", type("Run", (), {"log": staticmethod(logged.append)}))
    logger.log_pictures("train/images", ["a picture"], ["cat"], step=7)
    assert logged == [{"train/images": [("a picture", "cat")], "trainer/global_step": 7}]


@pytest.mark.filterwarnings("always:W&B stopped recording")
def test_training_outlives_a_killed_service(fit, monkeypatch):
    killed = []

    def kill(self, *_):
        if self.global_step == 3:
            killed.extend(wandb_server.services())
            for service in killed:
                os.kill(service, signal.SIGKILL)

    monkeypatch.setattr(LitClassification, "on_train_batch_end", kill)
    summaries = "--trainer.callbacks=lit_l2softmax.callbacks.NetworkSummaries"
    run, printed = fit("mnist", *SHORT, "--wandb.mode=offline", summaries, "--trainer.callbacks.every_n_steps=2")
    assert len(killed) == 1
    (warning,) = printed.err.splitlines()
    assert warning.startswith("warning: W&B stopped recording (")
    assert warning.endswith("training goes on, metrics.csv is complete")
    assert result_of(run)["steps"] == 20
    assert "test/accuracy" in printed.out
    assert "test/accuracy" in (run / "metrics.csv").read_text()


@pytest.mark.filterwarnings("always:W&B stopped recording")
def test_training_outlives_a_service_that_never_starts(fit, monkeypatch):
    import wandb

    def fail(**options):
        raise wandb.errors.CommError("no answer")

    monkeypatch.setattr(wandb, "init", fail)
    run, printed = fit("mnist", *SHORT, "--wandb.mode=online")
    assert printed.err.splitlines() == [
        "warning: W&B stopped recording (CommError: no answer); training goes on, metrics.csv is complete"
    ]
    assert result_of(run)["steps"] == 20


@pytest.mark.parametrize(
    ("asked", "variable", "key", "expected"),
    [
        ("auto", None, None, "offline"),
        ("auto", None, "0" * 40, "online"),
        ("auto", "offline", "0" * 40, "offline"),
        ("auto", "disabled", None, "disabled"),
        ("offline", "online", "0" * 40, "offline"),
        ("disabled", None, "0" * 40, "disabled"),
        ("online", None, None, "online"),
    ],
)
def test_the_mode_is_the_option_then_the_variable_then_the_key(monkeypatch, asked, variable, key, expected):
    import wandb

    wandb.teardown()  # it remembers what an earlier run of this process was told
    monkeypatch.delenv("WANDB_MODE")
    for name, value in (("WANDB_MODE", variable), ("WANDB_API_KEY", key)):
        if value is not None:
            monkeypatch.setenv(name, value)
    assert WandbOptions(mode=asked).resolved_mode() == expected


def test_a_mode_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(ValueError, match=r"\$WANDB_MODE must be online, offline or disabled, got 'sometimes'"):
        WandbOptions().resolved_mode()


def test_without_the_package_runs_go_unrecorded_there_unless_it_was_asked_for(monkeypatch):
    monkeypatch.setattr("lit_l2softmax.wandb_options.find_spec", lambda name: None)
    assert WandbOptions().resolved_mode() == "disabled"
    with pytest.raises(ValueError, match="needs the package wandb, which is not installed"):
        WandbOptions(mode="offline").resolved_mode()


def test_nothing_but_the_record_of_a_run_imports_wandb():
    program = (
        "import sys; sys.modules['wandb'] = None\n"
        "import lit_l2softmax.cli\n"
        "from lit_l2softmax.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["fit", "--config=mnist", "--trainer.fast_dev_run=1", "--data.source=digits"]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
