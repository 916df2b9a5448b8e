"""`make reproduce`: resumable, on real data or not at all, and its report says what was run."""

import json
import re
import subprocess
import sys
from pathlib import Path

import experiments
import pytest
import reproduce
from experiments import EXPERIMENTS, Experiment
from PIL import Image
from reproduce import Outcome

from lit_l2softmax.errors import DataError
from lit_l2softmax.shipped import config_file, names

ROOT = Path(__file__).parents[1]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A reproduction of its own, of a clean checkout."""
    monkeypatch.setattr(reproduce, "FOLDER", tmp_path / "runs")
    monkeypatch.setattr(reproduce, "REPORT", tmp_path / "reproduction.md")
    monkeypatch.setattr(reproduce, "BORDERS", tmp_path / "borders.png")
    commit_is(monkeypatch, "abc")
    return tmp_path


def commit_is(monkeypatch, commit):
    machine = reproduce.this_machine()
    monkeypatch.setattr(reproduce, "this_machine", lambda: type(machine)(**{**vars(machine), "commit": commit}))


@pytest.fixture
def trained(monkeypatch):
    """What was trained; nothing is, but an outcome is remembered."""
    done = []

    def train(experiment, seed, commit):
        done.append((experiment.config, seed))
        if experiment.config == "dots":
            return "error: no dots today"
        figure = 0.5 + seed / 100 if experiment.system != 3 else "w 1"
        outcome = Outcome("run", figure, 100, 40, 2.0, "some data", commit, experiment.options)
        reproduce.memory(experiment, seed).write_text(json.dumps(vars(outcome)))
        return None

    monkeypatch.setattr(reproduce, "train", train)
    monkeypatch.setattr(reproduce, "draw_borders", lambda: None)
    return done


def only(monkeypatch, *chosen):
    monkeypatch.setattr(reproduce, "EXPERIMENTS", chosen)


PARABOLA = Experiment(3, "parabola", "its figure", experiments.last_line)
SEEDS = Experiment(3, "yoghurt", "a share", seeds=(0, 1, 2))


def test_every_shipped_configuration_is_reproduced():
    assert sorted(one.config for one in EXPERIMENTS) == sorted(Path(name).name for name in names())
    for one in EXPERIMENTS:
        system = Path(config_file(one.config)).read_text().partition(",")[0]
        assert system == f"# system: {one.system}"


def test_what_is_over_is_not_run_again_while_the_code_is_the_same(places, trained, monkeypatch, capsys):
    only(monkeypatch, PARABOLA, SEEDS)
    assert reproduce.main([]) == 0
    jobs = [("parabola", 0), ("yoghurt", 0), ("yoghurt", 1), ("yoghurt", 2)]
    assert trained == jobs
    reproduce.memory(SEEDS, 1).unlink()
    capsys.readouterr()
    assert reproduce.main([]) == 0
    assert trained == [*jobs, ("yoghurt", 1)]
    assert capsys.readouterr().out.count("already there") == 3
    commit_is(monkeypatch, "def")
    assert reproduce.main(["parabola"]) == 0
    assert trained[5:] == [("parabola", 0)]
    for _ in range(2):  # nobody knows what code "changes" are
        commit_is(monkeypatch, "def + changes")
        assert reproduce.main(["parabola"]) == 0
    assert trained[6:] == [("parabola", 0)] * 2


def test_other_options_are_another_run(places, trained, monkeypatch):
    only(monkeypatch, PARABOLA)
    reproduce.main([])
    only(monkeypatch, Experiment(3, "parabola", "its figure", options=("--trainer.max_steps=2",)))
    reproduce.main([])
    assert len(trained) == 2


def test_a_run_that_fails_is_named_and_the_others_go_on(places, trained, monkeypatch, capsys):
    only(monkeypatch, Experiment(3, "dots", "its figure"), PARABOLA)
    assert reproduce.main([]) == 1
    assert trained == [("dots", 0), ("parabola", 0)]
    assert "[1/2] dots, seed 0: error: no dots today" in capsys.readouterr().out
    text = reproduce.REPORT.read_text()
    assert "| 3 | `dots` | its figure | 0 of 1 runs |" in text
    assert "| 3 | `parabola` | its figure | w 1 |  | 40 | 0 | 2 | 100 of some data | abc |" in text


@pytest.mark.parametrize(("config", "data"), [("mnist", "MNISTData"), ("cifar10", "CIFAR10Data")])
def test_without_the_real_data_nothing_is_run(places, trained, monkeypatch, capsys, config, data):
    asked = []

    class Missing:
        def __init__(self, source="auto"):
            asked.append(source)

        def prepare_data(self):
            raise DataError("there is nothing")

    monkeypatch.setattr(reproduce, data, Missing)
    assert reproduce.main([config]) == 2
    assert capsys.readouterr().err == "error: there is nothing\n"
    assert trained == []
    assert asked == (["mnist"] if config == "mnist" else ["auto"])


def test_runs_insist_on_real_data():
    for one in EXPERIMENTS:
        assert ("--data.source=mnist" in reproduce.command(one, 0)) == (one.system in (1, 4, 5))
        assert f"--seed_everything={7}" in reproduce.command(one, 7)


def test_an_unknown_experiment_is_one_line(capsys):
    assert reproduce.main(["parabla"]) == 2
    assert capsys.readouterr().err == "error: 'parabla' is no experiment; did you mean 'parabola'?\n"


def outcomes(*figures, rows=10_000):
    return [Outcome("run", figure, rows, 1, 1.0, "data", "abc", ()) for figure in figures]


def test_the_interval_of_seeds_is_students():
    """The mean of 1, 2 and 3 is known to t / sqrt(3), t being 4.3027 of two degrees of freedom."""
    assert (
        reproduce.interval(outcomes(0.1, 0.2, 0.3)) == f"{0.2 - 0.43027 / 3**0.5:.4f} to {0.2 + 0.43027 / 3**0.5:.4f}"
    )
    assert reproduce.interval(outcomes(0.5, 0.5, 0.5)) == "0.5000 to 0.5000"


def test_the_interval_of_a_single_run_is_wilsons():
    z, n, p = 1.959964, 10_000, 0.987
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert reproduce.interval(outcomes(p)) == f"{middle - half:.4f} to {middle + half:.4f}"


def test_what_is_no_share_has_no_interval():
    assert reproduce.interval(outcomes("w 1")) == ""


def test_the_mean_of_the_seeds_is_reported(places, trained, monkeypatch):
    only(monkeypatch, Experiment(5, "recogniser_ce", "a share", seeds=(0, 1, 2)))
    monkeypatch.setattr(reproduce, "MNISTData", lambda source: type("", (), {"prepare_data": lambda self: None})())
    reproduce.main([])
    row = reproduce.row(reproduce.EXPERIMENTS[0])
    assert row.startswith("| 5 | `recogniser_ce` | a share | 0.5100 | 0.4852 to 0.5348 | 40 | 0, 1, 2 | 6 |")


def test_a_real_run_is_found_again_by_its_report(places, monkeypatch, capfd):
    only(monkeypatch, PARABOLA)
    assert reproduce.main([]) == 0
    text = reproduce.REPORT.read_text()
    assert "| 39 steps: w is -1.000000, loss is 0.000000 |  | 40 | 0 |" in text
    run = places / "runs" / reproduce.remembered(PARABOLA, 0).run
    assert (run / "result.json").is_file()


def test_a_real_run_that_fails_says_why(places, monkeypatch, capsys):
    only(monkeypatch, Experiment(3, "parabola", "its figure", options=("--optimizer.lr=-1",)))
    assert reproduce.main([]) == 1
    assert "[1/1] parabola, seed 0: error: Invalid learning rate: -1.0" in capsys.readouterr().out
    assert reproduce.remembered(reproduce.EXPERIMENTS[0], 0) is None


def test_the_last_line_of_a_failure_is_the_one_that_says_why(places, monkeypatch):
    for stderr, said in (("warning: slow\nerror: no disk\n", "error: no disk"), ("", "exit status 2")):
        done = subprocess.CompletedProcess([], 2, stdout="", stderr=stderr)
        monkeypatch.setattr(reproduce.subprocess, "run", lambda *_, done=done, **__: done)
        assert reproduce.train(PARABOLA, 0, "abc") == said


def test_code_that_changes_while_it_runs_is_nobodys(places, monkeypatch):
    done = subprocess.CompletedProcess([], 0, stdout="somewhere", stderr="")
    monkeypatch.setattr(reproduce.subprocess, "run", lambda *_, **__: done)
    assert "the code has changed meanwhile" in reproduce.train(PARABOLA, 0, "another")


def test_the_twins_are_drawn_side_by_side(places, fit, monkeypatch):
    monkeypatch.setattr(reproduce, "FOLDER", places)
    for config in ("dots", "dots_l2"):
        reproduce.draw_borders()
        assert not reproduce.BORDERS.exists()
        run, _ = fit(config, "--trainer.max_steps=2", "--trainer.limit_val_batches=0")
        (experiment,) = (one for one in EXPERIMENTS if one.config == config)
        outcome = Outcome(str(run.relative_to(places)), "loss 1", 1, 1, 1.0, "data", "abc", ())
        reproduce.memory(experiment, 0).write_text(json.dumps(vars(outcome)))
    reproduce.draw_borders()
    with Image.open(reproduce.BORDERS) as picture:
        assert picture.width > 1.7 * picture.height


def test_an_interruption_says_how_to_go_on(tmp_path):
    code = "import reproduce, sys; reproduce.main = lambda _: (_ for _ in ()).throw(KeyboardInterrupt)\n"
    source = (ROOT / "bench" / "reproduce.py").read_text()
    ending = source[source.index('if __name__ == "__main__":') :]
    done = subprocess.run(
        [sys.executable, "-c", f"{code}from reproduce import main\n{ending}"],
        cwd=ROOT / "bench",
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "stopped; what is over is kept, the same command goes on from there\n"


def test_the_readme_has_the_reports_figures():
    """Each figure of README's table of experiments is the report's, to the digits it is given with."""
    readme, report = (path.read_text() for path in (ROOT / "README.md", reproduce.REPORT))
    reported = {}
    for line in report.splitlines():
        if found := re.match(r"\| \d \| `(\w+)", line):
            reported[found[1]] = line.split(" | ")[3]
    table = re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", readme, re.MULTILINE)
    table = [(config, ours) for config, ours in table if config in reported]
    assert len(table) >= 17
    for config, ours in table:
        figures = re.findall(r"-?\d*\.\d+", reported[config])
        quoted = re.findall(r"-?\d*\.\d+", ours)
        assert quoted, config
        for figure in quoted:
            digits = len(figure.partition(".")[2])
            assert any(f"{float(figure):.{digits}f}" == f"{float(known):.{digits}f}" for known in figures), config
