"""A training that was interrupted anywhere and resumed is, bit for bit, the training that was not."""

import csv
import errno
import os
import random
import re
import signal
import subprocess
import sys
import textwrap

import pytest
import torch
from run_records import result_of

from lit_l2softmax import resuming, runs
from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import LastCheckpoint, StepRandomness
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data.batches import batch_loader
from lit_l2softmax.errors import RunError
from lit_l2softmax.loggers import RunCSVLogger
from lit_l2softmax.regression import LitRegression

DIGITS = ["--data.source=digits", "--data.batch_size=32"]
SHORT = [*DIGITS, "--trainer.max_steps=40", "--trainer.val_check_interval=7", "--trainer.log_every_n_steps=3"]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The folder of a training that was not interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(["fit", "--config=mnist", *SHORT, f"--runs={folder}", "--wandb.mode=disabled"]) == 0
    (run,) = folder.glob("*/*")
    return run


@pytest.fixture
def interrupted(fit, tmp_path, monkeypatch):
    """Runs `fit` up to a step, which fails; returns the run folder as that left it."""

    def run(config, *options, at):
        before = set((tmp_path / "runs").glob("*/*"))
        with monkeypatch.context() as patched:
            for procedure in (LitClassification, LitRegression):

                def failing(self, batch, batch_idx, step=procedure.training_step):
                    if self.global_step == at:
                        raise MemoryError("the power is gone")
                    return step(self, batch, batch_idx)

                patched.setattr(procedure, "training_step", failing)
            with pytest.raises(MemoryError):
                fit(config, *options)
        (left,) = set((tmp_path / "runs").glob("*/*")) - before
        return left

    return run


def records_of(run):
    """``metrics.csv`` without what a clock says."""
    with (run / "metrics.csv").open() as file:
        return [
            {name: cell for name, cell in row.items() if cell and "_per_" not in name} for row in csv.DictReader(file)
        ]


def weights_of(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def assert_the_same(run, whole):
    assert records_of(run) == records_of(whole)
    ours, theirs = ({name: one for name, one in result_of(each).items() if name != "seconds"} for each in (run, whole))
    assert ours == theirs
    weights = weights_of(whole)
    assert weights_of(run).keys() == weights.keys()
    assert [name for name, weight in weights_of(run).items() if not weight.equal(weights[name])] == []


def power_is_gone(*_):
    raise MemoryError("the power is gone")


def failed(monkeypatch, runs_folder, owner, method, failing, options):
    """The folder of a run of mnist that has failed where a method was called."""
    with monkeypatch.context() as patched:
        patched.setattr(owner, method, failing)
        with pytest.raises(MemoryError):
            main(["fit", "--config=mnist", *options, f"--runs={runs_folder}"])
    (run,) = runs_folder.glob("*/*")
    return run


def resumed(run, capsys, *options):
    capsys.readouterr()
    assert main(["fit", f"--resume={run}", *options]) == 0
    return capsys.readouterr()


CASES = {
    "dropout, in the middle of an epoch": (["mnist", *SHORT], 25),
    "with the first validation behind it": pytest.param(["mnist", *SHORT], 7, marks=pytest.mark.slow),
    "at the last step": pytest.param(["mnist", *SHORT], 39, marks=pytest.mark.slow),
    "at an epoch's end": (["mnist", *SHORT, "--trainer.val_check_interval=37"], 38),
    "by epochs": (["recogniser_ce", *DIGITS, "--data.batch_size=200", "--trainer.max_epochs=4"], 11),
    "gradients of several batches": pytest.param(
        ["mnist", *SHORT, "--trainer.accumulate_grad_batches=3"], 9, marks=pytest.mark.slow
    ),
    "an endless stream": pytest.param(["lenet", *SHORT, "--data.batch_size=100"], 19, marks=pytest.mark.slow),
    "a learned alpha": pytest.param(["mnist", *SHORT, "--model.head.learn_alpha=true"], 25, marks=pytest.mark.slow),
    "a decay by steps": (
        ["dots_modular", "--trainer.max_steps=90", "--trainer.val_check_interval=8", "--data.fresh=30"],
        50,
    ),
}


@pytest.mark.parametrize(("arguments", "at"), CASES.values(), ids=CASES)
def test_a_resumed_training_is_the_one_that_was_not_interrupted(fit, interrupted, capsys, arguments, at):
    whole, printed = fit(*arguments)
    run = interrupted(*arguments, at=at)
    assert not (run / "result.json").exists()
    again = resumed(run, capsys)
    assert again.out.startswith(f"resuming {run} from last.ckpt\n")
    assert again.out.splitlines()[-1] == str(run)
    assert_the_same(run, whole)
    # What is printed last is what the training that was not interrupted printed, but for the time it took.
    line, expected = (re.sub(r", \d+ s\)", "", text.out.splitlines()[-2]) for text in (again, printed))
    assert line == expected


def test_averages_and_distortions_go_on_too(fit, interrupted, capsys, tiny_cifar10):
    options = [f"--data.root={tiny_cifar10}", "--data.batch_size=16", "--trainer.max_steps=20", "--optimizer.lr=0.02"]
    options += ["--trainer.val_check_interval=4", "--trainer.log_every_n_steps=3"]
    whole, _ = fit("cifar10", *options)
    run = interrupted("cifar10", *options, at=14)
    resumed(run, capsys)
    assert_the_same(run, whole)


@pytest.mark.slow
def test_a_training_that_was_interrupted_twice_goes_on_twice(short, interrupted, capsys, monkeypatch):
    run = interrupted("mnist", *SHORT, at=16)
    step = LitClassification.training_step

    def failing(self, batch, batch_idx):
        if self.global_step == 30:
            raise MemoryError("again")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patched:
        patched.setattr(LitClassification, "training_step", failing)
        with pytest.raises(MemoryError):
            main(["fit", f"--resume={run}"])
    resumed(run, capsys)
    assert_the_same(run, short)


KILLED = textwrap.dedent("""
    import os, signal, sys
    from lit_l2softmax.__main__ import main
    from lit_l2softmax.classification import LitClassification
    step = LitClassification.training_step
    def killed(self, batch, batch_idx):
        if self.global_step == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, batch, batch_idx)
    LitClassification.training_step = killed
    main(["fit", *sys.argv[2:]])
""")


def killed(runs_folder, at, *arguments):
    """The folder of a run whose process was killed at a step."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(at), *arguments, f"--runs={runs_folder}"],
        # W&B would serve it by this process's own helper, which a kill of it leaves behind.
        env={name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    (run,) = runs_folder.glob("*/*")
    return run


def test_a_killed_process_is_taken_up_by_another_and_its_wandb_run_with_it(short, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = killed(tmp_path / "killed", 25, "--config=mnist", *SHORT)
    assert main(["fit", "--config=mnist", *SHORT, f"--runs={tmp_path / 'killed'}", "--resume=auto"]) == 0
    assert f"resuming {run} from last.ckpt" in capsys.readouterr().out
    assert_the_same(run, short)
    assert [folder.name.partition("-2")[2][-22:] for folder in (run / "wandb").glob("offline-run-*")] == [run.name] * 2


def asked_to_stop(monkeypatch, number, when):
    """Sends this process a signal in the middle of a step, or of a validation."""
    for name in ("training_step", "validation_step"):
        step = getattr(LitClassification, name)

        def asked(self, batch, batch_idx, name=name, step=step):
            if (name, self.global_step) == when:
                os.kill(os.getpid(), number)
            return step(self, batch, batch_idx)

        monkeypatch.setattr(LitClassification, name, asked)


@pytest.mark.parametrize(
    ("number", "status", "when", "steps"),
    [
        pytest.param(
            signal.SIGTERM, 143, ("training_step", 24), 25, marks=pytest.mark.slow
        ),  # in a step of which no record is kept
        (signal.SIGTERM, 143, ("training_step", 26), 27),  # in one whose record is kept
        (signal.SIGTERM, 143, ("training_step", 27), 28),  # in one behind which the training validates
        (signal.SIGINT, 130, ("validation_step", 28), 28),
        (signal.SIGINT, 130, ("training_step", 39), 40),  # in the last one
    ],
)
def test_a_training_that_is_asked_to_stop_saves_its_step_and_goes_on_from_there(
    short, tmp_path, capsys, monkeypatch, number, status, when, steps
):
    runs_folder, handlers = tmp_path / "asked", [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patched:
        asked_to_stop(patched, number, when)
        with pytest.raises(SystemExit) as ended:
            main(["fit", "--config=mnist", *SHORT, f"--runs={runs_folder}"])
    assert ended.value.code == status
    (run,) = runs_folder.glob("*/*")
    assert capsys.readouterr().err == f"stopped after {steps} steps; {run}; `fit --resume {run}` goes on\n"
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == steps
    assert not (run / "result.json").exists()
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == handlers
    resumed(run, capsys)
    assert_the_same(run, short)


def test_gradients_that_are_being_added_up_are_waited_for(fit, tmp_path, capsys, monkeypatch):
    options = [*SHORT, "--trainer.accumulate_grad_batches=3"]
    whole, _ = fit("mnist", *options)
    with monkeypatch.context() as patched:
        asked_to_stop(patched, signal.SIGTERM, ("training_step", 8))
        with pytest.raises(SystemExit):
            main(["fit", "--config=mnist", *options, f"--runs={tmp_path / 'asked'}"])
    (run,) = (tmp_path / "asked").glob("*/*")
    assert "stopped after 9 steps" in capsys.readouterr().err
    resumed(run, capsys)
    assert_the_same(run, whole)


def test_a_second_ctrl_c_does_not_wait(tmp_path, capsys, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job begins without

    def impatient(self, batch, batch_idx):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("it went on")

    monkeypatch.setattr(LitClassification, "training_step", impatient)
    with pytest.raises(SystemExit) as ended:
        main(["fit", "--config=mnist", *SHORT, f"--runs={tmp_path / 'asked'}"])
    assert ended.value.code == 130
    assert not (tmp_path / "asked").exists()


def test_a_process_that_is_terminated_ends_soon_and_says_so(tmp_path):
    arguments = ["--config=mnist", *DIGITS, "--trainer.max_steps=100000", "--trainer.val_check_interval=5"]
    with subprocess.Popen(
        [sys.executable, "-m", "lit_l2softmax", "fit", *arguments, f"--runs={tmp_path}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().startswith("step 5/100000")
        process.terminate()
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 143
    assert re.fullmatch(r"stopped after \d+ steps; .*; `fit --resume .*` goes on\n", printed)


@pytest.mark.slow
@pytest.mark.parametrize("config", ["mnist", "cifar10"])
def test_three_kills_anywhere_change_nothing(fit, tmp_path, capsys, config, request):
    root = request.getfixturevalue(f"{config}_root")
    arguments = [f"--data.root={root}", "--trainer.max_steps=60", "--trainer.val_check_interval=13"]
    arguments += ["--trainer.log_every_n_steps=5", "--trainer.limit_val_batches=2", "--trainer.limit_test_batches=2"]
    whole, _ = fit(config, *arguments)
    for at in random.Random(0).sample(range(13, 60), 3):
        run = killed(tmp_path / f"killed{at}", at, f"--config={config}", *arguments)
        resumed(run, capsys)
        assert_the_same(run, whole)


@pytest.mark.parametrize(("at", "kept"), [pytest.param(14, "best", marks=pytest.mark.slow), (42, "best"), (28, "last")])
def test_a_kill_between_two_checkpoints_of_one_validation_loses_neither(fit, capsys, monkeypatch, tmp_path, at, kept):
    options = [*SHORT, "--trainer.max_steps=42"]  # the last step is validated
    whole, _ = fit("mnist", *options)
    saves = LastCheckpoint.on_validation_end

    def killed(self, trainer, module):
        if trainer.global_step == at:
            if kept == "last":
                saves(self, trainer, module)
            raise MemoryError("the power is gone")
        saves(self, trainer, module)

    run = failed(monkeypatch, tmp_path / "killed", LastCheckpoint, "on_validation_end", killed, options)
    (run / "checkpoints" / "best.ckpt.part").write_text("half of one")
    resumed(run, capsys)
    ours, theirs = ([{**row, "epoch": ""} for row in records_of(one)] for one in (run, whole))
    assert ours == theirs
    weights = weights_of(whole)
    assert all(weight.equal(weights[name]) for name, weight in weights_of(run).items())
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_a_training_whose_only_checkpoint_is_its_best_is_not_thrown_away(capsys, monkeypatch, tmp_path):
    options = [*SHORT, "--trainer.val_check_interval=40"]
    run = failed(monkeypatch, tmp_path / "killed", LastCheckpoint, "on_validation_end", power_is_gone, options)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["best.ckpt"]
    resumed(run, capsys)
    assert result_of(run)["steps"] == 40
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == (run / "checkpoints" / "best.ckpt").read_bytes()


def test_a_training_that_was_killed_in_its_test_is_tested(short, capsys, monkeypatch, tmp_path):
    run = failed(monkeypatch, tmp_path / "killed", LitClassification, "test_step", power_is_gone, SHORT)
    resumed(run, capsys)
    assert_the_same(run, short)


def test_a_kill_while_the_record_gets_a_new_column_keeps_it(fit, tmp_path, monkeypatch):
    run, _ = fit("mnist", *SHORT)
    before = (run / "metrics.csv").read_bytes()
    writer = RunCSVLogger(run).experiment
    writer.log_metrics({"new": 1.0}, 40)

    with monkeypatch.context() as patched:
        patched.setattr(csv.DictWriter, "writerows", power_is_gone)
        with pytest.raises(MemoryError):
            writer.save()
    assert (run / "metrics.csv").read_bytes() == before


# ---- which checkpoint, which run


def damaged(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before_aloud(short, interrupted, capsys):
    run = interrupted("mnist", *SHORT, at=25)
    last, best = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best"))
    os.utime(best, (1, 1))
    damaged(last)
    again = resumed(run, capsys)
    (warning,) = again.err.splitlines()
    assert warning.startswith(f"warning: {last} is damaged")
    assert warning.endswith("; best.ckpt is taken instead")
    assert_the_same(run, short)


def test_where_every_checkpoint_is_damaged_nothing_is_touched(interrupted, capsys):
    run = interrupted("mnist", *SHORT, at=25)
    for path in (run / "checkpoints").iterdir():
        damaged(path)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["fit", f"--resume={run}"]) == 2
    assert f"error: {run} holds no checkpoint that could be resumed: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("option", "name"),
    [("--data.batch_size=16", "data"), ("--seed_everything=1", "seed_everything"), ("--model.head.alpha=3", "model")],
)
def test_what_would_be_another_training_is_refused(interrupted, capsys, option, name):
    run = interrupted("mnist", *SHORT, at=25)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["fit", f"--resume={run}", option]) == 2
    expected = f"error: --resume goes on with the {name} of the run; to change it, begin a new one: --ckpt_path\n"
    assert capsys.readouterr().err == expected
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_run_that_was_moved_says_where_it_was(interrupted, capsys, tmp_path):
    run = interrupted("mnist", *SHORT, at=25)
    moved = run.rename(tmp_path / run.name)
    assert main(["fit", f"--resume={moved}"]) == 2
    assert f"error: {moved} was moved here from {run}: move it back" in capsys.readouterr().err
    (tmp_path / "link").symlink_to(moved.rename(run))
    resumed(tmp_path / "link", capsys)  # another name of the same place


def test_a_run_keeps_the_checkpoint_that_it_began_from(fit, interrupted, capsys):
    first, _ = fit("mnist", *SHORT, "--trainer.max_steps=8")
    began = f"--ckpt_path={first / 'checkpoints' / 'last.ckpt'}"
    run = interrupted("mnist", *SHORT, began, at=25)
    before = (run / "config.yaml").read_text()
    resumed(run, capsys)
    assert (run / "config.yaml").read_text() == before
    assert str(first) in before


def test_data_that_cannot_be_had_any_more_are_not_replaced(interrupted, capsys):
    run = interrupted("mnist", *SHORT, at=25)
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content[runs.CONFIG_KEY]["data_source"] = "mnist"
    torch.save(content, last)
    assert main(["fit", f"--resume={run}"]) == 2
    assert "MNIST is not there" in capsys.readouterr().err


def test_a_configuration_cannot_ask_to_be_resumed(capsys, tmp_path):
    (tmp_path / "z.yaml").write_text("resume: runs/x\n")
    assert main(["fit", "--config=mnist", f"--config={tmp_path / 'z.yaml'}"]) == 2
    assert capsys.readouterr().err == "error: --resume is for the command line: a configuration cannot have it\n"


def test_a_file_system_without_locks_is_no_reason_not_to_train(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    os.close(resuming.claim(tmp_path))
    with pytest.raises(RunError, match="nowhere cannot be read: No such file"):
        resuming.claim(tmp_path / "nowhere")


def test_what_the_command_line_says_beats_what_the_run_was_told(interrupted, capsys):
    run = interrupted("mnist", *SHORT, at=25)
    resumed(run, capsys, "--trainer.max_steps=30")
    assert result_of(run)["steps"] == 30
    assert "max_steps: 30" in (run / "config.yaml").read_text()
    assert "resume: null" in (run / "config.yaml").read_text()


def test_auto_begins_where_there_is_nothing_to_go_on_with(fit, tmp_path):
    folder = tmp_path / "runs" / "mnist_tutorial"
    options = ["--trainer.max_steps=1", "--data.source=digits", "--resume=auto"]
    first, printed = fit("mnist_tutorial", *options)
    assert printed.out.startswith(f"nothing to resume in {folder}: a new run begins\n")
    second, _ = fit("mnist_tutorial", *options)  # the first is over
    assert {first.parent, second.parent} == {folder}
    assert first != second


def test_a_run_in_which_another_process_trains_is_left_alone(interrupted, capsys):
    run = interrupted("mnist", *SHORT, at=25)
    before = (run / "metrics.csv").read_bytes()
    claim = resuming.claim(run)
    assert main(["fit", f"--resume={run}"]) == 2
    assert capsys.readouterr().err == f"error: another process is training in {run}\n"
    assert (run / "metrics.csv").read_bytes() == before
    os.close(claim)
    resumed(run, capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume=auto"], "--resume auto goes on with the newest run of a configuration: give its --config too"),
        (["--resume=nowhere"], "nowhere is not a run folder: it has no config.yaml"),
        (["--resume"], "argument --resume: expected one argument"),
        (
            ["--resume=x", "--config=mnist"],
            "--resume RUN goes on with that run's own configuration: leave --config out",
        ),
        (["--resume=x", "--ckpt_path=y"], "--resume and --ckpt_path name two checkpoints; give one of them"),
    ],
)
def test_what_cannot_be_resumed_is_one_line(capsys, arguments, message):
    assert main(["fit", *arguments]) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


def test_a_run_that_is_over_is_not_resumed(fit, capsys):
    run, _ = fit("mnist_tutorial", "--trainer.max_steps=1", "--data.source=digits")
    assert main(["fit", f"--resume={run}"]) == 2
    assert f"{run} is over: it has its result.json" in capsys.readouterr().err


def test_the_newest_unfinished_run_is_the_one_that_auto_means(tmp_path):
    assert resuming.unfinished(tmp_path / "nowhere") is None
    for name, files in {
        "20260101-000000-aaaaaa": ["config.yaml", "checkpoints/last.ckpt"],
        "20260102-000000-bbbbbb": ["config.yaml", "checkpoints/last.ckpt"],
        "a note": ["config.yaml", "checkpoints/last.ckpt"],
    }.items():
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text("")
    assert resuming.unfinished(tmp_path).name == "20260102-000000-bbbbbb"
    (tmp_path / "20260102-000000-bbbbbb" / "result.json").write_text("{}")
    assert resuming.unfinished(tmp_path) is None  # an older one is nobody's wish


def test_records_that_will_be_made_again_are_taken_out(tmp_path):
    file = tmp_path / runs.METRICS_FILE
    resuming.cut_metrics(tmp_path, 3)
    assert not file.exists()
    file.write_text("step,a\n1,x\n2,y\n3,z\n,q\n1")  # the last line was to be of step 11
    resuming.cut_metrics(tmp_path, 3)
    assert file.read_text().splitlines() == ["step,a", "1,x", "2,y"]
    assert [path.name for path in tmp_path.iterdir()] == [runs.METRICS_FILE]


def test_two_claims_exclude_each_other(tmp_path):
    claim = resuming.claim(tmp_path)
    with pytest.raises(RunError, match="another process is training in"):
        resuming.claim(tmp_path)
    os.close(claim)
    os.close(resuming.claim(tmp_path))


# ---- what makes it exact


def loader():
    images = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    return batch_loader(images, torch.arange(10), 3, shuffle=True, seed=5)


def labels_of(batches):
    return [labels.tolist() for _, labels in batches]


def test_a_loader_goes_on_where_another_stopped():
    first = loader()
    first.sampler.set_epoch(2)
    whole = labels_of(first)
    half = iter(first)
    next(half), next(half)
    assert first.state_dict() == {"epoch": 2, "batches": 2}
    second = loader()
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(2)
    going_on = iter(second)
    assert next(going_on)[1].tolist() == whole[2]
    assert second.state_dict() == {"epoch": 2, "batches": 3}
    assert labels_of(going_on) == whole[3:]
    assert labels_of(second) == whole  # once only
    assert len(second) == 4


def test_a_state_of_another_epoch_leaves_nothing_out():
    second = loader()
    second.load_state_dict({"epoch": 1, "batches": 2})
    second.sampler.set_epoch(2)
    assert len(labels_of(second)) == 4


def test_a_step_draws_what_its_number_says():
    def drawn(seed, step, batch):
        torch.rand(7)
        trainer = type("Trainer", (), {"global_step": step})()
        module = type("Module", (), {"device": torch.device("cpu")})()
        StepRandomness(seed).on_train_batch_start(trainer, module, None, batch)
        return torch.rand(3).tolist()

    assert drawn(0, 1, 1) == drawn(0, 1, 1)
    assert len({tuple(drawn(*parts)) for parts in [(0, 1, 1), (1, 1, 1), (0, 2, 1), (0, 1, 2)]}) == 4
