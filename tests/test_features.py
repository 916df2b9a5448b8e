"""Where features lie: angles and lengths against plain arithmetic, a run's pictures and a sweep's."""

import csv
import logging
import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from report_pages import Page
from run_records import result_of, wandb_of

from lit_l2softmax import plots_of_features as plots
from lit_l2softmax.__main__ import main
from lit_l2softmax.callbacks import FeaturePictures
from lit_l2softmax.classification import LitClassification
from lit_l2softmax.data import MNISTData
from lit_l2softmax.features import EASE, QUANTILES, angles, ease_names, lengths_by_ease
from lit_l2softmax.layers import L2SoftmaxLoss
from lit_l2softmax.loggers import RunCSVLogger
from lit_l2softmax.networks import MnistConvNet
from lit_l2softmax.sweeps.feature_charts import features_chart, norms_chart

SHORT = ["--data.source=digits", "--data.batch_size=64", "--trainer.max_steps=40", "--trainer.val_check_interval=40"]


def at(*degrees, length=1.0):
    """Features of the plane in these directions."""
    turns = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    return length * torch.stack([turns.cos(), turns.sin()], 1)


def test_angles_are_those_of_a_drawing():
    features = torch.cat([at(-10, 10, length=3.0), at(85, 95), at(195, 205, length=0.1)])
    found = angles(features, torch.tensor([4, 4, 7, 7, 9, 9]))
    assert found.within == pytest.approx((10 + 10 + 5 + 5 + 5 + 5) / 6)
    assert found.between == pytest.approx((90 + 90 + 110) / 3)  # class 9 lies 110 degrees from 7 and 160 from 4


def test_lengths_do_not_change_a_direction():
    features, labels = torch.randn(50, 6), torch.arange(50) % 4
    scaled = features.double() * torch.logspace(-3, 3, 50, dtype=torch.float64)[:, None]
    assert angles(scaled, labels).within == pytest.approx(angles(features, labels).within)


def test_a_feature_that_is_no_number_has_no_angle():
    features = at(0, 10, 90, 100)
    features[1, 0] = math.nan
    assert math.isnan(angles(features, torch.tensor([0, 0, 1, 1])).within)


def test_classes_in_one_direction_have_no_spread():
    assert angles(at(-10, 10, 80, 100), torch.tensor([0, 0, 1, 1])).spread == pytest.approx(10 / 90)
    assert math.isnan(angles(at(0, 0, 0, 0), torch.tensor([0, 0, 1, 1])).spread)


def test_lengths_are_quantiles_of_the_images_that_are_as_easy():
    random = np.random.default_rng(0)
    probability = random.choice([0.0, 0.2, 0.5, 0.7, 0.95, 0.995, 0.9995, 1.0], 400)
    features = torch.tensor(random.normal(size=(400, 2)))
    found = lengths_by_ease(features, torch.tensor(probability))
    assert ease_names() == ["0 to 0.5", "0.5 to 0.9", "0.9 to 0.99", "0.99 to 0.999", "0.999 to 1", "all"]
    lengths = np.hypot(*features.numpy().T)
    for low, high, of in zip(EASE[:-1], [*EASE[1:-1], 1.1], found, strict=False):
        mine = lengths[(probability >= low) & (probability < high)]
        assert of.images == len(mine) > 0
        assert of.quantiles == pytest.approx(np.quantile(mine, QUANTILES))
    assert found[-1].images == 400
    assert found[-1].quantiles == pytest.approx(np.quantile(lengths, QUANTILES))
    assert lengths_by_ease(features[:3], torch.zeros(3))[2].images == 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short training of the constrained softmax with two features."""
    folder = tmp_path_factory.mktemp("plane")
    options = [*SHORT, "--model.head.alpha=8", f"--runs={folder}", "--wandb.mode=disabled"]
    assert main(["fit", "--config=plane_l2_constrained", *options]) == 0
    (run,) = folder.glob("*/*")
    return run


def test_a_test_measures_and_keeps_what_the_network_makes_of_the_images(run):
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    network, head = MnistConvNet(out_features=2).eval(), L2SoftmaxLoss(2, 10, alpha=8.0)
    for name, part in (("network", network), ("head", head)):
        part.load_state_dict({k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")})
    data = MNISTData(source="digits")
    data.prepare_data()
    data.setup("test")
    images, labels = data.test
    with torch.no_grad():
        features = network(images.float() / 255)
        points = head.constrain(features).numpy()
        mine = head.logits(features).softmax(1)[torch.arange(len(labels)), labels]
    result, found = result_of(run), angles(features, labels)
    assert result["test/within_class_angle"] == pytest.approx(found.within, rel=1e-4)
    assert result["test/between_class_angle"] == pytest.approx(found.between, rel=1e-4)
    assert result["test/angular_spread"] == pytest.approx(found.within / found.between, rel=1e-4)

    with (run / "plots" / plots.FEATURES_FILE).open() as file:
        kept = list(csv.DictReader(file))
    assert [line["label"] for line in kept] == [str(label) for label in labels.tolist()]
    read = np.array([[float(line["x"]), float(line["y"])] for line in kept])
    assert np.abs(read - points).max() < 1e-3
    assert np.hypot(*read.T) == pytest.approx(8, rel=1e-4)  # on the ring

    with (run / "plots" / plots.NORMS_FILE).open() as file:
        lengths = {line["probability"]: line for line in csv.DictReader(file)}
    for name, of in zip(ease_names(), lengths_by_ease(features, mine), strict=True):
        assert (name in lengths) == (of.images > 0)
        if of.images:
            assert int(lengths[name]["images"]) == of.images
            assert float(lengths[name]["q0.5"]) == pytest.approx(of.quantiles[2], rel=1e-3)
    assert float(lengths["all"]["q0.9"]) != pytest.approx(8, rel=0.01)  # before the constraint


def test_its_page_shows_both_pictures(run):
    text = Page(run / "report.html").text
    assert 'alt="features"' in text
    assert 'alt="feature norms"' in text
    assert "What was taken for what" in text


@pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*LeafSpec")
@pytest.mark.parametrize(("feature", "drawn"), [(0.0, True), (3.0, True), (math.nan, False)])
def test_a_network_that_has_died_is_tested_all_the_same(tmp_path, monkeypatch, feature, drawn):
    monkeypatch.setattr(MnistConvNet, "forward", lambda _, images: images.new_full((len(images), 2), feature))
    module = LitClassification(MnistConvNet(out_features=2), L2SoftmaxLoss(2, 10))
    trainer = Trainer(
        logger=RunCSVLogger(tmp_path),
        callbacks=[FeaturePictures()],
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (figures,) = trainer.test(module, MNISTData(source="digits"), verbose=False)
    assert math.isfinite(figures["test/angular_spread"]) == (feature == 0)  # cosines of no direction are 0
    assert (tmp_path / "plots" / "features.png").is_file() == drawn


def test_wandb_has_both_pictures_and_says_nothing(fit, caplog):
    run, printed = fit("plane_softmax", "--data.source=digits", "--trainer.max_steps=2", "--wandb.mode=offline")
    assert printed.err == ""
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
    summary = wandb_of(run)["summary"]
    assert [summary[f"test/{name}"]["count"] for name in ("features", "feature_norms")] == [1, 1]


def test_a_head_of_more_features_is_refused_in_one_line(fit):
    callback = "--trainer.callbacks=lit_l2softmax.callbacks.FeaturePictures"
    _, printed = fit("mnist", *SHORT, callback, expect=2)
    assert printed.err == "error: FeaturePictures draws features of the plane, this head takes 1024\n"


def lines_of(variant, seed, **columns):
    return [
        {"variant": variant, "seed": seed, **dict(zip(columns, cells, strict=True))}
        for cells in zip(*columns.values(), strict=True)
    ]


def test_each_variant_has_a_panel_and_a_ring_its_bars():
    plain = lines_of("config plain", "0", label=["3", "7", "3"], x=["1", "2", "5"], y=["0.5", "-4", "1"])
    ring = lines_of("config ring", "0", label=["3", "7"], x=["3", "0"], y=["0", "-3"])
    figure = features_chart([*plain, *ring])
    left, right = figure.axes
    assert [axes.get_title() for axes in (left, right)] == ["config plain", "config ring"]
    assert left.get_aspect() == right.get_aspect() == 1
    assert left.lines[0].get_xydata().tolist() == [[1, 0.5], [5, 1]]
    assert len(left.patches) == 0
    heights = [np.hypot(*bar.get_xy().T).max() for bar in right.patches]
    assert heights == pytest.approx([3 * (1.03 + plots.REACH)] * 2)  # all of a class in one place
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["3", "7"]


def test_lengths_are_shares_of_the_runs_own_median_in_means_over_seeds():
    quantiles = {f"q{quantile:g}" for quantile in QUANTILES}
    lines = []
    for seed, whole, easy in (("0", 10.0, 20.0), ("1", 1.0, 4.0)):
        for name, middle in (("0.999 to 1", easy), ("all", whole)):
            lines.append({"variant": "v", "seed": seed, "probability": name} | dict.fromkeys(quantiles, str(middle)))
    (axes,) = norms_chart(lines).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0.999 to 1"]
    (dots,) = (line for line in axes.lines if line.get_marker() == ".")
    assert dots.get_xydata().tolist() == [[0, 2], [0, 4]]
    assert any(set(line.get_ydata()) == {3.0} for line in axes.lines)


def test_groups_stand_in_order_whichever_seed_has_them_and_features_of_no_length_have_no_share():
    names = {"0": ["0.9 to 0.99", "all"], "1": ["0 to 0.5", "0.9 to 0.99", "all"]}
    quantiles = {f"q{quantile:g}": "0" for quantile in QUANTILES}
    lines = [{"variant": "v", "seed": seed, "probability": name} | quantiles for seed in names for name in names[seed]]
    (axes,) = norms_chart(lines).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0 to 0.5", "0.9 to 0.99"]


def test_a_network_of_no_features_is_refused():
    with pytest.raises(ValueError, match="out_features must be at least 1, got 0"):
        MnistConvNet(out_features=0)
