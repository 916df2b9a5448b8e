"""What a dashboard is: sections of panels about the runs that belong to it, read as a workspace or as a report."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import wandb_workspaces.reports.v2 as wr
from wandb_workspaces.expr import FilterExpr

Panel = (
    wr.LinePlot
    | wr.BarPlot
    | wr.ScatterPlot
    | wr.ParallelCoordinatesPlot
    | wr.ParameterImportancePlot
    | wr.MediaBrowser
    | wr.CustomChart
    | wr.RunComparer
    | wr.WeavePanelSummaryTable
)


@dataclass(frozen=True)
class Section:
    """Panels that answer one question.

    Attributes:
        name: its heading.
        text: how it is read; stands in the report.
        panels: in reading order.
    """

    name: str
    text: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Dashboard:
    """A workspace and a report of one family of runs.

    Attributes:
        title: what both are called in W&B.
        text: what a reader finds there.
        runs: which runs they are about: those that pass every one.
        sections: in reading order.
        columns: summary metrics that the list of runs shows beside them.
        setting: what runs have in common that are drawn as one: ``"Group"`` or a path in a run's configuration.
        most_runs: how many runs a chart of the workspace shows, the newest.
    """

    title: str
    text: str
    runs: Sequence[FilterExpr]
    sections: Sequence[Section]
    columns: Sequence[str]
    setting: Sequence[str] = field(default=())
    most_runs: int = 10
