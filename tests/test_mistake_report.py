"""The mistakes of a test: which, in which order, under which words, and the confusion matrix as it is read."""

import pytest
import torch
from PIL import Image

from lit_l2softmax import plots
from lit_l2softmax.callbacks import MistakeReport
from lit_l2softmax.loggers import RunWandbLogger


class Logger(RunWandbLogger):
    def __init__(self):
        self.pictures, self.confusion = [], []

    def log_pictures(self, key, pictures, captions):
        self.pictures.append((key, pictures, captions))

    def log_confusion(self, key, truth, prediction, classes):
        self.confusion.append((key, truth, prediction, classes))


@pytest.fixture
def reported(tmp_path, monkeypatch):
    """A test of five images in two batches: three mistakes, of growing confidence."""
    drawn = {}
    monkeypatch.setattr(
        plots,
        "save_confusion_matrix",
        lambda path, counts, names, title: drawn.update(counts=counts, names=names, title=title),
    )
    logger = Logger()
    trainer = type("Trainer", (), {"loggers": [logger], "is_global_zero": True, "log_dir": str(tmp_path)})()
    module = type("Module", (), {"class_names": ["cat", "bird", "frog"]})()
    report = MistakeReport(mistakes=2)
    report.on_test_start(trainer, module)
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 4, 4) / 5
    labels = torch.tensor([0, 1, 2, 0, 1])
    logits = torch.tensor([[5.0, 0, 0], [1.0, 0, 0], [0, 9.0, 0], [0, 0, 3.0], [0, 5.0, 0]])
    for rows in (slice(0, 3), slice(3, 5)):
        report.on_test_batch_end(trainer, module, logits[rows], (images[rows], labels[rows]), 0)
    report.on_test_end(trainer, module)
    return tmp_path, logger, drawn


def test_the_worst_come_first_with_their_class_and_what_they_were_taken_for(reported):
    _, logger, _ = reported
    ((key, pictures, captions),) = logger.pictures
    assert key == "test/mistakes"
    assert captions == ["frog,\ntaken for bird\np(frog) = 0.000", "cat,\ntaken for frog\np(cat) = 0.045"]
    assert [round(float(picture.mean()), 1) for picture in pictures] == [0.4, 0.6]


def test_the_matrix_has_true_classes_in_rows(reported):
    _, logger, drawn = reported
    assert drawn["counts"].tolist() == [[1, 0, 1], [1, 1, 0], [0, 1, 0]]
    assert drawn["names"] == ["cat", "bird", "frog"]
    assert drawn["title"] == "3 of 5 test images are mistaken"
    assert logger.confusion == [("test/confusion_matrix", [0, 1, 2, 0, 1], [0, 0, 1, 2, 1], ["cat", "bird", "frog"])]


def test_the_picture_is_in_the_runs_plots(reported):
    folder, _, _ = reported
    with Image.open(folder / "plots" / "mistakes.png") as picture:
        assert picture.size[0] > 300
