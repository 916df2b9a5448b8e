"""A parser of a command's own options whose errors are one line and somebody else's to print."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.messages import one_line


class OptionParser(argparse.ArgumentParser):
    """An ``ArgumentParser`` without help and abbreviations; it raises ConfigError.

    Args:
        options: their names, without dashes, among which a misspelt one is looked up.
    """

    def __init__(self, options: Sequence[str]) -> None:
        super().__init__(add_help=False, allow_abbrev=False)
        self._options = options

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and leaves the rest to whoever called."""
        raise ConfigError(one_line(ValueError(message), self._options))
