"""What the panels and run sets of a dashboard's JSON ask of a run, and what a run has recorded."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

WANDB = Path(sys.executable).with_name("wandb")
STEPS = "trainer/global_step"


class Asked(NamedTuple):
    """Something that a run must have recorded.

    ``kind`` is ``history`` (a number or a histogram over the named x-axis), ``summary`` (a number), ``config``,
    ``pictures``, or ``table`` (with the named columns).
    """

    panel: str
    kind: str
    key: str
    of: tuple = ()


def read(path):
    """A dashboard's file."""
    return json.loads(path.read_text())


def panels(document):
    """The panels of a workspace or a report, in order."""
    spec = document["spec"]
    if document["kind"] == "workspace":
        return [panel for section in spec["section"]["panelBankConfig"]["sections"] for panel in section["panels"]]
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    return [panel for grid in grids for panel in grid["panelBankSectionConfig"]["panels"]]


def run_sets(document):
    """The sets of runs that they are drawn of."""
    spec = document["spec"]
    if document["kind"] == "workspace":
        return spec["section"]["runSets"]
    return [one for block in spec["blocks"] if block["type"] == "panel-grid" for one in block["metadata"]["runSets"]]


def asked_by_panel(panel):
    """All that a panel asks of a run."""
    kind, config = panel["viewType"], panel["config"]
    name = config.get("chartTitle", kind)
    if kind == "Run History Line Plot":
        return [Asked(name, "history", key, (config["xAxis"],)) for key in config["metrics"]]
    if kind == "Bar Chart":
        return [Asked(name, "summary", key) for key in config["metrics"]]
    if kind == "Scatter Plot":
        return [_accessor(name, config[axis]) for axis in ("xAxis", "yAxis")]
    if kind == "Parallel Coordinates Plot":
        return [_accessor(name, column["accessor"]) for column in config["columns"]]
    if kind == "Parameter Importance":
        return [Asked(name, "summary", config["targetKey"])]
    if kind == "Media Browser":
        return [Asked(name, "pictures", key) for key in config["mediaKeys"]]
    if kind == "Vega2":
        (runs,) = config["userQuery"]["queryFields"]
        (table,) = (field for field in runs["fields"] if field["name"] == "summaryTable")
        (key,) = (argument["value"] for argument in table["args"] if argument["name"] == "tableKey")
        return [Asked(config["stringSettings"]["title"], "table", key, tuple(config["fieldSettings"].values()))]
    if kind == "Weave":
        return [Asked(name, "table", config["panel2Config"]["exp"]["fromOp"]["inputs"]["key"]["val"])]
    assert kind == "Run Comparer", kind  # which shows what there is
    return []


def _accessor(name, accessor):
    kind, _, key = accessor.partition(":")
    return Asked(name, kind, _path(key) if kind == "config" else key)


def _path(key):
    """W&B's server keeps each value of a configuration below a ``value``."""
    first, _, rest = key.partition(".")
    assert rest.partition(".")[0] == "value", key
    return first + rest.removeprefix("value")


def asked_by_run_set(run_set):
    """What grouping, and the columns of the list, ask of a run."""
    grouped = [key for key in run_set["grouping"] if key["section"] == "config"]
    asked = [Asked("grouping", "config", _path(key["name"])) for key in grouped]
    columns = (column.partition(":") for column in run_set["runFeed"]["columnOrder"])
    return asked + [Asked("columns", kind, key) for kind, _, key in columns if kind != "run"]


class Record:
    """What W&B's own reader finds in the folder of an offline run."""

    def __init__(self, folder):
        self.folder = folder
        summary = json.loads(self._inspected("--summary", "--json"))
        self.summary, self.config = summary["summary"], summary["config"]
        records = [json.loads(line) for line in self._inspected("--json").splitlines()]
        self.rows = [record["history"]["item"] for record in records if record["type"] == "history"]
        (self.run,) = (record["run"] for record in records if record["type"] == "run")

    def _inspected(self, *options):
        done = subprocess.run(
            [WANDB, "leet", "inspect", *options, self.folder], capture_output=True, text=True, check=True
        )
        return done.stdout

    def has(self, asked):
        """Whether all that is asked was recorded."""
        kind, key = asked.kind, asked.key
        if kind == "history":
            shown = (key, f"{key}._type")
            return any(
                is_number(row.get(shown[0])) or row.get(shown[1]) == "histogram"
                for row in self.rows
                if all(is_number(row.get(x)) for x in asked.of)
            )
        if kind == "config":
            return self.told(key) is not None
        value = self.summary.get(key)
        if kind == "summary":
            return is_number(value)
        if kind == "pictures":
            return isinstance(value, dict) and value["_type"] == "images/separated" and value["count"] > 0
        assert kind == "table", kind
        if not isinstance(value, dict) or value["_type"] != "table-file" or not value["nrows"]:
            return False
        return set(asked.of) <= set(read(self.folder / "files" / value["path"])["columns"])

    def told(self, path):
        """A value of the configuration, None where it has none there."""
        value = self.config
        for name in path.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def belongs(self, run_set):
        """Whether the filters of a run set let this run in."""
        filters = run_set["filters"]["filters"]
        assert filters
        return all(self._passes(one) for one in filters)

    def _passes(self, one):
        section, name = one["key"]["section"], one["key"]["name"]
        if section == "config":
            value = self.told(name)
        else:
            assert section == "run"
            value = self.run.get({"group": "run_group", "jobType": "job_type"}[name])
        return value in one["value"] if one["op"] == "IN" else {"=": value == one["value"]}[one["op"]]


def is_number(value):
    """Whether a recorded value can be drawn."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def benchmarks(file):
    """The names of the benchmarks that a file has rows of."""
    with file.open(newline="") as opened:
        return {row["benchmark"] for row in csv.DictReader(opened)}
