"""What is seen of a sweep while it runs: a table on a terminal, a line a run elsewhere."""

import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from .definition import SEED, Setting
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
        self._labels = names(options)
        self._values: dict[str, list[float]] = {label: [] for label in self._labels}
        self._totals = {label: self._labels.count(label) for label in self._labels}
        self._failures: list[str] = []
        self._over = 0
        self._start, self._at_first = time.monotonic(), 0

    def label(self, setting: Setting) -> str:
        """What a setting is called: what its variant differs in, and its seed."""
        seed = f", seed {setting[SEED]}" if SEED in setting else ""
        return f"{self._labels[self.settings.index(setting)]}{seed}"

    def ended(self, setting: Setting, value: float) -> None:
        """Counts a run that is over now."""
        self._values[self._labels[self.settings.index(setting)]].append(value)
        self._say(setting, f"{self.metric} {value:.4f}")

    def failed(self, setting: Setting, error: str) -> None:
        """Counts a run that has failed."""
        self._failures.append(f"{self.label(setting)}: {error}")
        self._say(setting, f"failed: {error}")

    def _say(self, setting: Setting, what: str) -> None:
        self._over += 1
        if not sys.stdout.isatty():  # where nobody sees the table
            print(f"[{self._over}/{len(self.settings)}] {self.label(setting)}: {what}", flush=True)

    def shown(self) -> AbstractContextManager[object]:
        """Keeps the table on a terminal up to date as long as it is entered."""
        self._start, self._at_first = time.monotonic(), self._over
        if not sys.stdout.isatty():
            return nullcontext()
        return Live(get_renderable=self.table, refresh_per_second=2)

    def table(self) -> Group:
        """The table as it is now."""
        table = Table("variant", "runs", f"mean {self.metric}", "deviation", box=None, pad_edge=False)
        for label, values in self._values.items():
            busy = sum(self._labels[self.settings.index(setting)] == label for setting in self.running)
            count = f"{len(values)}/{self._totals[label]}" + (f", {busy} running" if busy else "")
            mean = f"{statistics.fmean(values):.4f}" if values else ""
            deviation = f"{statistics.stdev(values):.4f}" if len(values) > 1 else ""
            table.add_row(Text(label), count, mean, deviation)
        failures = [Text(f"failed: {failure}", style="red") for failure in self._failures]
        return Group(table, *failures, Text(self._clock()))

    def _clock(self) -> str:
        passed = time.monotonic() - self._start
        done = self._over - self._at_first
        left = len(self.settings) - self._over
        rest = f", about {passed / done * left / 60:.0f} min left" if done and left else ""
        return f"{self._over} of {len(self.settings)} runs, {passed / 60:.0f} min{rest}"
