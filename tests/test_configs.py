"""Every shipped configuration runs through the real command line, and means what its name says."""

from pathlib import Path

import pytest
import torch
import yaml
from run_records import result_of, rows_of

from lit_l2softmax.__main__ import main

FOLDER = Path(__file__).parents[1] / "configs"
FILES = sorted(FOLDER.rglob("*.yaml"))
CONFIGS = [file for file in FILES if file.parent.name != "sweeps"]
ONE_BATCH = [
    "--trainer.max_steps=1",
    "--trainer.val_check_interval=1",
    "--trainer.check_val_every_n_epoch=null",
    "--trainer.limit_test_batches=1",
]

# A million classes are for several processes; these are for a test.
ONE_PROCESS = [
    "--trainer.strategy=auto",
    "--trainer.devices=1",
    "--data.identities=1000",
    "--model.head.num_classes=1000",
]


@pytest.fixture
def data(tiny_cifar10):
    """The options that let a configuration train without its data, and what its result line calls what it trains on."""

    def stand_in(config):
        if "data.PointsData" in (text := config.read_text()):
            return [], f"of {yaml.safe_load(text)['data']['init_args']['source']}"
        if "data.SyntheticFacesData" in text:
            return ONE_PROCESS, "synthetic faces"
        if "data.CIFAR10Data" in text:
            return [f"--data.root={tiny_cifar10}", "--data.batch_size=16"], "CIFAR-10 (unverified files)"
        return ["--data.source=digits"], "NOT MNIST"

    return stand_in


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_trains_a_batch_tests_it_and_leaves_checkpoints_of_plain_types(config, fit, data):
    options, called = data(config)
    run, printed = fit(config, *ONE_BATCH, *options)
    assert ("test/eer" if "LitVerification" in config.read_text() else "test/loss") in printed.out
    assert called in printed.out
    assert run.parent.name == config.stem
    checkpoints = list(run.glob("checkpoints/*.ckpt"))
    assert checkpoints
    for checkpoint in checkpoints:
        torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_goes_through_a_dry_run_that_leaves_nothing(config, fit, data):
    run, printed = fit(config, "--trainer.fast_dev_run=1", *data(config)[0])
    assert run is None
    assert "nothing was saved" in printed.out


def settings(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


def test_the_softmax_differs_from_the_constrained_one_in_alpha_alone():
    constrained, plain = settings("mnist"), settings("mnist_softmax")
    assert plain["model"]["init_args"]["head"]["init_args"].pop("alpha") == 0
    assert constrained["model"]["init_args"]["head"]["init_args"].pop("alpha") == 16
    assert plain == constrained


def test_correct_mode_is_the_specifications():
    mnist = settings("mnist")
    assert (mnist["trainer"]["max_steps"], mnist["data"]["init_args"]["batch_size"]) == (2000, 128)
    assert mnist["data"]["init_args"]["shuffle"] is True
    assert mnist["model"]["init_args"]["network"]["init_args"]["dropout"] == 0.25
    assert mnist["optimizer"]["init_args"]["lr"] == 0.001
    assert mnist["checkpoint"]["monitor"] == "val/accuracy"


def test_tutorial_mode_is_the_specifications():
    tutorial = settings("mnist_tutorial")
    head = tutorial["model"]["init_args"]["head"]
    assert head["class_path"].endswith("TutorialL2SoftmaxHead")
    assert (head["init_args"]["alpha"], head["init_args"]["dropout"]) == (50, 0.75)
    assert tutorial["model"]["init_args"]["network"]["init_args"]["dropout"] == 0
    assert (tutorial["trainer"]["max_steps"], tutorial["data"]["init_args"]["batch_size"]) == (100, 20)
    assert tutorial["data"]["init_args"]["shuffle"] is False
    assert tutorial["checkpoint"]["monitor"] is None


def test_system_2_is_the_specifications():
    cifar10 = settings("cifar10")
    model, data = (cifar10[part]["init_args"] for part in ("model", "data"))
    assert model["ema_decay"] == 0.9999
    assert model["penalty"]["init_args"] == {"l2": 0.004, "weights": ["network.local3.weight", "network.local4.weight"]}
    head = model["head"]["init_args"]
    assert (head["alpha"], head["weight_std"], head["in_features"]) == (0, 1 / 192, 192)
    assert (cifar10["optimizer"]["class_path"], cifar10["optimizer"]["init_args"]) == ("torch.optim.SGD", {"lr": 0.1})
    schedule = cifar10["lr_scheduler"]["init_args"]
    assert schedule == {"decay_steps": int(50_000 / 128 * 350), "decay_rate": 0.1, "staircase": True}
    assert data["batch_size"] == 128
    assert cifar10["checkpoint"]["monitor"] is None


def test_its_tutorial_mode_differs_in_what_the_tutorial_gets_wrong():
    correct, tutorial = settings("cifar10"), settings("cifar10_tutorial")
    differences = {}

    def compare(path, one, other):
        if isinstance(one, dict) and isinstance(other, dict):
            for key in {*one, *other}:
                compare(f"{path}.{key}", one.get(key), other.get(key))
        elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            for a, b in zip(one, other, strict=True):
                compare(path, a, b)
        elif one != other:
            differences[path.rpartition(".")[2]] = (one, other)

    compare("", correct, tutorial)
    assert differences == {
        "brightness": (0, 63),
        "wrap_test": (False, True),
        "eval_batch_size": (None, 128),
        "ema_order": ("after", "before"),
        "debias": (True, False),
    }


@pytest.mark.parametrize("name", ["cifar10", "cifar10_tutorial"])
@pytest.mark.parametrize("seed", [0, 1])
def test_system_2_starts_from_the_tutorials_total_loss(fit, data, name, seed):
    """4.68 in TensorFlow's documentation: 2.303 of ten equally likely classes, 2.373 of weight decay."""
    options, _ = data(FOLDER / f"{name}.yaml")
    run, _ = fit(name, *options, "--trainer.max_steps=1", "--trainer.log_every_n_steps=1", f"--seed_everything={seed}")
    (row,) = (row for row in rows_of(run) if row["train/loss"])
    assert abs(float(row["train/loss"]) - 4.68) <= 0.02
    assert abs(float(row["train/cross_entropy"]) - 2.303) <= 0.01
    assert float(row["train/learning_rate"]) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("option", "gone"),
    [
        ("--model.network.local_response_norm=false", None),
        ("--model.penalty.l2=0", "train/cross_entropy"),
        ("--model.ema_decay=null", "test/accuracy_raw"),
    ],
)
def test_each_part_of_system_2_can_be_switched_off(fit, data, option, gone):
    columns, states = [], []
    for switch in ((), (option,)):
        run, _ = fit(
            "cifar10",
            *data(FOLDER / "cifar10.yaml")[0],
            "--trainer.max_steps=3",
            "--trainer.log_every_n_steps=1",
            *switch,
        )
        columns.append(set(rows_of(run)[0]))
        states.append(torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"])
    assert (gone in columns[0]) == (gone is not None)
    assert gone not in columns[1]
    assert not torch.equal(states[0]["network.conv1.weight"], states[1]["network.conv1.weight"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10", "cifar10_tutorial"])
def test_system_2_is_on_its_way_after_2000_steps(fit, cifar10_root, name):
    run, _ = fit(name, f"--data.root={cifar10_root}", "--trainer.max_steps=2000")
    result = result_of(run)
    assert result["test/accuracy"] >= 0.66
    assert result["test/accuracy"] > result["test/accuracy_raw"]
    assert result["test/images"] == (10_112 if "tutorial" in name else 10_000)


@pytest.mark.parametrize("config", FILES, ids=lambda path: path.stem)
def test_every_number_says_where_it_comes_from(config):
    for line in config.read_text().splitlines():
        if line.startswith("#"):
            continue
        key, _, value = line.partition(":")
        if any(character.isdigit() for character in value.partition("#")[0]) and "class_path" not in key:
            known = ("seed_everything", "num_classes", "max_epochs", "line", "last")  # a choice, facts, printed words
            assert "#" in value or key.strip() in known, line


@pytest.mark.slow
def test_mnist_reaches_its_figure(fit, mnist_root):
    run, _ = fit("mnist", f"--data.root={mnist_root}", "--data.source=mnist")
    assert result_of(run)["test/accuracy"] >= 0.985


@pytest.mark.slow
def test_the_digits_reach_their_figure(fit):
    run, _ = fit("mnist", "--data.source=digits")
    assert result_of(run)["test/accuracy"] >= 0.95


@pytest.mark.slow
def test_the_tutorial_reaches_its_figure_in_the_mean_of_three_seeds(fit, mnist_root):
    accuracies = []
    for seed in range(3):
        run, _ = fit("mnist_tutorial", f"--data.root={mnist_root}", f"--seed_everything={seed}", "--data.source=mnist")
        accuracies.append(result_of(run)["test/accuracy"])
    assert sum(accuracies) / 3 >= 0.93


def test_shipped_configurations_are_found_by_name(fit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run, _ = fit("mnist_tutorial", *ONE_BATCH, "--data.source=digits")
    assert run.parent.name == "mnist_tutorial"


def test_an_unknown_configuration_says_where_the_shipped_ones_are_named(capsys):
    assert main(["fit", "--config=nonsense.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: the configuration nonsense.yaml does not exist; `python -m lit_l2softmax list` names all there are"
    )
    assert main(["fit", "--config", "mnits"]) == 2
    assert capsys.readouterr().err == "error: the configuration mnits does not exist; did you mean 'mnist'?\n"
