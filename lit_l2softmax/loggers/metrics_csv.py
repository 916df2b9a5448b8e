"""The record every run keeps: ``metrics.csv`` in its own folder."""

import csv
import io
import os
from contextlib import suppress
from pathlib import Path
from typing import cast

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from lit_l2softmax.whole_files import write_whole


class _MetricsWriter(ExperimentWriter):
    """Goes on with the file where there is one, as there is of a run that is resumed."""

    refusal: str | None = None  # why the last records could not be written
    _whole: int | None = None  # bytes of whole rows in the file; None where there is no file

    def __init__(self, log_dir: str) -> None:
        super().__init__(log_dir=log_dir)
        file = Path(self.metrics_file_path)
        if file.is_file():
            with file.open(newline="") as opened:
                self.metrics_keys = next(csv.reader(opened), [])

    def _rewrite_with_new_header(self, fieldnames: list[str]) -> None:
        """As its parent's, which empties the file first: a kill would leave it so."""
        file, text = Path(self.metrics_file_path), io.StringIO(newline="")
        with file.open(newline="") as opened:
            rows = list(csv.DictReader(opened))
        writer = csv.DictWriter(text, fieldnames, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(file, text.getvalue())
        self._whole = file.stat().st_size

    def save(self) -> None:
        """Writes the records that are not written yet; where they cannot be, they wait, and one warning says so."""
        file, keys = Path(self.metrics_file_path), [*self.metrics_keys]
        self._whole = file.stat().st_size if file.is_file() else None
        try:
            super().save()
        except OSError as error:
            self.metrics_keys = keys
            with suppress(OSError):
                if self._whole is None:
                    file.unlink(missing_ok=True)
                else:
                    os.truncate(file, self._whole)  # a row that was cut off would spoil the next one
            if self.refusal is None:
                rank_zero_warn(
                    f"{file} cannot be written ({error.strerror}); training goes on, its records wait until it can"
                )
            self.refusal = error.strerror
        else:
            self.refusal = None

    def _check_log_dir_exists(self) -> None:
        """Does nothing: the folder was made for this run, and what lies in it already is the run's."""


class RunCSVLogger(CSVLogger):
    """Writes ``metrics.csv`` straight into the run folder, without the name and version folders of its parent.

    A file that cannot be written, on a full disk perhaps, ends no training.
    """

    def __init__(self, run: Path) -> None:
        super().__init__(run, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> _MetricsWriter:
        """The file's writer, made when something is first logged."""
        if self._experiment is None:
            self._experiment = _MetricsWriter(log_dir=self.log_dir)
        return cast(_MetricsWriter, self._experiment)

    @rank_zero_only
    def finish(self) -> None:
        """Writes what is not written yet, or says how much is lost."""
        if self._experiment is None:
            return
        self.experiment.save()
        if self.experiment.refusal is not None:
            lost = len(self.experiment.metrics)
            rank_zero_warn(
                f"the last {lost:,} records are not in {self.experiment.metrics_file_path}: {self.experiment.refusal}"
            )
