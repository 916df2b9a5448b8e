"""The network is closed in tests: in this process and in its children."""

import socket
import subprocess
import sys

import pytest


def test_an_address_beyond_loopback_cannot_be_looked_up_or_reached():
    with pytest.raises(ConnectionRefusedError, match="network is closed"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    with pytest.raises(ConnectionRefusedError, match="network is closed"):
        socket.getaddrinfo("example.invalid", 443)
    with pytest.raises(ConnectionRefusedError, match="network is closed"):
        socket.gethostbyname("example.invalid")


def test_nor_in_a_child_process():
    program = "import socket; socket.getaddrinfo('example.invalid', 443)"
    child = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert child.returncode != 0
    assert "network is closed" in child.stderr


def test_loopback_is_open():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass
