"""``sweep``: runs every setting of a sweep's file side by side and shows what they say together."""

import fcntl
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from lit_l2softmax.errors import ConfigError, RunError
from lit_l2softmax.program import COMMANDS, PROGRAM
from lit_l2softmax.shipped import sweep_file, sweeps

from .option_parser import OptionParser

if TYPE_CHECKING:
    from lit_l2softmax.sweeps.definition import Setting, Sweep
    from lit_l2softmax.sweeps.rows import Row

RUNS = Path("runs") / "sweeps"
INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended

HELP = f"""usage: {PROGRAM} sweep FILE [--folder FOLDER] [--jobs N]
       {PROGRAM} sweep --redraw SWEEP.csv

{COMMANDS["sweep"]}

  FILE               a sweep in W&B's format (method grid or random), or a shipped one by name
  --folder FOLDER    where its runs go (default: {RUNS}/NAME); what is over there is not run again
  --jobs N           runs at a time (default: one a GPU, or one a core)
  --redraw FILE      writes table and chart of rows beside them, without running anything

shipped: {", ".join(sweeps())}
"""


def main(arguments: Sequence[str]) -> int:
    """Runs a sweep; returns 0 where every run succeeded, 1 where one failed, 130 where it was interrupted.

    Raises:
        ConfigError: on an option or a sweep that cannot be run.
    """
    _, *options = arguments
    if {"-h", "--help"} & set(options):
        print(HELP, end="")
        return 0
    parser = OptionParser(["folder", "jobs", "redraw"])
    parser.add_argument("file", nargs="?")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--redraw", type=Path)
    given = parser.parse_args(options)
    if given.redraw is not None:
        if given.file is not None or given.folder is not None or given.jobs is not None:
            raise ConfigError("--redraw runs nothing, and takes neither a sweep nor its options")
        from lit_l2softmax.sweeps import rows

        _draw(given.redraw, rows.read(given.redraw))
        return 0
    if given.file is None:
        raise ConfigError("sweep needs a file in W&B's format, or the name of a shipped one")
    if given.jobs is not None and given.jobs < 1:
        raise ConfigError(f"--jobs must be at least 1, got {given.jobs}")
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return _swept(Path(sweep_file(given.file)), given.folder, given.jobs)
    except KeyboardInterrupt:  # or one of the two above
        print("stopped; what is over is kept, the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _swept(path: Path, folder: Path | None, jobs: int | None) -> int:
    from lit_l2softmax.sweeps import definition

    sweep = definition.read(path)
    settings = sweep.settings()
    folder = folder or RUNS / sweep.folder_name
    with _claimed(folder, _base_configuration(path, sweep, settings[0])):
        return _compared(sweep, settings, folder, jobs)


def _compared(sweep: "Sweep", settings: "list[Setting]", folder: Path, jobs: int | None) -> int:
    """Runs what is not over in a folder, and writes rows, table and chart of all."""
    from lit_l2softmax.reports import sweep_page
    from lit_l2softmax.sweeps import definition, pictures, rows, runner
    from lit_l2softmax.sweeps.progress import Progress

    places = {definition.key(setting): place for place, setting in enumerate(settings)}
    devices = _devices()
    jobs = min(len(settings), jobs or devices or runner.cores())
    running: list[definition.Setting] = []
    progress = Progress(settings, sweep.metric, running)
    found: dict[int, rows.Row] = {}
    over = {place: run for place, setting in enumerate(settings) if (run := runner.finished(folder, setting))}
    print(f"{sweep.name}: {len(settings)} runs, {len(over)} of them over; {jobs} at a time; {folder}", flush=True)

    def count(setting: definition.Setting, run: Path | None, error: str = "") -> None:
        one = rows.failed(sweep.name, setting, sweep.metric, error)
        if run is not None:
            try:
                one = rows.row(sweep.name, setting, sweep.metric, folder, run)
            except RunError as refused:
                one = replace(one, error=str(refused))
        found[places[definition.key(setting)]] = one
        progress.ended(setting, one.value, one.error)

    for place, run in over.items():
        count(settings[place], run)
    waiting = [setting for place, setting in enumerate(settings) if place not in over]
    with progress.shown(), closing(runner.run(sweep, waiting, folder, jobs, devices, running)) as ended:
        for one in ended:
            count(one.setting, one.run, one.error)
    in_order = [found[place] for place in range(len(settings))]
    file = folder / rows.SWEEP_FILE
    try:
        rows.write(file, in_order)
        pictures.gather(file, folder, in_order)
    except OSError as error:
        raise ConfigError(f"{error.filename or file} cannot be written: {error.strerror}") from error
    print(file)
    _draw(file, in_order)
    try:
        print(sweep_page.write(folder, in_order))
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from error
    return int(any(one.error for one in in_order))


def _base_configuration(path: Path, sweep: "Sweep", first: "Setting") -> str:
    """What the command trains before anything is set, after the first setting is known to be understood.

    Raises:
        ConfigError: where the command refuses it.
    """
    from lit_l2softmax.sweeps import runner

    asked = [[*sweep.arguments(setting), "--print_config"] for setting in (*sweep.bases, first)]
    try:
        with ThreadPoolExecutor(max(2, runner.cores())) as pool:
            answers = list(pool.map(_answer, asked))
    except OSError as error:
        raise ConfigError(f"the sweep {path}: its command cannot be started: {error}") from error
    for answer in answers:
        if answer.returncode:
            reason = runner.reason(answer.stderr.splitlines(), answer.returncode)
            raise ConfigError(f"the sweep {path}: its command fails: {reason}")
    return "---\n".join(answer.stdout for answer in answers[:-1])


def _answer(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True)


def _claimed(folder: Path, configuration: str) -> IO[str]:
    """Makes a sweep's folder, or goes on in it; it is this process's until the file that is returned is closed.

    Raises:
        ConfigError: where it is another sweep's, now or of old, or cannot be made.
    """
    from lit_l2softmax.sweeps.rows import CONFIG_FILE
    from lit_l2softmax.sweeps.runner import LOCK_FILE

    kept = folder / CONFIG_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise ConfigError(f"another sweep is running in {folder}; wait for its end, or --folder") from error
        if not kept.is_file():
            kept.write_text(configuration)
        elif kept.read_text() != configuration:
            lock.close()
            raise ConfigError(f"{folder} holds runs of another configuration; name another place with --folder")
    except OSError as error:
        raise ConfigError(
            f"the sweep's folder {folder} cannot be written ({error.strerror}); name another place with --folder"
        ) from error
    return lock


def _devices() -> int:
    import torch  # seconds, which help and a file that cannot be read need not wait for

    return torch.cuda.device_count()


def _draw(path: Path, found: "Sequence[Row]") -> None:
    """Table, chart and other pictures of rows, beside their file.

    Raises:
        ConfigError: where they cannot be written.
    """
    from lit_l2softmax.sweeps import chart, pictures, table

    text, picture = path.with_suffix(".md"), path.with_suffix(".png")
    try:
        text.write_text(table.markdown(found))
        print(text)
        if any(row.value is not None for row in found):
            chart.draw(picture, found)
            print(picture)
        for drawn in pictures.draw(path):
            print(drawn)
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be written: {error.strerror}") from error
