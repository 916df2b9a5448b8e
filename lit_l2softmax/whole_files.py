"""Files that are replaced whole or not at all."""

from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: str | bytes, errors: str = "strict") -> None:
    """Writes bytes, or text as UTF-8, beside a file and moves it there.

    So a kill or a full disk leaves the old one as it was.

    Raises:
        OSError: where it cannot be written; nothing is left lying about.
    """
    beside = path.with_name(f"{path.name}.part")
    try:
        beside.write_bytes(content.encode("utf-8", errors) if isinstance(content, str) else content)
        beside.replace(path)
    except OSError:
        with suppress(OSError):
            beside.unlink()
        raise
