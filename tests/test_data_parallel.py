"""A training is the same whatever the number of processes that share its batches, and ends in all of them at once."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ranks import environment, ranks
from run_records import result_of, rows_of

from lit_l2softmax import launching
from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import DieOfSigterm, StepRandomness, step_randomness, stop_signals
from lit_l2softmax.data import MNISTData, mnist
from lit_l2softmax.errors import ConfigError, DataError
from lit_l2softmax.mistakes import CONFUSION_FILE, MISTAKES_FILE
from lit_l2softmax.processes import Place

# The last batches to validate and to test on have 1 and 2 rows; those that are trained on cannot be halved.
SHORT = [
    *("--config=mnist", "--data.source=digits", "--data.batch_size=25", "--data.eval_batch_size=199"),
    *("--model.network.dropout=0", "--trainer.precision=64-true", "--trainer.max_steps=6"),
    *("--trainer.val_check_interval=3", "--trainer.log_every_n_steps=1", "--trainer.accelerator=cpu"),
]
TORCHRUN = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1"]
PROGRAM = ["-m", "lit_l2softmax", "fit"]


def started(*arguments, **more):
    """A process of Python."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**more), start_new_session=True,
    )  # fmt: skip


def ended(process, expect=0, within=150):
    """What a process has printed, when it has ended; all that it had started has too."""
    try:
        out, err = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == expect, err[-3000:]
    return out, err


def run_of(folder):
    """The one run in a folder of runs."""
    (run,) = folder.glob("mnist/*")
    return run


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The run of one process, and what it printed."""
    folder = tmp_path_factory.mktemp("one")
    out, _ = ended(started(*PROGRAM, *SHORT, f"--runs={folder}", WANDB_MODE="disabled"))
    return run_of(folder), out


def check_same(run, one):
    """Two runs have recorded the same figures, but for rounding and the clock.

    In float64 the weights are, after six steps; figures are recorded in float32, some from norms that are taken in it:
    the sums of few dozen of them lose less than 1e-6.
    """
    rows, expected = rows_of(run), rows_of(one)
    assert len(rows) == len(expected)
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"train/images_per_second"}:
            assert (row[name] == "") == (other[name] == ""), name
            if row[name]:
                assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-6, abs=1e-6), name
    for file in (CONFUSION_FILE, MISTAKES_FILE):
        assert (run / file).read_text() == (one / file).read_text()


def test_two_processes_train_validate_and_test_as_one(one, tmp_path):
    run, printed = one
    out, err = ended(started(*PROGRAM, *SHORT, f"--runs={tmp_path}", "--trainer.devices=2"))
    assert err == ""
    assert len(out.splitlines()) == len(printed.splitlines())  # one of them speaks
    two = run_of(tmp_path)
    check_same(two, run)
    assert (result_of(two)["processes"], result_of(run)["processes"]) == (2, 1)
    for name in ("test/accuracy", "test/images"):
        assert result_of(two)[name] == result_of(run)[name]
    assert {path.name for path in two.iterdir()} == {path.name for path in run.iterdir()}


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    ranks("data_parallel_ranks.py", 2, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("size", [3, 4])
def test_gradients_of_more_processes_are_those_of_one(tmp_path, size):
    ranks("data_parallel_ranks.py", size, tmp_path)


@pytest.mark.slow
def test_four_processes_train_validate_and_test_as_one(one, tmp_path):
    ended(started(*PROGRAM, *SHORT, f"--runs={tmp_path}", "--trainer.devices=4"))
    check_same(run_of(tmp_path), one[0])


@pytest.mark.slow
def test_torchrun_says_how_many_there_are(one, tmp_path, free_port):
    ended(started(*TORCHRUN, f"--master-port={free_port}", *PROGRAM, *SHORT, f"--runs={tmp_path}"))
    check_same(run_of(tmp_path), one[0])
    assert result_of(run_of(tmp_path))["processes"] == 2


@pytest.mark.slow
def test_slurm_says_how_many_there_are(one, tmp_path, free_port):
    common = {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "127.0.0.1", "MASTER_PORT": str(free_port),
    }  # fmt: skip
    processes = [
        started(*PROGRAM, *SHORT, f"--runs={tmp_path}", SLURM_PROCID=rank, SLURM_LOCALID=rank, **common)
        for rank in "01"
    ]
    for process in processes:
        ended(process)
    check_same(run_of(tmp_path), one[0])


@pytest.mark.slow
def test_a_trained_network_is_tested_by_two_as_by_one(one):
    run, _ = one
    command = ["-m", "lit_l2softmax", "test", f"--run={run}", "--trainer.precision=64-true"]
    alone, _ = ended(started(*command))
    together, _ = ended(started(*command, "--trainer.devices=2"))
    assert together == alone
    assert "on 400 images" in alone


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# ---- how they end

LONG = [*SHORT, "--trainer.max_steps=100000", "--trainer.val_check_interval=5"]


def lives(pid):
    """Whether a process has not ended, whoever has not asked yet how."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def all_end(pids, within=30):
    """Whether processes end in time."""
    give_up = time.monotonic() + within
    while any(map(lives, pids)) and time.monotonic() < give_up:
        time.sleep(0.2)
    return not any(map(lives, pids))


def children(pid):
    """The processes that a process has started itself."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def training(folder, process, records=12):
    """The run of a process that has begun to train."""
    give_up = time.monotonic() + 90
    while time.monotonic() < give_up and process.poll() is None:
        for file in folder.glob("mnist/*/metrics.csv"):
            if len(rows_of(file.parent)) > records:
                return file.parent
        time.sleep(0.2)
    process.kill()
    raise AssertionError(process.communicate())


def processes_of(process, size):
    """The ranks' processes: the first one itself, and those it has started."""
    commands = {child: Path(f"/proc/{child}/cmdline").read_bytes() for child in children(process.pid)}
    others = [child for child, command in commands.items() if b"lit_l2softmax" in command]
    assert len(others) == size - 1
    return [process.pid, *others]


@pytest.mark.slow
@pytest.mark.parametrize(("size", "asked"), [(2, 0), (2, 1), (4, 2)])
def test_sigterm_to_any_of_them_ends_all_behind_one_step_with_a_checkpoint(tmp_path, size, asked):
    process = started(*PROGRAM, *LONG, f"--runs={tmp_path}", f"--trainer.devices={size}")
    run = training(tmp_path, process)
    everyone = processes_of(process, size)
    os.kill(everyone[asked], signal.SIGTERM)
    _, err = ended(process, 128 + signal.SIGTERM, within=60)
    assert err.startswith("stopped after ")
    assert all_end(everyone[1:])  # the last ones are on their way out
    steps = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    assert f"stopped after {steps:,} steps" in err
    assert max(int(row["step"]) for row in rows_of(run)) <= steps

    # The run goes on with another number of them, and its record as if nothing had happened.
    ended(started(*PROGRAM, f"--resume={run}", f"--trainer.max_steps={steps + 6}", f"--trainer.devices={5 - size}"))
    assert result_of(run)["steps"] == steps + 6
    trained = [int(row["step"]) for row in rows_of(run) if row["train/loss"]]
    assert trained == list(range(steps + 6))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_kill_of_any_of_them_ends_all_and_the_run_goes_on(tmp_path, killed):
    process = started(*PROGRAM, *LONG, f"--runs={tmp_path}", "--trainer.devices=2")
    run = training(tmp_path, process)
    everyone = processes_of(process, 2)
    os.kill(everyone[killed], signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert all_end(everyone[1:])
    assert process.returncode not in (0, None)
    if killed and process.returncode > 0:  # or Lightning's launcher was the first to see it
        assert err == "error: another process of this command has ended, and with it this one\n"
    resumed, _ = ended(started(*PROGRAM, f"--resume={run}", "--trainer.max_steps=40", "--trainer.devices=2"))
    assert resumed.startswith(f"resuming {run}")
    assert result_of(run)["steps"] >= 40


SPOILT = """
import os, sys
import torch
from lit_l2softmax import __main__, classification

whole = classification.LitClassification.training_step

def training_step(self, batch, batch_idx):
    images, labels = batch
    if os.environ.get("LOCAL_RANK") == "1" and self.global_step == 4:
        if os.environ["SPOIL"] == "label":
            labels = labels + 100
        else:
            images = images * float("nan")
    return whole(self, (images, labels), batch_idx)

classification.LitClassification.training_step = training_step
sys.exit(__main__.main())
"""


@pytest.mark.slow
def test_a_nan_in_one_of_them_ends_all_and_one_of_them_says_so(tmp_path):
    script = tmp_path / "spoilt.py"
    script.write_text(SPOILT)
    process = started(script, "fit", *SHORT, f"--runs={tmp_path / 'runs'}", "--trainer.devices=2", SPOIL="nan")
    _, err = ended(process, 2)
    run = run_of(tmp_path / "runs")
    assert len(err.splitlines()) == 1
    last = run / "checkpoints" / "last.ckpt"
    assert err.startswith(f"error: the loss in step 5 is not finite, in process 1; {last} is of step 3")


@pytest.mark.slow
def test_a_bad_label_in_one_of_them_ends_all_and_that_one_says_so(tmp_path):
    script = tmp_path / "spoilt.py"
    script.write_text(SPOILT)
    process = started(script, "fit", *SHORT, f"--runs={tmp_path / 'runs'}", "--trainer.devices=2", SPOIL="label")
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "error: process 1: a label is none of the 10 classes" in err
    assert "Traceback" not in err


# ---- what the first process tells the others


def test_what_the_first_process_makes_of_a_command_is_told_to_those_it_starts(monkeypatch):
    words = launching.told(lambda: launching.Words(["fit", "--config=a.yaml"], "20260101-000000-aaaaaa"))
    monkeypatch.setenv("LOCAL_RANK", "1")
    try:
        assert launching.rank() == 1
        assert launching.told(lambda: pytest.fail("asked")) == words
    finally:
        del os.environ["LIT_L2SOFTMAX_FIRST_PROCESS"]
    assert launching.rank() == 0  # of a variable that something else has set


def test_a_slurm_job_that_lightning_cannot_use_is_one_line(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    with pytest.raises(ConfigError, match="--ntasks-per-node=2"):
        launching.cluster()


def test_one_task_of_slurm_is_one_process(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert launching.cluster() is None


@pytest.mark.parametrize("devices", ["3", "0,1"])
def test_as_many_devices_as_processes_were_started(monkeypatch, capsys, tmp_path, devices):
    monkeypatch.setattr(launching, "cluster", lambda: launching.Cluster(2, 1))
    status = main(["fit", *SHORT, f"--runs={tmp_path / 'runs'}", f"--trainer.devices={devices}"])
    assert (status, capsys.readouterr().err) == (
        2, f"error: 2 processes were started on each machine, trainer.devices is {devices}: leave it out\n"
    )  # fmt: skip


def test_processes_draw_each_their_own_and_the_first_as_if_it_were_alone(monkeypatch):
    def drawn(rank, size):
        monkeypatch.setattr(step_randomness, "place", lambda: Place(rank, size))
        StepRandomness(3).on_train_batch_start(SimpleNamespace(global_step=7), module, None, 2)
        return torch.rand(()).item()

    module = SimpleNamespace(device=torch.device("cpu"))
    assert drawn(0, 1) == drawn(0, 3)
    assert len({drawn(rank, 3) for rank in range(3)}) == 3


@pytest.mark.parametrize(("size", "left"), [(1, False), (2, True)])
def test_sigterm_in_a_test_of_several_processes_is_that_of_any_program(monkeypatch, size, left):
    monkeypatch.setattr(stop_signals, "place", lambda: Place(0, size))
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        DieOfSigterm().on_test_start(None, None)
        assert (signal.getsignal(signal.SIGTERM) == signal.SIG_DFL) == left
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("first", ["digits", "mnist"])
def test_all_processes_train_on_what_the_first_has_found(monkeypatch, tmp_path, first):
    monkeypatch.setattr(mnist, "from_first", lambda own: first)
    other = "mnist" if first == "digits" else "digits"
    data = MNISTData(root=str(tmp_path))
    data.resolved_source = other  # what this process has come to by itself
    if first == "digits":
        data.setup("fit")
        assert data.resolved_source == "digits"
    else:
        with pytest.raises(DataError, match="MNIST is not there"):  # and not on something else
            data.setup("fit")
