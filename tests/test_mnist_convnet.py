"""The network of System 1 against its layer table."""

import math

import torch
import torch.nn.functional as F

from lit_l2softmax.layers import L2SoftmaxLoss, TutorialL2SoftmaxHead
from lit_l2softmax.networks import MnistConvNet


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def test_it_has_the_parameters_of_its_table():
    network = MnistConvNet()
    assert [parameters(layer) for layer in (network.conv1, network.conv2, network.dense)] == [832, 18_496, 1_639_424]
    assert parameters(network, L2SoftmaxLoss(1024, 10)) == 1_669_002
    assert parameters(network, TutorialL2SoftmaxHead(1024, 10)) == 1_669_002


def test_it_is_the_tutorials_sequence_of_layers_bit_for_bit():
    network = MnistConvNet().eval()
    images = torch.rand(3, 1, 28, 28)
    x = F.max_pool2d(F.relu(network.conv1(images)), 2, 2)
    assert x.shape == (3, 32, 12, 12)
    x = F.max_pool2d(F.relu(network.conv2(x)), 2, 2)
    assert x.shape == (3, 64, 5, 5)
    assert torch.equal(network(images), network.dense(x.reshape(3, 1600)))


def test_its_features_are_linear_so_some_are_negative():
    assert (MnistConvNet().eval()(torch.rand(3, 1, 28, 28)) < 0).any()


def test_dropout_is_on_in_training_only():
    images = torch.rand(8, 1, 28, 28)
    for p in (0.25, 0.6):
        network = MnistConvNet(dropout=p)
        assert not torch.equal(network(images), network(images))
        share = float((network(images) == 0).float().mean())
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / (8 * 1024))
    network.eval()
    assert torch.equal(network(images), network(images))


def test_it_starts_from_the_defaults_of_tf_layers():
    torch.manual_seed(0)
    network = MnistConvNet()
    for layer, fan_in, fan_out in ((network.conv1, 25, 800), (network.conv2, 288, 576), (network.dense, 1600, 1024)):
        limit = math.sqrt(6 / (fan_in + fan_out))
        assert 0.98 * limit < float(layer.weight.detach().abs().max()) <= limit
        assert not layer.bias.any()
