"""``list``: every shipped experiment with what it shows and should reach, as its configuration's head says."""

import textwrap
from collections.abc import Sequence

from lit_l2softmax.program import PROGRAM
from lit_l2softmax.shipped import CONFIGS, names

from .only_help import help_was_asked

FIELDS = ("system", "shows", "expected")


def head_of(name: str) -> dict[str, str]:
    """The fields that a configuration's first comment lines give, ``# field: text``."""
    fields = {}
    for line in (CONFIGS / f"{name}.yaml").read_text().splitlines():
        field, colon, text = line.removeprefix("# ").partition(": ")
        if not line.startswith("#"):
            break
        if colon and field in FIELDS:
            fields[field] = text
    return fields


def main(arguments: Sequence[str]) -> int:
    """Prints the experiments; takes no options but help.

    Raises:
        ConfigError: on any other.
    """
    if help_was_asked(arguments):
        return 0
    for name in names():
        head = head_of(name)
        print(f"{name}  (System {head['system']})")
        for field in FIELDS[1:]:
            print(textwrap.fill(head[field], 100, initial_indent=f"  {field:<10}", subsequent_indent=" " * 12))
    print(f"\nrun one with: {PROGRAM} fit --config NAME")
    return 0
