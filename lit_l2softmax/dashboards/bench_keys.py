"""Under which keys a run of benchmark rows records them; both who logs and who draws them ask here."""

import re

ROWS = "bench/rows"
LABEL = "case and provider"


def _stem(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(benchmark: str) -> str:
    """The table of one benchmark's rows."""
    return f"bench/{_stem(benchmark)}"


def speedup(benchmark: str, precision: str = "") -> str:
    """The geometric mean, over a benchmark's cases, of what this project is times as fast as the baseline."""
    return f"speedup/{_stem(benchmark)}" + (f"/{_stem(precision)}" if precision else "")
