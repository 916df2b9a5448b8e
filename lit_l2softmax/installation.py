"""What is installed here: versions, the device, and combinations that are known to break."""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

NAME = "lit_l2softmax"


def requirements() -> list[Requirement]:
    """What this project needs on this machine, extras left out; empty where it is a checkout that is not installed."""
    try:
        lines = metadata.requires(NAME) or []
    except metadata.PackageNotFoundError:
        return []
    needed = map(Requirement, lines)
    return [one for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]


def version(package: str) -> str | None:
    """The installed version of a package; None where there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def faults() -> list[str]:
    """What is known to break this project here, a line each: what is wrong, and what to do."""
    found = []
    for one in requirements():
        installed = version(one.name)
        if installed is None:
            found.append(f"{one.name} is not installed; pip install '{one}'")
        elif not one.specifier.contains(installed, prereleases=True):
            found.append(f"{one.name} {installed} is none of {one.specifier}, which is tested; pip install '{one}'")
    if (torchvision := version("torchvision")) is not None and (reason := _refusal("torchvision")) is not None:
        found.append(
            f"torchvision {torchvision} does not fit torch {version('torch')} ({reason}), and breaks "
            "`import lightning`; pip uninstall torchvision, which is not needed, or install its build for this torch"
        )
    return found


def _refusal(module: str) -> str | None:
    """Why a module cannot be imported, asked of another process, for half an import would spoil this one."""
    done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, text=True)
    return None if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def cpu() -> str:
    """The CPU by its maker's name, and how many cores of it there are."""
    described = Path("/proc/cpuinfo")  # elsewhere than on Linux, and on some ARM machines, it names no model
    lines = described.read_text().splitlines() if described.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"
