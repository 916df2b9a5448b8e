"""Images of identities that nobody stores: functions of what they are asked for, and faces that can be told apart."""

import pytest
import torch
import torch.nn.functional as F

from lit_l2softmax.data import SyntheticFacesData
from lit_l2softmax.data.synthetic_faces import FACTORS, PIXELS, SyntheticFaces
from lit_l2softmax.networks import FaceMLP


def made(identities=100, validation=20, **options):
    data = SyntheticFacesData(identities, validation=validation, held_out=10, batch_size=16, **options)
    data.setup("fit")
    return data


def epoch_of(data, epoch):
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


def test_an_image_is_a_function_of_its_seed_split_epoch_and_position_alone():
    ids = torch.tensor([7, 7, 123_456_789_012, 3])
    faces = SyntheticFaces("train", 2.0, 0.5, seed=1, again=True)
    whole = faces(ids, torch.arange(4), 5)
    assert whole.shape == (4, 1, 16, 16)
    assert whole.dtype == torch.float32
    one_by_one = [faces(ids, torch.tensor([row]), 5) for row in (3, 1, 0, 2)]
    torch.testing.assert_close(torch.cat(one_by_one), whole[[3, 1, 0, 2]])
    same = SyntheticFaces("train", 2.0, 0.5, seed=1, again=True)(ids, torch.arange(4), 5)
    assert torch.equal(same, whole)
    for other in (
        faces(ids, torch.arange(4), 6),
        SyntheticFaces("train", 2.0, 0.5, seed=2, again=True)(ids, torch.arange(4), 5),
        SyntheticFaces("test", 2.0, 0.5, seed=1, again=True)(ids, torch.arange(4), 5),
        faces(ids, torch.arange(1, 5) % 4, 5),
    ):
        assert (other - whole).flatten(1).norm(dim=1).min() > 1
    still = SyntheticFaces("test", 2.0, 0.5, seed=1)
    assert torch.equal(still(ids, torch.arange(4), 0), still(ids, torch.arange(4), 1))


def test_an_identity_has_one_face_in_every_split_and_epoch_and_all_else_differs():
    ids = torch.tensor([5, 5, 5, 8])
    bare = SyntheticFaces("train", 0.0, 0.0, seed=0, again=True)
    images = bare(ids, torch.arange(4), 0)
    torch.testing.assert_close(images[0], images[2])
    torch.testing.assert_close(images[:1], SyntheticFaces("test", 0.0, 0.0, seed=0)(ids, torch.tensor([1]), 9))
    assert (images[0] - images[3]).norm() > 10
    posed = SyntheticFaces("train", 2.0, 0.0, seed=0)(ids, torch.arange(4), 0)
    noisy = SyntheticFaces("train", 0.0, 2.0, seed=0)(ids, torch.arange(4), 0)
    many = torch.arange(2000)
    deviations = [
        SyntheticFaces("train", *rule, seed=0)(many, many, 0).std() for rule in ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0))
    ]
    # Of 2,000 images times 64 numbers or more: five deviations of a deviation.
    for found, expected in zip(deviations, (1.0, 5**0.5, 5**0.5), strict=True):
        assert abs(float(found) / expected - 1) < 5 / (2 * 2000 * FACTORS) ** 0.5
    for changed in (posed, noisy):
        assert (changed - images).flatten(1).norm(dim=1).min() > 0.5 * 2 * PIXELS**0.5


def test_poses_are_orthogonal_to_faces():
    many = torch.arange(300)
    faces = SyntheticFaces("train", 0.0, 0.0, seed=3)(many, many, 0).flatten(1)
    poses = SyntheticFaces("train", 1.0, 0.0, seed=3)(many, many, 0).flatten(1) - faces
    cosines = F.normalize(faces) @ F.normalize(poses).T
    assert cosines.abs().max() < 1e-5
    assert torch.linalg.matrix_rank(faces) == FACTORS


def test_an_epoch_has_every_identity_in_another_order_and_other_images():
    data = made(images=2)
    (first, labels), (second, others) = epoch_of(data, 0), epoch_of(data, 1)
    assert len(labels) == 192  # of 200, whole batches
    assert labels.bincount(minlength=100).max() == 2
    assert not torch.equal(labels, others)
    assert not torch.isin(first.flatten(1)[:, 0], second.flatten(1)[:, 0]).any()
    again, same = epoch_of(made(images=2), 0)
    torch.testing.assert_close(again, first)
    assert torch.equal(same, labels)
    assert not torch.equal(epoch_of(made(images=2, seed=1), 0)[1], labels)


def test_no_identity_that_is_tested_trains_or_validates():
    data = made()
    (_, validated), = list(data.val_dataloader())  # fmt: skip
    assert validated.tolist() == list(range(0, 100, 5))
    ((_, tested),) = list(data.test_dataloader())
    assert tested.tolist() == [identity for identity in range(100, 110) for _ in range(4)]
    assert data.num_classes == 100
    assert set(data.train.tolist()) == set(range(100))
    ((images, labels),) = list(data.predict_dataloader())
    assert labels.tolist() == [0, 5, 10, 15]
    torch.testing.assert_close(images, next(iter(data.val_dataloader()))[0][:4])


def test_a_million_identities_take_no_memory_but_their_numbers():
    data = made(1_000_000, validation=1000)
    assert data.train.nbytes == 8_000_000
    images, labels = next(iter(data.train_dataloader()))
    assert images.shape == (16, 1, 16, 16)
    assert labels.max() > 100_000
    assert data.title == "synthetic faces, 10 identities held out of training on 1,000,000"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identities": 1}, "identities must be at least 2"),
        ({"test_images": 1}, "test_images must be at least 2"),
        ({"validation": 101}, "validation must be at most 100, the number of identities, got 101"),
        ({"strength": -1.0}, "strength must be 0 or a finite positive number"),
        ({"noise": float("nan")}, "noise must be 0 or a finite positive number"),
        ({"batch_size": 101}, "batch_size must be at most 100, an epoch's images, got 101"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SyntheticFacesData(**{"identities": 100, "validation": 20} | options)


def test_the_network_is_its_table():
    network = FaceMLP()
    assert sum(parameter.numel() for parameter in network.parameters()) == 394_240
    assert network(torch.randn(3, 1, 16, 16)).shape == (3, network.out_features)


@pytest.mark.slow
def test_identities_that_nobody_trained_on_are_told_apart(fit):
    """By chance half of the pairs are; before a training a quarter and more are mistaken."""
    from run_records import result_of
    from test_configs import ONE_PROCESS

    run, _ = fit("faces_synthetic", *ONE_PROCESS, "--trainer.max_steps=300", "--trainer.val_check_interval=300")
    assert result_of(run)["test/eer"] < 0.15
