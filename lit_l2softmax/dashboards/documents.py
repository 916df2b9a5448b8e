"""A dashboard as what W&B keeps of it: a workspace and a report, the same bytes each time."""

import copy
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.expr import And, Config, Metric

from .dashboard import Dashboard, Panel

COLUMNS, HEIGHT = 24, 8  # of a report's grid; a panel takes a third of its width
WIDE = (wr.RunComparer, wr.MediaBrowser, wr.ParallelCoordinatesPlot, wr.WeavePanelSummaryTable)
IN_A_ROW = 3
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
RUN_SET = "Runs"


@dataclass(frozen=True)
class Document:
    """What W&B calls a view.

    Attributes:
        kind: ``"workspace"`` or ``"report"``.
        name: by which W&B finds it again, so that publishing replaces it.
        title: what people call it.
        text: a line below the title.
        spec: its content, JSON.
    """

    kind: str
    name: str
    title: str
    text: str
    spec: str

    def pretty(self) -> str:
        """All of it as JSON that a person can read, and a diff compare."""
        content = {
            "kind": self.kind,
            "name": self.name,
            "title": self.title,
            "text": self.text,
            "spec": json.loads(self.spec),
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def documents(family: str, dashboard: Dashboard) -> list[Document]:
    """The workspace and the report of a family; W&B's random ids give way to ones that its name and place decide."""
    dashboard = copy.deepcopy(dashboard)  # laid out for a report, a panel is another in the next workspace
    for place, panel in enumerate(_panels(dashboard)):
        panel._id = _id(family, "panel", str(place))
    return [_workspace(family, dashboard), _report(family, dashboard)]


def _panels(dashboard: Dashboard) -> Iterator[Panel]:
    for section in dashboard.sections:
        yield from section.panels


def _id(*parts: str, length: int = 11) -> str:
    number = int(hashlib.sha256("/".join(parts).encode()).hexdigest(), 16)
    return "".join(DIGITS[number // 36**place % 36] for place in range(length))


def _workspace(family: str, dashboard: Dashboard) -> Document:
    workspace = ws.Workspace(
        entity="",
        project="",
        name=dashboard.title,
        sections=[
            ws.Section(
                name=section.name,
                panels=list(section.panels),
                is_open=True,
                layout_settings=ws.SectionLayoutSettings(
                    columns=min(IN_A_ROW, len(section.panels)), rows=-(-len(section.panels) // IN_A_ROW)
                ),
            )
            for section in dashboard.sections
        ],
        settings=ws.WorkspaceSettings(max_runs=dashboard.most_runs),
        runset_settings=ws.RunsetSettings(
            filters=And(*dashboard.runs),
            groupby=[Metric(name) if name == "Group" else Config(name) for name in dashboard.setting],
            pinned_columns=[f"summary:{name}" for name in dashboard.columns],
        ),
    )
    spec = workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    return Document("workspace", f"nw-{_id(family, 'workspace')}-v", dashboard.title, "", spec)


def _report(family: str, dashboard: Dashboard) -> Document:
    blocks: list[Any] = [wr.P(dashboard.text), wr.TableOfContents()]  # the library's type is of all its 26 blocks
    for section in dashboard.sections:
        # Without entity and project a set of runs is the report's own project's, and W&B is not asked who that is.
        runs = wr.Runset(
            name=RUN_SET,
            filters=And(*dashboard.runs),
            groupby=[name if name == "Group" else f"config.{name}" for name in dashboard.setting],
        )
        runs._id = _id(family, "report", section.name)
        _lay_out(section.panels)
        grid = wr.PanelGrid(runsets=[runs], panels=list(section.panels))
        blocks += [wr.H2(section.name), wr.P(section.text), grid]
    report = wr.Report(
        entity="", project="", title=dashboard.title, description=dashboard.text, blocks=blocks, width="fluid"
    )
    spec = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    return Document("report", _id(family, "report", length=12), dashboard.title, dashboard.text, spec)


def _lay_out(panels: Sequence[Panel]) -> None:
    """Puts panels into a grid, row by row."""
    x, y = 0, 0
    for panel in panels:
        width = COLUMNS if isinstance(panel, WIDE) else COLUMNS // IN_A_ROW
        if x + width > COLUMNS:
            x, y = 0, y + HEIGHT
        panel.layout = wr.Layout(x=x, y=y, w=width, h=HEIGHT)
        x += width
