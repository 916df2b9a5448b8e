"""What the cases stand on: one fixture that checks or times them, and what is made of the rows at the end.

``pytest bench`` calls each provider once; ``--benchmark`` times them and keeps the rows.
"""

from dataclasses import asdict

import harness
import machine
import memory
import plots
import pytest
import records

ROWS = pytest.StashKey[list[records.Row]]()


def pytest_configure(config):
    """Makes room for the rows of this run."""
    config.stash[ROWS] = []
    config.addinivalue_line("markers", "long: a longer shape; --benchmark-long runs it")


def pytest_collection_modifyitems(config, items):
    """Leaves the longer shapes out unless they are asked for."""
    if not config.getoption("benchmark_long"):
        longer = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=longer)
        items[:] = [item for item in items if item not in longer]


@pytest.fixture
def measure(request):
    """Checks or times the providers of one case.

    ``work`` is a call's, in what ``rate_unit`` counts a second; ``once`` has a call of each provider, if their memory
    is to be measured too.
    """

    def run(benchmark, case, providers, baseline, *, calls_multiple=1, work=None, rate_unit="", once=None):
        if not request.config.getoption("benchmark"):
            for provider in providers.values():
                provider(1)
            return
        where = asdict(machine.this_machine())
        for name, timing in harness.time_in_turn(providers, baseline, calls_multiple).items():
            time_ms, speedup = timing.time_s, timing.speedup
            request.config.stash[ROWS].append(
                records.Row(
                    benchmark=benchmark,
                    case=case,
                    provider=name,
                    time_ms=1e3 * time_ms.median,
                    time_ms_q1=1e3 * time_ms.q1,
                    time_ms_q3=1e3 * time_ms.q3,
                    baseline=baseline,
                    speedup=speedup.median,
                    speedup_q1=speedup.q1,
                    speedup_q3=speedup.q3,
                    rate=None if work is None else work / time_ms.median,
                    rate_unit=rate_unit,
                    calls=timing.calls,
                    peak_extra_mib=None if once is None else memory.peak_extra_bytes(once[name]) / 2**20,
                    **where,
                )
            )

    return run


def pytest_terminal_summary(terminalreporter, config):
    """Prints the table, then keeps the rows and draws them."""
    measured = config.stash[ROWS]
    if not measured:
        return
    file = records.path(measured[0].device)
    stored = records.read(file)
    first = measured[0]
    terminalreporter.section(f"{first.device}, threads: {first.threads}; {first.commit}; torch {first.torch}")
    for line in _table(measured, stored):
        terminalreporter.write_line(line)
    kept = records.merged(stored, measured)
    records.write(file, kept)
    for path in (file, *plots.draw(kept)):
        terminalreporter.write_line(str(path.relative_to(config.rootpath)))


def _table(measured, stored):
    titles = (
        "benchmark",
        "case",
        "provider",
        "median ms",
        "middle half",
        "speed-up",
        "middle half",
        "rate",
        "peak MiB",
        "stored",
    )
    cells = [
        (
            row.benchmark,
            row.case,
            f"{row.provider} (baseline)" if row.provider == row.baseline else row.provider,
            f"{row.time_ms:.4g}",
            f"{row.time_ms_q1:.4g} to {row.time_ms_q3:.4g}",
            f"{row.speedup:.3g}",
            f"{row.speedup_q1:.3g} to {row.speedup_q3:.3g}",
            "" if row.rate is None else f"{plots.three_digits(row.rate)} {row.rate_unit}",
            "" if row.peak_extra_mib is None else f"{row.peak_extra_mib:,.4g}",
            records.change(row, stored),
        )
        for row in measured
    ]
    widths = [max(map(len, column)) for column in zip(titles, *cells, strict=True)]
    for line in (titles, *cells):
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
    yield "speed-up: the baseline's time / the provider's, in the same round; stored: its change since the stored row,"
    yield "* where the middle halves do not overlap"
