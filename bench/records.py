"""The measurements as rows of ``bench/results/<device>.csv``, committed, so that a regression is a diff."""

import csv
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

RESULTS = Path(__file__).parent / "results"

# What this project is called among the providers.
OURS = "lit_l2softmax"
# A copy of the input: no provider of a result, and how fast one could be at best.
COPY = "a copy"


@dataclass(frozen=True)
class Row:
    """One provider in one case of one benchmark.

    Attributes:
        time_ms: median milliseconds a call; on a CPU only its ratios carry over to another day. None, as all figures,
            for a provider that cannot run, whose note says why.
        time_ms_q1: first quartile over the rounds, ``time_ms_q3`` the third.
        speedup: median over the rounds of the baseline's time divided by this provider's, with quartiles alike.
        rate: work a second at the median time, in ``rate_unit``; None where the work has no natural unit.
        calls: in a round.
        peak_extra_mib: the most memory one call held at a moment beyond what was there, results included; None where it
            was not asked for.
        gigabytes: 10^9 bytes that a call cannot but move, None where nobody counted; ``gigaoperations`` alike.
        copy_gb_s: what the machine copied in this run, 10^9 bytes a second read and written.
        matmul_gop_s: what it multiplied, 10^9 operations a second.
        note: what the provider does wrong, or why it cannot run.
    """

    benchmark: str
    case: str
    provider: str
    time_ms: float | None
    time_ms_q1: float | None
    time_ms_q3: float | None
    baseline: str
    speedup: float | None
    speedup_q1: float | None
    speedup_q3: float | None
    rate: float | None
    rate_unit: str
    calls: int
    peak_extra_mib: float | None
    gigabytes: float | None
    gigaoperations: float | None
    copy_gb_s: float | None
    matmul_gop_s: float | None
    note: str
    device: str
    threads: int
    python: str
    torch: str
    lightning: str
    commit: str

    @property
    def key(self) -> tuple[str, str, str]:
        """What a file holds one row of."""
        return self.benchmark, self.case, self.provider

    @property
    def share_of_limit(self) -> float | None:
        """The least time that the machine's two rates allow, over the time taken."""
        if self.time_ms is None or self.gigabytes is None:
            return None
        moved, multiplied = self.gigabytes / self.copy_gb_s, self.gigaoperations / self.matmul_gop_s
        return 1e3 * max(moved, multiplied) / self.time_ms


_PARSE = {float: float, int: int, str: str, float | None: lambda text: float(text) if text else None}


def stem(name: str) -> str:
    """``name`` as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def path(device: str) -> Path:
    """The file of a device's rows."""
    return RESULTS / f"{stem(device)}.csv"


def read(file: Path) -> list[Row]:
    """The rows of a file, none where there is no file yet."""
    if not file.is_file():
        return []
    with file.open(newline="") as opened:
        return [
            Row(**{field.name: _PARSE[field.type](cells[field.name]) for field in fields(Row)})
            for cells in csv.DictReader(opened)
        ]


def merged(stored: Iterable[Row], measured: Iterable[Row]) -> list[Row]:
    """The stored rows with the measured ones in their place, sorted.

    All rows of a case are replaced together, for their ratios come from one run.
    """
    measured = list(measured)
    again = {row.key[:2] for row in measured}
    return sorted([*(row for row in stored if row.key[:2] not in again), *measured], key=lambda row: row.key)


def write(file: Path, rows: Iterable[Row]) -> None:
    """Replaces the file, whole or not at all; numbers keep four digits, more than any of them deserves."""
    file.parent.mkdir(exist_ok=True)
    beside = file.with_suffix(".csv.part")
    with beside.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            cells = asdict(row).items()
            writer.writerow({name: f"{cell:.4g}" if isinstance(cell, float) else cell for name, cell in cells})
    beside.replace(file)


def change(row: Row, stored: Iterable[Row]) -> str:
    """How the speed-up moved since it was stored, empty where no like row was.

    ``*`` marks middle halves that do not overlap.
    """
    alike = (old for old in stored if (old.key, old.threads) == (row.key, row.threads))
    before = next(alike, None)
    if before is None or row.provider == row.baseline or None in (row.speedup, before.speedup):
        return ""
    apart = row.speedup_q1 > before.speedup_q3 or row.speedup_q3 < before.speedup_q1
    return f"{row.speedup / before.speedup - 1:+.0%}{' *' if apart else ''}"
