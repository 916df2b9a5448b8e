"""Processes that talk to each other over loopback, for tests of several."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def environment(**more):
    """What such a process is started with: one thread, loopback alone, the project's code."""
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more}


def ranks(script, size, store, *arguments):
    """Every rank's process of a script, each of which checks everything; fails with what a failing one said.

    The environment says where Lightning's processes meet.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
    processes = [
        subprocess.Popen(
            [sys.executable, TESTS / script, str(rank), str(size), store / "store", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment(**meeting, LOCAL_RANK=str(rank)),
        )
        for rank in range(size)
    ]
    try:
        said = [process.communicate(timeout=240)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    failed = [text for process, text in zip(processes, said, strict=True) if process.returncode]
    failed.sort(key=lambda text: "closed by peer" in text)  # which is what others say of the one that failed
    assert not failed, failed[0][-3000:]
