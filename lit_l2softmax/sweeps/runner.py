"""Runs the settings of a sweep side by side, each as a process of its own, and finds those again that are over.

A run that is over is one whose ``result.json`` is there, which is written whole or not at all: there is no other memory
of what was done, so a run that is over is not repeated, however the sweep ended.
"""

import hashlib
import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lit_l2softmax.runs import RESULT_FILE

from .definition import Setting, Sweep, key

OUTPUT_FILE = "output.txt"
LOCK_FILE = ".lock"  # a sweep's folder has one
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a closed terminal is the third
POLL_S = 0.1
GRACE_S = 10.0


@dataclass(frozen=True)
class Ended:
    """A run that has ended: where its result is, or else why there is none."""

    setting: Setting
    run: Path | None
    error: str


def place(folder: Path, setting: Setting) -> Path:
    """The folder of a setting's run, under a name of its own."""
    return folder / "runs" / hashlib.sha256(key(setting).encode()).hexdigest()[:12]


def sweep_of(run: Path) -> Path | None:
    """The folder of the sweep that a run folder is part of, None where it is of none."""
    above = list(run.absolute().parents)
    return above[3] if len(above) > 3 and above[2].name == "runs" and (above[3] / LOCK_FILE).is_file() else None


def finished(folder: Path, setting: Setting) -> Path | None:
    """The run folder of a setting whose run is over, None where none is."""
    return next((file.parent for file in sorted(place(folder, setting).glob(f"*/*/{RESULT_FILE}"))), None)


def command(sweep: Sweep, setting: Setting, folder: Path) -> list[str]:
    """What runs a setting."""
    return [*sweep.arguments(setting), f"--runs={place(folder, setting)}", f"--wandb.group={sweep.name}"]


def run(
    sweep: Sweep, settings: Sequence[Setting], folder: Path, jobs: int, devices: int, running: list[Setting]
) -> Generator[Ended, None, None]:
    """Runs settings, ``jobs`` at a time, and yields each as it ends.

    Args:
        sweep: whose settings they are.
        settings: those to run.
        folder: of the sweep.
        jobs: how many at a time, each with its share of the cores.
        devices: GPUs, which the runs take in turn.
        running: is kept up to date with what is being run.
    """
    waiting = deque(settings)
    processes: dict[int, tuple[Setting, subprocess.Popen[bytes]]] = {}  # by the place it has among the jobs
    try:
        while waiting or processes:
            for slot in range(jobs):
                if slot not in processes and waiting:
                    setting = waiting.popleft()
                    try:
                        processes[slot] = setting, _start(sweep, setting, folder, _share(jobs, devices, slot))
                    except OSError as error:
                        yield Ended(setting, None, f"cannot be started: {error}")
            running[:] = [setting for setting, _ in processes.values()]
            time.sleep(POLL_S)
            for slot, (setting, process) in list(processes.items()):
                if process.poll() is not None:
                    del processes[slot]
                    yield _ended(setting, folder, process.returncode)
    finally:  # whoever asked has had enough: nothing is left running behind their back
        running.clear()
        _end([process for _, process in processes.values()])


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends processes and what they have started, with some time to end well; a second Ctrl-C does not cut that off."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        for process in processes:
            _signal(process, signal.SIGTERM)
        for process in processes:
            try:
                process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):  # it has just ended
        os.killpg(process.pid, number)


def _start(sweep: Sweep, setting: Setting, folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    there = place(folder, setting)
    there.mkdir(parents=True, exist_ok=True)
    with (there / OUTPUT_FILE).open("wb") as output:
        # A session of its own: Ctrl-C is for the sweep, which then ends its runs.
        return subprocess.Popen(
            command(sweep, setting, folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _share(jobs: int, devices: int, slot: int) -> dict[str, str]:
    """The environment of a run: its share of the cores, and one of the GPUs."""
    threads = max(1, cores() // jobs)
    mine = {"OMP_NUM_THREADS": str(threads), **os.environ}
    if devices == 0:
        return mine
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = allowed.split(",") if allowed else [str(number) for number in range(devices)]
    return {**mine, "CUDA_VISIBLE_DEVICES": names[slot % devices]}


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _ended(setting: Setting, folder: Path, status: int) -> Ended:
    run = finished(folder, setting)
    if run is not None:
        return Ended(setting, run, "")
    output = (place(folder, setting) / OUTPUT_FILE).read_text(errors="replace")
    return Ended(setting, None, reason(output.splitlines(), status))


def reason(printed: Sequence[str], status: int) -> str:
    """Why a command failed, from what it printed: its error, or its last words."""
    errors = [line.removeprefix("error: ") for line in printed if line.startswith("error: ")]
    if errors:
        return errors[-1]
    last = next((line for line in reversed(printed) if line.strip()), "it said nothing")
    return f"{last} (exit status {status})"
