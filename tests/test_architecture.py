"""Imports point down only, and kernels/ knows torch and triton alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lit_l2softmax"
# From the bottom up; a module may import what stands on a line below its own.
LAYERS = [
    [
        "__init__",
        "kernels",
        "errors",
        "messages",
        "processes",
        "program",
        "alpha",
        "initializers",
        "installation",
        "losses",
        "plots",
        "roc",
        "schedules",
        "seeds",
        "wandb_options",
        "whole_files",
    ],
    [
        "durable_checkpoints",
        "features",
        "mistakes",
        "ops",
        "penalties",
        "planning",
        "plots_of_features",
        "plots_of_regressions",
        "plots_of_verification",
        "safe_weights",
        "shipped",
    ],
    ["class_groups", "layers", "selftest"],
    ["class_parallel_head"],
    ["class_parallel_strategy"],
    ["networks"],
    ["dashboards", "data", "loggers", "runs", "demos"],
    ["callbacks", "exporting", "resuming", "sweeps"],
    ["arguments", "launching"],
    ["reports"],
    ["commands"],
    ["classification", "regression"],
    ["verification"],
    ["cli"],
    ["__main__"],
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def room(path):
    """The line of LAYERS' name a file belongs to: its top-level module or folder."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_rooms(path):
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            yield from (name[1] for name in names if name[0] == "lit_l2softmax" and len(name) > 1)
        elif isinstance(node, ast.ImportFrom) and node.level:
            if node.level < depth:
                continue  # within its own folder
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            yield from (name if name in LEVEL else "__init__" for name in names)
        elif isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "lit_l2softmax":
            names = node.module.split(".")[1:2] or [alias.name for alias in node.names]
            yield from (name if name in LEVEL else "__init__" for name in names)


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    assert room(path) in LEVEL, f"{path} stands on no line of the architecture"
    for name in imported_rooms(path):
        assert LEVEL[name] < LEVEL[room(path)] or name == room(path), f"{path} imports {name}"


def test_kernels_are_imported_as_ours_only():
    assert not (ROOT / "kernels" / "__init__.py").exists()
    assert (PACKAGE / "kernels").is_symlink()
    for path in (ROOT / "kernels").rglob("*.py"):
        depth = len(path.relative_to(ROOT / "kernels").parts)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert all(alias.name.split(".")[0] not in ("lightning", "lit_l2softmax") for alias in node.names)
            if isinstance(node, ast.ImportFrom):
                assert node.level <= depth, f"{path} reaches out of kernels/"
                assert node.level or node.module.split(".")[0] not in ("lightning", "lit_l2softmax", "kernels")


def test_triton_is_imported_by_kernels_alone():
    """A machine that runs no kernel need not have it."""
    importers = {
        path.name
        for path in (ROOT / "kernels").rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "triton" for alias in node.names)
    }
    assert importers
    assert all(name.endswith("kernels.py") for name in importers)


def test_there_are_files_to_look_at():
    assert len(FILES) > 15
