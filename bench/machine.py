"""Where and with what a measurement was made."""

import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import torch

from lit_l2softmax.installation import cpu, version

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Machine:
    """The columns that all rows of one run share.

    Attributes:
        device: its maker's name; the number of cores with a CPU.
        threads: that torch computes with.
        commit: of the checkout, with "+ changes" where the code measured is not the code committed.
    """

    device: str
    threads: int
    python: str
    torch: str
    lightning: str
    commit: str


def this_machine() -> Machine:
    """This process's machine: its CUDA device where there is one, else its CPU."""
    return Machine(
        device=torch.cuda.get_device_name() if torch.cuda.is_available() else cpu(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__,
        lightning=version("lightning") or "none",
        commit=_commit(),
    )


def _commit() -> str:
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changes = _git("status", "--porcelain", "--", ".", ":!bench/results")
    except (OSError, subprocess.CalledProcessError):
        return "no checkout"
    return f"{commit} + changes" if changes else commit


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
