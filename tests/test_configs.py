"""Every shipped configuration runs through the real command line, and means what its name says."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from lit_l2softmax.__main__ import main

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
ONE_BATCH = [
    "--trainer.max_steps=1",
    "--trainer.val_check_interval=1",
    "--trainer.check_val_every_n_epoch=null",
    "--trainer.limit_test_batches=1",
    "--data.source=digits",
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_trains_a_batch_tests_it_and_leaves_checkpoints_of_plain_types(config, fit):
    run, printed = fit(config, *ONE_BATCH)
    assert "test/accuracy" in printed.out
    assert "NOT MNIST" in printed.out
    assert run.parent.name == config.stem
    checkpoints = list(run.glob("checkpoints/*.ckpt"))
    assert checkpoints
    for checkpoint in checkpoints:
        torch.load(checkpoint, weights_only=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_goes_through_a_dry_run_that_leaves_nothing(config, fit):
    run, printed = fit(config, "--trainer.fast_dev_run=1", "--data.source=digits")
    assert run is None
    assert "nothing was saved" in printed.out


def settings(name):
    return yaml.safe_load((CONFIGS[0].parent / f"{name}.yaml").read_text())


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


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_number_says_where_it_comes_from(config):
    for line in config.read_text().splitlines():
        if line.startswith("#"):
            continue
        key, _, value = line.partition(":")
        if any(character.isdigit() for character in value.partition("#")[0]) and "class_path" not in key:
            known = ("seed_everything", "num_classes", "max_epochs")  # a choice, a fact, and "max_steps decides"
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


def result_of(run):
    return json.loads((run / "result.json").read_text())


def test_shipped_configurations_are_found_by_name(fit, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    run, _ = fit("mnist_tutorial", *ONE_BATCH)
    assert run.parent.name == "mnist_tutorial"


def test_an_unknown_configuration_lists_the_shipped_ones(capsys):
    assert main(["fit", "--config=nonsense.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the configuration nonsense.yaml does not exist; there are mnist,")
    assert main(["fit", "--config", "mnits"]) == 2
    assert capsys.readouterr().err == "error: the configuration mnits does not exist; did you mean 'mnist'?\n"
