"""The network of System 4 against its layer table, and its configurations against what the tutorial prints."""

import pytest
import torch
import torch.nn.functional as F
from run_records import column_of, result_of

from lit_l2softmax.layers import L2SoftmaxLoss
from lit_l2softmax.networks import LeNet


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_it_has_the_parameters_of_its_table():
    network = LeNet()
    assert [parameters(layer) for layer in (network.conv1, network.conv2, network.dense)] == [832, 51_264, 1_049_600]
    assert parameters(network, L2SoftmaxLoss(1024, 10)) == 1_111_946


def test_it_is_the_tutorials_sequence_of_layers_bit_for_bit():
    network = LeNet().eval()
    images = torch.rand(3, 1, 28, 28)
    x = F.max_pool2d(F.relu(network.conv1(images)), 2, 2)
    assert x.shape == (3, 32, 12, 12)
    x = F.max_pool2d(F.relu(network.conv2(x)), 2, 2)
    assert x.shape == (3, 64, 4, 4)
    assert torch.equal(network(images), F.relu(network.dense(x.reshape(3, 1024))))


def test_its_dropout_is_on_in_training_only():
    images = torch.rand(8, 1, 28, 28)
    network = LeNet()
    kept = network.eval()(images)
    dropped = network.train()(images)
    active = kept > 0
    share = float((dropped[active] == 0).float().mean())
    assert abs(share - 0.75) < 5 * (0.75 * 0.25 / int(active.sum())) ** 0.5
    torch.testing.assert_close(dropped[dropped > 0], 4 * kept[dropped > 0])


def test_it_starts_from_the_defaults_of_tf_layers():
    torch.manual_seed(0)
    network = LeNet()
    for layer, fan_in, fan_out in ((network.conv1, 25, 800), (network.conv2, 800, 1600), (network.dense, 1024, 1024)):
        limit = (6 / (fan_in + fan_out)) ** 0.5
        assert 0.98 * limit < float(layer.weight.detach().abs().max()) <= limit
        assert not layer.bias.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "lenet_tutorial"])
def test_it_trains_as_the_tutorial_prints(fit, mnist_root, name):
    """Source: loss 2.3028 at step 0, then batch accuracies of .9609, .9922, .9609, 1 at steps 100 to 400."""
    run, _ = fit(name, f"--data.root={mnist_root}", "--data.source=mnist", "--trainer.log_every_n_steps=1")
    assert abs(column_of(run, "train/loss")[0] - 2.30) <= 0.02
    accuracies = column_of(run, "train/accuracy")
    assert sum(accuracies[step] for step in (100, 200, 300, 400)) / 4 >= 0.95
    assert result_of(run)["test/accuracy"] >= 0.985
