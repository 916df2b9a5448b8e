"""The record of a run: whole rows alone, whatever the disk does, and never the end of a training."""

import csv
import errno
import os

import pytest
from run_records import result_of, rows_of

from lit_l2softmax import runs
from lit_l2softmax.loggers import RunCSVLogger
from lit_l2softmax.reports import run_page

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
pytestmark = pytest.mark.filterwarnings("always:.*metrics.csv")


class Disk:
    """A disk that is full while it is told so: what is written on it is cut off in the middle."""

    def __init__(self, monkeypatch):
        self.full = False
        writerows = csv.DictWriter.writerows

        def write(writer, rows):
            if not self.full:
                return writerows(writer, rows)
            writerows(writer, rows[:1])
            raise FULL

        monkeypatch.setattr(csv.DictWriter, "writerows", write)


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


def steps_of(run):
    return [(int(row["step"]), row["loss"]) for row in rows_of(run)]


def test_records_that_cannot_be_written_wait_and_one_warning_says_so(tmp_path, disk, recwarn):
    logger = RunCSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    disk.full = True
    for step in (1, 2, 3):
        logger.log_metrics({"loss": 1.0 + step}, step)
    assert steps_of(tmp_path) == [(0, "1.0")]
    disk.full = False
    logger.log_metrics({"loss": 5.0}, 4)
    logger.finish()
    assert steps_of(tmp_path) == [(0, "1.0"), (1, "2.0"), (2, "3.0"), (3, "4.0"), (4, "5.0")]
    (warning,) = recwarn
    assert str(warning.message) == (
        f"{tmp_path / 'metrics.csv'} cannot be written (No space left on device); "
        "training goes on, its records wait until it can"
    )


def test_a_new_column_that_could_not_be_written_is_one_the_next_time(tmp_path, disk, recwarn):
    logger = RunCSVLogger(tmp_path)
    logger.log_metrics({"loss": 1.0}, 0)
    disk.full = True
    logger.log_metrics({"accuracy": 0.5}, 1)  # sorts before the other
    disk.full = False
    logger.log_metrics({"loss": 2.0}, 2)
    assert [(row["step"], row["accuracy"], row["loss"]) for row in rows_of(tmp_path)] == [
        ("0", "", "1.0"),
        ("1", "0.5", ""),
        ("2", "", "2.0"),
    ]
    assert len(recwarn) == 1


def test_a_disk_that_is_full_behind_a_new_column_takes_no_record_that_was_there(tmp_path, disk, recwarn, monkeypatch):
    logger = RunCSVLogger(tmp_path)
    for step in range(20):
        logger.log_metrics({"loss": float(step)}, step)
    rewrite = logger.experiment._rewrite_with_new_header

    def rewritten(fieldnames):
        disk.full = False
        rewrite(fieldnames)
        disk.full = True

    monkeypatch.setattr(logger.experiment, "_rewrite_with_new_header", rewritten)
    logger.log_metrics({"accuracy": 0.5}, 20)
    assert steps_of(tmp_path) == [(step, f"{step:.1f}") for step in range(20)]
    monkeypatch.undo()
    logger.finish()
    assert steps_of(tmp_path) == [*((step, f"{step:.1f}") for step in range(20)), (20, "")]
    assert len(recwarn) == 1


def test_a_file_that_could_not_be_begun_is_begun_later(tmp_path, disk, recwarn):
    logger = RunCSVLogger(tmp_path)
    disk.full = True
    logger.log_metrics({"loss": 1.0}, 0)
    assert not (tmp_path / "metrics.csv").exists()
    disk.full = False
    logger.log_metrics({"loss": 2.0}, 1)
    assert steps_of(tmp_path) == [(0, "1.0"), (1, "2.0")]
    assert len(recwarn) == 1


def test_what_waited_is_written_in_the_end(tmp_path, disk, recwarn):
    logger = RunCSVLogger(tmp_path)
    disk.full = True
    logger.log_metrics({"loss": 1.0}, 0)
    disk.full = False
    logger.finish()
    assert steps_of(tmp_path) == [(0, "1.0")]
    assert len(recwarn) == 1


def test_what_is_lost_in_the_end_is_said(tmp_path, disk, recwarn):
    logger = RunCSVLogger(tmp_path)
    disk.full = True
    for step in range(3):
        logger.log_metrics({"loss": 1.0}, step)
    logger.finish()
    assert str(recwarn[-1].message) == (
        f"the last 3 records are not in {tmp_path / 'metrics.csv'}: No space left on device"
    )


def test_a_logger_that_recorded_nothing_has_nothing_to_finish(tmp_path):
    RunCSVLogger(tmp_path).finish()
    assert list(tmp_path.iterdir()) == []


OPTIONS = [
    "--data.source=digits",
    "--trainer.max_steps=6",
    "--trainer.log_every_n_steps=1",
    "--trainer.val_check_interval=3",
]


def test_a_training_outlives_a_record_that_cannot_be_written(fit, monkeypatch):
    monkeypatch.setattr(RunCSVLogger, "log_metrics", failing_between(2, 5, RunCSVLogger.log_metrics, monkeypatch))
    run, printed = fit("mnist", *OPTIONS)
    (warning,) = printed.err.splitlines()
    assert "metrics.csv cannot be written (No space left on device); training goes on" in warning
    assert [int(row["step"]) for row in rows_of(run) if row["train/loss"]] == [*range(6)]
    assert result_of(run)["steps"] == 6


def failing_between(first, last, log_metrics, monkeypatch):
    disk = Disk(monkeypatch)

    def log(self, metrics, step=None):
        disk.full = step is not None and first <= step < last
        log_metrics(self, metrics, step)

    return log


@pytest.mark.parametrize("place", ["result", "page"])
def test_a_disk_that_is_full_in_the_end_is_one_line_and_the_figures_were_printed(fit, monkeypatch, place):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "result.json")

    monkeypatch.setattr(*((runs, "write_result") if place == "result" else (run_page, "write")), full)
    run, printed = fit("mnist", *OPTIONS, expect=2 if place == "result" else 0)
    assert "test/accuracy" in printed.out
    (line,) = printed.err.splitlines()
    assert line == (
        "error: result.json cannot be written: No space left on device; what was there before is there still"
        if place == "result"
        else "warning: report.html could not be written (OSError: [Errno 28] No space left on device: 'result.json')"
    )
    assert (run / "checkpoints" / "last.ckpt").is_file()
