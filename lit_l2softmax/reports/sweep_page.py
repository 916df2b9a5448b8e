"""The page of a sweep: what its variants say together, and the way to each run."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lit_l2softmax.sweeps import chart, pictures, rows, table

from . import page
from .svg import inline


def write(folder: Path, found: Sequence[rows.Row]) -> Path:
    """Writes ``report.html`` of a sweep's rows into its folder and returns its path."""
    good = [row for row in found if row.value is not None]
    return page.write(
        folder,
        "sweep.html",
        title=found[0].sweep,
        metric=found[0].metric,
        stands_on=[line.replace("`", "") for line in table.stands_on(found)],
        variants=table.cells(found),
        explained=table.EXPLAINED,
        others=table.others(found),
        others_title=table.OTHERS,
        others_explained=table.OTHERS_EXPLAINED,
        pictures=[
            inline(figure, name, f"{name} of each variant") for name, figure in pictures.drawn(folder / rows.SWEEP_FILE)
        ],
        drawing=inline(chart.drawn(good), "sweep", f"{found[0].metric} of each variant; the table says the same")
        if good
        else None,
        runs=[
            {
                "row": row,
                "variant": variant,
                "name": row.run.rpartition("/")[2],
                "link": quote(f"{row.run}/{page.REPORT_FILE}") if _has_page(folder, row) else None,
            }
            for variant, of in rows.variants(found).items()
            for row in of
        ],
        config=_read(folder / rows.CONFIG_FILE),
    )


def _has_page(folder: Path, row: rows.Row) -> bool:
    return bool(row.run) and (folder / row.run / page.REPORT_FILE).is_file()


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
