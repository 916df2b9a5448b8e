"""The four official files of MNIST: where they may lie, what they must hash to, where they can be had."""

import gzip
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import requests
import torch
from torch import Tensor

from lit_l2softmax.errors import DataError

VARIABLE = "LIT_L2SOFTMAX_DATA"
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SECONDS_TO_ANSWER = 10


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


class UnreachableError(DataError):
    """Files are missing and no mirror gave them; nothing is wrong with those that are there."""


class UnwritableError(DataError):
    """Files are missing and there is no place to download them to."""


def data_root(root: str | None) -> Path:
    """``root``, else ``$LIT_L2SOFTMAX_DATA``, else the user's cache folder."""
    chosen = root or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder()


def cache_folder() -> Path:
    """The user's cache folder, as the operating system has it."""
    return Path(pooch.os_cache("lit_l2softmax"))


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
                if file.name not in found and _is_official(path, expected):
                    found[file.name] = path
    return found


def _is_official(path: Path, expected: str) -> bool:
    """Whether the file exists; raises DataError where it does and is not what it should be."""
    try:
        if not path.is_file():
            return False
        actual = pooch.file_hash(str(path), alg="md5")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if actual != expected:
        raise DataError(
            f"{path} is damaged: {path.stat().st_size:,} bytes with md5 {actual}, expected {expected}; "
            "delete it and it is downloaded again, or put the official file there"
        )
    return True


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
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder, error) from error
    for file in missing:
        path, reasons = _download(file, folder)
        if path is None:
            names = ", ".join(f"{file.name}.gz" for file in missing if file.name not in found)
            raise UnreachableError(
                f"MNIST is not there and no mirror gave it ({'; '.join(reasons)}). Put {names} into {folder}, "
                f"or name the folder that has them with --data.root or ${VARIABLE}"
            )
        found[file.name] = path
    return found


def _unwritable(folder: Path, error: OSError) -> UnwritableError:
    return UnwritableError(
        f"{folder} cannot be written ({error.strerror}); name another folder with --data.root or ${VARIABLE}"
    )


def _download(file: OfficialFile, folder: Path) -> tuple[Path | None, list[str]]:
    """The file from the first mirror that gives it, and why the others did not."""
    name = f"{file.name}.gz"
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=SECONDS_TO_ANSWER)
    reasons = []
    for mirror in MIRRORS:
        if (silence := _silence(mirror + name)) is not None:
            reasons.append(f"{mirror}: {silence}")
            continue
        try:
            path = pooch.retrieve(mirror + name, f"md5:{file.md5_gz}", fname=name, path=folder, downloader=downloader)
        except requests.exceptions.RequestException as error:
            reasons.append(f"{mirror}: {type(error).__name__}")
        except ValueError:  # pooch's word for a wrong checksum; it has deleted the file
            reasons.append(f"{mirror}: answered with another file")
        except OSError as error:
            raise _unwritable(folder, error) from error
        else:
            return Path(path), reasons
    return None, reasons


def _silence(url: str) -> str | None:
    """Why a mirror does not answer; None where it does.

    A timeout of requests bounds neither the look-up of a name nor the sum over all its addresses, so the question is
    put in a thread that is left behind when its time is over.
    """
    answers: list[str | None] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=SECONDS_TO_ANSWER, allow_redirects=True)
            answers.append(None)
        except requests.exceptions.RequestException as error:
            answers.append(type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS_TO_ANSWER)
    return answers[0] if answers else f"no answer in {SECONDS_TO_ANSWER} s"


def read(path: Path, file: OfficialFile) -> Tensor:
    """The bytes behind the header: images ``(N, 1, 28, 28)``, uint8, or labels ``(N,)``, int64."""
    opener = gzip.open if path.suffix == ".gz" else Path.open
    with opener(path, "rb") as stream:
        data = torch.from_numpy(np.frombuffer(stream.read(), np.uint8, offset=file.header).copy())
    return data.view(-1, 1, 28, 28) if "images" in file.name else data.long()
