"""Sweeps: what a file means, what is run of it, and what its runs say together."""

import itertools
import json
import math
import signal
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from scipy import stats

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.sweeps import definition, rows, runner, statistics, table
from lit_l2softmax.sweeps.definition import Parameter, Sweep

RESULTS = Path(__file__).parents[1] / "bench" / "results"
FIT = ["${env}", "${interpreter}", "-m", "lit_l2softmax", "fit", "--config", "mnist_tutorial", "${args}"]
GRID = {
    "method": "grid",
    "metric": {"name": "test/accuracy", "goal": "maximize"},
    "command": FIT,
    "parameters": {"seed_everything": {"values": [0, 1]}, "model.head.alpha": {"values": [0.0, 5.0]}},
}


def written(path, **changes):
    path.write_text(yaml.safe_dump({key: value for key, value in {**GRID, **changes}.items() if value is not None}))
    return path


def test_a_grid_is_every_combination_one_variant_after_the_other(tmp_path):
    sweep = definition.read(written(tmp_path / "alpha.yaml"))
    assert (sweep.name, sweep.metric, sweep.maximize) == ("alpha", "test/accuracy", True)
    expected = [{"model.head.alpha": a, "seed_everything": s} for a, s in itertools.product((0.0, 5.0), (0, 1))]
    assert sweep.settings() == expected


def test_a_command_line_is_the_one_that_wandbs_agent_makes(tmp_path):
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    setting = {
        "lr": 0.1,
        "model.head": {"alpha": 16.0, "learn_alpha": True},
        "data.shuffle": False,
        "n": None,
        "t": "a b",
    }
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in setting.items()}})["args"]
    sweep = definition.read(written(tmp_path / "alpha.yaml"))
    ours = sweep.arguments(setting)
    assert ours == ["/usr/bin/env", sys.executable, *FIT[2:-1], *theirs]


def test_random_settings_are_within_their_bounds_and_the_same_each_time(tmp_path):
    parameters = {
        "lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "n": {"min": 3, "max": 5},
        "share": {"min": 0.0, "max": 0.5},
        "which": {"values": ["a", "b"], "probabilities": [0.9, 0.1]},
        "fixed": {"value": 7},
    }
    sweep = definition.read(written(tmp_path / "r.yaml", method="random", run_cap=400, parameters=parameters))
    drawn = sweep.settings()
    assert drawn == sweep.settings()
    assert len(drawn) == 400
    assert {one["n"] for one in drawn} == {3, 4, 5}
    assert {one["fixed"] for one in drawn} == {7}
    assert all(1e-4 <= one["lr"] <= 1e-1 and 0 <= one["share"] <= 0.5 for one in drawn)
    assert stats.kstest([math.log10(one["lr"]) for one in drawn], stats.uniform(-4, 3).cdf).pvalue > 0.01
    assert stats.kstest([one["share"] for one in drawn], stats.uniform(0, 0.5).cdf).pvalue > 0.01
    assert 0.85 < sum(one["which"] == "a" for one in drawn) / 400 < 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": None}, "has no parameters; it needs method, metric, parameters and command"),
        ({"parameters": {}}, "parameters are empty: there is nothing to try"),
        ({"parameters": {"lr": {"values": []}}}, "parameter lr has no values: the grid is empty"),
        ({"parameters": {"lr": 3}}, "parameter lr needs value, values, or min and max, got 3"),
        ({"parameters": {"lr": {"valeus": [1]}}}, "parameter lr: 'valeus' is unknown here; did you mean 'values'?"),
        ({"parameters": {"lr": {"min": 1}}}, "parameter lr needs value, values, or a min below its max"),
        ({"parameters": {"lr": {"min": 2, "max": 1}}}, "parameter lr needs value, values, or a min below its max"),
        ({"parameters": {"lr": {"min": 0, "max": 1}}}, "parameter lr: a grid needs values, not min and max"),
        (
            {"parameters": {"model": {"parameters": {}}}},
            "parameter model: write what is below it with a dot, model.NAME",
        ),
        (
            {"parameters": {"lr": {"min": 0.0, "max": 1.0, "distribution": "log_uniform_values"}}},
            "parameter lr: log_uniform_values needs a positive min, got 0.0",
        ),
        (
            {"parameters": {"lr": {"min": 0.0, "max": 1.0, "distribution": "beta"}}},
            "parameter lr: distribution must be uniform, int_uniform, log_uniform_values, got 'beta'",
        ),
        (
            {"parameters": {"lr": {"min": 0.5, "max": 1.0, "distribution": "int_uniform"}}},
            "parameter lr: int_uniform needs whole numbers, got 0.5 and 1.0",
        ),
        (
            {"parameters": {"lr": {"values": [1, 2], "probabilities": [0.5, 0.6]}}},
            "parameter lr: probabilities must be one for each value and add up to 1",
        ),
        ({"method": "bayes"}, "method must be grid or random (bayes needs W&B's server), got 'bayes'"),
        ({"method": None}, "method must be grid or random (bayes needs W&B's server), got None"),
        ({"method": "random"}, "a random sweep needs run_cap, the number of runs"),
        ({"method": "random", "run_cap": 0}, "run_cap must be a number of runs, got 0"),
        ({"run_cap": 3}, "run_cap would cut a grid off; leave values out instead"),
        ({"metric": None}, "metric needs a name, a figure of result.json such as test/accuracy"),
        ({"metric": {"name": "a", "goal": "best"}}, "metric.goal must be maximize or minimize, got 'best'"),
        ({"early_terminate": {"type": "hyperband"}}, "early_terminate needs W&B's server"),
        ({"paramters": {}}, "'paramters' is no key of a sweep; did you mean 'parameters'?"),
        ({"command": None}, "command must be a list such as [${env}, ${interpreter}, -m, lit_l2softmax, fit, ...]"),
        ({"command": ["python", "train.py", "${args}"]}, "command must run this program's fit"),
        ({"command": FIT[:-1]}, "command has no ${args}: every run would be the same"),
        ({"command": [*FIT, "${arg}"]}, "command: ${arg} is no macro that is known here; did you mean '${args}'?"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(changes, message, tmp_path):
    file = written(tmp_path / "bad.yaml", **changes)
    with pytest.raises(ConfigError) as refused:
        definition.read(file)
    assert str(refused.value).startswith(f"the sweep {file}: ")
    assert message in str(refused.value)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\x00", b"- 1", b""])
def test_a_file_that_is_none_is_one_line(content, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"the sweep .*bad\.yaml"):
        definition.read(file)


# ---- running

# Instead of a training: it says what it was told, and leaves a run.
STAND_IN = textwrap.dedent("""
    import json, os, pathlib, sys, time
    told = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[1:])
    with open(os.environ["STARTED"], "a") as started:
        started.write(told["number"] + "\\n")
    time.sleep(float(os.environ.get("PAUSE", "0")))
    if told["number"] == "2" and "WELL" not in os.environ:
        sys.exit("error: two is no number")
    if told["number"] == "3" and "WELL" not in os.environ:
        os.abort()
    run = pathlib.Path(told["runs"]) / "config" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"threads": os.environ["OMP_NUM_THREADS"], **told}))
""")
SWEEP = Sweep(
    "numbers", "n", True, (sys.executable, "-c", STAND_IN, "${args}"), {"number": Parameter((1, 2, 3, 4))}, None
)


@pytest.fixture
def started(tmp_path, monkeypatch):
    file = tmp_path / "started"
    monkeypatch.setenv("STARTED", str(file))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return lambda: sorted(file.read_text().split()) if file.exists() else []


def ends(folder, jobs=2):
    settings = [setting for setting in SWEEP.settings() if runner.finished(folder, setting) is None]
    return {one.setting["number"]: one for one in runner.run(SWEEP, settings, folder, jobs, 0, [])}


def test_a_run_that_fails_ends_no_other_and_is_alone_repeated(tmp_path, started, monkeypatch):
    first = ends(tmp_path)
    assert first[2].error == "two is no number"
    assert first[3].error == f"it said nothing (exit status {-signal.SIGABRT})"
    assert {number for number, one in first.items() if one.run is not None} == {1, 4}
    told = json.loads((first[4].run / "result.json").read_text())
    assert told["wandb.group"] == "numbers"
    assert told["threads"] == str(max(1, runner.cores() // 2))
    monkeypatch.setenv("WELL", "1")
    again = ends(tmp_path)
    assert set(again) == {2, 3}
    assert all(one.run is not None for one in again.values())
    assert started() == ["1", "2", "2", "3", "3", "4"]
    assert ends(tmp_path) == {}


def test_no_more_runs_than_jobs_are_under_way(tmp_path, started, monkeypatch):
    monkeypatch.setenv("PAUSE", "0.3")
    running = []
    seen = [len(running) for _ in runner.run(SWEEP, SWEEP.settings(), tmp_path, 3, 0, running)]
    assert max(seen) == 3


def test_runs_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    shares = [runner._share(4, 2, slot) for slot in range(4)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "1", "0", "1"]
    assert {share["OMP_NUM_THREADS"] for share in shares} == {"5"}


def test_who_stops_waiting_leaves_nothing_running(tmp_path, started, monkeypatch):
    monkeypatch.setenv("PAUSE", "60")
    children = []
    start = runner._start

    def followed(*given):
        children.append(start(*given))
        return children[-1]

    def interrupted_when_both_have_started(_):
        time.sleep(0.05)
        if len(started()) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_start", followed)
    monkeypatch.setattr(runner, "time", SimpleNamespace(sleep=interrupted_when_both_have_started))
    with pytest.raises(KeyboardInterrupt):
        ends(tmp_path)
    assert [child.returncode for child in children] == [-signal.SIGTERM] * 2


# ---- what runs say together


def made(values, **options):
    return [
        rows.Row(
            {"model.head.alpha": "5", **options},
            str(seed),
            "test/accuracy",
            value,
            None,
            10,
            100,
            1.5,
            "MNIST",
            "cpu",
            "torch 2",
            f"runs/{seed}",
        )
        for seed, value in enumerate(values)
    ]


def test_an_interval_is_students():
    values = [0.91, 0.94, 0.93, 0.95]
    one = statistics.estimate(values)
    low, high = stats.t.interval(0.95, 3, sum(values) / 4, stats.sem(values))
    assert (one.n, one.mean, one.low, one.high) == pytest.approx((4, 0.9325, low, high))
    assert one.deviation == pytest.approx(stats.tstd(values))
    alone = statistics.estimate([0.9])
    assert (alone.n, alone.mean) == (1, 0.9)
    assert all(math.isnan(number) for number in (alone.deviation, alone.low, alone.high, alone.p))


def test_a_difference_is_taken_seed_by_seed_and_its_p_is_the_paired_tests():
    left, right = {"0": 0.91, "1": 0.94, "2": 0.90, "9": 0.5}, {"2": 0.88, "1": 0.93, "0": 0.90, "7": 0.1}
    apart = statistics.difference(left, right)
    paired = stats.ttest_rel([0.91, 0.94, 0.90], [0.90, 0.93, 0.88])
    assert (apart.n, apart.mean, apart.p) == pytest.approx((3, 0.04 / 3, paired.pvalue))
    assert statistics.difference(left, {"7": 0.1}) is None
    same = statistics.difference(left, left)
    assert (same.mean, same.p) == (0, 1)


def test_many_comparisons_are_adjusted_for():
    assert statistics.adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.adjusted([0.9, 0.8]) == [1, 1]
    assert statistics.adjusted([]) == []


def test_rows_survive_their_file(tmp_path):
    there = made([0.9, 0.1 + 0.2], **{"a,b": 'say "x"'})
    rows.write(tmp_path / "sweep.csv", there)
    assert rows.read(tmp_path / "sweep.csv") == there


def test_a_variant_is_called_what_it_differs_in():
    both = made([0.9]) + made([0.8], **{"model.head.alpha": "16", "model.head.learn_alpha": "True"})
    assert list(rows.variants(both)) == ["alpha 5", "alpha 16, learn_alpha True"]
    assert list(rows.variants(both[:1])) == ["the configuration"]


def test_the_table_says_what_is_told_apart_and_what_is_not():
    plain = made([0.90, 0.91, 0.92, 0.93], **{"model.head.alpha": "0"})
    better = made([0.951, 0.959, 0.972, 0.981])
    alike = made([0.91, 0.90, 0.93, 0.92], **{"model.head.alpha": "50"})
    text = table.markdown([*plain, *better, *alike], "alpha")
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| alpha")}
    assert lines["alpha 0"] == "| alpha 0 | 4 | 0.9150 | 0.0129 | 0.8945 to 0.9355 |  |  |"
    paired = stats.ttest_rel([0.951, 0.959, 0.972, 0.981], [0.90, 0.91, 0.92, 0.93])
    low, high = paired.confidence_interval(0.95)
    assert lines["alpha 5"].endswith(f"| +0.0507 ({low:+.4f} to {high:+.4f}) | {2 * paired.pvalue:.2g} |")
    assert lines["alpha 50"].endswith("| +0.0000 (-0.0184 to +0.0184) | 1 |")
    assert "`test/accuracy` after 100 steps, 12 runs, tested on MNIST." in text
