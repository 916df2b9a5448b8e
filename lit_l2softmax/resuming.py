"""Going on with a run in its own folder: which run, from which checkpoint, and what is made ready for it."""

import csv
import fcntl
import io
import os
import shutil
from pathlib import Path

from . import runs
from .durable_checkpoints import check
from .errors import RunError
from .whole_files import write_whole


def claim(folder: Path) -> int:
    """Makes a run's folder this process's own as long as the descriptor that is returned is open.

    Raises:
        RunError: where another process trains in it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise RunError(f"the run folder {folder} cannot be read: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise RunError(f"another process is training in {folder}") from error
    except OSError:  # a file system without locks, on which a training is nevertheless better than none
        pass
    return descriptor


def unfinished(folder: Path) -> Path | None:
    """The newest run of a configuration's folder, where it has a checkpoint and no result; None where it has not."""
    names = [path.name for path in folder.iterdir() if runs.is_run_name(path.name)] if folder.is_dir() else []
    newest = folder / max(names, default="")
    begun = names and (newest / runs.CONFIG_FILE).is_file() and any(newest.glob("checkpoints/*.ckpt"))
    return newest if begun and not (newest / runs.RESULT_FILE).exists() else None


def newest_checkpoint(run: Path) -> tuple[Path, list[str]]:
    """The checkpoint that a run goes on from, and a line on each newer one that cannot be used.

    Raises:
        RunError: where there is none that can be used.
    """
    if not (run / runs.CONFIG_FILE).is_file():
        raise RunError(f"{run} is not a run folder: it has no {runs.CONFIG_FILE}")
    if (run / runs.RESULT_FILE).is_file():
        raise RunError(f"{run} is over: it has its {runs.RESULT_FILE}; a new run goes on with --ckpt_path")
    refused: list[str] = []
    for path in sorted((run / "checkpoints").glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            check(path)
        except RunError as error:
            refused.append(str(error))
        else:
            return path, refused
    why = f": {refused[0]}" if refused else ": its training ended before the first one was written"
    raise RunError(f"{run} holds no checkpoint that could be resumed{why}")


def go_on(run: Path, checkpoint: Path) -> str | None:
    """Makes a claimed run's folder what it was when a checkpoint of its was saved; returns the source of its data.

    Raises:
        RunError: where its training is over, the folder was moved, or cannot be written.
    """
    if (run / runs.RESULT_FILE).is_file():  # since it was looked at
        raise RunError(f"{run} is over: it has its {runs.RESULT_FILE}; a new run goes on with --ckpt_path")
    content = runs.read_checkpoint(checkpoint)
    here = (run / "checkpoints").resolve()
    for state in content.get("callbacks", {}).values():
        # Lightning would forget which checkpoint is the best so far, and save a worse one over it.
        if isinstance(state, dict) and Path(state.get("dirpath") or here).resolve() != here:
            raise RunError(
                f"{run} was moved here from {Path(state['dirpath']).parent}: move it back to resume it, "
                f"or begin a new run with --ckpt_path={checkpoint}"
            )
    last = run / "checkpoints" / "last.ckpt"
    try:
        for left in last.parent.glob("*.part"):
            left.unlink()
        if checkpoint.resolve() != last.resolve():  # what is there is older, or damaged
            beside = last.with_name(f"{last.name}.part")
            shutil.copyfile(checkpoint, beside)
            beside.replace(last)
        cut_metrics(run, content["global_step"])
    except OSError as error:
        raise RunError(f"{error.filename or run} cannot be written: {error.strerror}") from error
    source: str | None = content[runs.CONFIG_KEY]["data_source"]
    return source


def cut_metrics(run: Path, steps: int) -> None:
    """Takes the records of steps that a checkpoint has not yet made out of ``metrics.csv``; they are made again."""
    file = run / runs.METRICS_FILE
    if not file.is_file():
        return
    whole, _, _ = file.read_text(encoding="utf-8").rpartition("\n")  # a line that was cut off is none
    rows = csv.DictReader(whole.splitlines())
    kept = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) < steps]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows.fieldnames or [], extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    write_whole(file, text.getvalue())
