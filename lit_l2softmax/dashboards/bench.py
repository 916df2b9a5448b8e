"""The benchmarks: how fast, against whom, and whether a commit has made it worse."""

from . import bench_keys as keys
from .dashboard import Dashboard, Panel, Section
from .panels import bars, chart, table
from .runs import BENCH_JOB, of_job

LINEAR, LOGITS = "linear L2 softmax cross-entropy", "L2 softmax cross-entropy of logits"
NORM = "local response normalisation"
DIRECTIONS = ("forward and backward", "forward", "backward")


def _step(system: int) -> str:
    return f"training step of System {system}"


def _means(title: str, *benchmarks: str, precisions: tuple[str, ...] = ("",)) -> Panel:
    """What this project is times as fast, run by run."""
    return bars(title, *(keys.speedup(name, precision) for name in benchmarks for precision in precisions))


def _cases(*benchmarks: str) -> list[Panel]:
    """All providers in all cases of each benchmark, as times as fast as its baseline."""
    return [chart(name, keys.table(name), keys.LABEL, "speedup") for name in benchmarks]


def _times(title: str, benchmark: str) -> Panel:
    return chart(title, keys.table(benchmark), keys.LABEL, "time_ms")


def _operator(name: str, variant: str = "") -> list[Panel]:
    benchmarks = [f"{name}, {variant}{direction}" for direction in DIRECTIONS]
    return [_means(f"mean speed-up {variant.rstrip(', ')}".rstrip(), *benchmarks), *_cases(*benchmarks)]


DASHBOARD = Dashboard(
    title="Benchmarks",
    text=(
        "Rows of bench/results/, a run for each file that `dashboard bench --rows FILE` has logged. Only ratios that "
        "were measured in turn within one run carry over to another day, so bars are speed-ups over each benchmark's "
        "baseline, which is 1; a mean is the geometric one over its cases."
    ),
    runs=of_job(BENCH_JOB),
    columns=[keys.speedup(f"{name}, {DIRECTIONS[0]}") for name in (LINEAR, LOGITS, f"{NORM}, float32")],
    sections=[
        Section("L2-constrained softmax loss", "Against eager PyTorch, 10 to 200,000 classes.", _operator(LINEAR)),
        Section("Softmax of normalised logits", "Against eager PyTorch.", _operator(LOGITS)),
        Section(
            "Local response normalisation",
            "Against torch.nn.functional, in two precisions.",
            [*_operator(NORM, "float32, "), *_operator(NORM, "bfloat16, ")],
        ),
        Section(
            "Training steps",
            "Through Lightning, with data and logging, against a bare loop of the same network.",
            [
                _means("Systems 1, 4 and 5", *map(_step, (1, 4, 5)), precisions=("32-true", "bf16-mixed")),
                _means("Systems 2 and 3", *map(_step, (2, 3))),
                _times("a step of System 2, and its images alone, in ms", "input pipeline of System 2"),
                *_cases(*map(_step, range(1, 6))),
            ],
        ),
        Section(
            "Surviving",
            "What seeds, looks for NaN and signals take of a training step, and a checkpoint that is safe on the disk.",
            [
                _times("a training step, and one that survives, in ms", "surviving, System 1"),
                _means("a checkpoint", "a checkpoint, System 1"),
                *_cases("a checkpoint, System 1"),
            ],
        ),
        Section(
            "Commands",
            "How long a command takes to answer, and an empty Python program.",
            [_means("an empty program's time over a command's", "start-up"), _times("start-up, in ms", "start-up")],
        ),
        Section("Rows", "All of it, with what each provider does wrong or why it cannot run.", [table(keys.ROWS)]),
    ],
)
