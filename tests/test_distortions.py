"""The input pipeline of System 2 against TensorFlow's equations, image by image."""

import numpy as np
import pytest
import torch

from lit_l2softmax.data.distortions import EvaluationInputs, TrainingInputs, adjusted_contrast, standardized

N = 600
UNIT = torch.finfo(torch.float32).eps / 2


@pytest.fixture(scope="module")
def images():
    return torch.randint(256, (N, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def tf_standardized(image):
    image = image.astype(np.float64)
    return (image - image.mean()) / max(image.std(), image.size**-0.5)


def training(images, seed=0, epoch=0, brightness=0.0, positions=None):
    positions = torch.arange(len(images)) if positions is None else positions
    return TrainingInputs(len(images), 24, brightness, seed)(images, positions, epoch)


def explained(result, image):
    """The crop's top and left, whether it is mirrored, and the contrast that make ``result`` out of ``image``.

    Contrast and standardisation move and stretch a channel as a whole, so a channel less its mean, at length one, tells
    the crop. The contrast is in how far the channels' means lie apart, in deviations within a channel.
    """

    def signature(crops):
        centred = crops - crops.mean(axis=(-2, -1), keepdims=True)
        return centred / np.sqrt((centred**2).sum(axis=(-2, -1), keepdims=True))

    windows = np.lib.stride_tricks.sliding_window_view(image.numpy().astype(np.float64), (24, 24), axis=(1, 2))
    crops = windows.transpose(1, 2, 0, 3, 4)
    crops = np.stack([crops, crops[..., ::-1]])  # (mirrored, top, left, channel, row, column)
    likeness = (signature(crops) * signature(result)).sum(axis=(-3, -2, -1))
    mirrored, top, left = (int(index) for index in np.unravel_index(likeness.argmax(), likeness.shape))
    crop = crops[mirrored, top, left]

    def apart(x):
        return np.ptp(x.mean(axis=(1, 2))) / x.std(axis=(1, 2)).mean()

    return top, left, bool(mirrored), apart(crop) / apart(result), crop


def test_each_image_is_a_crop_mirrored_or_not_of_other_contrast_and_standardised(images):
    results = training(images).double().numpy()
    drawn = []
    for image, result in zip(images, results, strict=True):
        top, left, mirrored, contrast, crop = explained(result, image)
        mean = crop.mean(axis=(1, 2), keepdims=True)
        expected = tf_standardized((crop - mean) * contrast + mean)
        # Levels up to 255, their means of 1,728 terms, a product, a difference; over a deviation of .2 * 73 or more.
        assert np.abs(result - expected).max() <= 8 * UNIT * 255 / 14 + UNIT * np.abs(expected).max()
        drawn.append((top, left, mirrored, contrast))
    tops, lefts, mirrored, contrasts = (np.array(column) for column in zip(*drawn, strict=True))
    assert (results.shape, tops.min(), tops.max(), lefts.min(), lefts.max()) == ((N, 3, 24, 24), 0, 8, 0, 8)
    for offsets in (tops, lefts):  # a count of N trials of probability 1/9 is off by five deviations once in 10^6
        assert np.abs(np.bincount(offsets, minlength=9) - N / 9).max() < 5 * np.sqrt(N * 8) / 9
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 5 / np.sqrt(N)
    assert abs(mirrored.mean() - 0.5) < 3 * 0.5 / np.sqrt(N)
    assert contrasts.min() >= 0.2 * (1 - 1e-5)
    assert contrasts.max() <= 1.8 * (1 + 1e-5)
    assert abs(contrasts.mean() - 1) < 5 * 1.6 / np.sqrt(12 * N)
    assert abs(contrasts.std() - 1.6 / np.sqrt(12)) < 5 * 1.6 / np.sqrt(12 * N)


def test_what_is_drawn_depends_on_seed_epoch_and_image_alone(images):
    whole = training(images, seed=3, epoch=2)
    positions = torch.tensor([17, 3, 599])
    torch.manual_seed(5)
    inputs = TrainingInputs(N, 24, 0.0, 3)
    inputs(images, torch.arange(50), 1)
    torch.testing.assert_close(inputs(images, positions, 2), whole[positions], rtol=0, atol=1e-5)
    assert not torch.allclose(training(images, seed=3, epoch=3)[0], whole[0], atol=0.1)
    assert not torch.allclose(training(images, seed=4, epoch=2)[0], whole[0], atol=0.1)


def test_the_tutorials_brightness_is_drawn_and_undone(images):
    without, with_it = training(images), training(images, brightness=63.0)
    assert not torch.equal(without, with_it)
    *_, shift = TrainingInputs(N, 24, 63.0, 0)._draw(0, 9, torch.device("cpu"))
    assert -63 <= shift.min() < -55
    assert 55 < shift.max() <= 63
    # The shift rounds levels of up to 255 + 63 once more, and each deviation is 14 or more.
    assert (without - with_it).abs().max() <= 8 * UNIT * (255 + 63) / 14


def test_evaluation_sees_the_middle(images):
    results = EvaluationInputs(24)(images, torch.tensor([5, 2]), 0)
    for image, result in zip(images[[5, 2]].numpy(), results.double().numpy(), strict=True):
        np.testing.assert_allclose(result, tf_standardized(image[:, 4:28, 4:28]), atol=8 * UNIT * 255 / 60)


def test_an_image_of_one_colour_becomes_zero_and_one_of_little_contrast_is_not_blown_up():
    flat = torch.full((2, 3, 24, 24), 200.0)
    flat[1, 0, 0, 0] = 200.5
    zero, faint = standardized(flat)
    assert torch.equal(zero, torch.zeros_like(zero))
    # The deviation of one pixel's half level is half of the least that counts.
    assert float(faint.max()) == pytest.approx(0.5 * 1728**0.5, rel=1e-3)


def test_contrast_moves_levels_from_the_mean_of_their_channel():
    images = torch.tensor([[[[0.0, 4.0]], [[10.0, 30.0]]]])
    assert torch.equal(adjusted_contrast(images, torch.tensor([0.5])), torch.tensor([[[[1.0, 3.0]], [[15.0, 25.0]]]]))
    assert torch.equal(adjusted_contrast(images, torch.tensor([2.0])), torch.tensor([[[[-2.0, 6.0]], [[0.0, 40.0]]]]))
