"""How long each command line takes to answer, as a whole process; the bare interpreter is the baseline."""

import subprocess
import sys

import pytest
from harness import timed
from records import OURS

from lit_l2softmax.__main__ import COMMANDS

# The arguments and the exit status they should have.
COMMAND_LINES = {"--help": 0, "--version": 0, "unknown": 2, **{f"{command} --help": 0 for command in COMMANDS}}
BARE = "python -c pass"


def process(arguments, status):
    def call():
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        assert done.returncode == status, done.stderr

    return timed(call)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_startup(measure, line):
    ours = process(["-m", "lit_l2softmax", *line.split()], COMMAND_LINES[line])
    measure("start-up", line, {BARE: process(["-c", "pass"], 0), OURS: ours}, baseline=BARE)
