"""What the cases stand on: one fixture that checks or times them, and what is made of the rows at the end.

``pytest bench`` calls each provider once; ``--benchmark`` times them and keeps the rows.
"""

import time
from dataclasses import asdict

import harness
import limits
import machine
import memory
import plots
import pytest
import records
import summary

ROWS = pytest.StashKey[list[records.Row]]()
CHANGES = pytest.StashKey[dict[tuple[str, str, str], str]]()
START = pytest.StashKey[float]()
# What a provider that cannot run has no figures for.
UNMEASURED = ("time_ms", "time_ms_q1", "time_ms_q3", "speedup", "speedup_q1", "speedup_q3", "rate", "peak_extra_mib")


def pytest_configure(config):
    """Makes room for the rows of this run."""
    config.stash[ROWS], config.stash[CHANGES], config.stash[START] = [], {}, time.monotonic()
    config.addinivalue_line("markers", "long: a longer shape; --benchmark-long runs it")


def pytest_collection_modifyitems(config, items):
    """Leaves the longer shapes out unless they are asked for."""
    if not config.getoption("benchmark_long"):
        longer = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if item not in longer]


@pytest.fixture(autouse=True)
def _in_time(request):
    """Starts no case when the time for all of them is over."""
    allowed = request.config.getoption("benchmark_seconds")
    if allowed is not None and time.monotonic() - request.config.stash[START] > allowed:
        pytest.skip(f"the {allowed:g} s for benchmarks are over")


@pytest.fixture
def measure(request):
    """Checks or times the providers of one case; each case's rows are kept as soon as they are there.

    ``work`` is a call's, in what ``rate_unit`` counts a second; ``once`` has a call of each provider, if their memory
    is to be measured too; ``least`` the 10^9 bytes and operations nobody can do without, and the dtype multiplied in;
    ``notes`` what a provider does wrong; ``absent`` why others cannot run.
    """

    def run(
        benchmark,
        case,
        providers,
        baseline,
        *,
        calls_multiple=1,
        work=None,
        rate_unit="",
        once=None,
        least=None,
        notes=None,
        absent=None,
    ):
        if not request.config.getoption("benchmark"):
            for provider in providers.values():
                provider(1)
            return
        common = {
            "benchmark": benchmark,
            "case": case,
            "baseline": baseline,
            "rate_unit": rate_unit,
            **dict.fromkeys(("gigabytes", "gigaoperations", "copy_gb_s", "matmul_gop_s")),
            **asdict(machine.this_machine()),
        }
        if least is not None:
            common["gigabytes"], common["gigaoperations"], dtype = least
            common |= asdict(limits.limits(dtype))
        notes = notes or {}
        rows = []
        for name, timing in harness.time_in_turn(providers, baseline, calls_multiple).items():
            time_ms, speedup = timing.time_s, timing.speedup
            rows.append(
                records.Row(
                    provider=name,
                    time_ms=1e3 * time_ms.median,
                    time_ms_q1=1e3 * time_ms.q1,
                    time_ms_q3=1e3 * time_ms.q3,
                    speedup=speedup.median,
                    speedup_q1=speedup.q1,
                    speedup_q3=speedup.q3,
                    rate=None if work is None else work / time_ms.median,
                    calls=timing.calls,
                    peak_extra_mib=None if once is None else memory.peak_extra_bytes(once[name]) / 2**20,
                    note=notes.get(name, ""),
                    **common,
                )
            )
        nothing = dict.fromkeys(UNMEASURED)
        rows += [
            records.Row(provider=name, note=why, calls=0, **nothing, **common) for name, why in (absent or {}).items()
        ]
        file = records.path(common["device"])
        stored = records.read(file)
        request.config.stash[CHANGES] |= {row.key: records.change(row, stored) for row in rows}
        request.config.stash[ROWS] += rows
        records.write(file, records.merged(stored, rows))

    return run


def pytest_terminal_summary(terminalreporter, config):
    """Prints the table of what was measured, then draws all rows and sums them up."""
    measured = config.stash[ROWS]
    if not measured:
        return
    first = measured[0]
    file = records.path(first.device)
    terminalreporter.section(f"{first.device}, threads: {first.threads}; {first.commit}; torch {first.torch}")
    for line in _table(measured, config.stash[CHANGES]):
        terminalreporter.write_line(line)
    kept = records.read(file)
    for path in (file, summary.write(kept), *plots.draw(kept)):
        terminalreporter.write_line(str(path.relative_to(config.rootpath)))


def _table(measured, changes):
    titles = (
        "benchmark",
        "case",
        "provider",
        "median ms",
        "middle half",
        "speed-up",
        "middle half",
        "rate",
        "limit",
        "peak MiB",
        "stored",
    )
    cells = [
        (
            row.benchmark,
            row.case,
            f"{row.provider} (baseline)" if row.provider == row.baseline else row.provider,
            *_figures(row),
            changes[row.key],
        )
        for row in measured
    ]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for line in (titles, *cells):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    for provider, note in dict.fromkeys((row.provider, row.note) for row in measured if row.note):
        yield f"{provider}: {note}"
    yield "speed-up: the baseline's time / the provider's, in the same round; stored: its change since the stored row,"
    yield "* where the middle halves do not overlap; limit: what moving and multiplying what must be would take at this"
    yield "machine's own rates, of the time taken"


def _figures(row):
    if row.time_ms is None:
        return ("cannot run", *[""] * 6)
    share = row.share_of_limit
    return (
        f"{row.time_ms:.4g}",
        f"{row.time_ms_q1:.4g} to {row.time_ms_q3:.4g}",
        f"{row.speedup:.3g}",
        f"{row.speedup_q1:.3g} to {row.speedup_q3:.3g}",
        "" if row.rate is None else f"{plots.three_digits(row.rate)} {row.rate_unit}",
        "" if share is None else f"{share:.0%}",
        "" if row.peak_extra_mib is None else f"{row.peak_extra_mib:,.4g}",
    )
