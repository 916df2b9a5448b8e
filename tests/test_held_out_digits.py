"""Classes that are held out of training: which, drawn by what, and that nothing of them is ever trained on."""

import pytest
import torch

from lit_l2softmax.data import HeldOutDigitsData, MNISTData, digits
from lit_l2softmax.errors import DataError


def made(**options):
    data = HeldOutDigitsData(source="digits", batch_size=32, **options)
    data.prepare_data()
    data.setup("fit")
    return data


def classes(split):
    return split[1].unique().tolist()


def test_no_image_of_a_held_out_class_trains_or_validates_and_no_other_is_tested():
    data = made(held_out=[1, 4, 9])
    (train, labels), (validation, validation_labels), (test, test_labels) = digits.load_digits()
    trained = [0, 2, 3, 5, 6, 7, 8]
    for (images, renumbered), (all_images, all_labels) in (
        (data.train, (train, labels)),
        (data.validation, (validation, validation_labels)),
    ):
        mine = torch.tensor([label in trained for label in all_labels.tolist()])
        assert torch.equal(images, all_images[mine])
        assert [trained[number] for number in renumbered.tolist()] == all_labels[mine].tolist()
    others = torch.tensor([label in (1, 4, 9) for label in test_labels.tolist()])
    assert torch.equal(data.test[0], test[others])
    assert torch.equal(data.test[1], test_labels[others])
    assert (data.num_classes, data.class_names) == (7, tuple("0235678"))
    assert data.title == "scikit-learn's digits, NOT MNIST, classes 1, 4, 9 held out of training"


def test_a_seed_decides_which_classes_and_seeds_differ():
    drawn = [tuple(HeldOutDigitsData(held_out=5, seed=seed).held_out) for seed in range(8)]
    assert drawn == [tuple(HeldOutDigitsData(held_out=5, seed=seed).held_out) for seed in range(8)]
    assert all(len(set(one)) == 5 for one in drawn)
    assert len(set(drawn)) >= 7
    assert {digit for one in drawn for digit in one} == set(range(10))
    torch.manual_seed(3)  # it is the seed's function alone
    assert tuple(HeldOutDigitsData(held_out=5, seed=0).held_out) == drawn[0]


def test_the_order_of_what_is_listed_does_not_matter():
    assert HeldOutDigitsData(held_out=[7, 2]).held_out == HeldOutDigitsData(held_out=[2, 7]).held_out == [2, 7]


def test_prediction_takes_test_images_of_the_classes_that_were_trained():
    data = made(held_out=[0, 1, 2], predict_images=5)
    ((images, labels),) = data.predict_dataloader()
    _, _, (test, test_labels) = digits.load_digits()
    wanted = [place for place, label in enumerate(test_labels.tolist()) if label > 2][:5]
    assert torch.equal(images, test[wanted])
    assert [int(data.class_names[number]) for number in labels.tolist()] == test_labels[wanted].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 1}, "held_out must leave two classes or more on either side, got 1 of 10"),
        ({"held_out": 9}, "held_out must leave two classes or more on either side, got 9 of 10"),
        ({"held_out": -3}, "got -3 of 10"),
        ({"held_out": []}, "got 0 of 10"),
        ({"held_out": [3, 3, 4]}, r"held_out must be digits from 0 to 9, each once, got \[3, 3, 4\]"),
        ({"held_out": [3, 10]}, r"held_out must be digits from 0 to 9, each once, got \[3, 10\]"),
        ({"validation": 0}, "validation must be at least 1: nothing but training images validates, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        HeldOutDigitsData(**options)


def test_a_validation_split_without_a_trained_class_is_refused(monkeypatch):
    train, (images, labels), test = digits.load_digits()
    alike = labels == 3
    monkeypatch.setattr(digits, "load_digits", lambda: (train, (images[alike], labels[alike]), test))
    with pytest.raises(DataError, match="sets no image of a trained class aside: take more"):
        made(held_out=[3, 4])


def test_of_mnist_the_splits_are_those_of_mnist_less_the_classes(mnist_root):
    data = HeldOutDigitsData(root=str(mnist_root), source="mnist", seed=1)
    plain = MNISTData(root=str(mnist_root), source="mnist")
    for part in (data, plain):
        part.prepare_data()
        part.setup("fit")
    assert sorted(data.held_out + [int(name) for name in data.class_names]) == list(range(10))
    for name in ("train", "validation"):
        of = getattr(plain, name)[1]
        assert len(getattr(data, name)[1]) == sum(int((of == int(digit)).sum()) for digit in data.class_names)
        assert classes(getattr(data, name)) == [0, 1, 2, 3, 4]
    assert classes(data.test) == data.held_out
