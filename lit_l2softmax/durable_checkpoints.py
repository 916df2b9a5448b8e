"""Checkpoints that a kill, a full disk or a damaged block cannot take away unnoticed."""

import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from .errors import RunError


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and moves it there when it is safely on the disk.

    Whatever happens on the way, the place holds the whole new file or the whole old one. Lightning's own writes into
    the temporary folder, which may be on another file system, and copies from there.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves a checkpoint.

        Raises:
            RunError: where it cannot be written; what was there before is there still.
        """
        place = Path(path)
        beside = place.with_name(f"{place.name}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(place)
        except (OSError, RuntimeError) as error:  # torch's word for a write that failed is the second
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else str(error).partition("\n")[0]
            kept = "; the one before is kept" if place.is_file() else ""
            raise RunError(f"the checkpoint {place} could not be written: {reason}{kept}") from error
        with suppress(OSError):  # a file system that has no such call for folders keeps their entries in its own way
            _sync_folder(place.parent)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Loads a checkpoint whose bytes are those that were saved.

        Raises:
            RunError: where they are not.
        """
        check(Path(path))
        loaded: dict[str, Any] = super().load_checkpoint(path, *arguments, **options)
        return loaded


def check(checkpoint: Path) -> None:
    """Raises RunError, in one line, where a checkpoint cannot be read or is damaged."""
    try:
        wrong = damage(checkpoint)
    except OSError as error:
        raise RunError(f"the checkpoint {checkpoint} cannot be read: {error.strerror}") from error
    if wrong is not None:
        raise RunError(f"{checkpoint} is damaged or not a checkpoint of weights alone: {wrong}")


def _sync_folder(folder: Path) -> None:
    """Puts a folder's entries on the disk, or a new name could be lost with the power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a file that should be a checkpoint, None where every byte of its tensors is as it was saved.

    A checkpoint is an archive, and an archive keeps a checksum (CRC-32) of each of its records.

    Raises:
        OSError: where it cannot be read.
    """
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            record = archive.testzip()
    # Not muted but said: a flipped bit of the archive's words asks for an unknown compression (NotImplementedError),
    # a password (RuntimeError), a place before the file's beginning (ValueError), or to inflate what is not deflated.
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, zlib.error) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None if record is None else f"the checksum of its record {record} is another"
