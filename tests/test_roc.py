"""Pairs by their cosines, and what a threshold accepts: against counting pair by pair, SciPy and closed forms."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import interpolate, stats

from lit_l2softmax import roc as module
from lit_l2softmax.roc import FINENESS, PairCounts, count_pairs, roc


def cosines(features, labels):
    """Of every pair, by plain arithmetic: those of one class, and the others."""
    found = {True: [], False: []}
    for (one, a), (other, b) in itertools.combinations(zip(features.tolist(), labels.tolist(), strict=True), 2):
        lengths = math.sqrt(math.fsum(x * x for x in one)) * math.sqrt(math.fsum(x * x for x in other))
        dot = math.fsum(x * y for x, y in zip(one, other, strict=True))
        found[a == b].append(round(dot / lengths * FINENESS) / FINENESS if lengths else 0.0)
    return np.array(found[True]), np.array(found[False])


def of(genuine, impostor):
    """The curve of pairs whose cosines are multiples of 2^-20."""
    counts = [
        torch.bincount(
            torch.tensor([round((cosine + 1) * FINENESS) for cosine in kind], dtype=torch.int64),
            minlength=2 * FINENESS + 1,
        )
        for kind in (genuine, impostor)
    ]
    return roc(PairCounts(*counts))


@pytest.fixture(params=[(0, 40, 3), (1, 61, 2), (2, 25, 7)], ids="seed {0[0]}".format)
def few(request):
    """Features with repeated rows and rows of zeros, and their classes."""
    seed, images, dimensions = request.param
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (images,), generator=generator)
    features = torch.randn(images, dimensions, generator=generator) + 2 * torch.eye(4, dimensions)[labels]
    features[5], features[6], features[7] = features[4], 0, 0
    return features, labels


def test_every_pair_is_counted_once_at_its_cosine(few):
    counts = count_pairs(*few)
    for kind, expected in zip((counts.genuine, counts.impostor), cosines(*few), strict=True):
        places, often = kind.nonzero(as_tuple=True)[0], kind[kind > 0]
        found = (places.repeat_interleave(often).double() / FINENESS - 1).numpy()
        # The features are float32, exact in both; float64 rounds to another multiple only half way between two.
        assert np.abs(found - np.sort(expected)).max() <= 1 / FINENESS
        assert (found != np.sort(expected)).mean() < 0.01


def test_blocks_of_any_size_count_the_same(few, monkeypatch):
    whole = count_pairs(*few)
    for block in (1, 100, 160):
        monkeypatch.setattr(module, "BLOCK", block)
        parts = count_pairs(*few)
        assert torch.equal(parts.genuine, whole.genuine)
        assert torch.equal(parts.impostor, whole.impostor)


def test_the_lengths_of_features_do_not_matter(few):
    features, labels = few
    lengths = 2.0 ** torch.arange(-10, len(labels) - 10)[:, None]
    scaled = count_pairs(features.double() * lengths, labels)
    assert torch.equal(scaled.genuine, count_pairs(features, labels).genuine)


def test_a_feature_that_is_no_number_is_named():
    features = torch.ones(4, 2)
    features[2, 1] = math.nan
    with pytest.raises(ValueError, match="the features of image 2 are not finite"):
        count_pairs(features, torch.zeros(4))


def test_figures_are_those_of_counting_pair_by_pair(few):
    curve = roc(count_pairs(*few))
    genuine, impostor = cosines(*few)
    thresholds = np.unique([*genuine, *impostor])[::-1]
    far = np.array([0, *((impostor >= threshold).mean() for threshold in thresholds)])
    tar = np.array([0, *((genuine >= threshold).mean() for threshold in thresholds)])
    assert (curve.genuine_pairs, curve.impostor_pairs) == (len(genuine), len(impostor))
    for share in (0, 1 / len(impostor), 0.01, 0.1, 0.35, 1):
        assert curve.tar_at(share) == tar[far <= share].max()
    wins = stats.mannwhitneyu(genuine, impostor).statistic / len(genuine) / len(impostor)
    assert curve.area == pytest.approx(wins, abs=1e-12)
    line = interpolate.interp1d(far + tar, far)  # far + tar rises at every threshold
    assert curve.equal_error_rate == pytest.approx(float(line(1)), abs=1e-12)


@pytest.mark.parametrize("apart", [0.5, 2.0])
def test_normal_scores_have_the_figures_of_the_normal_distribution(apart):
    """Genuine cosines around .1 more, impostors around less, of one deviation: an EER of Phi(-apart / 2)."""
    levels = stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    curve = of((levels + apart) / 10, levels / 10)
    assert curve.equal_error_rate == pytest.approx(stats.norm.cdf(-apart / 2), abs=1e-3)
    assert curve.area == pytest.approx(stats.norm.cdf(apart / math.sqrt(2)), abs=1e-3)
    expected = stats.norm.sf(stats.norm.isf(0.01) - apart)
    assert curve.tar_at(0.01) == pytest.approx(expected, abs=2e-3)


def test_pairs_that_a_threshold_separates_have_no_error():
    curve = of([0.9, 0.8, 0.7], [0.6, 0.5])
    assert (curve.equal_error_rate, curve.area, curve.tar_at(0)) == (0, 1, 1)


def test_pairs_the_wrong_way_round_have_nothing_but_errors():
    curve = of([0.1, 0.2], [0.6, 0.5])
    assert (curve.equal_error_rate, curve.area, curve.tar_at(0.99)) == (1, 0, 0)


def test_scores_that_are_all_alike_say_nothing():
    curve = of([0.5] * 7, [0.5] * 3)
    assert (curve.equal_error_rate, curve.area, curve.tar_at(0.999), curve.tar_at(1)) == (0.5, 0.5, 0, 1)


def test_one_pair_of_each_kind_is_enough():
    assert (of([1.0], [-1.0]).equal_error_rate, of([1.0], [-1.0]).area) == (0, 1)
    assert (of([-1.0], [1.0]).equal_error_rate, of([0.0], [0.0]).area) == (1, 0.5)


def test_a_share_that_is_met_exactly_is_met():
    curve = of([0.5], [*([0.9] * 10), *([0.1] * 9990)])
    assert curve.tar_at(0.001) == 1
    assert curve.tar_at(0.000999) == 0


def test_a_threshold_that_lies_on_the_line_between_its_neighbours_counts():
    curve = of([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert [curve.tar_at(share) for share in (0.3, 0.34, 0.6, 0.67)] == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3])


@pytest.mark.parametrize(("genuine", "impostor"), [([], [0.5]), ([0.5], [])])
def test_without_pairs_of_both_kinds_there_is_no_curve(genuine, impostor):
    with pytest.raises(ValueError, match="a curve needs pairs of one class and of two, got"):
        of(genuine, impostor)
