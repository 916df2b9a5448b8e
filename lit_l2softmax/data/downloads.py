"""Where data lie, and how a file that does not lie there is had from a mirror."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pooch
import requests

from lit_l2softmax.errors import DataError

VARIABLE = "LIT_L2SOFTMAX_DATA"
SECONDS_TO_ANSWER = 10


class UnreachableError(DataError):
    """Files are missing and no mirror gave them; nothing is wrong with those that are there."""


class UnwritableError(DataError):
    """Files are missing and there is no place to put them."""

    def __init__(self, folder: Path, error: OSError) -> None:
        super().__init__(
            f"{folder} cannot be written ({error.strerror}); name another folder with --data.root or ${VARIABLE}"
        )


def data_root(root: str | None) -> Path:
    """``root``, else ``$LIT_L2SOFTMAX_DATA``, else the user's cache folder."""
    chosen = root or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder()


def cache_folder() -> Path:
    """The user's cache folder, as the operating system has it."""
    return Path(pooch.os_cache("lit_l2softmax"))


def is_there(path: Path, md5: str) -> bool:
    """Whether the file exists.

    Raises:
        DataError: where it does and cannot be read, or has another checksum.
    """
    try:
        if not path.is_file():
            return False
        actual = pooch.file_hash(str(path), alg="md5")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if actual != md5:
        raise DataError(
            f"{path} is damaged: {path.stat().st_size:,} bytes with md5 {actual}, expected {md5}; "
            "delete it and it is downloaded again, or put the official file there"
        )
    return True


def make_folder(folder: Path) -> None:
    """Makes a folder to download into.

    Raises:
        UnwritableError: where it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableError(folder, error) from error


def download(name: str, md5: str, mirrors: Sequence[str], folder: Path) -> tuple[Path | None, list[str]]:
    """The file ``name`` from the first mirror that gives it, and why those before it did not.

    Raises:
        UnwritableError: where ``folder`` cannot take it.
    """
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=SECONDS_TO_ANSWER)
    reasons = []
    for mirror in mirrors:
        if (silence := _silence(mirror + name)) is not None:
            reasons.append(f"{mirror}: {silence}")
            continue
        try:
            path = pooch.retrieve(mirror + name, f"md5:{md5}", fname=name, path=folder, downloader=downloader)
        except requests.exceptions.RequestException as error:
            reasons.append(f"{mirror}: {type(error).__name__}")
        except ValueError:  # pooch's word for a wrong checksum; it has deleted the file
            reasons.append(f"{mirror}: answered with another file")
        except OSError as error:
            raise UnwritableError(folder, error) from error
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
