"""Text files that are replaced whole or not at all."""

from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str, errors: str = "strict") -> None:
    """Writes UTF-8 beside a file and moves it there, so that a kill or a full disk leaves the old one as it was.

    Raises:
        OSError: where it cannot be written; nothing is left lying about.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        beside.write_text(text, encoding="utf-8", errors=errors)
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
