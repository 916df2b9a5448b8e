"""What commands have in common that take no options."""

from collections.abc import Sequence

from lit_l2softmax.errors import ConfigError
from lit_l2softmax.program import COMMANDS, PROGRAM


def help_was_asked(arguments: Sequence[str]) -> bool:
    """Whether ``[name, *options]`` asks for help, which is then printed.

    Raises:
        ConfigError: on any other option.
    """
    name, *options = arguments
    if {"-h", "--help"} & set(options):
        print(f"usage: {PROGRAM} {name}\n\n{COMMANDS[name]}; takes no options")
        return True
    if options:
        raise ConfigError(f"{name} takes no options, got {' '.join(options)}")
    return False
