"""Runs every experiment on the real data and writes what came out beside what its source prints.

A run that is over is not run again while the code is the same, so that an interrupted reproduction goes on where it
was. ``python bench/reproduce.py [CONFIG ...]`` runs those alone and reports all that have ever been run.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from experiments import EXPERIMENTS, Experiment, Figure, Finished
from machine import ROOT, this_machine
from scipy import stats

from lit_l2softmax import plots_of_regressions as plots
from lit_l2softmax.data import CIFAR10Data, MNISTData, PointsData
from lit_l2softmax.errors import DataError
from lit_l2softmax.messages import nearest_or_all
from lit_l2softmax.networks import DotsNetwork

FOLDER = ROOT / "reproduction"  # the runs
REPORT = ROOT / "bench" / "results" / "reproduction.md"
BORDERS = REPORT.with_name("dots-with-and-without-a-penalty.png")
CONFIDENCE = 0.95
NEWLINE = "\n"  # an expression of a Python 3.11 f-string has no backslash


@dataclass(frozen=True)
class Outcome:
    """One run, as it is remembered.

    Attributes:
        run: its folder.
        figure: what is compared with the source.
        rows: test images or points.
        seconds: of training and testing, without the start of Python.
        data: what it was tested on.
        commit: of the code that ran.
    """

    run: str
    figure: Figure
    rows: int
    steps: int
    seconds: float
    data: str
    commit: str
    options: tuple[str, ...]

    @classmethod
    def of(cls, run: Finished, experiment: Experiment, commit: str) -> "Outcome":
        result = run.result
        rows = int(result["test/points" if experiment.system == 3 else "test/images"])
        return cls(
            str(run.folder.relative_to(FOLDER)),
            experiment.figure(run),
            rows,
            int(result["steps"]),
            result["seconds"],
            str(result["data/source"]),
            commit,
            experiment.options,
        )


def memory(experiment: Experiment, seed: int) -> Path:
    """Where a run's outcome is remembered."""
    return FOLDER / f"{experiment.config}-{seed}.json"


def remembered(experiment: Experiment, seed: int) -> Outcome | None:
    """The outcome of a run that is over; None where it is not, or its options were others."""
    path = memory(experiment, seed)
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    outcome = Outcome(**{**content, "options": tuple(content["options"])})
    return outcome if outcome.options == experiment.options else None


def command(experiment: Experiment, seed: int) -> list[str]:
    """What runs it, on real data or not at all."""
    real = ["--data.source=mnist"] if experiment.system in (1, 4, 5) else []
    fit = [sys.executable, "-m", "lit_l2softmax", "fit", "--config", experiment.config, f"--runs={FOLDER}"]
    return [*fit, f"--seed_everything={seed}", *real, *experiment.options]


def train(experiment: Experiment, seed: int, commit: str) -> str | None:
    """Runs it and remembers the outcome; what went wrong, if something did."""
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    done = subprocess.run(command(experiment, seed), capture_output=True, text=True, env=environment)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    if this_machine().commit != commit:
        return "the code has changed meanwhile, and nobody knows which of it ran; run this again"
    outcome = Outcome.of(Finished(Path(done.stdout.splitlines()[-1]), done.stdout), experiment, commit)
    path = memory(experiment, seed)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(asdict(outcome)))
    beside.replace(path)
    return None


def interval(outcomes: Sequence[Outcome]) -> str:
    """Where the figure lies with a confidence of 95 %: Student's over seeds, Wilson's over the images of one run."""
    shares = [outcome.figure for outcome in outcomes]
    if not all(isinstance(share, float) for share in shares):
        return ""
    if len(shares) == 1:
        (outcome,) = outcomes
        counted = stats.binomtest(round(float(outcome.figure) * outcome.rows), outcome.rows)
        low, high = counted.proportion_ci(CONFIDENCE, method="wilson")
    else:
        middle, error = sum(map(float, shares)) / len(shares), stats.sem(shares)
        low, high = stats.t.interval(CONFIDENCE, len(shares) - 1, middle, error) if error else (middle, middle)
    return f"{low:.4f} to {high:.4f}"


def row(experiment: Experiment) -> str:
    """The experiment's line of the report."""
    outcomes = [found for seed in experiment.seeds if (found := remembered(experiment, seed)) is not None]
    cells = [str(experiment.system), f"`{' '.join((experiment.config, *experiment.options))}`", experiment.source]
    if len(outcomes) < len(experiment.seeds):
        return f"| {' | '.join([*cells, f'{len(outcomes)} of {len(experiment.seeds)} runs', *[''] * 6])} |"
    figures = [outcome.figure for outcome in outcomes]
    shares = [figure for figure in figures if isinstance(figure, float)]
    ours = f"{sum(shares) / len(shares):.4f}" if shares else str(figures[0])
    steps, rows = outcomes[0].steps, outcomes[0].rows
    cells += [
        ours,
        interval(outcomes),
        f"{steps:,}",
        ", ".join(map(str, experiment.seeds)),
        f"{sum(outcome.seconds for outcome in outcomes):.0f}",
        f"{rows:,} of {outcomes[0].data}",
        ", ".join(sorted({outcome.commit for outcome in outcomes})),
    ]
    return f"| {' | '.join(cells)} |"


def report() -> str:
    """The whole of ``reproduction.md``."""
    machine = this_machine()
    known = [remembered(experiment, seed) for experiment in EXPERIMENTS for seed in experiment.seeds]
    seconds = sum(outcome.seconds for outcome in known if outcome is not None)
    columns = ("system", "configuration", "its source's figure", "ours", "95 % interval", "steps", "seeds", "seconds")
    header = [f"| {' | '.join((*columns, 'tested on', 'commit'))} |", f"|{'---|' * (len(columns) + 2)}"]
    return f"""\
# What every experiment reached

Written by `make reproduce`. {machine.device}, {machine.threads} threads, Python {machine.python},
torch {machine.torch}, lightning {machine.lightning}; {seconds / 60:.0f} minutes in all runs together.

{NEWLINE.join([*header, *map(row, EXPERIMENTS)])}

Figures are test accuracies but for System 3. An interval is Student's over several seeds, which says what other seeds
would do, or Wilson's over the images of one run, which does not; two single runs whose intervals overlap are not
ranked. System 2 is trained for 2,000 steps here: its 100,000 want a GPU.

![The dots without and with an L2 penalty, from the same initial weights]({BORDERS.name})
"""


def draw_borders() -> None:
    """The dots' border and its regularised twin, side by side, once both have been trained."""
    twins = {one.config: remembered(one, one.seeds[0]) for one in EXPERIMENTS if one.config in ("dots", "dots_l2")}
    if None in twins.values() or not twins:
        return
    data = PointsData("dots", 30)
    data.setup("fit")
    panels = []
    for (config, outcome), penalty in zip(twins.items(), ("no penalty", "L2 penalty"), strict=True):
        state = torch.load(FOLDER / outcome.run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        network = DotsNetwork()
        network.load_state_dict({name.removeprefix("network."): weight for name, weight in state.items()})
        with torch.no_grad():
            panels.append((f"{config}: {penalty}", network(plots.grid())[:, 0]))
    plots.save_borders(BORDERS, *data.train, panels, 0.5)


def write_report() -> None:
    """Writes the report and its picture."""
    beside = REPORT.with_suffix(".part")
    beside.write_text(report())
    beside.replace(REPORT)
    draw_borders()


def main(names: Sequence[str]) -> int:
    """Runs what is not remembered of the named experiments, or of all; returns 1 if one failed, 2 if none was tried."""
    known = [experiment.config for experiment in EXPERIMENTS]
    for name in names:
        if name not in known:
            print(f"error: {name!r} is no experiment{nearest_or_all(name, known)}", file=sys.stderr)
            return 2
    asked = [experiment for experiment in EXPERIMENTS if not names or experiment.config in names]
    try:
        if any(experiment.system in (1, 4, 5) for experiment in asked):
            MNISTData(source="mnist").prepare_data()
        if any(experiment.system == 2 for experiment in asked):
            CIFAR10Data().prepare_data()
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    commit = this_machine().commit
    jobs = [(experiment, seed) for experiment in asked for seed in experiment.seeds]
    failed = False
    for number, (experiment, seed) in enumerate(jobs, start=1):
        label = f"[{number}/{len(jobs)}] {experiment.config}, seed {seed}"
        outcome = remembered(experiment, seed)
        if outcome is not None and outcome.commit == commit and not commit.endswith("changes"):
            print(f"{label}: already there", flush=True)
            continue
        start = time.perf_counter()
        error = train(experiment, seed, commit)
        failed |= error is not None
        print(f"{label}: {error or 'done'} ({time.perf_counter() - start:.0f} s)", flush=True)
        write_report()
    write_report()
    print(REPORT)
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("stopped; what is over is kept, the same command goes on from there")
