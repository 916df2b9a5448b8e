"""What the README shows in Python runs, and the files and commands it names are there."""

import re
from pathlib import Path

import pytest
import torch

from lit_l2softmax.program import COMMANDS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_operators_example_runs():
    torch.manual_seed(0)
    names = {
        "features": torch.randn(8, 5),
        "class_weights": torch.randn(3, 5),
        "labels": torch.randint(3, (8,)),
        "bias": torch.zeros(3),
    }
    exec(BLOCKS[0], names)
    assert names["loss"] > 0


def test_the_module_example_learns():
    torch.manual_seed(0)
    names = {}
    exec(BLOCKS[1], names)
    assert names["accuracy"] > 0.95


def test_every_example_is_one_of_these():
    assert len(BLOCKS) == 3  # the last is run by test_exporting.py, which has a model to run


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)]+)\)", README))
def test_every_file_it_links_is_there(link):
    assert (ROOT / link).is_file()


def test_every_command_it_shows_exists():
    shown = set(re.findall(r"python -m lit_l2softmax (\w+)", README))
    assert shown <= set(COMMANDS)
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z-]+)`", README)) <= targets
