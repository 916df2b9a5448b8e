"""Seeds that are functions of what they are for, so that nothing depends on what was drawn before."""

import hashlib
from typing import Any


def mix(*parts: Any) -> int:
    """A 63-bit seed that depends on every part and on their order, and is the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "little") >> 1
