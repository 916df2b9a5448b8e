"""The page of a run: what came out, how it got there, what it mistook, what it was told."""

import base64
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from lit_l2softmax import mistakes, runs
from lit_l2softmax.errors import RunError
from lit_l2softmax.sweeps.runner import sweep_of

from . import page
from .curves import UNITS, Chart, Curve, Records, changes, chart, curves

TEST = "test/"
MATRIX_CLASSES = 30  # of more classes the page names those that were mistaken most
NAMED = 20  # of them
NEWEST = 50  # other runs
PICTURES_BYTES = 384 * 1024  # of all pictures; the page links to those beyond
CHARTS_BYTES = 600_000  # of all charts; those beyond are named
CONFIG_CHARACTERS = 100_000
CROSS_ENTROPY = ("LitClassification", "LitVerification")  # whose loss is in nats
OWN_SECTION = ("confusion_matrix.png", "mistakes.png")


def write(run: Path) -> Path:
    """Writes ``report.html`` into a run's folder and returns its path.

    Raises:
        RunError: where the folder is none of a run that is over, or a file in it is damaged.
    """
    result, config, here = runs.read_result(run), runs.read_config(run), run.resolve()
    records = runs.read_metrics(run) if (run / runs.METRICS_FILE).is_file() else []
    recorded = curves(records)
    model = config.get("model")
    nats = isinstance(model, dict) and str(model.get("class_path")).endswith(CROSS_ENTROPY)
    confused = mistakes.read_confusion(run)
    pictures, linked = _pictures(run)
    charts, left_out = _charts(recorded, nats, _judged_step(result, records))
    told = (run / runs.CONFIG_FILE).read_text(encoding="utf-8", errors="replace")
    few = confused is not None and len(confused.names) <= MATRIX_CLASSES
    return page.write(
        run,
        "run.html",
        title=f"{here.parent.name} / {here.name}",
        scores={name: result[name] for name in sorted(result) if name.startswith(TEST)},
        facts={
            name: str(value) if name == "seed" else value
            for name, value in result.items()
            if not name.startswith(TEST) and value is not None
        },
        charts=charts,
        left_out=left_out,
        constants={
            f"{curve.stage}/{name}": curve
            for name, of in recorded.items()
            if not changes(of)
            for curve in of
            if curve.stage != "test"  # the result has those
        },
        confusion=confused if few else None,
        most=max(_mistaken(confused), default=(1,))[0] if confused else 1,
        many=_of_many(confused) if confused and not few else None,
        mistakes=mistakes.read_mistakes(run)[:NAMED],
        pictures=pictures,
        linked=linked,
        config=told[:CONFIG_CHARACTERS],
        config_is_whole=len(told) <= CONFIG_CHARACTERS,
        sweep=_sweep_page(here),
        others=_others(here),
    )


def _charts(recorded: Mapping[str, list[Curve]], nats: bool, judged: int | None) -> tuple[list[Chart], list[str]]:
    """Charts of what has changed, as many as there is room for, and the names of the others."""
    units = UNITS | ({"loss": "loss in nats"} if nats else {})
    inside: list[Chart] = []
    beyond: list[str] = []
    left = CHARTS_BYTES
    for name, of in recorded.items():
        if not changes(of):
            continue
        if left > 0:
            inside.append(chart(name, of, units, judged))
            left -= len(inside[-1].drawing)
        else:
            beyond.append(name)
    return inside, beyond


def _judged_step(result: Mapping[str, Any], records: Records) -> int | None:
    """The step whose checkpoint was tested, where it was selected by a metric."""
    by = result.get("selected_by")
    if not isinstance(by, str) or not isinstance(best := result.get(by), float):
        return None
    found = (record for record in records if by in record and math.isclose(record[by], best))
    return next((int(record["step"]) for record in found if "step" in record), None)


def _mistaken(confused: mistakes.Confusion) -> list[tuple[int, tuple[int, int]]]:
    return [(count, pair) for pair, count in confused.counts.items() if pair[0] != pair[1]]


def _of_many(confused: mistakes.Confusion) -> Mapping[str, Any]:
    """Of many classes, which were mistaken for which most often, and which were recognised least."""
    names = confused.names
    pairs = sorted(_mistaken(confused), key=lambda found: (-found[0], found[1]))[:NAMED]
    classes = [(names[label], *figures) for label, figures in enumerate(confused.recognised()) if figures[1]]
    return {
        "pairs": [(names[true], names[taken], count) for count, (true, taken) in pairs],
        "classes": sorted(classes, key=lambda found: found[1] / found[2])[:NAMED],
    }


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
            linked.append(quote(path.relative_to(run).as_posix()))
            continue
        left -= len(content)
        inside.append((path.stem.replace("_", " "), base64.b64encode(content).decode()))
    return inside, linked


def _sweep_page(run: Path) -> str | None:
    """The way from a run's folder to the page of its sweep."""
    sweep = sweep_of(run)
    return None if sweep is None else Path(os.path.relpath(sweep / page.REPORT_FILE, run)).as_posix()


def _others(run: Path) -> Mapping[str, Any]:
    """The newest other runs of the same configuration that are over, and the names of their scores."""
    found: list[Mapping[str, Any]] = []
    for other in sorted(run.parent.iterdir(), reverse=True):
        if other.name == run.name or not runs.is_run_name(other.name) or len(found) == NEWEST:
            continue
        try:
            result = runs.read_result(other)
        except RunError:  # interrupted or damaged; its own page is where that is said
            continue
        scores = {name: value for name, value in result.items() if name.startswith(TEST) and isinstance(value, float)}
        link = f"../{other.name}/{page.REPORT_FILE}" if (other / page.REPORT_FILE).is_file() else None
        found.append({"name": other.name, "link": link, "seed": result.get("seed"), "scores": scores})
    return {"runs": found, "scores": sorted({name for other in found for name in other["scores"]})}
