"""What a person can get wrong: one clear line, status 2, and nothing left behind."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_l2softmax.__main__ import main
from lit_l2softmax.errors import ConfigError

DRY = ["--trainer.max_steps=1", "--trainer.val_check_interval=1", "--data.source=digits"]


def refused(capsys, *arguments):
    assert main(list(arguments)) == 2
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1
    assert lines[-1] == errors[0]
    assert "Traceback" not in printed.err
    assert len(errors[0]) < 600
    return errors[0].removeprefix("error: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.head.alpha=-1"], "alpha must be 0 (plain softmax) or a finite positive number, got -1.0"),
        (["--model.head.alpha=.nan"], "alpha must be 0 (plain softmax) or a finite positive number, got nan"),
        (["--model.head.alpha=nan"], "model.head.alpha: Expected a <class 'float'>. Got value: nan"),
        (["--model.head.alhpa=3"], "model.head: 'alhpa' is not an option of L2SoftmaxLoss; did you mean 'alpha'?"),
        (["--model.head.num_classes=ten"], "model.head.num_classes: Expected a <class 'int'>. Got value: ten"),
        (["--trainer.max_stepz=3"], "'trainer.max_stepz' is not an option; did you mean 'trainer.max_steps'?"),
        (["--trainer.max_step=3"], "'trainer.max_step' is not an option; did you mean 'trainer.max_steps'?"),
        (["--optimizer.lrr=3"], "optimizer: 'lrr' is not an option of Adam; did you mean 'lr'?"),
        (["--optimizer.lr=-1"], "Invalid learning rate: -1.0"),
        (
            ["--data.source=kaggle"],
            "data.source: Expected a typing.Literal['auto', 'mnist', 'digits']. Got value: kaggle",
        ),
        (["--data.batch_size=0"], "batch_size must be at least 1, got 0"),
        (["--seed_everything=true"], "seed_everything must be a number in [0, 2**32), got True"),
        (["--seed_everything=-1"], "seed_everything must be a number in [0, 2**32), got -1"),
        (["--model.head.num_classes=5"], "the data have 10 classes, the head has 5: --model.head.num_classes=10"),
        (["--model.head.in_features=512"], "the network gives 1024 features, the head wants 512"),
        (
            ["--checkpoint.monitor=val/acc"],
            "checkpoint.monitor: 'val/acc' is not validated; did you mean 'val/accuracy'?",
        ),
        (["--checkpoint.monitor=val/loss"], "checkpoint.mode: max of val/loss is its worst; --checkpoint.mode=min"),
        (["--checkpoint.save_weights_only=true"], "would leave a run without its last state"),
        (["--trainer.limit_test_batches=0"], "must leave something to test the network on"),
        (["--trainer.limit_train_batches=0"], "no step was trained"),
        (["--trainer.val_check_interval=0"], "trainer.val_check_interval must be positive"),
        (["--model.head=PlainSoftmax"], "model.head: 'PlainSoftmax' is no class that is known by that name alone"),
        (["--model.head=torch.nn.Lin"], "model.head: torch.nn has no 'Lin'; did you mean 'Linear'?"),
        (["--model.head=torch.optim.SGD"], "model.head: torch.optim.SGD is no Module"),
        (["--model.head=nowhere.Head"], "model.head: No module named 'nowhere'"),
        (["--optimizer=Adamm"], "optimizer: 'Adamm' is no class that is known by that name alone"),
        (["--checkpoint.dirpath=/x"], "checkpoint.dirpath is the run folder's business; --runs"),
        (["--trainer.overfit_batches=2"], "trainer.overfit_batches would replace the order of the data"),
        (["--trainer.max_steps=0"], "must leave at least one step"),
        (
            ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp_spawn"],
            "several processes train by --trainer.strategy=ddp, not by ddp_spawn",
        ),
        (
            ["--trainer.devices=2", "--trainer.accelerator=cpu", "--model.head=TutorialL2SoftmaxHead"],
            "TutorialL2SoftmaxHead constrains whole batches, which several processes would share",
        ),
        (
            ["--trainer.num_nodes=2", "--trainer.accelerator=cpu"],
            "processes on several machines are started by torchrun or SLURM",
        ),
        (["--trainer.precision=foo"], "'bf16-mixed', '32-true', '64-true']"),
        (["--trainer.precision=foo"], "Got value: foo"),
        (["--lr_scheduler=StepLR"], "lr_scheduler: the following arguments are required: step_size"),
        (["--data.batch_size=2000"], "a batch of 2,000 is more than the 1,197 training images"),
        (["--data.source=mnist", f"--data.root=/{'x' * 300}"], "cannot be read: File name too long"),
        (["--ckpt_path=/nonexistent.ckpt"], "the checkpoint /nonexistent.ckpt cannot be read: No such file"),
        (["--zzz=1"], "'zzz' is not an option"),
    ],
)
def test_a_bad_option_is_named_with_what_it_could_be(capsys, tmp_path, options, message):
    runs = tmp_path / "runs"
    assert message in refused(capsys, "fit", "--config", "mnist", f"--runs={runs}", *DRY, *options)
    assert not runs.exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_steps", "max_stepz", "'trainer.max_stepz' is not an option; did you mean 'trainer.max_steps'?"),
        ("num_classes", "num_class", "'num_class' is not an option of L2SoftmaxLoss; did you mean 'num_classes'?"),
        ("L2SoftmaxLoss", "L2SoftmaxLos", "has no 'L2SoftmaxLos'; did you mean 'L2SoftmaxLoss'?"),
        ("seed_everything: 0", "seed_everything: [0", "config"),
        ("model:", "modle:", "is not an option; did you mean 'model'?"),
    ],
)
def test_a_bad_key_in_a_file_is_named_with_what_it_could_be(capsys, tmp_path, old, new, message):
    from lit_l2softmax.shipped import CONFIGS

    config = tmp_path / "mine.yaml"
    config.write_text((CONFIGS / "mnist.yaml").read_text().replace(old, new))
    assert message in refused(capsys, "fit", f"--config={config}", f"--runs={tmp_path / 'runs'}")


def test_a_damaged_data_file_ends_the_command_before_anything_is_written(capsys, tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b not all of it")
    runs = tmp_path / "runs"
    message = refused(capsys, "fit", "--config=mnist", f"--data.root={tmp_path}", f"--runs={runs}")
    assert "train-images-idx3-ubyte.gz is damaged: 16 bytes" in message
    assert not runs.exists()


@pytest.mark.parametrize("folder", ["file/below", "/proc/nowhere"])
def test_a_run_folder_that_cannot_be_made_is_named(capsys, tmp_path, folder):
    (tmp_path / "file").write_text("")
    message = refused(capsys, "fit", "--config=mnist", f"--runs={tmp_path / folder}", *DRY)
    assert "the run folder" in message
    assert "cannot be made" in message
    assert "--runs" in message


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_an_untrained_network_is_not_scored(capsys, command):
    assert "needs a trained network: --run RUN_FOLDER or --ckpt_path FILE" in refused(capsys, command, "--config=mnist")
    assert "the checkpoint last cannot be read" in refused(capsys, command, "--config=mnist", "--ckpt_path=last")


def test_the_line_holds_nothing_else(capsys):
    said = refused(capsys, "fit", "--config=mnist", *DRY, "--model.head.alhpa=3")
    assert said == "model.head: 'alhpa' is not an option of L2SoftmaxLoss; did you mean 'alpha'?"
    assert refused(capsys, "fit", "--config=mnist", *DRY, "--trainer.max_steps=x").endswith("Got value: x")


def test_a_run_without_its_value_is_one_line(capsys):
    assert refused(capsys, "test", "--run") == "argument --run: expected one argument"


def test_fit_without_a_configuration_says_how_to_name_one(capsys):
    assert refused(capsys, "fit").startswith("fit needs a configuration, --config NAME; `python -m lit_l2softmax list`")
    assert refused(capsys, "fit", "mnist").endswith("did you mean --config mnist?")


def test_a_checkpoint_that_has_all_its_steps_is_not_a_training(capsys, fit, tmp_path):
    run, _ = fit("mnist", *DRY)
    arguments = ["fit", "--config=mnist", *DRY, f"--runs={tmp_path / 'again'}"]
    message = refused(capsys, *arguments, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}")
    assert "no step was trained: the options, or a checkpoint that has all its steps, leave none" in message
    assert not (tmp_path / "again").exists()


def test_weights_that_do_not_fit_are_not_trained_on(capsys, fit, tmp_path):
    run, _ = fit("mnist", *DRY)
    arguments = ["fit", "--config=mnist", *DRY, f"--runs={tmp_path / 'again'}", "--model.head.normalize_weight=true"]
    message = refused(capsys, *arguments, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}")
    assert "head.bias is (10,) in the file and absent in the network" in message
    assert not (tmp_path / "again").exists()


def test_a_run_named_without_its_option_is_guessed(capsys, tmp_path):
    assert refused(capsys, "test", str(tmp_path)).endswith(f"did you mean --run {tmp_path}?")
    assert "give one of them" in refused(capsys, "test", f"--run={tmp_path}", "--ckpt_path=x.ckpt")


def test_options_that_leave_nothing_to_score_are_refused(capsys, fit):
    run, _ = fit("mnist", *DRY)
    assert "no batch was scored" in refused(capsys, "test", f"--run={run}", "--trainer.limit_test_batches=0")
    assert "nothing was predicted" in refused(capsys, "predict", f"--run={run}", "--trainer.limit_predict_batches=0")


def test_a_failure_before_the_first_step_leaves_no_folder(fit, tmp_path, monkeypatch):
    from lit_l2softmax.classification import LitClassification

    def fail(*_):
        raise KeyError("a bug")

    monkeypatch.setattr(LitClassification, "training_step", fail)
    with pytest.raises(KeyError, match="a bug"):
        fit("mnist", *DRY)
    assert not (tmp_path / "runs").exists()


def test_an_interrupted_training_says_where_it_is(tmp_path, capsys, monkeypatch):
    from lit_l2softmax.classification import LitClassification

    def interrupt(self, *_):
        if self.global_step == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(LitClassification, "on_train_batch_end", interrupt)
    monkeypatch.setattr("signal.signal", lambda *_: None)  # Lightning would ignore Ctrl-C for the rest of this process
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config=mnist", "--data.source=digits", f"--runs={tmp_path / 'runs'}"])
    assert ended.value.code == 130
    (run,) = (tmp_path / "runs").glob("mnist/*")
    assert capsys.readouterr().err == f"stopped after 3 steps, before the first checkpoint; {run}\n"


def test_a_traceback_can_be_asked_for(capsys, monkeypatch):
    from lit_l2softmax.errors import ConfigError

    monkeypatch.setenv("LIT_L2SOFTMAX_TRACEBACK", "1")
    with pytest.raises(ConfigError, match="alpha must be 0"):
        main(["fit", "--config=mnist", *DRY, "--model.head.alpha=-1"])


def test_a_configuration_that_is_not_one_is_named(capsys, fit, tmp_path):
    run, _ = fit("mnist", *DRY)
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "broken.yaml").write_text("a: [1")
    assert "list.yaml holds no options" in refused(capsys, "test", f"--run={run}", f"--config={tmp_path}/list.yaml")
    assert "broken.yaml cannot be read" in refused(capsys, "test", f"--run={run}", f"--config={tmp_path}/broken.yaml")


def test_a_folder_that_is_no_run_is_named(capsys, tmp_path):
    assert "is not a run folder: it has no config.yaml" in refused(capsys, "test", f"--run={tmp_path}")
    (tmp_path / "config.yaml").write_text("")
    assert "holds no checkpoint" in refused(capsys, "test", f"--run={tmp_path}")


class Bomb:
    def __reduce__(self):
        return print, ("the bomb went off",)


def test_a_file_that_is_no_checkpoint_is_named_and_never_executed(capsys, tmp_path):
    file = tmp_path / "x.ckpt"
    file.write_bytes(b"not a zip archive")
    assert "x.ckpt is damaged or not a checkpoint" in refused(capsys, "test", f"--ckpt_path={file}")
    torch.save({"state_dict": {}, "bomb": Bomb()}, file)
    assert "x.ckpt is damaged or not a checkpoint" in refused(capsys, "test", f"--ckpt_path={file}")
    file.write_bytes(pickle.dumps(Bomb()))
    assert "x.ckpt is damaged or not a checkpoint" in refused(capsys, "test", f"--ckpt_path={file}")
    torch.save({"state_dict": {}}, file)
    assert "carries no configuration" in refused(capsys, "test", f"--ckpt_path={file}")
    torch.save({"state_dict": {}, "bomb": Bomb()}, file)
    runs = tmp_path / "runs"
    assert "x.ckpt is damaged" in refused(
        capsys, "fit", "--config=mnist", *DRY, f"--ckpt_path={file}", f"--runs={runs}"
    )
    assert not runs.exists()
    assert "went off" not in capsys.readouterr().out


def test_a_truncated_checkpoint_is_named(capsys, fit):
    run, _ = fit("mnist", *DRY)
    checkpoint = run / "checkpoints" / "best.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-2000])
    assert "best.ckpt is damaged" in refused(capsys, "test", f"--run={run}")


def test_an_architecture_that_does_not_fit_the_weights_is_named(capsys, fit):
    run, _ = fit("mnist", *DRY)
    message = refused(capsys, "test", f"--run={run}", "--model.head.normalize_weight=true")
    assert "head.bias is (10,) in the file and absent in the network" in message
    assert str(run) in message


def test_an_unknown_command_is_answered_at_once(capsys):
    assert refused(capsys, "fitt") == "'fitt' is not a command; did you mean 'fit'?"
    known = "fit, validate, test, predict, export, sweep, report, dashboard, list, show, plan, doctor"
    assert refused(capsys, "zzz") == f"'zzz' is not a command; there are {known}"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], ["--version"], [], ["nonsense"]])
def test_help_version_and_unknown_commands_do_not_wait_for_torch(arguments):
    program = (
        "import sys; from lit_l2softmax.__main__ import main; status = main(sys.argv[1:]);"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if arguments == ["nonsense"] else 0), done.stderr
    if "--version" in arguments:
        assert done.stdout.startswith("lit_l2softmax ")
    elif arguments != ["nonsense"]:
        assert done.stdout.startswith("usage: python -m lit_l2softmax COMMAND")


def test_a_commands_help_has_its_program_name_and_its_own_options(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert "usage: python -m lit_l2softmax" in text
    assert "--runs" in text
    assert "--checkpoint.monitor" in text
    assert "--run RUN" not in text


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        ("torch.nn.MSELos", "model.loss: torch.nn has no 'MSELos'; did you mean 'MSELoss'?"),
        ("MSELos", "model.loss: 'MSELos' is no class that is known by that name alone; give its module too"),
        ("torch.optim.SGD", "model.loss: torch.optim.SGD is no Module"),
        ("lit_l2softmax.losses.AsymmetricLoss", "model.loss: the following arguments are required: cost, profit"),
    ],
)
def test_an_unknown_loss_is_named(capsys, tmp_path, loss, message):
    from lit_l2softmax.shipped import config_file

    config = tmp_path / "mine.yaml"
    config.write_text(Path(config_file("yoghurt")).read_text().replace("torch.nn.MSELoss", loss))
    for options in ([f"--config={config}"], ["--config=yoghurt", f"--model.loss={loss}"]):
        assert message in refused(capsys, "fit", f"--runs={tmp_path / 'runs'}", *options)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("config", ["mnist", "mnist_softmax", "recogniser_mse"])
def test_labels_outside_the_classes_are_one_line(capsys, tmp_path, monkeypatch, config):
    from lit_l2softmax.data import MNISTData

    setup = MNISTData.setup

    def with_a_label_of_12(self, stage):
        setup(self, stage)
        self.train = self.train[0], torch.full_like(self.train[1], 12)

    monkeypatch.setattr(MNISTData, "setup", with_a_label_of_12)
    error = refused(capsys, "fit", f"--config={config}", f"--runs={tmp_path / 'runs'}", "--data.source=digits")
    assert error.startswith("a label is none of the 10 classes: ")
    assert "12" in error
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.num_classes=3"], "the data have 2 classes, the regression has 3: --model.num_classes=2"),
        (["--model.num_classes=1"], "num_classes must be at least 2, got 1"),
        (["--model.network=DigitRecogniser"], "the network gives 980 outputs, a regression wants one"),
        (["--model.penalty=WeightPenalty"], "the following arguments are required: weights"),
        (["--data.source=squares"], "data.source: Expected a typing.Literal['yoghurt', 'dots', 'parabola']"),
        (["--data.batch_size=301"], "batch_size must be at least 1 and at most 300, got 301"),
        (["--checkpoint.monitor=val/acuracy"], "'val/acuracy' is not validated; did you mean 'val/accuracy'?"),
        (["--checkpoint.monitor=val/loss"], "checkpoint.mode: max of val/loss is its worst; --checkpoint.mode=min"),
    ],
)
def test_a_regressions_bad_options_are_named(capsys, tmp_path, options, message):
    assert message in refused(capsys, "fit", "--config=dots", f"--runs={tmp_path / 'runs'}", *options)
    assert not (tmp_path / "runs").exists()


def test_points_take_no_pictures(fit, capsys):
    run, _ = fit("dots", "--trainer.max_steps=1", "--trainer.limit_val_batches=0")
    assert "takes no pictures of one's own" in refused(capsys, "predict", f"--run={run}", "--images", "x.png")


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        ("yoghurt", ["--model.network.initial=[1,2,3]"], "the first step failed: size mismatch"),
        ("yoghurt", ["--data.source=parabola", "--data.batch_size=1"], "the first step failed: size mismatch"),
        ("yoghurt_cost", ["--model.loss.reduction=none"], "the first step failed: grad can be implicitly created only"),
        ("dots", ["--model.loss=torch.nn.BCELoss"], "the first step failed: all elements of input should be between"),
    ],
)
def test_parts_that_do_not_fit_fail_in_one_line_at_the_first_step(
    capsys, tmp_path, monkeypatch, config, options, message
):
    given = ["fit", f"--config={config}", f"--runs={tmp_path / 'runs'}", *options]
    assert message in refused(capsys, *given)
    assert not (tmp_path / "runs").exists()
    monkeypatch.setenv("LIT_L2SOFTMAX_TRACEBACK", "1")
    with pytest.raises(ConfigError) as caught:
        main(given)
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_path_that_does_not_exist_is_no_shipped_configuration(capsys, tmp_path):
    for path in ("nowhere/mine/yoghurt.yaml", str(tmp_path / "yoghurt.yaml"), "optim/mnist"):
        assert "does not exist; did you mean" in refused(capsys, "fit", f"--config={path}")
    assert refused(capsys, "fit", "--config=dotz").endswith("does not exist; did you mean 'dots'?")


@pytest.mark.parametrize("name", ["yoghurt", "yoghurt.yaml", "optim/yoghurt", "configs/optim/yoghurt.yaml"])
def test_a_shipped_configuration_is_found_wherever_one_is(name, tmp_path, monkeypatch):
    from lit_l2softmax.shipped import CONFIGS, config_file

    monkeypatch.chdir(tmp_path)
    assert config_file(name) == str(CONFIGS / "optim" / "yoghurt.yaml")


def test_no_two_shipped_configurations_share_a_name():
    from lit_l2softmax.shipped import names

    stems = [Path(name).name for name in names()]
    assert len(set(stems)) == len(stems)


@pytest.mark.parametrize("command", [["list"], ["show", "softmax"]])
def test_a_reader_that_has_read_enough_is_no_error(command):
    """As ``| head -1``; the reader is gone before the first word."""
    code = "import sys, time; time.sleep(1); from lit_l2softmax.__main__ import main; sys.exit(main())"
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    program = subprocess.Popen(
        [sys.executable, "-c", code, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=buffered
    )
    program.stdout.close()
    with program.stderr:
        assert program.stderr.read() == b""
    assert program.wait() == 141


@pytest.mark.parametrize("command", [["show", "nope"], ["list", "nope"], ["fit", "--config=nope"]])
def test_where_an_error_comes_from_can_be_asked_for_of_every_command(command, capsys, monkeypatch):
    refused(capsys, *command)
    monkeypatch.setenv("LIT_L2SOFTMAX_TRACEBACK", "1")
    with pytest.raises(ConfigError):
        main(command)


def test_the_unweighted_accuracy_wants_logits(capsys, tmp_path):
    error = refused(
        capsys,
        "fit",
        "--config=recogniser_mse",
        f"--runs={tmp_path / 'runs'}",
        "--trainer.callbacks=lit_l2softmax.callbacks.UnweightedAccuracy",
        "--data.source=digits",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
    )
    assert error == "UnweightedAccuracy wants logits, LitRegression gives a number a row"


def test_a_loss_can_be_named_without_its_module(fit):
    loss = ["--model.loss=AsymmetricLoss", "--model.loss.cost=1", "--model.loss.profit=2"]
    run, _ = fit("yoghurt", *loss, "--trainer.max_steps=1", "--trainer.limit_val_batches=0")
    assert run is not None
