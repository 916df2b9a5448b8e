"""The page of a run and of a sweep: all that it must hold, nothing it must reach for, and what it cannot be made of."""

import base64
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from report_pages import METRICS, NAMES, Page, a_run
from run_records import result_of

from lit_l2softmax import mistakes
from lit_l2softmax.__main__ import main
from lit_l2softmax.reports import curves, page, run_page, svg, sweep_page
from lit_l2softmax.sweeps import rows


@pytest.fixture
def run(tmp_path):
    return a_run(tmp_path)


def of(run):
    return Page(run_page.write(run))


def refused(capsys, *arguments):
    assert main(["report", *map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


# ---- a run


def test_the_command_writes_the_page_and_says_where(run, capsys):
    assert main(["report", "--run", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert "mnist / 20260101-000000-abcdef" in Page(run / "report.html").texts


def test_a_training_leaves_its_page(fit):
    run, _ = fit("mnist", "--trainer.max_steps=20", "--trainer.log_every_n_steps=5", "--data.source=digits")
    read = Page(run / "report.html")
    assert len(read.svgs) >= 4
    assert f"{result_of(run)['test/accuracy']:.4f}" in read.texts
    assert "Tested on scikit-learn's digits, NOT MNIST." in read.texts
    assert sum(int(line[-2]) for line in read.cells[1][1:]) == 400


def test_a_page_that_cannot_be_written_ends_no_training(fit, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write", full)
    run, printed = fit("mnist_tutorial", "--trainer.max_steps=1", "--data.source=digits")
    assert result_of(run)["steps"] == 1
    (warning,) = (line for line in printed.err.splitlines() if "report.html" in line)
    assert warning == "warning: report.html could not be written (OSError: [Errno 28] No space left on device)"
    assert printed.out.splitlines()[-1] == str(run)


def test_every_figure_of_the_result_is_there(run):
    read = of(run)
    tiles = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", read.text)
    assert tiles == [("test/accuracy", "0.8750"), ("test/images", "8"), ("test/loss", "0.2500")]
    facts = dict(read.cells[0])
    assert (facts["val/accuracy"], facts["seed"], facts["steps"], facts["seconds"]) == ("0.9000", "3", "1,500", "12.2")
    assert facts["data/title"] == "digits <NOT> MNIST"
    assert (facts["train/alpha"], facts["val/images"]) == ("16, throughout", "5, throughout")
    assert "test/images" not in facts  # it was recorded once, and is a figure of the result
    assert 'note: a <b> & "quotes"' in "".join(read.texts)


def test_a_figure_that_is_none_is_a_dash(tmp_path):
    written = a_run(tmp_path)
    result = json.loads((written / "result.json").read_text()) | {"test/loss": None}
    (written / "result.json").write_text(json.dumps(result))
    assert "<dt>test/loss</dt><dd>–</dd>" in of(written).text  # noqa: RUF001


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98765, "0.9877"),
        (1.0, "1.0000"),
        (16.0, "16"),
        (0.0, "0.0000"),
        (2.5e-5, "2.5e-05"),
        (12345.678, "12,345.7"),
        (-3.25, "-3.2500"),
        (1234567, "1,234,567"),
        (1e30, "1e+30"),
        (123456789.5, "123,456,789.5"),
        (float("inf"), "inf"),
        (True, "True"),
        ("a_b", "a_b"),
        (None, "–"),  # noqa: RUF001
    ],
)
def test_figures_are_written_as_a_person_reads_them(value, text):
    assert page.figure(value) == text


# ---- its charts


def test_charts_are_svg_in_the_pages_own_colours(run):
    drawn = of(run).svgs
    labels = [ElementTree.fromstring(one).get("aria-label") for one in drawn]
    assert labels == [
        "loss against the step: train from 2 to 1, val from 1.5 to 1.25, test from 0.25 to 0.25",
        "accuracy against the step: val from 0.9 to 0.8",
    ]
    assert "<style" not in "".join(drawn)  # it would be the whole page's
    for one in drawn:
        assert not left_over(one)
        assert {"ink", "grid", "second"} <= set(re.findall(r"var\(--(\w+)\)", one))  # val has one colour in all
        assert ">step</text>" in one
    assert ("var(--first)" in drawn[0], "var(--first)" in drawn[1]) == (True, False)
    assert ">loss in nats</text>" in drawn[0]
    assert ">share of images recognised</text>" in drawn[1]


def left_over(drawing):
    """Colours that are none of the page's."""
    return re.findall(r"#[0-9a-fA-F]{3,6}\b", re.sub(r"(href=\"|url\()#\w+", "", drawing))


def test_every_colour_of_a_chart_is_one_of_the_page():
    style = (Path(page.__file__).parent / "templates" / "base.html").read_text()
    for theme in style.split(":root")[1:]:
        assert set(svg.VARIABLES.values()) <= set(re.findall(r"--(\w+):", theme.partition("}")[0]))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cross_entropy_smoothed", "cross-entropy in nats"),
        ("penalty/network.local3.weight_smoothed", "penalty"),
        ("points_per_second", "points per second"),
    ],
)
def test_an_axis_is_short_of_words(name, label):
    drawn = curves.chart(name, [curves.Curve("train", [1, 2], [1.0, 2.0])], curves.UNITS, None)
    assert f">{label}</text>" in drawn.drawing
    assert drawn.name == name.replace("_", " ")


def test_a_regressions_loss_has_no_unit_that_is_known(tmp_path):
    written = a_run(tmp_path, config="model: {class_path: lit_l2softmax.regression.LitRegression}")
    assert ">loss</text>" in of(written).svgs[0]


def test_a_curve_falls_where_its_values_do(run):
    (line,) = re.findall(
        r'd="M (\S+) (\S+) \nL (\S+) (\S+) \n" clip-path="[^"]*" style="fill: none; stroke: var\(--first\)',
        of(run).svgs[0],
    )
    x0, y0, x1, y1 = map(float, line)
    assert x0 < x1
    assert y0 < y1  # downwards


def test_the_tested_checkpoint_is_marked_at_its_step(tmp_path):
    assert of(a_run(tmp_path / "a")).svgs[0].count("tested checkpoint") == 1
    assert "tested checkpoint" not in of(a_run(tmp_path / "b", selected_by=None)).svgs[0]
    assert "tested checkpoint" in curves.chart("loss", [curves.Curve("train", [0, 1], [2.0, 1.0])], {}, 0).drawing
    records = [{"step": 500.0, "val/accuracy": 0.9}, {"step": 1000.0, "val/accuracy": 0.8}]
    assert run_page._judged_step({"selected_by": "val/accuracy", "val/accuracy": 0.8}, records) == 1000
    assert run_page._judged_step({"selected_by": "val/accuracy", "val/accuracy": 0.7}, records) is None


def test_what_was_recorded_once_joins_what_was_recorded_more_often_and_training_comes_first():
    records = [
        {"step": 1.0, "val/loss": 3.0, "other/b": 1.0},
        {"step": 2.0, "train/loss": 2.0, "train/accuracy": 0.5},
        {"step": 3.0, "train/loss": 1.0},
        {"epoch": 1.0},
    ]
    found = curves.curves(records)
    assert list(found) == ["loss", "accuracy", "b"]
    assert [(curve.stage, curve.steps, curve.values) for curve in found["loss"]] == [
        ("train", [2, 3], [2.0, 1.0]),
        ("val", [1], [3.0]),
    ]
    assert [curves.changes(of) for of in found.values()] == [True, False, False]


def test_a_long_record_is_means_between_the_least_and_the_greatest():
    values = [float(number % 4) for number in range(1001)]
    mean, low, high, together = curves._reduced(curves.Curve("train", list(range(1001)), values))
    assert together == 7
    assert len(mean) == 143
    assert mean[:2].tolist() == [[3, (0 + 1 + 2 + 3 + 0 + 1 + 2) / 7], [10, (3 + 0 + 1 + 2 + 3 + 0 + 1) / 7]]
    assert (low[1], high[1]) == (0, 3)
    short, _, _, _ = curves._reduced(curves.Curve("train", list(range(999)), values[:999]))
    assert short[-1].tolist() == [996, (2 + 3 + 0 + 1 + 2) / 5]  # of those that are left
    drawn = curves.chart("loss", [curves.Curve("train", list(range(1001)), values)], {}, None)
    assert drawn.caption == "means of 7 records, bands from the least to the greatest"
    assert "fill-opacity: 0.2" in drawn.drawing


def test_records_that_are_no_number_are_counted_and_do_not_hide_the_others():
    drawn = curves.chart("loss", [curves.Curve("train", [1, 2, 3], [1.0, float("nan"), 0.5])], {}, None)
    assert drawn.caption == "1 of the records are no number"
    values = [float(number) if number % 100 else float("nan") for number in range(1, 20_001)]
    mean, low, high, _ = curves._reduced(curves.Curve("train", list(range(20_000)), values))
    assert bool((low <= mean[:, 1]).all() and (mean[:, 1] <= high).all())
    nothing, _, _, _ = curves._reduced(curves.Curve("train", list(range(3000)), [float("nan")] * 2000 + [1.0] * 1000))
    assert str(nothing[0, 1]) == "nan"
    assert nothing[-1, 1] == 1
    ElementTree.fromstring(curves.chart("loss", [curves.Curve("train", [1, 2], [1e308, -1e308])], {}, None).drawing)
    ElementTree.fromstring(drawn.drawing)
    ElementTree.fromstring(curves.chart("loss", [curves.Curve("train", [1], [float("nan")])], {}, None).drawing)


@pytest.mark.parametrize(("values", "log"), [([1.0, 51.0], True), ([1.0, 49.0], False), ([-1.0, 1000.0], False)])
def test_what_spans_orders_of_magnitude_has_a_logarithmic_axis(values, log, monkeypatch):
    asked = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_yscale", lambda self, scale: asked.append(scale))
    curves.chart("loss", [curves.Curve("train", [1, 2], values)], {}, None)
    assert asked == (["log"] if log else [])


def test_a_label_and_a_text_in_a_drawing_are_escaped():
    figure = Figure()
    figure.subplots().set_title("a <b> & c 猫")
    ElementTree.fromstring(svg.inline(figure, "one", 'it <says> "so" & more'))


def test_a_dollar_in_a_name_is_no_formula():
    of = [curves.Curve(r"$\frac{$", [1, 2], [1.0, 2.0])]
    drawn = curves.chart(r"cost_$\frac{$", of, {}, None).drawing
    assert r">cost $\frac{$</text>" in drawn
    assert r">$\frac{$</text>" in drawn


# ---- what was mistaken


def test_the_matrix_has_each_count_where_it_belongs(run):
    read = of(run)
    assert read.cells[1] == [
        ["class", *NAMES, "images", "recognised"],
        ["cat", "3", "1", "", "4", "75.00 %"],
        ["b<ird", "", "1", "1", "2", "50.00 %"],
        ["frog", "", "1", "1", "2", "50.00 %"],
    ]
    assert re.findall(r'class="shaded" style="--share: ([\d.]+)"', read.text) == ["1.000"] * 3


def test_of_many_classes_the_pairs_that_were_mistaken_most_are_named(run):
    names = [f"class {number}" for number in range(40)]
    labels = torch.tensor([6] * 9 + [7] * 3 + [8] * 5)
    predictions = torch.tensor([6] * 9 + [3] * 3 + [4] * 5)
    mistakes.write(run, mistakes.confusion(labels, predictions, names), [])
    read = of(run)
    assert read.cells[2] == [
        ["class", "images", "recognised"],
        ["class 7", "3", "0.00 %"],
        ["class 8", "5", "0.00 %"],
        ["class 6", "9", "100.00 %"],
    ]
    assert read.cells[1] == [["class", "taken for", "images"], ["class 8", "class 4", "5"], ["class 7", "class 3", "3"]]
    assert "The worst mistakes" not in read.texts


def test_the_worst_mistakes_are_shown(run):
    (mistake,) = mistakes.read_mistakes(run)
    read = of(run)
    assert f'<img src="data:image/png;base64,{mistake.image}" alt="an image of cat">' in read.text
    assert "p(cat) = 0.01" in "".join(read.texts)
    mistakes.write(run, mistakes.read_confusion(run), [mistakes.Mistake("cat", "frog", float("nan"), mistake.image)])
    assert "p(cat) = not a number" in "".join(of(run).texts)


def test_a_run_without_classes_has_a_page_without_them(run):
    (run / mistakes.CONFUSION_FILE).unlink()
    (run / mistakes.MISTAKES_FILE).unlink()
    read = of(run)
    assert "What was taken for what" not in read.texts
    assert len(read.cells) == 1


def test_a_run_without_a_record_has_a_page_without_charts(run):
    (run / "metrics.csv").unlink()
    read = of(run)
    assert read.svgs == []
    assert "Nothing was recorded that changed." in read.texts


# ---- pictures and links


def picture(path, size):
    Image.frombytes("L", (size, size), torch.randint(256, (size * size,), dtype=torch.uint8).numpy().tobytes()).save(
        path
    )


def test_pictures_are_in_the_page_as_long_as_there_is_room(run):
    picture(run / "plots" / "fitted_plane.png", 100)
    for name in ("confusion_matrix", "mistakes", "predictions-20260101-000000-abcdef"):
        picture(run / "plots" / f"{name}.png", 10)
    picture(run / "plots" / "huge #1 100%.png", 1000)
    read = of(run)
    content = base64.b64encode((run / "plots" / "fitted_plane.png").read_bytes()).decode()
    assert f'<img src="data:image/png;base64,{content}" alt="fitted plane">' in read.text
    assert read.links == ["plots/huge%20%231%20100%25.png"]
    assert read.text.count('class="picture"') == 1


def test_the_largest_page_stays_small(run, monkeypatch):
    noise = [mistakes.Mistake("a", "b", 0.1, mistakes.thumbnail(torch.rand(3, 224, 224))) for _ in range(16)]
    mistakes.write(run, mistakes.confusion(torch.tensor([0, 1]), torch.tensor([1, 0]), ["a", "b"]), noise)
    for number in range(5):
        picture(run / "plots" / f"{number}.png", 350)
    names = [f"{stage}/f{number}" for number in range(40) for stage in ("train", "val")]
    lines = [",".join(["step", *names])]
    lines += [",".join([str(step), *map(str, line)]) for step, line in enumerate(torch.rand(300, 80).tolist())]
    (run / "config.yaml").write_text("model: 1\n" + "# long\n" * 500_000)
    (run / "metrics.csv").write_text("\n".join(lines))
    read = of(run)  # below two million bytes
    assert 10 < len(read.svgs) < 40
    assert re.search(r"for want of room: f\d+, .*; metrics.csv has them", "".join(read.texts))
    assert "Its beginning; config.yaml has the rest." in read.texts
    assert read.links == ["plots/3.png", "plots/4.png"]


def test_a_figure_that_was_validated_once_is_listed(tmp_path):
    read = of(a_run(tmp_path, metrics="step,val/loss,val/alpha\n1,0.5,3\n2,,3\n"))
    facts = dict(read.cells[0])
    assert (facts["val/loss"], facts["val/alpha"]) == ("0.5000", "3, throughout")


def test_a_folder_is_known_by_its_own_name_whatever_way_it_is_named(run, capsys, monkeypatch):
    monkeypatch.chdir(run / "plots")
    (run.parent / "latest").symlink_to(run)
    for given in ("..", "../../latest"):
        assert main(["report", "--run", given]) == 0
        assert capsys.readouterr().out == f"{given}/report.html\n"
        assert "mnist / 20260101-000000-abcdef" in Page(run / "report.html").texts


def test_runs_of_one_configuration_are_linked(tmp_path):
    first = a_run(tmp_path, "20260101-000000-aaaaaa", seed=1, **{"test/loss": 0.5})
    run_page.write(first)
    a_run(tmp_path, "20260102-000000-bbbbbb", seed=2, **{"test/loss": None})  # has no page
    damaged = a_run(tmp_path, "20260103-000000-cccccc")
    (damaged / "result.json").write_text("{")
    a_run(tmp_path, "a copy")
    read = of(a_run(tmp_path, "20260104-000000-dddddd"))
    assert read.links == ["../20260101-000000-aaaaaa/report.html"]
    assert read.cells[-1] == [
        ["run", "seed", "test/accuracy", "test/images", "test/loss"],
        ["20260102-000000-bbbbbb", "2", "0.8750", "8", "–"],  # noqa: RUF001
        ["20260101-000000-aaaaaa", "1", "0.8750", "8", "0.5000"],
    ]


# ---- a sweep


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "sweep"
    (folder / "runs").mkdir(parents=True)
    (folder / ".lock").write_text("")
    (folder / "config.yaml").write_text("base: true\n")
    run = a_run(folder / "runs" / "01 #2 3%")
    common = {"head": "L2SoftmaxLoss", "classes": 10, "steps": 10, "seconds": 2.0, "data": "d"}
    there = run.relative_to(folder).as_posix()
    found = [
        rows.Row({"head.alpha": "0.0"}, "0", "alphas", "test/accuracy", 0.5, **common, run="runs/x"),
        rows.Row({"head.alpha": "5.0"}, "0", "alphas", "test/accuracy", 0.75, **common, run=there),
        rows.Row({"head.alpha": "5.0"}, "1", "alphas", "test/accuracy", None, "it <died>"),
    ]
    rows.write(folder / rows.SWEEP_FILE, found)
    return folder, run


def test_a_sweeps_page_has_its_table_its_chart_and_the_way_to_each_run(sweep, capsys):
    folder, run = sweep
    run_page.write(run)
    assert main(["report", "--run", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    read = Page(folder / "report.html")
    variants, runs = read.cells
    assert [line[:3] for line in variants] == [
        ["variant", "runs", "mean"],
        ["alpha 0", "1", "0.5000"],
        ["alpha 5", "1 of 2, the others failed", "0.7500"],
    ]
    assert [line[:3] for line in runs[1:]] == [
        ["alpha 0", "0", "0.5000"],
        ["alpha 5", "0", "0.7500"],
        ["alpha 5", "1", "it <died>"],
    ]
    assert read.links == ["runs/01%20%232%203%25/mnist/20260101-000000-abcdef/report.html"]
    (drawn,) = read.svgs
    ElementTree.fromstring(drawn)
    assert {"first", "second", "ink"} <= set(re.findall(r"var\(--(\w+)\)", drawn))
    assert ">lower bound of arXiv:1703.09507, 4.28</text>" in drawn
    assert not left_over(drawn)
    assert "base: true" in "".join(read.texts)


def test_a_run_leads_back_to_its_sweep(sweep):
    folder, run = sweep
    (link,) = of(run).links
    assert (run / link).resolve() == folder / "report.html"  # which there will be
    (folder / ".lock").unlink()
    assert of(run).links == []


def test_a_sweep_that_failed_throughout_has_a_page(tmp_path):
    failed = [rows.Row({"head.alpha": "5.0"}, "1", "alphas", "test/accuracy", None, "it died")]
    read = Page(sweep_page.write(tmp_path, failed))
    assert read.svgs == []
    assert "it died" in read.texts


# ---- what no page can be made of

SWEPT = "--seed_everything,sweep,metric,value,error,head,alpha,classes,steps,seconds,data,device,versions,run\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "report needs the folder of a run or a sweep: --run FOLDER"),
        (("--run",), "argument --run: expected one argument"),
        (("--run", "nowhere"), "there is no folder nowhere"),
        (("--runs", "x"), "'runs' is not an option; did you mean 'run'?"),
    ],
)
def test_options_that_say_nothing_are_one_line(capsys, arguments, message):
    assert refused(capsys, *arguments) == message


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("result.json", None, "has no result.json: its training was interrupted, or it is no run folder"),
        ("result.json", "{", "result.json is damaged: "),
        ("config.yaml", None, "is not a run folder: it has no config.yaml"),
        ("config.yaml", "a: [", "config.yaml is damaged: "),
        ("metrics.csv", "step,train/loss\n1,x\n", "metrics.csv is damaged: "),
        ("metrics.csv", "step,train/loss\n1,2,3\n", "metrics.csv is damaged: "),
        ("metrics.csv", b"\xff\xfe\x00", "metrics.csv is damaged: "),
        ("metrics.csv", "step,train/loss\ninf,1\n", "metrics.csv is damaged: a step is not a number"),
        ("result.json", "[" * 100_000, "result.json is damaged: "),
        ("sweep.csv", SWEPT + "0,alphas\n", "sweep.csv holds no rows of a sweep: ValueError: a line has fewer cells"),
        ("sweep.csv", SWEPT + "0,alphas,a,inf,,,,,,,,,,\n", "ValueError: inf is no figure to compare"),
        (mistakes.CONFUSION_FILE, "true,predicted,images\na,b,c\n", "confusion_matrix.csv is damaged: "),
        (mistakes.MISTAKES_FILE, "{", "mistakes.json is damaged: "),
        ("sweep.csv", "a,b\n1,2\n", "sweep.csv holds no rows of a sweep: "),
    ],
)
def test_a_folder_that_is_incomplete_or_damaged_is_one_line(run, capsys, name, content, message):
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = sorted(run.rglob("*"))
    assert message in refused(capsys, "--run", run)
    assert sorted(run.rglob("*")) == before


def test_text_that_is_no_text_does_not_end_a_page(run):
    result = json.loads((run / "result.json").read_text()) | {"note": "\ud800"}
    (run / "result.json").write_text(json.dumps(result))
    assert "&#55296;" in of(run).text


def test_a_name_that_is_too_long_for_a_folder_is_one_line(capsys):
    assert refused(capsys, "--run", "a" * 300) == f"{'a' * 300} cannot be read or written: File name too long"


def test_a_page_that_cannot_be_written_is_one_line_and_leaves_the_old_one(run, capsys):
    (run / "report.html").write_text("old")
    (run / "report.html.part").mkdir()
    assert refused(capsys, "--run", run) == f"{run / 'report.html.part'} cannot be read or written: Is a directory"
    assert (run / "report.html").read_text() == "old"


def test_a_page_that_was_cut_off_is_not_left_lying_about(run, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    before = sorted(run.rglob("*"))
    with pytest.raises(OSError, match="No space left"):
        run_page.write(run)
    assert sorted(run.rglob("*")) == before


def test_a_damaged_record_is_told_from_its_absence(run, capsys):
    (run / "metrics.csv").write_text(METRICS.replace("2.0", "two"))
    assert "could not convert string to float: 'two'" in refused(capsys, "--run", run)
