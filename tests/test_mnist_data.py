"""MNIST: found where people keep it, verified always, split canonically; the digits where it cannot be had."""

import gzip
import hashlib
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pooch
import pytest
import requests
import torch
from PIL import Image

from lit_l2softmax.data import MNISTData, downloads, mnist_files
from lit_l2softmax.errors import DataError


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Four small files in the official layout, and the table of checksums that makes them the official ones."""
    source = tmp_path / "tiny"
    source.mkdir()
    random = np.random.default_rng(0)
    files = []
    for file in mnist_files.FILES:
        n = 60 if file.name.startswith("train") else 12
        shape = (n, 28, 28) if "images" in file.name else (n,)
        values = random.integers(0, 256 if "images" in file.name else 10, shape, dtype=np.uint8)
        header = bytes([0, 0, 8, values.ndim]) + np.array(shape, ">u4").tobytes()
        content = header + values.tobytes()
        archive = gzip.compress(content, mtime=0)
        (source / file.name).write_bytes(content)
        (source / f"{file.name}.gz").write_bytes(archive)
        md5, md5_gz = (hashlib.md5(part, usedforsecurity=False).hexdigest() for part in (content, archive))
        files.append(mnist_files.OfficialFile(file.name, md5_gz, md5, len(header)))
    monkeypatch.setattr(mnist_files, "FILES", tuple(files))
    return source


def place(source, folder, suffix):
    folder.mkdir(parents=True)
    for file in mnist_files.FILES:
        shutil.copy(source / f"{file.name}{suffix}", folder)


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_it_is_found_in_every_usual_place_packed_or_not(tiny, tmp_path, below, suffix):
    root = tmp_path / "root"
    place(tiny, root / below, suffix)
    data = MNISTData(root=str(root), source="mnist", batch_size=10, validation=10)
    data.prepare_data()
    data.setup("fit")
    assert data.resolved_source == "mnist"
    assert data.title == "MNIST"
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [50, 10, 12]
    raw = np.frombuffer((tiny / "train-images-idx3-ubyte").read_bytes(), np.uint8, offset=16).reshape(60, 1, 28, 28)
    assert np.array_equal(data.validation[0].numpy(), raw[:10])
    assert np.array_equal(data.train[0].numpy(), raw[10:])


def test_the_root_is_the_option_then_the_variable_then_the_cache(monkeypatch, tmp_path):
    assert str(downloads.data_root(None)).startswith(str(tmp_path / "cache"))
    monkeypatch.setenv(downloads.VARIABLE, "/from/variable")
    assert str(MNISTData().root) == "/from/variable"
    assert str(MNISTData(root="/from/option").root) == "/from/option"


@pytest.mark.parametrize("suffix", [".gz", ""])
@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty"])
@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_damaged_file_is_named_and_never_used(tiny, tmp_path, suffix, damage, source):
    root = tmp_path / "root"
    place(tiny, root, suffix)
    victim = root / f"t10k-images-idx3-ubyte{suffix}"
    content = bytearray(victim.read_bytes())
    if damage == "one byte":
        content[100] ^= 1
    else:
        content = content[: -20 if damage == "truncated" else 0]
    victim.write_bytes(content)
    with pytest.raises(DataError, match=rf"t10k-images-idx3-ubyte{suffix} is damaged: .* expected .*; delete it"):
        MNISTData(root=str(root), source=source).prepare_data()


def test_a_missing_file_is_named_with_the_folder_and_the_way_out(tmp_path):
    with pytest.raises(DataError) as caught:
        MNISTData(root=str(tmp_path), source="mnist").prepare_data()
    message = str(caught.value)
    for part in (*(f"{file.name}.gz" for file in mnist_files.FILES), str(tmp_path / "MNIST" / "raw"), "--data.root"):
        assert part in message
    assert all(mirror in message for mirror in mnist_files.MIRRORS)
    assert not list(tmp_path.rglob("*ubyte*"))


def test_the_missing_files_are_downloaded_mirror_by_mirror(tiny, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    shutil.copy(tiny / "train-labels-idx1-ubyte", root)
    asked = []

    def serve(url, output_file, _pooch):
        asked.append(url)
        if url.startswith(mnist_files.MIRRORS[0]):
            raise requests.exceptions.ConnectTimeout
        shutil.copy(tiny / url.rpartition("/")[2], output_file)

    monkeypatch.setattr(downloads, "_silence", lambda url: None)
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **options: asked.append(options) or serve)
    data = MNISTData(root=str(root), source="mnist", batch_size=10, validation=10)
    data.prepare_data()
    data.setup("fit")
    assert len(data.train[1]) == 50
    assert {"progressbar": True, "timeout": 10} in asked
    urls = [url for url in asked if isinstance(url, str)]
    missing = [f"{file.name}.gz" for file in mnist_files.FILES if file.name != "train-labels-idx1-ubyte"]
    assert urls == [mirror + name for name in missing for mirror in mnist_files.MIRRORS]
    assert sorted(path.name for path in (root / "MNIST" / "raw").iterdir()) == sorted(missing)


def test_a_mirror_that_answers_with_something_else_leaves_nothing_behind(tiny, tmp_path, monkeypatch):
    def serve(url, output_file, _pooch):
        Path(output_file).write_bytes(b"<html>")

    monkeypatch.setattr(downloads, "_silence", lambda url: None)
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **options: serve)
    with pytest.raises(DataError, match="answered with another file"):
        MNISTData(root=str(tmp_path / "root"), source="mnist").prepare_data()
    assert not [path for path in (tmp_path / "root").rglob("*") if path.is_file()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(DataError, match=r"file/MNIST/raw cannot be written .*--data.root"):
        MNISTData(root=str(in_the_way)).prepare_data()


@pytest.mark.parametrize("source", ["auto", "mnist"])
def test_a_cache_folder_that_cannot_be_written_is_nobodys_mistake(tmp_path, monkeypatch, source):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    data = MNISTData(source=source)
    if source == "mnist":
        with pytest.raises(DataError, match="cannot be written"):
            data.prepare_data()
    else:
        with pytest.warns(UserWarning, match="8x8 digits instead of MNIST: .* cannot be written"):
            data.prepare_data()
        assert data.resolved_source == "digits"


def test_the_files_are_verified_once(tiny, tmp_path, monkeypatch):
    place(tiny, tmp_path / "root", ".gz")
    hashed = []
    original = pooch.file_hash
    monkeypatch.setattr(pooch, "file_hash", lambda path, alg: hashed.append(path) or original(path, alg=alg))
    data = MNISTData(root=str(tmp_path / "root"), source="mnist", batch_size=10, validation=10)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.prepare_data()
        data.setup(stage)
    assert len(hashed) == len(set(hashed)) == 4


def test_only_the_files_that_are_missing_are_asked_for(tiny, tmp_path):
    place(tiny, tmp_path / "root", ".gz")
    (tmp_path / "root" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"Put t10k-labels-idx1-ubyte\.gz into"):
        MNISTData(root=str(tmp_path / "root"), source="mnist").prepare_data()


def test_the_root_itself_comes_before_its_folders(tiny, tmp_path):
    place(tiny, tmp_path / "root", ".gz")
    place(tiny, tmp_path / "root" / "mnist", "")
    assert all(path.parent == tmp_path / "root" for path in mnist_files.find(tmp_path / "root").values())


def test_a_mirror_that_keeps_silent_is_given_up_in_time(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(downloads, "SECONDS_TO_ANSWER", 0.2)
    monkeypatch.setattr(requests, "head", lambda *_, **__: never.wait(20))
    started = time.monotonic()
    assert downloads._silence("https://example.invalid/") == "no answer in 0.2 s"
    assert time.monotonic() - started < 10
    never.set()


def test_where_mnist_cannot_be_had_the_digits_train_and_say_so(tmp_path):
    data = MNISTData(root=str(tmp_path))
    with pytest.warns(UserWarning, match="8x8 digits instead of MNIST"):
        data.prepare_data()
    data.setup("fit")
    assert data.resolved_source == "digits"
    assert "NOT MNIST" in data.title


def test_the_digits_are_real_disjoint_and_in_mnists_shape():
    data = MNISTData(source="digits")
    data.prepare_data()
    data.setup("fit")
    parts = data.train, data.validation, data.test
    assert [len(labels) for _, labels in parts] == [1197, 200, 400]
    for images, labels in parts:
        assert images.shape[1:] == (1, 28, 28)
        assert images.dtype == torch.uint8
        assert images.max() == 255
        counts = labels.bincount(minlength=10).tolist()
        assert max(counts) - min(counts) <= 0.1 * len(labels) / 10 + 2  # stratified: 174 to 183 of each in the bundle
    seen = [image.numpy().tobytes() for images, _ in parts for image in images]
    assert len(set(seen)) == len(seen) == 1797


def test_the_digits_are_split_the_same_way_every_time():
    torch.manual_seed(5)
    first, second = MNISTData(source="digits"), MNISTData(source="digits")
    first.setup("fit")
    torch.rand(3)
    second.setup("test")
    assert torch.equal(first.test[0], second.test[0])
    assert torch.equal(first.train[1], second.train[1])


@pytest.mark.parametrize("name", ["batch_size", "eval_batch_size", "predict_images"])
def test_a_size_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MNISTData(**{name: 0})


def test_pixels_become_fractions():
    images, labels = torch.tensor([[[[0, 51], [255, 1]]]], dtype=torch.uint8), torch.tensor([3])
    x, y = MNISTData().on_after_batch_transfer((images, labels), 0)
    assert x.dtype == torch.float32
    assert torch.equal(x, images.float() / 255)
    assert y is labels


def test_real_mnist_has_its_canonical_split(mnist_root):
    data = MNISTData(root=str(mnist_root), source="mnist", batch_size=20, shuffle=False)
    data.prepare_data()
    data.setup("fit")
    assert [len(labels) for _, labels in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    assert data.test[1][:4].tolist() == [7, 2, 1, 0]
    assert data.validation[1][:5].tolist() == [5, 0, 4, 1, 9]  # the first rows of the training file
    raw = mnist_files.read(mnist_files.find(mnist_root)["train-images-idx3-ubyte"], mnist_files.TRAIN_IMAGES)
    images, _ = next(iter(data.train_dataloader()))
    assert torch.equal(images, raw[5000:5020])  # the tutorial's first step
    shuffled = MNISTData(root=str(mnist_root), source="mnist")
    shuffled.setup("fit")
    assert len(shuffled.train_dataloader()) == 55_000 // 128
    assert [len(labels) for _, labels in shuffled.test_dataloader()] == [1000] * 10
    ((images, labels),) = list(data.predict_dataloader())
    assert labels.tolist() == [7, 2, 1, 0]


def test_without_validation_every_training_image_trains_and_the_test_images_are_watched(tiny, tmp_path):
    place(tiny, tmp_path / "root", "")
    data = MNISTData(root=str(tmp_path / "root"), source="mnist", batch_size=10, validation=0)
    data.setup("fit")
    assert data.validation_name == "test"
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [60, 0, 12]
    assert torch.equal(next(iter(data.val_dataloader()))[0], data.test[0])
    digits = MNISTData(source="digits", validation=0)
    digits.setup("fit")
    assert len(digits.train[1]) == 1397
    assert MNISTData(source="digits").validation_name == "val"


def test_a_stream_completes_its_batches_across_epochs():
    data = MNISTData(source="digits", batch_size=128, stream=True)
    data.setup("fit")
    loader = data.train_dataloader()
    assert [len(labels) for _, labels in loader] == [128] * 10  # 1,197 digits and 83 of the next epoch
    loader.sampler.set_epoch(1)
    assert [len(labels) for _, labels in loader] == [128] * 9


@pytest.mark.parametrize("darkest", [0.0, -1.0])
def test_pixels_lie_between_the_darkest_and_one(darkest):
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x, _ = MNISTData(darkest=darkest).on_after_batch_transfer((images, None), 0)
    expected = images.double() / 255 if darkest == 0 else (images.double() - 127.5) / 127.5
    assert (x - expected).abs().max() <= 2 * torch.finfo(torch.float32).eps
    assert (float(x.min()), float(x.max())) == (darkest, 1.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 60_000}, "validation must leave some of the 60,000 training images to train on, got 60000"),
        ({"validation": -1}, "validation must leave some of the 60,000 training images to train on, got -1"),
        ({"darkest": 1.0}, "darkest must be a number below 1, the value of white, got 1.0"),
        ({"darkest": float("nan")}, "darkest must be a number below 1, the value of white, got nan"),
        ({"darkest": float("-inf")}, "darkest must be a number below 1, the value of white, got -inf"),
    ],
)
def test_numbers_that_leave_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MNISTData(**options)


def test_a_persons_own_pictures_lie_between_the_darkest_and_one_too(tmp_path):
    digit = np.full((40, 40), 255, np.uint8)
    digit[10:30, 18:22] = 0
    Image.fromarray(digit).save(tmp_path / "one.png")
    images = MNISTData(darkest=-1.0).own_images([tmp_path / "one.png"], "auto")
    assert images.shape == (1, 1, 28, 28)
    assert (float(images.min()), float(images.max())) == (-1.0, 1.0)
