"""CIFAR-10: unpacked safely and verified, used unverified where it says so, and batched as System 2 wants it."""

import hashlib
import io
import shutil
import subprocess
import tarfile

import numpy as np
import pooch
import pytest
import requests
import torch

from lit_l2softmax.data import CIFAR10Data, cifar10_files, downloads
from lit_l2softmax.data.distortions import EvaluationInputs, TrainingInputs
from lit_l2softmax.errors import DataError


def archive_of(folder, path, extra=()):
    """The archive as it is published: the files of ``folder`` below its name, and a page that nobody reads."""
    with tarfile.open(path, "w:gz") as archive:
        for name in ("readme.html", *cifar10_files.FILES):
            content = (folder / name).read_bytes() if name != "readme.html" else b"<html>"
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member, content in extra:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


@pytest.fixture
def archived(tiny_cifar10, tmp_path, monkeypatch):
    """A root with nothing but an archive that passes for the official one."""
    root = tmp_path / "archived"
    root.mkdir()
    md5 = archive_of(tiny_cifar10 / "cifar-10-batches-bin", root / "cifar-10-binary.tar.gz")
    monkeypatch.setattr(cifar10_files, "ARCHIVE_MD5", md5)
    return root


def ready(root, **options):
    data = CIFAR10Data(root=str(root), **{"batch_size": 16} | options)
    data.prepare_data()
    data.setup("fit")
    return data


def table_of(folder, *names):
    content = b"".join((folder / "cifar-10-batches-bin" / name).read_bytes() for name in names)
    return np.frombuffer(content, np.uint8).reshape(-1, 3073)


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_a_folder_is_read_in_the_files_order_and_called_unverified(tiny_cifar10, below):
    data = ready(tiny_cifar10 / below)
    assert (data.resolved_source, data.title) == ("cifar10-unverified", "CIFAR-10 (unverified files)")
    for (images, labels), names in ((data.train, cifar10_files.TRAIN), (data.test, ["test_batch.bin"])):
        table = table_of(tiny_cifar10, *names)
        assert images.dtype == torch.uint8
        assert labels.dtype == torch.int64
        assert np.array_equal(images.numpy(), table[:, 1:].reshape(-1, 3, 32, 32))
        assert labels.tolist() == table[:, 0].tolist()


def test_an_archive_is_unpacked_once_and_its_folder_verified_ever_after(archived, tiny_cifar10, monkeypatch):
    first = ready(archived)
    assert (first.resolved_source, first.title) == ("cifar10", "CIFAR-10")
    subprocess.run(["md5sum", "--check", "--strict", "verified.md5"], cwd=archived / "cifar-10-batches-bin", check=True)
    names = sorted(path.name for path in (archived / "cifar-10-batches-bin").iterdir())
    assert names == sorted([*cifar10_files.FILES, "verified.md5"])
    assert sorted(path.name for path in archived.iterdir()) == ["cifar-10-batches-bin", "cifar-10-binary.tar.gz"]
    assert (archived / "cifar-10-batches-bin").stat().st_mode & 0o777 == 0o755
    monkeypatch.setattr(cifar10_files, "_unpack", None)
    second = ready(archived)
    assert torch.equal(second.train[0], first.train[0])
    assert torch.equal(first.train[0], ready(tiny_cifar10).train[0])


@pytest.mark.parametrize("asked", ["cifar10", "cifar10-unverified"])
def test_a_source_that_is_asked_for_is_insisted_on(archived, tiny_cifar10, asked):
    there = {"cifar10": archived, "cifar10-unverified": tiny_cifar10}
    assert ready(there.pop(asked), source=asked).resolved_source == asked
    (other,) = there.values()
    with pytest.raises(DataError, match=f"is cifar10.*, and --data.source asks for {asked}; (delete it|name another)"):
        ready(other, source=asked)


@pytest.mark.parametrize("verified", [True, False])
@pytest.mark.parametrize("damage", ["truncated", "one byte", "empty", "label"])
def test_a_damaged_file_is_named_and_never_used(archived, tiny_cifar10, damage, verified):
    root = archived if verified else tiny_cifar10
    ready(root)
    victim = root / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = bytearray(victim.read_bytes())
    if damage == "one byte":
        content[100] ^= 1
    elif damage == "label":
        content[3073] = 10
    else:
        content = content[: -20 if damage == "truncated" else 0]
    victim.write_bytes(content)
    if damage == "one byte" and not verified:
        ready(root)  # a pixel says nothing of itself, which is why such files are called unverified
        return
    reason = "one of its labels is 10" if damage == "label" and not verified else "is damaged: "
    with pytest.raises(DataError, match=rf"data_batch_3\.bin .*{reason}.*; delete .*cifar-10-batches-bin"):
        ready(root)


@pytest.mark.parametrize("stamp", ["", "0  data_batch_1.bin"])
def test_a_damaged_stamp_verifies_nothing(archived, stamp):
    ready(archived)
    (archived / "cifar-10-batches-bin" / "verified.md5").write_text(stamp)
    with pytest.raises(DataError, match="is damaged"):
        ready(archived)


def test_a_damaged_archive_is_named_and_not_unpacked(archived):
    with (archived / "cifar-10-binary.tar.gz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz is damaged: .* bytes with md5 .* expected"):
        ready(archived)
    assert [path.name for path in archived.iterdir()] == ["cifar-10-binary.tar.gz"]


def test_an_incomplete_folder_is_completed_by_nobody(tiny_cifar10):
    for name in ("data_batch_2.bin", "test_batch.bin"):
        (tiny_cifar10 / "cifar-10-batches-bin" / name).unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin lacks data_batch_2\.bin, test_batch\.bin; complete it"):
        ready(tiny_cifar10)


def test_a_folder_of_other_files_is_not_unpacked_into(archived):
    folder = archived / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "readme.html").write_text("")
    with pytest.raises(DataError, match="holds other files than CIFAR-10's; empty it"):
        ready(archived)
    (folder / "readme.html").unlink()
    assert ready(archived).resolved_source == "cifar10"


def test_the_images_go_where_the_training_is(tiny_cifar10):
    data = CIFAR10Data(root=str(tiny_cifar10), batch_size=16)
    data.trainer = type("T", (), {"strategy": type("S", (), {"root_device": torch.device("meta")})})()
    data.setup("fit")
    assert all(part.is_meta for split in (data.train, data.validation, data.test) for part in split)


def test_an_archive_chooses_no_place_of_its_own(tiny_cifar10, tmp_path, monkeypatch):
    root = tmp_path / "hostile"
    root.mkdir()
    outside = tmp_path / "outside"
    link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin.link")
    link.type, link.linkname = tarfile.SYMTYPE, str(outside)
    extra = [
        (tarfile.TarInfo("../outside"), b"x"),
        (tarfile.TarInfo(str(outside)), b"x"),
        (tarfile.TarInfo("cifar-10-batches-bin/../../outside"), b"x"),
        (link, b""),
    ]
    md5 = archive_of(tiny_cifar10 / "cifar-10-batches-bin", root / "cifar-10-binary.tar.gz", extra)
    monkeypatch.setattr(cifar10_files, "ARCHIVE_MD5", md5)
    ready(root)
    assert not outside.exists()
    assert len(list((root / "cifar-10-batches-bin").iterdir())) == 7


def test_an_unpacking_that_fails_leaves_nothing_behind(archived, monkeypatch):
    def full(self, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(DataError, match=r"cannot be written \(No space left on device\); name another folder"):
        ready(archived)
    assert [path.name for path in archived.iterdir()] == ["cifar-10-binary.tar.gz"]


def test_a_process_that_was_faster_is_no_failure(archived, tiny_cifar10, monkeypatch):
    original = cifar10_files._md5

    def overtaken(content):
        shutil.copytree(tiny_cifar10 / "cifar-10-batches-bin", archived / "cifar-10-batches-bin", dirs_exist_ok=True)
        return original(content)

    monkeypatch.setattr(cifar10_files, "_md5", overtaken)
    assert len(ready(archived).train[1]) == 5 * cifar10_files.RECORDS
    assert len(list(archived.iterdir())) == 2


def test_what_is_missing_is_downloaded_verified_and_unpacked(archived, tmp_path, monkeypatch):
    asked = []

    def serve(url, output_file, _pooch):
        asked.append(url)
        shutil.copy(archived / "cifar-10-binary.tar.gz", output_file)

    monkeypatch.setattr(downloads, "_silence", lambda url: None)
    monkeypatch.setattr(pooch, "HTTPDownloader", lambda **options: serve)
    data = ready(tmp_path / "new" / "root")
    assert data.resolved_source == "cifar10"
    assert asked == ["https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"]
    assert (tmp_path / "new" / "root" / "cifar-10-batches-bin" / "verified.md5").read_text()


def test_without_a_network_the_message_names_file_folder_and_way_out(tmp_path, monkeypatch):
    def unreachable(url, **_):
        raise requests.exceptions.ConnectionError

    monkeypatch.setattr(requests, "head", unreachable)
    with pytest.raises(DataError) as caught:
        ready(tmp_path / "root")
    message = str(caught.value)
    root = str(tmp_path / "root")
    for part in ("cifar-10-binary.tar.gz", "cifar-10-batches-bin", root, "--data.root", "$LIT_L2SOFTMAX_DATA"):
        assert part in message
    assert "https://www.cs.toronto.edu/~kriz/: ConnectionError" in message


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/below cannot be written .*--data.root"):
        ready(tmp_path / "file" / "below")


def test_the_splits_are_all_training_images_and_the_test_images(tiny_cifar10):
    n = cifar10_files.RECORDS
    data = ready(tiny_cifar10)
    assert data.validation_name == "test"
    assert [len(part[1]) for part in (data.train, data.validation, data.test)] == [5 * n, 0, n]
    assert torch.equal(next(iter(data.val_dataloader()))[0], next(iter(data.test_dataloader()))[0])
    kept = ready(tiny_cifar10, validation=30)
    assert kept.validation_name == "val"
    assert [len(part[1]) for part in (kept.train, kept.validation, kept.test)] == [5 * n - 30, 30, n]
    assert torch.equal(torch.cat([kept.train[0], kept.validation[0]]), data.train[0])
    (batch,) = kept.val_dataloader()
    expected = EvaluationInputs(24)(kept.validation[0], torch.arange(30), 0)
    assert torch.equal(batch[0], expected)
    assert torch.equal(batch[1], kept.validation[1])


def test_the_tutorial_counts_its_first_test_images_twice(tiny_cifar10):
    n = cifar10_files.RECORDS
    data = ready(tiny_cifar10, wrap_test=True, eval_batch_size=16)
    batches = list(data.test_dataloader())
    assert [len(labels) for _, labels in batches] == [16] * (-(-n // 16))
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    extra = len(labels) - n
    assert 0 < extra < 16
    assert torch.equal(images[n:], images[:extra])
    assert torch.equal(labels[n:], labels[:extra])
    assert len(ready(tiny_cifar10, wrap_test=True, eval_batch_size=n).test[1]) == n


def test_an_epoch_sees_each_image_at_most_once_and_distorts_it_its_own_way(tiny_cifar10):
    data = ready(tiny_cifar10, seed=5, brightness=63.0)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    order = torch.cat([positions for _, positions in loader.sampler])
    assert len(set(order.tolist())) == len(order)
    assert order.tolist() != sorted(order.tolist())
    expected = TrainingInputs(len(data.train[1]), 24, 63.0, seed=5)(data.train[0], order[:16], 1)
    first, again = list(loader), list(loader)
    assert all(torch.equal(x, y) for x, y in zip(first[0], again[0], strict=True))
    assert torch.equal(first[0][0], expected)
    assert torch.equal(first[0][1], data.train[1][order[:16]])
    assert len(first) == len(data.train[1]) // 16
    assert first[0][0].shape == (16, 3, 24, 24)
    assert first[0][0].dtype == torch.float32
    loader.sampler.set_epoch(2)
    assert not torch.equal(next(iter(loader))[0], first[0][0])


def test_predictions_are_of_the_first_test_images(tiny_cifar10):
    data = ready(tiny_cifar10, predict_images=3)
    ((images, labels),) = data.predict_dataloader()
    assert labels.tolist() == table_of(tiny_cifar10, "test_batch.bin")[:3, 0].tolist()
    assert images.shape == (3, 3, 24, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"eval_batch_size": 0}, "eval_batch_size must be at least 1, got 0"),
        ({"predict_images": 0}, "predict_images must be at least 1, got 0"),
        ({"validation": -1}, "validation must be at least 0, got -1"),
        ({"brightness": -1.0}, "brightness must be 0 or a finite positive number, got -1.0"),
        ({"brightness": float("nan")}, "brightness must be 0 or a finite positive number, got nan"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CIFAR10Data(**options)


@pytest.mark.parametrize("options", [{"batch_size": 10_000}, {"validation": 195}, {"validation": 300}])
def test_a_batch_larger_than_the_split_is_refused(tiny_cifar10, options):
    with pytest.raises(DataError, match=r"is more than the \d+ training images"):
        ready(tiny_cifar10, **options)


def test_real_cifar10_has_its_fifty_thousand_and_ten_thousand(cifar10_root):
    data = ready(cifar10_root, batch_size=128)
    assert data.train[0].shape == (50_000, 3, 32, 32)
    assert data.train[1].bincount().tolist() == [5_000] * 10
    assert data.test[1].bincount().tolist() == [1_000] * 10
    assert len(data.train_dataloader()) == 390
    assert len(ready(cifar10_root, eval_batch_size=128, wrap_test=True).test[1]) == 10_112
