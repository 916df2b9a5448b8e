"""What a run left, read back."""

import csv
import json
import subprocess
import sys
from pathlib import Path


def rows_of(run):
    """The rows of ``metrics.csv``."""
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def column_of(run, name):
    """The recorded values of one metric."""
    return [float(row[name]) for row in rows_of(run) if row.get(name)]


def result_of(run):
    """``result.json``."""
    return json.loads((run / "result.json").read_text())


def wandb_of(run):
    """What W&B's own reader finds in the run folder."""
    wandb = Path(sys.executable).with_name("wandb")
    done = subprocess.run(
        [wandb, "leet", "inspect", "--summary", "--json", next((run / "wandb").glob("offline-run-*"))],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
