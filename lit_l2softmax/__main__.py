"""``python -m lit_l2softmax``: answers what needs no torch at once, and hands the rest to the command line proper."""

import os
import sys
from collections.abc import Callable, Sequence

from . import __version__
from .errors import ConfigError, DataError, RunError
from .messages import nearest_or_all
from .program import COMMANDS, PROGRAM

HELP = f"""usage: {PROGRAM} COMMAND [options]

{chr(10).join(f"  {name:<11}{text}" for name, text in COMMANDS.items())}

  {PROGRAM} fit --config mnist
  {PROGRAM} test --run runs/mnist/20260101-120000-0a1b2c
  {PROGRAM} predict --run runs/mnist/20260101-120000-0a1b2c --images a.png b.jpg
  {PROGRAM} COMMAND --help        every option of a command
  {PROGRAM} --version
"""

READER_GONE = 141  # what a shell says of a program that a closed pipe ended


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the process's exit status, 2 for what the person at the keyboard can mend.

    ``LIT_L2SOFTMAX_TRACEBACK=1`` shows where an error comes from instead of its one line.
    """
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
    try:
        status = _command(first)(arguments)
        sys.stdout.flush()
    except (ConfigError, DataError, RunError) as error:
        if os.environ.get("LIT_L2SOFTMAX_TRACEBACK") == "1":
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read this, ``head`` perhaps, has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would flush once more and fail
        return READER_GONE
    return status


def _command(name: str) -> Callable[[list[str]], int]:
    """What runs a command, imported only now: torch and Lightning take seconds, which help need not wait for."""
    if name == "list":
        from .commands.list_experiments import main as list_experiments

        return list_experiments
    if name == "sweep":
        from .commands.sweep import main as sweep

        return sweep
    if name == "report":
        from .commands.report import main as report

        return report
    if name == "dashboard":
        from .commands.dashboard import main as dashboard

        return dashboard
    if name == "doctor":
        from .commands.doctor import main as doctor

        return doctor
    if name == "plan":
        from .commands.plan import main as plan

        return plan
    if name == "show":
        from .commands.show import main as show

        return show
    from .cli import run

    return run


if __name__ == "__main__":
    sys.exit(main())
