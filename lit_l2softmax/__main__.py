"""``python -m lit_l2softmax``: answers what needs no torch at once, and hands the rest to the command line proper."""

import sys
from collections.abc import Sequence

from . import __version__
from .messages import nearest_or_all
from .program import COMMANDS, PROGRAM

HELP = f"""usage: {PROGRAM} COMMAND [options]

{chr(10).join(f"  {name:<10}{text}" for name, text in COMMANDS.items())}

  {PROGRAM} fit --config mnist
  {PROGRAM} test --run runs/mnist/20260101-120000-0a1b2c
  {PROGRAM} predict --run runs/mnist/20260101-120000-0a1b2c --images a.png b.jpg
  {PROGRAM} COMMAND --help        every option of a command
  {PROGRAM} --version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit status, 2 for what the person at the keyboard can mend."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if first == "--version":
        print(f"lit_l2softmax {__version__}")
        return 0
    if first not in COMMANDS:
        print(f"error: {first!r} is not a command{nearest_or_all(first, COMMANDS)}", file=sys.stderr)
        return 2
    if first == "list":
        from .commands.list_experiments import main as list_experiments

        return list_experiments(arguments[1:])
    if first == "show":
        from .commands.show import main as show

        return show(arguments[1:])

    from .cli import run  # torch and Lightning take seconds, which help and typing errors need not wait for

    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
