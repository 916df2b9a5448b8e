"""The options of ``pytest bench``; pytest reads them from the root only."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Registers the options."""
    group = parser.getgroup("bench")
    group.addoption("--benchmark", action="store_true", help="time the cases of bench/ instead of checking them once")
    group.addoption("--benchmark-long", action="store_true", help="the longer shapes of bench/ too")
    group.addoption("--benchmark-seconds", type=float, help="start no case of bench/ later than this")
