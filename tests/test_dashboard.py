"""`dashboard`: every panel shows what a run records, the same bytes each time, and publishing doubles nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import dashboard_keys as keys
import numpy as np
import own_environment
import pytest
import tiny_cifar10 as tiny_cifar10_files
import wandb_server
import yaml
from PIL import Image

from lit_l2softmax import shipped
from lit_l2softmax.__main__ import main
from lit_l2softmax.commands.dashboard import FAMILIES
from lit_l2softmax.dashboards import bench_rows, documents, panels, publishing
from lit_l2softmax.dashboards.dashboard import Dashboard, Section
from lit_l2softmax.dashboards.runs import classifying_by
from lit_l2softmax.sweeps import definition, runner

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "bench" / "results" / "amd-epyc-2-cores.csv"
SHORT = ["--trainer.max_steps=20", "--trainer.log_every_n_steps=5", "--wandb.mode=offline"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dashboards")


@pytest.fixture(scope="module")
def environment(folder):
    """As that of every test, for what tests share."""
    with pytest.MonkeyPatch.context() as patch:
        own_environment.enter(patch, folder, wandb_mode="offline")
        yield patch


@pytest.fixture(scope="module")
def written(folder, environment):
    """The files of all dashboards."""
    assert main(["dashboard", "--folder", str(folder / "out")]) == 0
    return {path.name.removesuffix(".json"): keys.read(path) for path in (folder / "out").glob("*.json")}


@pytest.fixture(scope="module")
def recorded(folder, environment):
    """A fresh run of each family, as W&B's own reader finds it."""
    from lit_l2softmax.data import cifar10_files

    made = folder / "made"
    digits = ["--data.source=digits", "--trainer.val_check_interval=10", f"--runs={made / 'mnist'}"]
    assert main(["fit", "--config=mnist", *SHORT, *digits]) == 0
    root = tiny_cifar10_files.write(folder / "data")
    small = [f"--data.root={root}", "--data.batch_size=16", "--trainer.val_check_interval=10", "--optimizer.lr=0.02"]
    environment.setattr(cifar10_files, "RECORDS", tiny_cifar10_files.IMAGES)
    assert main(["fit", "--config=cifar10", *SHORT, *small, f"--runs={made / 'cifar10'}"]) == 0
    sweep = yaml.safe_load((shipped.CONFIGS / "sweeps" / "mnist_alpha.yaml").read_text())
    sweep["command"].remove("--data.source=mnist")
    sweep["command"][-1:] = [*SHORT, "--data.source=digits", "${args}"]
    sweep["parameters"] = {
        "model.head": {"values": [{"alpha": 5.0}, {"alpha": 16.0, "learn_alpha": True}]},
        "seed_everything": {"value": 0},
    }
    (folder / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    tiny = definition.read(folder / "sweep.yaml")
    for setting in tiny.settings():  # in this process: four times torch's import are half a minute
        command = runner.command(tiny, setting, made / "sweep")
        assert main(command[command.index("lit_l2softmax") + 1 :]) == 0
    assert main(["dashboard", "bench", "--rows", str(ROWS), "--folder", str(made / "bench")]) == 0
    found = {name: sorted((made / name).rglob("offline-run-*")) for name in FAMILIES}
    assert {name: len(runs) for name, runs in found.items()} == {"mnist": 1, "cifar10": 1, "sweep": 2, "bench": 1}
    return {name: [keys.Record(run) for run in runs] for name, runs in found.items()}


def asked_by(document):
    by_panels = [asked for panel in keys.panels(document) for asked in keys.asked_by_panel(panel)]
    return by_panels + [asked for run_set in keys.run_sets(document) for asked in keys.asked_by_run_set(run_set)]


KINDS = ("workspace", "report")
ALPHA = ["mnist_alpha", "mnist_alpha_long", "mnist_alpha_tutorial"]
EACH = pytest.mark.parametrize(("family", "kind"), [(family, kind) for family in FAMILIES for kind in KINDS])


@EACH
def test_every_panel_shows_what_a_fresh_run_records(written, recorded, family, kind):
    asked = asked_by(written[f"{family}.{kind}"])
    assert len(asked) > 10
    for run in recorded[family]:
        assert [one for one in asked if not run.has(one)] == []


@EACH
def test_a_key_that_nothing_records_would_be_noticed_in_every_panel(written, recorded, family, kind):
    for run in recorded[family]:
        for one in asked_by(written[f"{family}.{kind}"]):
            assert not run.has(one._replace(key=f"{one.key}_of_nobody")), one
            if one.of:
                assert not run.has(one._replace(of=("nobody",))), one


def test_a_dashboard_with_a_misspelt_metric_would_be_noticed(recorded):
    sections = [Section("a", "", [panels.lines("loss", "train/loss", "val/los"), panels.histogram("train/images")])]
    misspelt = Dashboard("a", "", classifying_by("MnistConvNet"), sections, ["test/accuracy"])
    for document in documents.documents("a", misspelt):
        asked = asked_by(json.loads(document.pretty()))
        assert [one.key for one in asked if not recorded["mnist"][0].has(one)] == ["val/los", "train/images"]


def test_a_dashboard_is_the_same_when_it_is_made_again():
    made = Dashboard("a", "", classifying_by("MnistConvNet"), [Section("a", "", [panels.lines("l", "m")])], [])
    first, second = ([one.spec for one in documents.documents("a", made)] for _ in range(2))
    assert first == second


@EACH
def test_its_runs_are_those_of_its_family_alone(written, recorded, family, kind):
    run_sets = keys.run_sets(written[f"{family}.{kind}"])
    assert run_sets
    for of, runs in recorded.items():
        for run in runs:
            # A sweep's runs are trainings of System 1 too.
            expected = of == family or (of, family) == ("sweep", "mnist")
            assert {run.belongs(run_set) for run_set in run_sets} == {expected}


@pytest.mark.parametrize("kind", KINDS)
def test_verifications_by_the_same_network_are_not_among_its_runs(written, recorded, kind, monkeypatch):
    (run,) = recorded["mnist"]
    monkeypatch.setitem(run.config["model"], "class_path", "lit_l2softmax.verification.LitVerification")
    assert not any(run.belongs(run_set) for run_set in keys.run_sets(written[f"mnist.{kind}"]))


@pytest.mark.parametrize("kind", KINDS)
def test_runs_of_a_sweep_are_compared_setting_by_setting(written, recorded, kind):
    for run_set in keys.run_sets(written[f"sweep.{kind}"]):
        assert run_set["filters"]["filters"][0]["value"] == ALPHA
        first, *told = run_set["grouping"]
        assert (first["section"], first["name"]) == ("run", "group")
        settings = [
            tuple(
                run.told(one.key)
                for one in keys.asked_by_run_set({**run_set, "grouping": told})
                if one.kind == "config"
            )
            for run in recorded["sweep"]
        ]
        assert sorted(settings) == [(5, False), (16, True)]
    definitions = [yaml.safe_load(Path(shipped.sweep_file(name)).read_text()) for name in ALPHA]
    assert [one["name"] for one in definitions] == ALPHA  # a run's group is the name its file says


def test_both_kinds_show_the_same_panels_each_once(written):
    for family in FAMILIES:
        workspace, report = (keys.panels(written[f"{family}.{kind}"]) for kind in KINDS)
        assert [panel["config"] for panel in workspace] == [panel["config"] for panel in report]
        assert len({panel["__id__"] for panel in workspace}) == len(workspace)


def test_no_two_panels_of_a_report_overlap_and_wide_ones_are_wide(written):
    wide = {"Run Comparer", "Media Browser", "Parallel Coordinates Plot", "Weave"}
    for family in FAMILIES:
        for block in written[f"{family}.report"]["spec"]["blocks"]:
            if block["type"] != "panel-grid":
                continue
            taken = np.zeros((200, 24), dtype=int)
            for panel in block["metadata"]["panelBankSectionConfig"]["panels"]:
                at = panel["layout"]
                assert at["x"] + at["w"] <= 24
                assert at["w"] == (24 if panel["viewType"] in wide else 8)
                taken[at["y"] : at["y"] + at["h"], at["x"] : at["x"] + at["w"]] += 1
            assert taken.max() == 1


def test_every_benchmark_is_drawn(written, recorded):
    asked = {one.key for one in asked_by(written["bench.workspace"])}
    (run,) = recorded["bench"]
    logged = {key for key in run.summary if not key.startswith("_")}
    assert logged == asked
    assert len(keys.benchmarks(ROWS)) == len([key for key in logged if key.startswith("bench/")]) - 1  # and one of all


def test_the_recorded_pictures_can_be_seen(recorded):
    for family, key in (("mnist", "test/mistakes"), ("cifar10", "test/mistakes"), ("cifar10", "train/images")):
        run = recorded[family][0]
        for name in run.summary[key]["filenames"]:
            with Image.open(run.folder / "files" / name) as picture:
                levels = np.asarray(picture)
            assert int(levels.max()) - int(levels.min()) > 100, (key, name)


def test_the_logged_rows_are_those_of_the_file(recorded):
    (run,) = recorded["bench"]
    table = keys.read(run.folder / "files" / run.summary["bench/rows"]["path"])
    lines = ROWS.read_text().splitlines()
    assert len(table["data"]) == len(lines) - 1
    place = {name: table["columns"].index(name) for name in ("benchmark", "case", "provider", "time_ms", "speedup")}
    (ours,) = (
        row
        for row in table["data"]
        if row[place["benchmark"]] == "training step of System 2" and row[place["provider"]] == "lit_l2softmax"
    )
    assert run.summary["speedup/training-step-of-system-2"] == ours[place["speedup"]] > 1
    absent = [row for row in table["data"] if row[place["time_ms"]] is None]
    assert absent
    assert all(row[place["speedup"]] is None for row in absent)
    assert run.config["device"] == "AMD EPYC, 2 cores"
    first, second = ({"benchmark": "b", "provider": "lit_l2softmax, x", "speedup": value} for value in (2.0, 8.0))
    other = {"benchmark": "b", "provider": "another", "speedup": 100.0}
    assert bench_rows.speedups([first, second, other]) == {"speedup/b/x": pytest.approx(4.0)}


def made_by_another_process(folder, seed):
    """All dashboards, by a process that can import neither torch nor Lightning."""
    program = (
        "import sys; sys.modules.update(torch=None, lightning=None)\n"
        "from lit_l2softmax.__main__ import main\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "dashboard", "--folder", str(folder), "--mode=offline"],
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_two_processes_without_torch_write_the_same_bytes(tmp_path, written):
    first, second = (made_by_another_process(tmp_path / str(seed), seed) for seed in (1, 2))
    assert first == second
    assert {name: json.loads(content) for name, content in first.items()} == {
        f"{name}.json": content for name, content in written.items()
    }
    assert sorted(first) == sorted(f"{family}.{kind}.json" for family in FAMILIES for kind in KINDS)


def test_help_imports_neither_torch_nor_wandb(tmp_path):
    program = (
        "import sys; sys.modules.update(torch=None, wandb=None, wandb_workspaces=None)\n"
        "from lit_l2softmax.__main__ import main\n"
        "sys.exit(main(['dashboard', '--help']))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {family} " in done.stdout for family in FAMILIES)


# ---- publishing


def dashboards(capsys, *arguments, expect=0):
    status = main(["dashboard", *arguments])
    printed = capsys.readouterr()
    assert status == expect, printed.err
    return printed


def test_published_dashboards_are_replaced_when_they_are_published_again(monkeypatch, capsys, tmp_path):
    with wandb_server.running(monkeypatch) as server:
        printed = dashboards(capsys, "mnist", "--folder", str(tmp_path))
        first = dict(server.views)
        dashboards(capsys, "mnist", "--folder", str(tmp_path))
        assert server.views == first
    assert printed.err == ""
    assert sorted(view["type"] for view in first.values()) == ["project-view", "runs"]
    for view in first.values():
        kind = {"project-view": "workspace", "runs": "report"}[view["type"]]
        assert json.loads(view["spec"]) == keys.read(tmp_path / f"mnist.{kind}.json")["spec"]
        assert view["displayName"].startswith("System 1")
    workspace, report = (line for line in printed.out.splitlines() if line.startswith("http"))
    assert "/me/lit_l2softmax?nw=" in workspace
    assert "/me/lit_l2softmax/reports/System-1" in report


def test_they_go_where_they_are_told_into_a_project_that_is_made_for_them(monkeypatch, capsys, tmp_path):
    with wandb_server.running(monkeypatch) as server:
        monkeypatch.setenv("WANDB_ENTITY", "team")
        dashboards(capsys, "sweep", "--folder", str(tmp_path))
        assert server.projects == {("me", "lit_l2softmax"), ("team", "lit_l2softmax")}
        dashboards(capsys, "sweep", "--folder", str(tmp_path), "--entity=us", "--project=p")
        assert ("us", "p") in server.projects
        assert server.asked.count("CreateProject") == 2
        assert {(view["entityName"], view["projectName"]) for view in server.views.values()} >= {("us", "p")}


@pytest.mark.parametrize("failing", [500, 401, "refuses", "silent"])
def test_a_server_that_fails_is_one_line_and_the_files_stay(monkeypatch, capsys, tmp_path, failing):
    monkeypatch.setattr(publishing, "TIMEOUT_S", 1)
    with wandb_server.running(monkeypatch, failing=failing):
        printed = dashboards(capsys, "bench", "--folder", str(tmp_path / "kept"), expect=2)
    assert printed.err.startswith("error: W&B's server failed (")
    assert printed.err.endswith(f"; the dashboards are kept as files in {tmp_path / 'kept'}\n")
    assert printed.err.count("\n") == 1
    for kind in KINDS:
        assert keys.panels(keys.read(tmp_path / "kept" / f"bench.{kind}.json"))


@pytest.mark.parametrize(
    ("variable", "asked", "published"),
    [(None, [], True), ("offline", [], False), (None, ["--mode=offline"], False), ("offline", ["--mode=online"], True)],
)
def test_the_mode_is_the_option_then_the_variable_then_the_key(
    monkeypatch, capsys, tmp_path, variable, asked, published
):
    with wandb_server.running(monkeypatch) as server:
        if variable is not None:
            monkeypatch.setenv("WANDB_MODE", variable)
        printed = dashboards(capsys, "mnist", "--folder", str(tmp_path), *asked)
        assert bool(server.views) == published
        assert bool(server.asked) == published  # not even a look
    assert ("not published" in printed.out) != published


def test_online_without_a_key_asks_nothing(monkeypatch, capsys, tmp_path):
    import wandb

    wandb.teardown()
    monkeypatch.setattr("builtins.input", None)
    printed = dashboards(capsys, "mnist", "--folder", str(tmp_path), "--mode=online", expect=2)
    assert printed.err == (
        "error: W&B has no key: `wandb login` leaves one, and $WANDB_API_KEY gives one; "
        f"the dashboards are kept as files in {tmp_path}\n"
    )
    assert (tmp_path / "mnist.report.json").is_file()


# ---- bad input


def test_without_its_package_one_line_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("lit_l2softmax.commands.dashboard.find_spec", lambda name: None)
    printed = dashboards(capsys, "--folder", str(tmp_path / "none"), expect=2)
    assert printed.err == (
        "error: dashboards need wandb-workspaces: pip install 'lit_l2softmax[dashboards]', or '.[dashboards]'\n"
    )
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mnits"], "'mnits' is not a family of dashboards; did you mean 'mnist'?"),
        (["--foldr=x"], "'foldr' is not an option; did you mean 'folder'?"),
        (["--mode=sometimes"], "argument --mode: invalid choice: 'sometimes'"),
        (["mnist", "--rows=x.csv"], "--rows are of benchmarks: name the family bench too"),
        (["bench", "--rows=x.csv"], "x.csv cannot be read: No such file or directory"),
    ],
)
def test_what_a_person_can_mend_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    printed = dashboards(capsys, *arguments, expect=2)
    assert printed.err.startswith(f"error: {message}")
    assert printed.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("speedup,", "sped,", 1), "it has no column 'speedup'"),
        (lambda text: text.splitlines()[0] + "\n", "holds no rows"),
        (lambda text: text.replace("17.96", "17,96", 1), "is damaged"),
        (lambda text: text[: len(text) // 2].rpartition(",")[0], "is damaged"),
        (lambda text: "\x80", "is damaged"),
    ],
)
def test_rows_that_are_damaged_are_refused_whole(monkeypatch, capsys, tmp_path, damage, message):
    rows = tmp_path / "rows.csv"
    rows.write_bytes(damage(ROWS.read_text()).encode("latin-1"))
    printed = dashboards(capsys, "bench", "--rows", str(rows), "--folder", str(tmp_path / "none"), expect=2)
    assert printed.err.startswith(f"error: {rows} ")
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_is_named(capsys, tmp_path):
    (tmp_path / "taken").write_text("")
    printed = dashboards(capsys, "mnist", "--folder", str(tmp_path / "taken"), expect=2)
    assert printed.err == (
        f"error: {tmp_path}/taken/mnist.workspace.json cannot be written (File exists); "
        "name another place with --folder\n"
    )


def test_rows_that_wandb_does_not_take_are_one_line(monkeypatch, capsys, tmp_path):
    import wandb

    def fail(**options):
        assert options["mode"] == "offline"
        raise wandb.errors.CommError("no\nanswer")

    monkeypatch.setattr(wandb, "init", fail)
    arguments = ["bench", "--mode=offline", "--rows", str(ROWS), "--folder", str(tmp_path)]
    printed = dashboards(capsys, *arguments, expect=2)
    assert printed.err == "error: W&B did not take the rows (CommError: no answer)\n"
    assert (tmp_path / "bench.report.json").is_file()


def test_disabled_logs_nothing(capsys, tmp_path):
    printed = dashboards(capsys, "bench", "--rows", str(ROWS), "--folder", str(tmp_path))
    assert printed.out.splitlines()[-1].startswith("not published: W&B is disabled; ")
    assert sorted(path.name for path in tmp_path.glob("*")) == ["bench.report.json", "bench.workspace.json"]
