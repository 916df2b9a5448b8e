"""Closes the network of a Python process: only loopback addresses can be looked up or connected to.

Python imports a module of this name at start-up, so this folder on PYTHONPATH closes every child process too.
"""

import os
import sys

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")


def _refuse_beyond_loopback(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a Unix socket's address is a path
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[0]
    else:
        return
    if isinstance(host, bytes):
        host = host.decode()
    if host and not host.startswith(_LOOPBACK):
        raise ConnectionRefusedError(f"the tests' network is closed: {event} {host}")


def close():
    """Closes this process's network, and that of its children, for good."""
    sys.addaudithook(_refuse_beyond_loopback)
    here = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib would slow every start-up
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if here not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, paths)])
    # Programs that are not Python honour these; nothing listens there.
    for scheme in ("http", "https"):
        os.environ[f"{scheme}_proxy"] = os.environ[f"{scheme.upper()}_PROXY"] = "http://127.0.0.1:9"


close()
