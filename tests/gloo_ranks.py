"""Starts a script once for each rank of a group of processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def ranks(script, size, store, *arguments):
    """Every rank's process, each of which checks everything; fails with what a failing one said.

    They are called with their rank, the size, a file to meet at and the arguments; the environment says where
    Lightning's processes meet.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), environment.get("PYTHONPATH", "")])
    environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}
    processes = [
        subprocess.Popen(
            [sys.executable, HERE / script, str(rank), str(size), store / "store", *map(str, arguments)],
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    failed = [text for process, text in zip(processes, said, strict=True) if process.returncode]
    failed.sort(key=lambda text: "closed by peer" in text)  # which is what others say of the one that failed
    assert not failed, failed[0][-3000:]
