"""The four official files of MNIST: where they may lie, what they must hash to, where they can be had."""

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .downloads import VARIABLE, UnreachableError, download, is_there, make_folder

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


@dataclass(frozen=True)
class OfficialFile:
    """One file of the set.

    Attributes:
        name: without ``.gz``.
        md5_gz: of the archive as published.
        md5: of its content.
        header: bytes before the data.
    """

    name: str
    md5_gz: str
    md5: str
    header: int


TRAIN_IMAGES = OfficialFile(
    "train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", "6bbc9ace898e44ae57da46a324031adb", 16
)
TRAIN_LABELS = OfficialFile(
    "train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", "a25bea736e30d166cdddb491f175f624", 8
)
TEST_IMAGES = OfficialFile(
    "t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", "2646ac647ad5339dbf082846283269ea", 16
)
TEST_LABELS = OfficialFile(
    "t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", "27ae3e4e09519cfbb04c329615203637", 8
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def find(root: Path) -> dict[str, Path]:
    """The files that lie under ``root``, by official name, each with its checksum verified.

    ``root`` itself, ``root/mnist`` and torchvision's ``root/MNIST/raw`` are looked into, for the archives as for their
    content.

    Raises:
        DataError: on a file whose content is not the official one.
    """
    found: dict[str, Path] = {}
    for file in FILES:
        for folder in (root, root / "mnist", root / "MNIST" / "raw"):
            for path, expected in ((folder / file.name, file.md5), (folder / f"{file.name}.gz", file.md5_gz)):
                if file.name not in found and is_there(path, expected):
                    found[file.name] = path
    return found


def obtain(root: Path) -> dict[str, Path]:
    """The four files, those that are missing downloaded into ``root/MNIST/raw``.

    Raises:
        UnreachableError: where no mirror answers, naming the files, the folder and the mirrors.
        DataError: on a damaged file or a folder that cannot be written.
    """
    found = find(root)
    folder = root / "MNIST" / "raw"
    missing = [file for file in FILES if file.name not in found]
    if missing:
        make_folder(folder)
    for file in missing:
        path, reasons = download(f"{file.name}.gz", file.md5_gz, MIRRORS, folder)
        if path is None:
            names = ", ".join(f"{file.name}.gz" for file in missing if file.name not in found)
            raise UnreachableError(
                f"MNIST is not there and no mirror gave it ({'; '.join(reasons)}). Put {names} into {folder}, "
                f"or name the folder that has them with --data.root or ${VARIABLE}"
            )
        found[file.name] = path
    return found


def read(path: Path, file: OfficialFile) -> Tensor:
    """The bytes behind the header: images ``(N, 1, 28, 28)``, uint8, or labels ``(N,)``, int64."""
    opener = gzip.open if path.suffix == ".gz" else Path.open
    with opener(path, "rb") as stream:
        data = torch.from_numpy(np.frombuffer(stream.read(), np.uint8, offset=file.header).copy())
    return data.view(-1, 1, 28, 28) if "images" in file.name else data.long()
