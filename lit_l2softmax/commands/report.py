"""``report``: the page of a run or a sweep that is over, made again."""

from collections.abc import Sequence
from pathlib import Path

from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.program import COMMANDS, PROGRAM

from .option_parser import OptionParser

HELP = f"""usage: {PROGRAM} report --run FOLDER

{COMMANDS["report"]}

  --run FOLDER       of a run, or of a sweep; report.html goes there, in one file that needs no network
"""


def main(arguments: Sequence[str]) -> int:
    """Writes the page and prints its path; returns 0.

    Raises:
        ConfigError: on an option that there is not, or a page that cannot be written.
        RunError: on a folder that is none of a run that is over, or is damaged.
    """
    _, *options = arguments
    if {"-h", "--help"} & set(options):
        print(HELP, end="")
        return 0
    parser = OptionParser(["run"])
    parser.add_argument("--run", type=Path)
    folder: Path | None = parser.parse_args(options).run
    if folder is None:
        raise ConfigError("report needs the folder of a run or a sweep: --run FOLDER")
    from lit_l2softmax.reports import run_page, sweep_page  # seconds, which help need not wait for
    from lit_l2softmax.sweeps import rows

    try:
        if not folder.is_dir():
            raise RunError(f"there is no folder {folder}")
        kept = folder / rows.SWEEP_FILE
        print(sweep_page.write(folder, rows.read(kept)) if kept.is_file() else run_page.write(folder))
    except OSError as error:
        raise ConfigError(f"{error.filename or folder} cannot be read or written: {error.strerror}") from error
    return 0
