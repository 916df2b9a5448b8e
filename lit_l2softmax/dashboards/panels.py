"""The panels that dashboards are made of, so that one of a family's file is a line."""

from collections.abc import Iterable

import wandb_workspaces.reports.v2 as wr

STEPS = "trainer/global_step"  # W&B's own step counts records, of which several belong to one optimiser step
SHARE = (0.0, 1.0)
ANY = (None, None)

Limits = tuple[float | None, float | None]


def lines(title: str, *metrics: str, unit: str | None = None, limits: Limits = ANY, log: bool = False) -> wr.LinePlot:
    """Metrics over optimiser steps; of runs that are drawn as one, their mean and its standard error."""
    return wr.LinePlot(
        title=title,
        x=STEPS,
        y=list(metrics),
        title_x="steps",
        title_y=unit,
        range_y=limits,
        log_y=log or None,
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
    )


def histogram(key: str) -> wr.LinePlot:
    """A recorded histogram over the run, over W&B's own step, as W&B draws histograms itself."""
    return wr.LinePlot(title=key, x="Step", y=[key])


def bars(title: str, *metrics: str, limits: Limits = ANY) -> wr.BarPlot:
    """The last value of metrics, run by run; of runs that are drawn as one, their mean and its standard error."""
    return wr.BarPlot(
        title=title, metrics=list(metrics), range_x=limits, groupby_aggfunc="mean", groupby_rangefunc="stderr"
    )


def of_each_class(title: str, names: Iterable[str]) -> wr.BarPlot:
    """The accuracy of each class, as a test's mistakes are recorded."""
    return bars(title, *(f"test/class_accuracy/{name}" for name in names), limits=SHARE)


def scatter(title: str, x: str | wr.Config, y: str, limits: Limits = ANY) -> wr.ScatterPlot:
    """A point a run: the last values of two metrics, or of one against what the run was told."""
    return wr.ScatterPlot(title=title, x=x, y=y, range_y=limits)


def coordinates(title: str, **columns: str | wr.Config) -> wr.ParallelCoordinatesPlot:
    """A line a run through what it was told and what came of it."""
    shown = [wr.ParallelCoordinatesPlotColumn(what, name.replace("_", " ")) for name, what in columns.items()]
    return wr.ParallelCoordinatesPlot(title=title, columns=shown)


def importance(metric: str) -> wr.ParameterImportancePlot:
    """Which of the things that runs were told decides a metric."""
    return wr.ParameterImportancePlot(with_respect_to=metric)


def pictures(title: str, key: str, columns: int) -> wr.MediaBrowser:
    """Recorded pictures with their captions."""
    return wr.MediaBrowser(title=title, media_keys=[key], num_columns=columns)


def confusion(key: str, title: str) -> wr.CustomChart:
    """The confusion matrix that ``wandb.plot.confusion_matrix`` has recorded under ``key``."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": f"{key}_table"}},
        chart_name="wandb/confusion_matrix/v1",
        chart_fields={name: name for name in ("Actual", "Predicted", "nPredictions")},
        chart_strings={"title": title},
    )


def chart(title: str, table: str, label: str, value: str) -> wr.CustomChart:
    """A column of a recorded table as bars, another column beside them."""
    return wr.CustomChart(
        query={"summaryTable": {"tableKey": table}},
        chart_name="wandb/bar/v0",
        chart_fields={"label": label, "value": value},
        chart_strings={"title": title},
    )


def table(key: str) -> wr.WeavePanelSummaryTable:
    """A recorded table, which can be sorted and filtered."""
    return wr.WeavePanelSummaryTable(table_name=key)


def differences() -> wr.RunComparer:
    """What runs were told, only where they differ."""
    return wr.RunComparer(diff_only="split")
