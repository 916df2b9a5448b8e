"""The mistakes of a test: which, in which order, under which words, the confusion, and the files of both."""

import base64
import io

import pytest
import torch
from PIL import Image

from lit_l2softmax import mistakes, plots
from lit_l2softmax.callbacks import MistakeReport
from lit_l2softmax.errors import RunError
from lit_l2softmax.loggers import RunWandbLogger


class Logger(RunWandbLogger):
    def __init__(self):
        self.pictures, self.confusion, self.metrics = [], [], []

    def log_metrics(self, metrics, step):
        self.metrics.append((metrics, step))

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
    trainer = type(
        "Trainer", (), {"loggers": [logger], "is_global_zero": True, "log_dir": str(tmp_path), "global_step": 7}
    )()
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
    assert [(picture.dtype.name, float(picture.mean())) for picture in pictures] == [("uint8", 102), ("uint8", 153)]


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


def test_each_classs_accuracy_is_recorded(reported):
    _, logger, _ = reported
    assert logger.metrics == [
        ({"test/class_accuracy/cat": 0.5, "test/class_accuracy/bird": 0.5, "test/class_accuracy/frog": 0.0}, 7)
    ]


def test_the_files_say_what_the_pictures_show(reported):
    folder, _, _ = reported
    found = mistakes.read_confusion(folder)
    assert found.names == ["cat", "bird", "frog"]
    assert found.counts == {(0, 0): 1, (0, 2): 1, (1, 0): 1, (1, 1): 1, (2, 1): 1}
    assert found.recognised() == [(1, 2), (1, 2), (0, 1)]
    first, second = mistakes.read_mistakes(folder)
    assert (first.true, first.predicted, second.true, second.predicted) == ("frog", "bird", "cat", "frog")
    assert second.probability == pytest.approx(0.0453, abs=1e-4)
    with Image.open(io.BytesIO(base64.b64decode(second.image))) as picture:
        assert (picture.size, picture.mode, set(picture.tobytes())) == ((4, 4), "L", {round(255 * 3 / 5)})


def test_a_class_that_was_never_seen_has_its_name_in_the_file_and_no_accuracy(tmp_path):
    unseen = mistakes.confusion(torch.tensor([0, 0]), torch.tensor([2, 2]), ["a", "b, c", "d"])
    mistakes.write(tmp_path, unseen, [])
    assert mistakes.read_confusion(tmp_path) == unseen
    assert unseen.recognised() == [(0, 2), (0, 0), (0, 0)]
    assert mistakes.read_mistakes(tmp_path) == []


def test_two_classes_of_one_name_stay_two(tmp_path):
    twins = mistakes.confusion(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), ["a", "a"])
    mistakes.write(tmp_path, twins, [])
    assert mistakes.read_confusion(tmp_path) == twins


def test_what_is_not_a_number_is_the_worst_and_null_in_the_file(tmp_path):
    given = {"loggers": [Logger()], "is_global_zero": True, "log_dir": str(tmp_path), "global_step": 7}
    trainer, module = type("Trainer", (), given)(), type("Module", (), {"class_names": ["a", "b"]})()
    report = MistakeReport(mistakes=2)
    report.on_test_start(trainer, module)
    logits = torch.tensor([[9.0, 0.0], [8.0, 0.0], [float("nan"), float("nan")]])
    report.on_test_batch_end(trainer, module, logits, (torch.rand(3, 1, 4, 4), torch.tensor([1, 1, 1])), 0)
    report.on_test_end(trainer, module)
    assert [one.probability for one in mistakes.read_mistakes(tmp_path)] == [None, pytest.approx(1.2e-4, rel=0.1)]


def test_thumbnails_are_of_bounded_size_and_keep_their_shape():
    with Image.open(io.BytesIO(base64.b64decode(mistakes.thumbnail(torch.rand(3, 300, 150))))) as picture:
        assert (picture.size, picture.mode) == ((48, 96), "RGB")


def test_of_many_classes_there_is_a_file_and_no_matrix(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "save_confusion_matrix", lambda *_: pytest.fail("a matrix was drawn"))
    logger = Logger()
    given = {"loggers": [logger], "is_global_zero": True, "log_dir": str(tmp_path), "global_step": 7}
    trainer = type("Trainer", (), given)()
    module = type("Module", (), {"class_names": [str(number) for number in range(5000)]})()
    report = MistakeReport()
    report.on_test_start(trainer, module)
    logits = torch.zeros(2, 5000).index_put((torch.tensor([0, 1]), torch.tensor([4999, 3])), torch.tensor(9.0))
    report.on_test_batch_end(trainer, module, logits, (torch.rand(2, 1, 4, 4), torch.tensor([17, 3])), 0)
    report.on_test_end(trainer, module)
    assert (logger.metrics, logger.confusion) == ([], [])
    assert mistakes.read_confusion(tmp_path).counts == {(17, 4999): 1, (3, 3): 1}


HEAD = "true_label,true,predicted_label,predicted,images\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (mistakes.CONFUSION_FILE, HEAD + "0,a,0,a,many\n"),
        (mistakes.CONFUSION_FILE, HEAD + "0,a,0,a\n"),
        (mistakes.CONFUSION_FILE, HEAD + "0,a,0,a,1\n0,a,1,b,1\n"),  # b has no line of its own
        (mistakes.CONFUSION_FILE, HEAD + "0,a,0,a,1\n0,a,-1,b,1\n"),
        (mistakes.CONFUSION_FILE, "a,b\n1,2\n"),
        (mistakes.MISTAKES_FILE, "[{"),
        (mistakes.MISTAKES_FILE, "[" * 100_000),
        (mistakes.MISTAKES_FILE, '[{"true": "a"}]'),
        (mistakes.MISTAKES_FILE, '[{"true": "a", "predicted": "b", "probability": "x", "image": ""}]'),
    ],
)
def test_a_damaged_file_is_one_line(name, content, tmp_path):
    (tmp_path / "plots").mkdir()
    (tmp_path / name).write_text(content)
    with pytest.raises(RunError, match=r"plots/\w+\.\w+ is damaged: \w+"):
        (mistakes.read_confusion(tmp_path), mistakes.read_mistakes(tmp_path))
