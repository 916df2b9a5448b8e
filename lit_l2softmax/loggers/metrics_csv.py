"""The record every run keeps: ``metrics.csv`` in its own folder."""

import csv
import io
from pathlib import Path
from typing import cast

from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from lit_l2softmax.whole_files import write_whole


class _MetricsWriter(ExperimentWriter):
    """Goes on with the file where there is one, as there is of a run that is resumed."""

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

    def _check_log_dir_exists(self) -> None:
        """Does nothing: the folder was made for this run, and what lies in it already is the run's."""


class RunCSVLogger(CSVLogger):
    """Writes ``metrics.csv`` straight into the run folder, without the name and version folders of its parent."""

    def __init__(self, run: Path) -> None:
        super().__init__(run, name="", version="", flush_logs_every_n_steps=1)

    @property
    @rank_zero_experiment
    def experiment(self) -> _MetricsWriter:
        """The file's writer, made when something is first logged."""
        if self._experiment is None:
            self._experiment = _MetricsWriter(log_dir=self.log_dir)
        return cast(_MetricsWriter, self._experiment)
