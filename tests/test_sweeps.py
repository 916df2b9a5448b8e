"""Sweeps: what a file means, what is run of it, and what its runs say together."""

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from matplotlib.collections import PolyCollection
from PIL import Image
from scipy import stats

from lit_l2softmax import shipped
from lit_l2softmax.__main__ import main
from lit_l2softmax.commands import sweep as command
from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.reports import sweep_page
from lit_l2softmax.sweeps import chart, definition, pictures, rows, runner, statistics, table
from lit_l2softmax.sweeps.definition import Parameter, Sweep

RESULTS = Path(__file__).parents[1] / "bench" / "results" / "sweeps"
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
    assert (sweep.name, sweep.metric) == ("alpha", "test/accuracy")
    expected = [{"model.head.alpha": a, "seed_everything": s} for a, s in itertools.product((0.0, 5.0), (0, 1))]
    assert sweep.settings() == expected
    later = {"seed_everything": {"values": [0, 1]}, "trainer.max_steps": {"values": [5, 6]}}
    settings = definition.read(written(tmp_path / "b.yaml", parameters=later)).settings()
    assert [tuple(one.values()) for one in settings] == [(5, 0), (5, 1), (6, 0), (6, 1)]


def test_a_setting_is_the_same_in_any_order():
    assert definition.key({"a": 1, "b": {"c": 2, "d": 3}}) == definition.key({"b": {"d": 3, "c": 2}, "a": 1})


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


ONE_A_CONFIG = ["${env}", "${interpreter}", "-m", "lit_l2softmax", "fit", "${args}", "--trainer.max_steps=2"]


def test_a_parameter_may_choose_the_configuration_which_then_comes_first(tmp_path):
    parameters = {
        "trainer.log_every_n_steps": {"values": [1, 2]},
        "config": {"values": ["mnist", "mnist_softmax"]},
        "seed_everything": {"values": [4]},
    }
    sweep = definition.read(written(tmp_path / "losses.yaml", command=ONE_A_CONFIG, parameters=parameters))
    assert sweep.bases == [{"config": "mnist"}, {"config": "mnist_softmax"}]
    assert len(sweep.settings()) == 4
    # Behind another option it would overrule that.
    given = {"trainer.log_every_n_steps": 1, "config": "mnist_softmax", "seed_everything": 4}
    assert sweep.arguments(given)[5:] == [
        "--config=mnist_softmax",
        "--trainer.log_every_n_steps=1",
        "--seed_everything=4",
        "--trainer.max_steps=2",
    ]
    assert definition.read(written(tmp_path / "alpha.yaml")).bases == [{}]


def test_no_setting_is_run_twice(tmp_path):
    alike = [{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1.0, "b": 2}, {"a": True, "b": 2}]
    kept = definition.read(written(tmp_path / "c", parameters={"x": {"values": alike}})).settings()
    assert [repr(one["x"]["a"]) for one in kept] == ["1", "1.0", "True"]
    assert len({runner.place(tmp_path, one) for one in kept}) == 3
    twice = {"seed_everything": {"values": [3, 3, 4]}}
    assert [
        one["seed_everything"] for one in definition.read(written(tmp_path / "a", parameters=twice)).settings()
    ] == [3, 4]
    drawn = definition.read(written(tmp_path / "b", method="random", run_cap=50, parameters=twice)).settings()
    assert sorted(one["seed_everything"] for one in drawn) == [3, 4]


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
    assert len(drawn) > 390
    assert {one["n"] for one in drawn} == {3, 4, 5}
    assert {one["fixed"] for one in drawn} == {7}
    assert all(1e-4 <= one["lr"] <= 1e-1 and 0 <= one["share"] <= 0.5 for one in drawn)
    assert stats.kstest([math.log10(one["lr"]) for one in drawn], stats.uniform(-4, 3).cdf).pvalue > 0.01
    assert stats.kstest([one["share"] for one in drawn], stats.uniform(0, 0.5).cdf).pvalue > 0.01
    assert 0.85 < sum(one["which"] == "a" for one in drawn) / len(drawn) < 0.95


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": None}, "has no parameters; it needs method, metric, parameters and command"),
        ({"parameters": {}}, "parameters are empty: there is nothing to try"),
        ({"parameters": {"lr": {"values": []}}}, "parameter lr has no values: the grid is empty"),
        ({"parameters": {"lr": 3}}, "parameter lr needs value, values, or min and max, got 3"),
        ({"parameters": {"lr": {"valeus": [1]}}}, "parameter lr: 'valeus' is unknown here; did you mean 'values'?"),
        ({"parameters": {"lr": {"min": 1}}}, "parameter lr needs value, values, or a min below its max"),
        ({"parameters": {"lr": {"min": "1e-4", "max": 1}}}, "; YAML wants a dot in 1.0e-4"),
        (
            {"parameters": {"lr": {"values": [1], "distribution": "uniform"}}},
            "parameter lr: values and distribution 'uniform' exclude each other",
        ),
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
        (
            {"parameters": {"config": {"values": ["mnist"]}}, "command": [*FIT[:5], "--data.source=x", "${args}"]},
            "the parameter config comes with ${args} and would overrule --data.source=x, which stands before it",
        ),
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
SWEEP = Sweep("numbers", "n", (sys.executable, "-c", STAND_IN, "${args}"), {"number": Parameter((1, 2, 3, 4))}, None)


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
    assert running == []


def test_runs_take_the_gpus_in_turn(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    shares = [runner._share(4, 2, slot) for slot in range(4)]
    assert [share["CUDA_VISIBLE_DEVICES"] for share in shares] == ["0", "1", "0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5ab")
    assert [runner._share(2, 2, slot)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["3", "GPU-5ab", "3"]
    assert {share["OMP_NUM_THREADS"] for share in shares} == {"5"}


def test_a_command_that_cannot_be_started_is_a_failed_run(tmp_path, monkeypatch):
    monkeypatch.setattr(
        sys.modules[__name__], "SWEEP", Sweep("numbers", "n", ("nowhere", "${args}"), SWEEP.parameters, None)
    )
    assert {one.error for one in ends(tmp_path).values()} == {
        "cannot be started: [Errno 2] No such file or directory: 'nowhere'"
    }


def test_who_does_not_end_when_asked_is_killed_with_what_it_started(tmp_path, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job begins without
    monkeypatch.setattr(runner, "GRACE_S", 0.3)
    stubborn = "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    stubborn += "child = subprocess.Popen(['sleep', '60']); print(child.pid, flush=True); time.sleep(60)"
    parent = subprocess.Popen(
        [sys.executable, "-c", stubborn], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    child = int(parent.stdout.readline())
    parent.stdout.close()
    runner._end([parent])
    assert parent.returncode == -signal.SIGKILL
    status, deadline = Path(f"/proc/{child}/status"), time.monotonic() + 10
    while status.exists() and "State:\tZ" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_interruption_does_not_leave_a_run_behind(monkeypatch):
    monkeypatch.setattr(runner, "GRACE_S", 1.0)
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    child.stdout.close()
    again = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    again.start()
    runner._end([child])
    again.join()
    assert child.returncode == -signal.SIGKILL


def test_a_reason_is_the_last_error_or_the_last_words():
    assert runner.reason(["error: one", "error: two", "bye"], 2) == "two"
    assert runner.reason(["hello", "Killed", ""], -9) == "Killed (exit status -9)"
    assert runner.reason([], 1) == "it said nothing (exit status 1)"


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


def made(values, figures=(), **options):
    return [
        rows.Row(
            {"model.head.alpha": "5.0", **options},
            str(seed),
            "alphas",
            "test/accuracy",
            value,
            "" if value is not None else "it died",
            "L2SoftmaxLoss",
            None,
            10,
            100,
            1.5,
            "MNIST",
            "cpu",
            "torch 2",
            f"runs/{seed}",
            {name: of[seed] for name, of in dict(figures).items()} if value is not None else {},
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
    there = made([0.9, 0.1 + 0.2, None], {"test/loss": [1e-9, 2.0]}, **{"a,b": 'say "x"', "data": "x", "value": "y"})
    rows.write(tmp_path / "sweep.csv", there)
    assert rows.read(tmp_path / "sweep.csv") == there


def test_a_variant_is_called_what_it_differs_in():
    both = made([0.9]) + made([0.8], **{"model.head.alpha": "16.0", "model.head.learn_alpha": "True"})
    assert list(rows.variants(both)) == ["alpha 5", "alpha 16, learn_alpha True"]
    assert list(rows.variants(both[:1])) == ["the configuration"]


def test_the_table_says_what_is_told_apart_and_what_is_not():
    plain = made([0.90, 0.91, 0.92, 0.93], **{"model.head.alpha": "0.0"})
    better = made([0.951, 0.959, 0.972, 0.981])
    alike = made([0.91, 0.90, 0.93, 0.92], **{"model.head.alpha": "50.0"})
    text = table.markdown([*plain, *better, *alike])
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| alpha")}
    assert lines["alpha 0"] == "| alpha 0 | 4 | 0.9150 | 0.0129 | 0.8945 to 0.9355 |  |  |"
    paired = stats.ttest_rel([0.951, 0.959, 0.972, 0.981], [0.90, 0.91, 0.92, 0.93])
    low, high = paired.confidence_interval(0.95)
    assert 2 * paired.pvalue < 0.001
    assert lines["alpha 5"].endswith(f"| +0.0507 ({low:+.4f} to {high:+.4f}) | < 0.001 |")
    assert lines["alpha 50"].endswith("| +0.0000 (-0.0184 to +0.0184) | 1 |")
    assert text.startswith("# alphas\n\n`test/accuracy` after 100 steps, 12 runs, tested on MNIST.\n")


def test_other_figures_have_a_table_of_their_own_and_are_adjusted_for_together():
    plain = {
        "test/eer": [0.30, 0.31, 0.33, 0.32],
        "test/auc": [0.7, 0.8, 0.6, 0.7],
        "test/images": [9.0, 8.0, 7.0, 9.0],
    }
    better = {"test/eer": [0.20, 0.22, 0.21, 0.23], "test/auc": [0.71, 0.82, 0.61, 0.73], "test/images": [9.0] * 4}
    there = [
        *made([0.90, 0.91, 0.92, 0.93], plain, **{"model.head.alpha": "0.0"}),
        *made([0.951, 0.959, 0.972, 0.981], better),
    ]
    first, second = table.markdown(there).split(f"## {table.OTHERS}")
    assert first.startswith(table.markdown([dataclasses.replace(row, figures={}) for row in there]).rstrip("\n"))
    tests = [stats.ttest_rel(better[name], plain[name]) for name in ("test/eer", "test/auc")]
    eer, auc = statistics.adjusted([test.pvalue for test in tests])
    assert (eer, auc) == (2 * tests[0].pvalue, tests[1].pvalue)
    lines = [line.split(" | ") for line in second.splitlines() if line.startswith("| test/")]
    assert [(line[0], line[1], line[3]) for line in lines] == [
        ("| test/eer", "alpha 0", "0.3150"),
        ("| test/eer", "alpha 5", "0.2150"),
        ("| test/auc", "alpha 0", "0.7000"),
        ("| test/auc", "alpha 5", "0.7175"),
    ]
    assert [line[-1].removesuffix(" |") for line in lines[1::2]] == [f"{eer:.2g}", f"{auc:.2g}"]
    assert "test/images" not in second  # a count


def test_a_figure_that_a_run_lacks_is_not_compared():
    some = made([0.9, 0.8], {"test/loss": [0.5, 0.6]}, **{"model.head.alpha": "0.0"})
    assert table.others([*some, *made([0.7, None], {"test/loss": [0.4, 0.4]})])  # who failed has no figure at all
    assert table.others([*some, *made([0.7, 0.6])]) == []


def test_the_table_says_what_failed_and_the_baseline_stays_what_it_is():
    plain = made([None, None], **{"model.head.alpha": "0.0"})
    some = made([0.9, None, 0.8])
    text = table.markdown([*plain, *some])
    assert "| difference to alpha 0 |" in text
    assert "| alpha 0 | 0 of 2, the others failed |  |  |  |  |  |" in text
    assert "| alpha 5 | 2 of 3, the others failed | 0.8500 |" in text
    assert "5 runs, of which 3 failed" in text
    fewer = table.markdown([*made([0.9, 0.8], **{"model.head.alpha": "0.0"}), *made([0.7, 0.75, 0.8])])
    assert "(-1.0780 to +0.8280), 2 seeds in common |" in fewer


def test_small_figures_keep_their_digits_and_names_their_bars():
    text = table.markdown(made([1.25e-6, 3e-6], a="x|y") + made([4e-6, 5e-6]))
    assert "| a x\\|y | 2 | 2.1e-06 |" in text


def test_values_that_are_alike_are_kept_apart():
    assert rows.names([{"n": "1"}, {"n": "1.0"}, {"n": "True"}]) == ["n 1", "n 1.0", "n True"]
    assert rows.names([{"n": "1.0"}, {"n": "2.0"}]) == ["n 1", "n 2"]
    assert rows.flat({"a": {"b": 0.1 + 0.2}, "c": "", "d": None}) == {"a.b": str(0.1 + 0.2), "c": "''", "d": "None"}


def test_the_chart_and_the_table_are_the_rows_bit_for_bit(tmp_path, capsys):
    plain = made([0.90, 0.91], **{"model.head.alpha": "0.0"})
    learned = made([0.92, 0.95], **{"model.head.alpha": "16.0", "model.head.learn_alpha": "True"})
    unlike = made([0.7, 0.8], **{"data.shuffle": "True"})
    alphas, others = [*plain, *made([0.93, 0.94]), *learned], [*plain, *unlike, *made([0.6], **{"data.shuffle": "x$y"})]
    for number, there in enumerate((alphas, others, plain[:1])):
        files = []
        for folder in (tmp_path / f"{number}a", tmp_path / f"{number}b"):
            folder.mkdir()
            rows.write(folder / "sweep.csv", there)
            assert main(["sweep", "--redraw", str(folder / "sweep.csv")]) == 0
            files.append([(folder / name).read_bytes() for name in ("sweep.md", "sweep.png")])
            assert capsys.readouterr().out.split() == [str(folder / "sweep.md"), str(folder / "sweep.png")]
        assert files[0] == files[1]
        assert len(files[0][1]) > 5000


def left_by_runs(folder, there, curves):
    """Puts the curves of a verification where the runs of these rows would have left them."""
    for row, curve in zip(there, curves, strict=True):
        path = folder / row.run / "plots" / "roc.csv"
        path.parent.mkdir(parents=True)
        path.write_text("".join(["far,tar\n", *(f"{far},{tar}\n" for far, tar in curve)]))


def test_the_curves_that_runs_leave_are_kept_beside_the_rows_and_drawn_from_there_bit_for_bit(tmp_path, capsys):
    plain, better = made([0.3, 0.4], **{"model.head.alpha": "0.0"}), made([0.5, 0.6])
    there = [dataclasses.replace(row, run=f"runs/{place}") for place, row in enumerate([*plain, *better])]
    curves = [[(0.01, 0.1), (1, 1)], [(0.01, 0.3), (0.1, 0.4), (1, 1)], [(0.01, 0.5), (1, 1)], [(0.01, 0.7), (1, 1)]]
    left_by_runs(tmp_path, there, curves)
    file = tmp_path / "sweep.csv"
    rows.write(file, there)
    pictures.gather(file, tmp_path, there)
    kept = (tmp_path / "sweep-roc.csv").read_text().splitlines()
    assert kept[:3] == ["variant,seed,far,tar", "alpha 0,0,0.01,0.1", "alpha 0,0,1,1"]
    assert len(kept) == 1 + 9
    drawn = []
    for folder in (tmp_path, tmp_path / "again"):
        folder.mkdir(exist_ok=True)
        for name in ("sweep.csv", "sweep-roc.csv"):
            (folder / name).write_text((tmp_path / name).read_text())
        assert main(["sweep", "--redraw", str(folder / "sweep.csv")]) == 0
        assert capsys.readouterr().out.split()[-1] == str(folder / "sweep-roc.png")
        drawn.append((folder / "sweep-roc.png").read_bytes())
    assert drawn[0] == drawn[1]
    ((_, figure),) = pictures.drawn(file)
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].lines}
    # One of the two seeds has nothing to say of a FAR of .1.
    assert lines == {"alpha 0": [[0.01, pytest.approx(0.2)], [1, 1]], "alpha 5": [[0.01, pytest.approx(0.6)], [1, 1]]}
    low, high = stats.t.interval(0.95, 1, 0.6, stats.sem([0.5, 0.7]))
    band = figure.axes[0].collections[1].get_paths()[0].vertices
    assert sorted({y for x, y in band.tolist() if x == 0.01})[:: len(band)] == [pytest.approx(low)]
    assert max(y for x, y in band.tolist() if x == 0.01) == pytest.approx(high)
    sweep_page.write(tmp_path, there)
    assert 'aria-label="roc of each variant"' in (tmp_path / "report.html").read_text()
    shutil.rmtree(tmp_path / "runs")
    pictures.gather(file, tmp_path, there)
    assert not (tmp_path / "sweep-roc.csv").exists()  # of other runs


def test_features_are_kept_of_the_first_seed_and_their_lengths_of_all(tmp_path):
    there = [dataclasses.replace(row, run=f"runs/{row.seed}") for row in made([0.3, 0.4])]
    for row in there:
        plots = tmp_path / row.run / "plots"
        plots.mkdir(parents=True)
        (plots / "features.csv").write_text(f"label,x,y\n7,1.5,{row.seed}\n")
        (plots / "feature_norms.csv").write_text("probability,images,q0.5\nall,9,1.5\n")
    pictures.gather(tmp_path / "sweep.csv", tmp_path, there)
    kept = (tmp_path / "sweep-features.csv").read_text()
    assert kept == "variant,seed,label,x,y\nthe configuration,0,7,1.5,0\n"
    lines = (tmp_path / "sweep-norms.csv").read_text().splitlines()
    assert lines[1:] == [f"the configuration,{seed},all,9,1.5" for seed in "01"]
    shutil.rmtree(tmp_path / "runs" / "0")  # a run that has failed
    pictures.gather(tmp_path / "sweep.csv", tmp_path, there)
    assert (tmp_path / "sweep-features.csv").read_text().splitlines()[1:] == ["the configuration,1,7,1.5,1"]


@pytest.mark.parametrize("damaged", [b"", b"far\n0.5\n", b"far,tar\n0.5\n", b"far,tar\n0.5,\xff\n"])
def test_a_damaged_curve_of_a_run_is_named(damaged, tmp_path):
    there = [dataclasses.replace(row, run=f"runs/{row.seed}") for row in made([0.3, 0.4])]
    left_by_runs(tmp_path, there, [[(1, 1)], [(1, 1)]])
    (tmp_path / "runs" / "1" / "plots" / "roc.csv").write_bytes(damaged)
    with pytest.raises(RunError, match=r"runs/1/plots/roc\.csv is damaged: "):
        pictures.gather(tmp_path / "sweep.csv", tmp_path, there)
    assert not (tmp_path / "sweep-roc.csv").exists()


@pytest.mark.parametrize("damage", [lambda text: text.replace("0.5", "half"), lambda text: text.replace("far", "x")])
def test_damaged_curves_are_one_line(damage, tmp_path, capsys):
    rows.write(tmp_path / "sweep.csv", made([0.9]))
    (tmp_path / "sweep-roc.csv").write_text(damage("variant,seed,far,tar\nalpha 5,0,0.5,0.5\n"))
    assert main(["sweep", "--redraw", str(tmp_path / "sweep.csv")]) == 2
    assert "sweep-roc.csv holds nothing to draw: " in capsys.readouterr().err


def drawn_of(there):
    """The axes of the chart of rows."""
    figures = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(chart, "save", lambda figure, _: figures.append(figure))
        chart.draw(Path("nowhere"), there)
    (axes,) = figures[0].axes
    return axes, {line.get_label(): line for line in axes.lines}


def test_the_chart_shows_means_intervals_and_the_papers_bound():
    plain = made([0.90, 0.92, None], **{"model.head.alpha": "0.0"})
    sixteen = made([0.93, 0.97], **{"model.head.alpha": "16.0"})
    learned = [
        dataclasses.replace(row, alpha=20.0 + row.value)
        for row in made([0.5, 0.7], **{"model.head.alpha": "16.0", "model.head.learn_alpha": "true"})
    ]
    axes, lines = drawn_of([*plain, *sixteen, *made([0.91, 0.95]), *learned])
    assert lines["L2-constrained softmax"].get_xydata().tolist() == [
        [5, pytest.approx(0.93)],
        [16, pytest.approx(0.95)],
    ]
    assert lines["L2-constrained softmax"].get_color() == chart.L2
    assert lines["plain softmax, alpha 0"].get_ydata()[0] == pytest.approx(0.91)
    assert lines["plain softmax, alpha 0"].get_color() == chart.PLAIN
    assert lines["lower bound of arXiv:1703.09507, 4.28"].get_xdata()[0] == pytest.approx(math.log(0.9 * 8 / 0.1))
    (filled,) = (drawn for drawn in axes.collections if isinstance(drawn, PolyCollection))
    band = filled.get_paths()[0].vertices
    low, high = stats.t.interval(0.95, 1, 0.95, stats.sem([0.93, 0.97]))
    at_sixteen = band[band[:, 0] == 16][:, 1]
    assert (at_sixteen.min(), at_sixteen.max()) == pytest.approx((low, high))
    (where,) = (text.xy for text in axes.texts if text.get_text() == "learned,\nfrom 16")
    assert where == pytest.approx((20.6, 0.6))
    dots = sorted(
        tuple(point) for line in axes.lines if line.get_marker() == "." for point in line.get_xydata().tolist()
    )
    assert dots == [(5, 0.91), (5, 0.95), (16, 0.93), (16, 0.97), (20.6, 0.5), (20.6, 0.7)]
    assert axes.get_xlabel() == "alpha, the length of every feature"


def test_the_bound_is_not_drawn_where_alpha_is_another_one():
    batch = [dataclasses.replace(row, head="TutorialL2SoftmaxHead") for row in made([0.9, 0.8])]
    axes, lines = drawn_of([*batch, *made([0.7, 0.6], **{"model.head.alpha": "9.0"})])
    assert not any("bound" in label for label in lines)
    assert axes.get_xlabel() == "alpha"
    others = [{"model.network.alpha": "1"}, {"model.network.alpha": "2"}]
    axes, _ = drawn_of([row for options in others for row in made([0.9], **options)])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["alpha 1", "alpha 2"]
    axes, _ = drawn_of([*made([0.9]), *made([0.8], **{"model.head.alpha": "None"})])
    assert len(axes.get_yticklabels()) == 2


COMMITTED = sorted(file for file in RESULTS.glob("*.csv") if not file.stem.endswith(tuple(pictures.PICTURES)))


@pytest.mark.parametrize("committed", COMMITTED, ids=lambda file: file.stem)
def test_what_is_committed_is_what_its_rows_show(committed, tmp_path):
    for file in committed.parent.glob(f"{committed.stem}*.csv"):
        shutil.copy(file, tmp_path)
    assert main(["sweep", "--redraw", str(tmp_path / committed.name)]) == 0
    text = committed.with_suffix(".md").read_text()
    assert (tmp_path / committed.name).with_suffix(".md").read_text() == text
    names = [committed.stem, *(f"{committed.stem}-{name}" for name in pictures.PICTURES)]
    for name in (name for name in names if committed.with_name(f"{name}.csv").is_file()):
        picture, drawn = (Image.open(folder / f"{name}.png") for folder in (committed.parent, tmp_path))
        if picture.info["Software"] != drawn.info["Software"]:
            pytest.skip(f"drawn by {picture.info['Software']}")
        assert np.array_equal(np.asarray(picture), np.asarray(drawn))


# ---- the command

DIGITS = [
    *FIT[:-1],
    "--data.source=digits",
    "--trainer.max_steps=2",
    "--trainer.log_every_n_steps=1",
    "--trainer.limit_test_batches=1",
    "${args}",
]


def swept(capsys, *arguments, expect=0):
    assert main(["sweep", *map(str, arguments)]) == expect
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed


def test_a_sweep_runs_what_is_not_over_and_survives_a_bad_run(tmp_path, capsys):
    parameters = {"model.head": {"values": [{"alpha": 5.0}, {"alpha": -1.0}]}, "seed_everything": {"values": [3]}}
    file, folder = written(tmp_path / "alpha.yaml", command=DIGITS, parameters=parameters), tmp_path / "sweep"
    first = swept(capsys, file, "--folder", folder, expect=1).out.splitlines()
    assert first[0].startswith(f"alpha: 2 runs, 0 of them over; {min(2, runner.cores())} at a time; {folder}")
    good, bad = sorted(line.partition("] ")[2] for line in first[1:3])[::-1]
    assert re.fullmatch(r"alpha 5, seed 3: test/accuracy 0\.\d+", good)
    assert bad == "alpha -1, seed 3: failed: alpha must be 0 (plain softmax) or a finite positive number, got -1.0"
    assert first[3:] == [str(folder / name) for name in ("sweep.csv", "sweep.md", "sweep.png", "report.html")]
    row, died = rows.read(folder / "sweep.csv")
    assert (died.value, died.options) == (None, {"model.head.alpha": "-1.0"})
    assert died.error == "alpha must be 0 (plain softmax) or a finite positive number, got -1.0"
    run = folder / row.run
    result = json.loads((run / "result.json").read_text())
    assert (row.options, row.seed, row.value) == ({"model.head.alpha": "5.0"}, "3", result["test/accuracy"])
    assert (row.alpha, row.classes, row.steps, row.data) == (5, 10, 2, "digits")
    assert f'<a href="{row.run}/report.html">' in (folder / "report.html").read_text()
    (up,) = re.findall(r'<a href="([^"]+)">this sweep</a>', (run / "report.html").read_text())
    assert (run / up).resolve() == (folder / "report.html").resolve()
    parameters["model.head"]["values"][1]["alpha"] = 7.0
    again = swept(capsys, written(file, command=DIGITS, parameters=parameters), "--folder", folder).out.splitlines()
    assert again[0].startswith("alpha: 2 runs, 1 of them over")
    assert [row.options["model.head.alpha"] for row in rows.read(folder / "sweep.csv")] == ["5.0", "7.0"]
    assert rows.read(folder / "sweep.csv")[0] == row  # the very same run


@pytest.fixture
def over(tmp_path, monkeypatch):
    """A sweep of one run that is over; its file, its folder, and its run's."""
    parameters = {"model.head": {"values": [{"alpha": 5.0}]}, "seed_everything": {"values": [3]}}
    file, folder = written(tmp_path / "alpha.yaml", command=DIGITS, parameters=parameters), tmp_path / "sweep"
    run = runner.place(folder, definition.read(file).settings()[0]) / "mnist" / "20260101-000000-abcdef"
    run.mkdir(parents=True)
    (folder / "config.yaml").write_text("base")
    (run / "config.yaml").write_text("model: {init_args: {head: {init_args: {num_classes: 10}}}}")
    (run / "metrics.csv").write_text("step,train/alpha,val/loss\n1,5.0,\n2,6.0,\n2,,0.5\n")
    result = {"test/accuracy": 0.5, "test/loss": 1.0, "data/source": "digits", "device": "cpu", "versions": "torch 2"}
    (run / "result.json").write_text(json.dumps({**result, "steps": 2, "seconds": 1.5, "seed": 3}))
    monkeypatch.setattr(command, "_base_configuration", lambda *_: "base")
    return file, folder, run


def test_a_row_is_what_its_run_left(over, capsys):
    file, folder, run = over
    assert swept(capsys, file, "--folder", folder).out.startswith("alpha: 1 runs, 1 of them over")
    (row,) = rows.read(folder / "sweep.csv")
    assert (row.alpha, row.classes, row.seconds, folder / row.run) == (6, 10, 1.5, run)
    assert row.figures == {"test/loss": 1.0}
    made = [(folder / f"sweep.{suffix}").read_bytes() for suffix in ("md", "png")]
    swept(capsys, "--redraw", folder / "sweep.csv")
    assert [(folder / f"sweep.{suffix}").read_bytes() for suffix in ("md", "png")] == made
    (run / "config.yaml").write_text("model: {class_path: nowhere.Regression, init_args: {head: null}}")
    swept(capsys, file, "--folder", folder)
    assert (rows.read(folder / "sweep.csv")[0].head, rows.read(folder / "sweep.csv")[0].classes) == ("", None)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("result.json", lambda text: text.replace("0.5", "null"), "its test/accuracy is not a number"),
        ("result.json", lambda text: text[:-1], "result.json is damaged: "),
        ("result.json", lambda text: "[]", "result.json is damaged: it holds no figures"),
        ("config.yaml", lambda text: text[:-1], "config.yaml is damaged: "),
        ("config.yaml", lambda text: "", "config.yaml is damaged: it holds no configuration"),
        ("metrics.csv", lambda text: text.replace("6.0", "six"), "metrics.csv is damaged: "),
        ("metrics.csv", lambda text: text + "1,2,3,4\n", "metrics.csv is damaged: "),
        ("result.json", lambda text: text.replace('"steps"', '"strides"'), "result.json is damaged: KeyError: 'steps'"),
        ("result.json", lambda text: text.replace('"seed"', '"sed"'), "result.json is damaged: KeyError: 'seed'"),
    ],
)
def test_a_damaged_run_is_named_and_the_others_count(name, content, message, over, capsys):
    file, folder, run = over
    (run / name).write_text(content((run / name).read_text()))
    said = swept(capsys, file, "--folder", folder, expect=1).out
    assert "[1/1] alpha 5, seed 3: failed: " in said.replace("the configuration", "alpha 5")
    assert message in said


@pytest.mark.parametrize(
    ("name", "message"), [("config.yaml", "is not a run folder"), ("metrics.csv", "has no metrics.csv")]
)
def test_an_incomplete_run_is_named(name, message, over, capsys):
    file, folder, run = over
    (run / name).unlink()
    assert f"failed: {run} {message}" in swept(capsys, file, "--folder", folder, expect=1).out


def test_a_figure_that_no_run_has_is_named_with_those_they_have(over, capsys):
    file, folder, _ = over
    content = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**content, "metric": {"name": "test/acuracy"}}))
    said = swept(capsys, file, "--folder", folder, expect=2).err
    assert said == "error: the runs have no figure 'test/acuracy'; they have test/accuracy, test/loss, seconds\n"


def test_two_sweeps_are_not_at_work_in_one_folder(over, capsys):
    file, folder, _ = over
    with command._claimed(folder, "base"):
        said = swept(capsys, file, "--folder", folder, expect=2).err
        assert said == f"error: another sweep is running in {folder}; wait for its end, or --folder\n"
    swept(capsys, file, "--folder", folder)


def test_another_configuration_does_not_go_on_in_the_same_folder(over, capsys, monkeypatch):
    file, folder, _ = over
    monkeypatch.setattr(command, "_base_configuration", lambda *_: "another")
    said = swept(capsys, file, "--folder", folder, expect=2).err
    assert said == f"error: {folder} holds runs of another configuration; name another place with --folder\n"


def test_a_folder_that_cannot_be_made_is_one_line(over, tmp_path, capsys):
    (tmp_path / "taken").write_text("")
    said = swept(capsys, over[0], "--folder", tmp_path / "taken" / "sweep", expect=2).err
    assert "cannot be written (Not a directory); name another place with --folder" in said


def test_an_interrupted_sweep_ends_its_runs_and_says_how_to_go_on(tmp_path):
    parameters = {"model.head": {"values": [{"alpha": 5.0}]}, "seed_everything": {"values": [0]}}
    endless = [*DIGITS[:-1], "--trainer.max_steps=100000", "${args}"]
    file, folder = written(tmp_path / "long.yaml", command=endless, parameters=parameters), tmp_path / "sweep"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    sweep = subprocess.Popen(
        [sys.executable, "-m", "lit_l2softmax", "sweep", str(file), "--folder", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    deadline = time.monotonic() + 120
    while not list(folder.glob("runs/*/*/*/metrics.csv")) and time.monotonic() < deadline:
        time.sleep(0.1)
    sweep.terminate()
    _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert said.splitlines()[-1] == "stopped; what is over is kept, the same command goes on from there"
    assert not [
        process
        for process in Path("/proc").glob("[0-9]*/cmdline")
        if str(folder).encode() in (process.read_bytes() if process.exists() else b"")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sweep needs a file in W&B's format, or the name of a shipped one"),
        (["mnist_alhpa"], "the sweep mnist_alhpa does not exist; did you mean 'mnist_alpha'?"),
        (["mnist_alpha", "--jobs", "0"], "--jobs must be at least 1, got 0"),
        (["mnist_alpha", "--jobs", "two"], "argument --jobs: invalid int value: 'two'"),
        (["mnist_alpha", "--job", "2"], "'job' is not an option; did you mean 'jobs'?"),
        (["mnist_alpha", "--redraw", "rows.csv"], "--redraw runs nothing, and takes neither a sweep nor its options"),
        (["--redraw", "/nonexistent/rows.csv"], "/nonexistent/rows.csv holds no rows of a sweep"),
    ],
)
def test_what_a_person_types_wrongly_is_one_line(arguments, message, capsys):
    assert swept(capsys, *arguments, expect=2).err.startswith(f"error: {message}")


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "a,b\n1,2\n",
        lambda text: text.replace("0.9,", "high,"),
        lambda text: text.replace("0.25", "low"),
        lambda text: text.replace("0.25", "inf"),
        lambda text: text[:-1] + ",more\n",
        lambda text: "",
    ],
)
def test_damaged_rows_are_one_line(damage, tmp_path, capsys):
    file = tmp_path / "sweep.csv"
    rows.write(file, made([0.9], {"test/loss": [0.25]}))
    file.write_text(damage(file.read_text()))
    assert "holds no rows of a sweep" in swept(capsys, "--redraw", file, expect=2).err
    assert not file.with_suffix(".md").exists()


def test_a_sweep_of_configurations_remembers_all_of_them(tmp_path, monkeypatch):
    parameters = {"config": {"values": ["one", "two"]}, "seed_everything": {"values": [5]}}
    file = written(tmp_path / "both.yaml", command=ONE_A_CONFIG, parameters=parameters)

    def answer(asked):
        return subprocess.CompletedProcess(asked, 0, yaml.safe_dump(asked[5:]), "")

    monkeypatch.setattr(command, "_answer", answer)  # for the command's, which prints what it would train
    sweep = definition.read(file)
    kept = list(yaml.safe_load_all(command._base_configuration(file, sweep, sweep.settings()[0])))
    # What is set belongs to the runs.
    assert kept == [[f"--config={name}", "--trainer.max_steps=2", "--print_config"] for name in ("one", "two")]


def test_an_option_that_fit_does_not_know_is_named_before_anything_runs(tmp_path, capsys):
    parameters = {"model.head.alhpa": {"values": [1.0]}}
    file = written(tmp_path / "bad.yaml", command=DIGITS, parameters=parameters)
    said = swept(capsys, file, "--folder", tmp_path / "sweep", expect=2).err
    assert said == (
        f"error: the sweep {file}: its command fails: "
        "model.head: 'alhpa' is not an option of TutorialL2SoftmaxHead; did you mean 'alpha'?\n"
    )
    assert not (tmp_path / "sweep").exists()


def test_help_needs_no_file(capsys):
    said = swept(capsys, "--help").out
    assert "sweep FILE [--folder FOLDER] [--jobs N]" in said
    assert said.endswith("shipped: features_2d, mnist_alpha, mnist_alpha_long, mnist_alpha_tutorial, verification\n")


@pytest.mark.parametrize("name", shipped.sweeps())
def test_a_shipped_sweep_is_made_of_options_that_its_command_takes(name, capsys):
    sweep = definition.read(Path(shipped.sweep_file(name)))
    settings = sweep.settings()
    assert {setting["seed_everything"] for setting in settings} == set(range(3 if name == "features_2d" else 8))
    for setting in settings[:: len(settings) - 1]:
        arguments = sweep.arguments(setting)[3:]
        assert arguments[:2] == ["lit_l2softmax", "fit"]
        with pytest.raises(SystemExit) as ended:
            main([*arguments[1:], "--print_config"])
        assert ended.value.code == 0
        content = yaml.safe_load(capsys.readouterr().out)
        head = content["model"]["init_args"]["head"]["init_args"]
        assert {**head, **setting.get("model.head", {})} == head
        assert content["data"]["init_args"]["source"] == "mnist"
        if setting is settings[0]:
            assert head["alpha"] == 0  # the baseline is the plain softmax
