"""What is seen of a sweep while it runs: a table on a terminal, a line a run elsewhere."""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .definition import SEED, Setting, key
from .rows import flat, names


class Progress:
    """Counts the runs of a sweep and shows them.

    Args:
        settings: all of the sweep's.
        metric: what their runs are compared by.
        running: those that are being run, kept up to date by whoever runs them.
    """

    def __init__(self, settings: Sequence[Setting], metric: str, running: Sequence[Setting]) -> None:
        self.settings, self.metric, self.running = settings, metric, running
        options = [{name: text for name, text in flat(setting).items() if name != SEED} for setting in settings]
        self._names = dict(zip(map(key, settings), names(options), strict=True))
        self._totals = Counter(self._names.values())
        self._values: dict[str, list[float]] = {name: [] for name in self._totals}
        self._failures: list[str] = []
        self._over = 0
        self._start, self._at_first = time.monotonic(), 0

    def label(self, setting: Setting) -> str:
        """What a setting is called: what its variant differs in, and its seed."""
        seed = f", seed {setting[SEED]}" if SEED in setting else ""
        return f"{self._names[key(setting)]}{seed}"

    def ended(self, setting: Setting, value: float | None, error: str) -> None:
        """Counts a run that is over, or has failed."""
        self._over += 1
        if value is None:
            self._failures.append(f"{self.label(setting)}: {error}")
            said = f"failed: {error}"
        else:
            self._values[self._names[key(setting)]].append(value)
            said = f"{self.metric} {value:.4g}"
        if not sys.stdout.isatty():  # where nobody sees the table
            print(f"[{self._over}/{len(self.settings)}] {self.label(setting)}: {said}", flush=True)

    def shown(self) -> AbstractContextManager[object]:
        """Keeps the table on a terminal up to date as long as it is entered."""
        self._start, self._at_first = time.monotonic(), self._over
        if not sys.stdout.isatty():
            return nullcontext()
        return Live(get_renderable=self.table, refresh_per_second=2)

    def table(self) -> Group:
        """The table as it is now."""
        table = Table("variant", "runs", f"mean {self.metric}", "deviation", box=None, pad_edge=False)
        busy = Counter(self._names[key(setting)] for setting in list(self.running))
        for name, values in self._values.items():
            count = f"{len(values)}/{self._totals[name]}" + (f", {busy[name]} running" if busy[name] else "")
            mean = f"{statistics.fmean(values):.4g}" if values else ""
            deviation = f"{statistics.stdev(values):.2g}" if len(values) > 1 else ""
            table.add_row(Text(name), count, mean, deviation)
        failures = [Text(f"failed: {failure}", style="red") for failure in self._failures]
        return Group(table, *failures, Text(self._clock()))

    def _clock(self) -> str:
        passed = time.monotonic() - self._start
        done = self._over - self._at_first
        left = len(self.settings) - self._over
        rest = f", about {passed / done * left / 60:.0f} min left" if done and left else ""
        return f"{self._over} of {len(self.settings)} runs, {passed / 60:.0f} min{rest}"
