"""The network of System 2 against its layer table and against TensorFlow's equations."""

import pytest
import torch
import torch.nn.functional as F

from lit_l2softmax.networks import Cifar10ConvNet


def parameters(*modules):
    return sum(p.numel() for module in modules for p in module.parameters())


def same_max_pool(x):
    """tf.nn.max_pool of 3x3 by 2 with padding SAME: what is missing is added behind, and never the largest."""
    size = x.shape[-1]
    missing = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
    before, behind = missing // 2, missing - missing // 2
    padded = F.pad(x, (before, behind, before, behind), value=-torch.inf)
    return padded.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))


def tf_lrn(x, depth_radius=4, bias=1.0, alpha=0.001 / 9, beta=0.75):
    padded = F.pad(x**2, (0, 0, 0, 0, depth_radius, depth_radius))
    sums = sum(padded[:, offset : offset + x.shape[1]] for offset in range(2 * depth_radius + 1))
    return x / (bias + alpha * sums) ** beta


def test_it_has_the_parameters_of_its_table():
    network = Cifar10ConvNet()
    layers = (network.conv1, network.conv2, network.local3, network.local4)
    assert [parameters(layer) for layer in layers] == [4_864, 102_464, 885_120, 73_920]
    assert parameters(network, torch.nn.Linear(network.out_features, 10)) == 1_068_298
    assert set(network.state_dict()) == set(Cifar10ConvNet(local_response_norm=False).state_dict())


@pytest.mark.parametrize("norm", [True, False])
def test_it_is_the_tutorials_sequence_of_layers(norm):
    torch.manual_seed(0)
    network = Cifar10ConvNet(local_response_norm=norm).double()
    normalised = tf_lrn if norm else (lambda x: x)
    images = torch.randn(3, 3, 24, 24, dtype=torch.float64) * 30  # as large as to make the normalisation matter
    x = F.relu(network.conv1(images))
    assert x.shape == (3, 64, 24, 24)
    x = normalised(same_max_pool(x))
    assert x.shape == (3, 64, 12, 12)
    x = F.relu(network.conv2(x))
    x = same_max_pool(normalised(x))
    assert x.shape == (3, 64, 6, 6)
    x = F.relu(network.local3(x.reshape(3, 2304)))
    expected = F.relu(network.local4(x))
    torch.testing.assert_close(network(images), expected, rtol=1e-12, atol=1e-12)


def test_it_starts_from_the_tutorials_truncated_normals():
    torch.manual_seed(0)
    network = Cifar10ConvNet()
    for layer, std, bias in (
        (network.conv1, 0.05, 0.0),
        (network.conv2, 0.05, 0.1),
        (network.local3, 0.04, 0.1),
        (network.local4, 0.04, 0.1),
    ):
        weight = layer.weight.detach()
        assert weight.abs().max() <= 2 * std
        assert weight.abs().max() > 1.99 * std
        # A normal cut at two deviations has .8796 of its deviation; that of n numbers is off by some 1 / sqrt(2 n).
        assert abs(weight.std() / (0.8796 * std) - 1) < 5 / (2 * weight.numel()) ** 0.5
        assert torch.equal(layer.bias.detach(), torch.full_like(layer.bias, bias))
