"""CIFAR-10's binary files: where they may lie, how they are unpacked and verified, where the archive can be had.

A folder that was unpacked here from the official archive carries a stamp with the checksum of each of its files, which
are compared whenever they are read. Files without a stamp are looked over (their size, their labels) and used as what
they are: unverified.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, "binary version". Pickles are never read.
"""

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lit_l2softmax.errors import DataError

from .downloads import VARIABLE, UnreachableError, UnwritableError, download, is_there, make_folder

MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
FOLDER = "cifar-10-batches-bin"
STAMP = "verified.md5"  # as md5sum writes and checks it
TRAIN = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST = ("test_batch.bin",)
FILES = TRAIN + TEST
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
RECORDS = 10_000  # of a file
RECORD = 1 + 3 * 32 * 32  # bytes: the label, then the planes of red, green and blue, each row by row


def obtain(root: Path) -> Path:
    """The folder of the six files: ``root`` itself or ``cifar-10-batches-bin`` in it, else unpacked there.

    The archive is taken from ``root``, or downloaded into it.

    Raises:
        UnreachableError: where no mirror answers, naming the file, the folder and the mirrors.
        DataError: on a damaged archive, a folder that lacks a file, or one that cannot be written.
    """
    for folder in (root, root / FOLDER):
        missing = _missing(folder)
        if not missing:
            return folder
        if len(missing) < len(FILES):
            raise DataError(f"{folder} lacks {', '.join(missing)}; complete it, or delete what is there")
    if _others(root / FOLDER):
        raise DataError(f"{root / FOLDER} holds other files than CIFAR-10's; empty it, and it is unpacked there")
    archive = root / ARCHIVE
    if not is_there(archive, ARCHIVE_MD5):
        make_folder(root)
        path, reasons = download(ARCHIVE, ARCHIVE_MD5, MIRRORS, root)
        if path is None:
            raise UnreachableError(
                f"CIFAR-10 is not there and no mirror gave it ({'; '.join(reasons)}). Put {ARCHIVE} or the folder "
                f"{FOLDER} into {root}, or name the folder that has one of them with --data.root or ${VARIABLE}"
            )
    return _unpack(archive, root / FOLDER)


def _missing(folder: Path) -> list[str]:
    return [name for name in FILES if not _exists(folder / name)]


def _others(folder: Path) -> bool:
    try:
        return folder.is_dir() and any(folder.iterdir())
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror}") from error


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _unpack(archive: Path, folder: Path) -> Path:
    """The files of a verified archive with their stamp, all of them or none."""
    try:
        beside = Path(tempfile.mkdtemp(prefix=f"{FOLDER}.", dir=folder.parent))
    except OSError as error:
        raise UnwritableError(folder.parent, error) from error
    try:
        stamp = []
        with tarfile.open(archive) as members:
            # A file is known by its whole name and written by us, so that nothing in an archive chooses where it goes.
            wanted = {f"{FOLDER}/{name}": name for name in FILES}
            for member in members:
                if member.name in wanted and (stream := members.extractfile(member)) is not None:
                    content = stream.read()
                    (beside / wanted[member.name]).write_bytes(content)
                    stamp.append(f"{_md5(content)}  {wanted[member.name]}\n")
        (beside / STAMP).write_text("".join(stamp))
        beside.chmod(0o755)  # mkdtemp lets nobody else in
        beside.rename(folder)
    except OSError as error:
        if _missing(folder):  # or another process was faster
            raise UnwritableError(folder, error) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def is_verified(folder: Path) -> bool:
    """Whether the folder bears the stamp of an unpacking from the official archive."""
    return _exists(folder / STAMP)


def read(folder: Path, names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """The images ``(N, 3, 32, 32)``, uint8, and labels ``(N,)``, int64, of some of the files, one after the other.

    Raises:
        DataError: on a file that cannot be read or is damaged.
    """
    records = [_records(folder, name) for name in names]
    images, labels = (np.concatenate(parts) for parts in zip(*records, strict=True))
    return torch.from_numpy(images.reshape(-1, 3, 32, 32)), torch.from_numpy(labels).long()


def _records(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The pixels and the labels of one file."""
    path = folder / name
    way_out = f"delete {folder}, and it is made anew from {ARCHIVE}, or put undamaged files there"
    try:
        content = path.read_bytes()
        stamp = (folder / STAMP).read_text() if is_verified(folder) else None
    except OSError as error:
        raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    if len(content) != RECORDS * RECORD:
        raise DataError(f"{path} is damaged: {len(content):,} bytes, expected {RECORDS * RECORD:,}; {way_out}")
    if stamp is not None and f"{(actual := _md5(content))}  {name}" not in stamp.splitlines():
        raise DataError(f"{path} is damaged: its md5 {actual} is not the one that {STAMP} has for it; {way_out}")
    table = np.frombuffer(content, np.uint8).reshape(RECORDS, RECORD)
    if (highest := int(table[:, 0].max())) >= len(CLASSES):
        raise DataError(f"{path} is not CIFAR-10: one of its labels is {highest}; {way_out}")
    return table[:, 1:], table[:, 0]
