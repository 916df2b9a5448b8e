"""A training that is tested by verification: what is measured, what is left, and what every command makes of it."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from report_pages import Page
from run_records import result_of, rows_of

from lit_l2softmax.__main__ import main
from lit_l2softmax.data import HeldOutDigitsData
from lit_l2softmax.errors import DataError
from lit_l2softmax.layers import L2SoftmaxLoss
from lit_l2softmax.networks import MnistConvNet
from lit_l2softmax.verification import LitVerification, power

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{message}") for message in ("does not have many workers", "LeafSpec")
]

CONFIGS = sorted((Path(__file__).parents[1] / "configs" / "verification").glob("*.yaml"))
SHORT = [
    "--data.source=digits",
    "--data.batch_size=64",
    "--trainer.max_steps=30",
    "--trainer.val_check_interval=30",
    "--trainer.log_every_n_steps=10",
    "--seed_everything=2",
]
FIGURES = (
    "test/auc",
    "test/eer",
    "test/tar_at_far_1e-1",
    "test/tar_at_far_1e-2",
)  # .001 of 16,000 impostors is too few


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a short training on scikit-learn's digits."""
    folder = tmp_path_factory.mktemp("verification")
    options = [*SHORT, f"--runs={folder}", "--wandb.mode=disabled"]
    assert main(["fit", "--config=verify_l2_constrained", *options]) == 0
    (run,) = folder.glob("*/*")
    return run


@pytest.fixture(scope="module")
def data():
    """The data of that training."""
    data = HeldOutDigitsData(source="digits", seed=2)
    data.prepare_data()
    data.setup("test")
    return data


def figures_of(features, labels):
    """EER, TAR at .1 and .01, and area, from the matrix of all cosines at once."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    one, other = np.triu_indices(len(labels), 1)
    cosines, same = (unit @ unit.T)[one, other], labels[one] == labels[other]
    genuine, impostor = np.sort(cosines[same]), np.sort(cosines[~same])
    thresholds = np.unique(cosines)[::-1]
    far = 1 - np.searchsorted(impostor, thresholds) / len(impostor)
    tar = 1 - np.searchsorted(genuine, thresholds) / len(genuine)
    area = (np.searchsorted(impostor, genuine) + np.searchsorted(impostor, genuine, "right")).mean() / 2 / len(impostor)
    nearest = np.abs(far - (1 - tar)).argmin()
    return area, (far[nearest] + 1 - tar[nearest]) / 2, *(tar[far <= share].max() for share in (0.1, 0.01))


def test_the_figures_are_those_of_all_pairs_of_the_tested_checkpoint(run, data):
    weights = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    network = MnistConvNet().eval()
    network.load_state_dict({k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")})
    with torch.no_grad():
        features = network(data.test[0].float() / 255)
    expected = figures_of(features.double().numpy(), data.test[1].numpy())
    result = result_of(run)
    assert {name for name in result if name.startswith("test/")} == {*FIGURES, "test/images"}
    assert [result[name] for name in FIGURES] == pytest.approx(expected, abs=2e-4)  # a genuine pair is 5e-4 of a class
    assert 0.02 < result["test/eer"] < 0.35
    assert result["test/images"] == len(data.test[1])
    assert result["data/title"].endswith("held out of training")


def test_training_and_validation_are_a_classifiers(run, data):
    validated = [row for row in rows_of(run) if row["val/images"]]
    assert [float(row["val/images"]) for row in validated] == [len(data.validation[1])]
    assert float(validated[0]["val/accuracy"]) > 0.8  # of five classes


def test_a_run_leaves_the_curve_and_its_picture_and_no_mistakes_of_classes_it_never_had(run):
    left = {path.name for path in (run / "plots").iterdir()}
    assert left == {"roc.csv", "verification.png"}
    with (run / "plots" / "roc.csv").open() as file:
        fars, tars = zip(*((float(row["far"]), float(row["tar"])) for row in csv.DictReader(file)), strict=True)
    result = result_of(run)
    curve = dict(zip(fars, tars, strict=True))
    assert (curve[0.1], curve[0.01]) == pytest.approx((result[FIGURES[2]], result[FIGURES[3]]), abs=1e-5)
    assert list(tars) == sorted(tars)
    assert (fars[-1], tars[-1]) == (1, 1)
    assert 5e-5 < fars[0] < 1e-4  # one of some 16,000
    with Image.open(run / "plots" / "verification.png") as picture:
        assert picture.size[0] > 900


def test_its_page_has_the_figures_and_the_picture(run):
    page = Page(run / "report.html")
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.text))
    assert set(FIGURES) < set(tiles)
    assert 'alt="verification"' in page.text
    assert "loss in nats" in page.text
    assert "What was taken for what" not in page.text
    assert "The worst mistakes" not in page.text


def test_testing_it_again_says_the_same(run, capsys):
    assert main(["test", f"--run={run}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = result_of(run)
    for name in FIGURES:
        assert f"{name} {result[name]:.4f}" in line
    assert line.endswith(f"on {result['test/images']:.0f} images of {result['data/title']}")


def test_prediction_names_the_digits_that_were_trained(run, data, tmp_path, capsys):
    assert main(["predict", f"--run={run}"]) == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    right = [
        name == data.class_names[label]
        for name, label in zip((line.split()[3] for line in lines), data._trained_test[1].tolist(), strict=False)
    ]
    assert len(right) == 4
    assert sum(right) >= 3
    image, label = (part[0] for part in data._trained_test)
    Image.fromarray(255 - image[0].numpy()).save(tmp_path / "mine.png")
    assert main(["predict", f"--run={run}", "--images", str(tmp_path / "mine.png")]) == 0
    said = capsys.readouterr().out.splitlines()[0].split()[1]
    assert said == data.class_names[label]


@pytest.mark.parametrize("command", ["test", "validate", "predict", "export"])
@pytest.mark.parametrize("changed", ["--seed_everything=3", "--data.held_out=[0,1,2,3,4]"])
def test_classes_that_were_trained_are_never_taken_for_held_out(run, data, command, changed, capsys):
    assert main([command, f"--run={run}", changed]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"last.ckpt was trained without classes {', '.join(map(str, data.held_out))}, these data hold " in line
    assert not (run / "export").exists()


def test_nor_are_they_where_a_run_begins_from_anothers_checkpoint(run, tmp_path, capsys):
    checkpoint = f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"
    options = [*SHORT, checkpoint, f"--runs={tmp_path}", "--seed_everything=3"]
    assert main(["fit", "--config=verify_l2_constrained", *options]) == 2
    assert "last.ckpt was trained without classes" in capsys.readouterr().err
    assert not list(tmp_path.glob("verify*"))


def test_exported_weights_know_which_classes_they_never_saw(run, data, tmp_path, capsys):
    assert main(["export", f"--run={run}", f"--folder={tmp_path}", "--format=safetensors"]) == 0
    exported = f"--ckpt_path={tmp_path / 'model.safetensors'}"
    assert main(["test", exported]) == 0
    assert f"test/eer {result_of(run)['test/eer']:.4f}" in capsys.readouterr().out
    assert main(["test", exported, "--seed_everything=3"]) == 2
    assert f"was trained without classes {', '.join(map(str, data.held_out))}, these" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[4, x]", "data.held_out: Expected <class 'int'>. Got value: [4, 'x']"),
        ("many", "data.held_out: Expected <class 'int'> or <class 'list'>. Got value: many"),
        ("1", "held_out must leave two classes or more on either side, got 1 of 10"),
    ],
)
def test_what_cannot_be_held_out_is_one_line(fit, given, message):
    _, printed = fit("verify_softmax", f"--data.held_out={given}", *SHORT, expect=2)
    assert printed.err == f"error: {message}\n"


def test_a_head_of_ten_classes_is_refused_in_one_line(fit):
    _, printed = fit("verify_softmax", "--data.held_out=3", *SHORT, expect=2)
    assert printed.err == "error: the data have 7 classes, the head has 5: --model.head.num_classes=7\n"


def test_averaged_weights_are_tested_beside_the_weights_and_the_curve_is_theirs(fit):
    run, _ = fit("verify_softmax", *SHORT, "--model.ema_decay=0.5", "--trainer.max_steps=3")
    result = result_of(run)
    assert {f"{name}_raw" for name in FIGURES} < set(result)
    with (run / "plots" / "roc.csv").open() as file:
        (at,) = (float(row["tar"]) for row in csv.DictReader(file) if float(row["far"]) == 0.01)
    assert at == pytest.approx(result["test/tar_at_far_1e-2"], abs=1e-5)


def scored(tmp_path, network, labels):
    """The figures of a test of images with these labels, as Lightning gives them."""
    network.out_features = 2
    module = LitVerification(network, L2SoftmaxLoss(2, 2))
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    batches = torch.utils.data.DataLoader([(torch.rand(len(labels), 2), torch.tensor(labels))], batch_size=None)
    (figures,) = trainer.test(module, batches, verbose=False)
    return figures


def test_features_that_are_no_numbers_have_figures_that_are_none(tmp_path):
    class Lost(torch.nn.Module):
        def forward(self, images):
            return images.log() * math.nan

    figures = scored(tmp_path, Lost(), [0] * 20 + [1] * 20)
    assert figures.pop("test/images") == 40
    assert set(figures) == {"test/eer", "test/auc", "test/tar_at_far_1e-1"}
    assert all(math.isnan(figure) for figure in figures.values())


@pytest.mark.parametrize(("labels", "pairs"), [([3, 3, 3], "3 pairs of one class and 0 of two"), ([1, 2], "0 pairs")])
def test_images_that_make_no_pair_of_a_kind_are_refused(labels, pairs, tmp_path):
    with pytest.raises(DataError, match=pairs):
        scored(tmp_path, torch.nn.Identity(), labels)


def test_a_false_accept_rate_is_written_as_people_write_it():
    assert [power(far) for far in LitVerification.FARS] == ["1e-1", "1e-2", "1e-3", "1e-4"]
    assert power(0.0025) == "2.5e-3"


def test_the_shipped_losses_differ_in_their_heads_alone():
    heads, others = {}, []
    for path in CONFIGS:
        content = yaml.safe_load(path.read_text())
        heads[path.stem.removeprefix("verify_")] = content["model"]["init_args"]["head"].pop("init_args")
        others.append(json.dumps(content))
    assert len(set(others)) == 1
    shared = {"in_features": 1024, "num_classes": 5}
    assert heads == {
        "softmax": shared | {"alpha": 0},
        "l2_constrained": shared | {"alpha": 16},
        "normface": shared | {"alpha": 10, "learn_alpha": True, "normalize_weight": True},
        "cosface": shared | {"alpha": 30, "normalize_weight": True, "cosine_margin": 0.35},
        "arcface": shared | {"alpha": 30, "normalize_weight": True, "angular_margin": 0.5},
    }


@pytest.mark.slow
def test_of_mnist_the_figures_are_what_the_table_says(fit, mnist_root):
    """Seed 0 of the sweep."""
    run, _ = fit("verify_l2_constrained", f"--data.root={mnist_root}", "--data.source=mnist")
    result = result_of(run)
    assert result["test/eer"] < 0.3
    assert result["test/tar_at_far_1e-3"] > 0.05
    assert "test/tar_at_far_1e-4" in result
