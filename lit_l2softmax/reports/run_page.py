"""The page of a run: what came out, how it got there, what it mistook, what it was told."""

import base64
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lit_l2softmax import mistakes, runs
from lit_l2softmax.errors import RunError
from lit_l2softmax.sweeps.runner import sweep_of

from . import page
from .curves import UNITS, Chart, Curve, Records, changes, chart, curves

TEST = "test/"
MATRIX_CLASSES = 30  # of more classes the page names those that were mistaken most
NAMED = 20  # of them
PICTURES_BYTES = 512 * 1024  # of all pictures; the page links to those beyond
OWN_SECTION = ("confusion_matrix.png", "mistakes.png")


def write(run: Path) -> Path:
    """Writes ``report.html`` into a run's folder and returns its path.

    Raises:
        RunError: where the folder is none of a run that is over, or a file in it is damaged.
    """
    result, config = runs.read_result(run), runs.read_config(run)
    records = runs.read_metrics(run) if (run / runs.METRICS_FILE).is_file() else []
    recorded = curves(records)
    model = config.get("model")
    nats = isinstance(model, dict) and str(model.get("class_path")).endswith("LitClassification")
    confused = mistakes.read_confusion(run)
    pictures, linked = _pictures(run)
    return page.write(
        run,
        "run.html",
        title=f"{run.absolute().parent.name} / {run.absolute().name}",
        scores={name: result[name] for name in sorted(result) if name.startswith(TEST)},
        facts={name: value for name, value in result.items() if not name.startswith(TEST) and value is not None},
        charts=_charts(recorded, nats, _judged_step(result, records)),
        constants={
            f"{curve.stage}/{name}": curve.values[0]
            for name, of in recorded.items()
            if not changes(of)
            for curve in of
            if len(curve.values) > 1
        },
        confusion=confused if confused and len(confused.names) <= MATRIX_CLASSES else None,
        most=max([count for (true, taken), count in confused.counts.items() if true != taken], default=1)
        if confused
        else 1,
        worst_pairs=_worst_pairs(confused) if confused and len(confused.names) > MATRIX_CLASSES else [],
        mistakes=mistakes.read_mistakes(run),
        pictures=pictures,
        linked=linked,
        config=(run / runs.CONFIG_FILE).read_text(),
        sweep=_sweep_page(run),
        others=_others(run),
    )


def _charts(recorded: Mapping[str, list[Curve]], nats: bool, judged: int | None) -> list[Chart]:
    units = UNITS | ({"loss": "loss in nats"} if nats else {})
    return [chart(name, of, units, judged) for name, of in recorded.items() if changes(of)]


def _judged_step(result: Mapping[str, Any], records: Records) -> int | None:
    """The step whose checkpoint was tested, where it was selected by a metric."""
    by = result.get("selected_by")
    if not isinstance(by, str) or not isinstance(best := result.get(by), float):
        return None
    found = (record for record in records if by in record and math.isclose(record[by], best))
    return next((int(record["step"]) for record in found if "step" in record), None)


def _worst_pairs(confused: mistakes.Confusion) -> list[tuple[str, str, int]]:
    wrong = [(count, pair) for pair, count in confused.counts.items() if pair[0] != pair[1]]
    wrong.sort(key=lambda found: (-found[0], found[1]))
    return [(confused.names[true], confused.names[taken], count) for count, (true, taken) in wrong[:NAMED]]


def _pictures(run: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """What callbacks have drawn: name and PNG in base64 of what fits the page, and the paths of the rest."""
    inside: list[tuple[str, str]] = []
    linked: list[str] = []
    left = PICTURES_BYTES
    for path in sorted((run / "plots").glob("*.png")):
        if path.name in OWN_SECTION or path.name.startswith("predictions-"):
            continue
        content = path.read_bytes()
        if len(content) > left:
            linked.append(path.relative_to(run).as_posix())
            continue
        left -= len(content)
        inside.append((path.stem.replace("_", " "), base64.b64encode(content).decode()))
    return inside, linked


def _sweep_page(run: Path) -> str | None:
    """The way from a run's folder to the page of its sweep."""
    sweep = sweep_of(run)
    return None if sweep is None else Path(os.path.relpath(sweep / page.REPORT_FILE, run.absolute())).as_posix()


def _others(run: Path) -> Sequence[Mapping[str, Any]]:
    """The other runs of the same configuration that are over, the newest first."""
    found = []
    for other in sorted(run.absolute().parent.iterdir(), reverse=True):
        if other.name == run.absolute().name or not runs.is_run_name(other.name):
            continue
        try:
            result = runs.read_result(other)
        except RunError:  # interrupted or damaged; its own page is where that is said
            continue
        scores = {name: value for name, value in result.items() if name.startswith(TEST) and isinstance(value, float)}
        link = f"../{other.name}/{page.REPORT_FILE}" if (other / page.REPORT_FILE).is_file() else None
        found.append({"name": other.name, "link": link, "seed": result.get("seed"), "scores": scores})
    return found
