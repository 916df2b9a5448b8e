"""Processes that talk to each other over loopback, for tests of several."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def environment(**more):
    """What such a process is started with: one thread, loopback alone, the project's code."""
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def ranks(script, size, store, *arguments):
    """Every rank's process of a script, each of which checks everything; fails with what the first failing one said."""
    processes = [
        subprocess.Popen(
            [sys.executable, TESTS / script, str(rank), str(size), store / "store", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    failed = [text for process, text in zip(processes, said, strict=True) if process.returncode]
    assert not failed, failed[0][-3000:]
