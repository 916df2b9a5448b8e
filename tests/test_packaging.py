"""The same imports from the checkout, from elsewhere, from wheel and sdist; never a top-level `kernels`."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROGRAM = """
import importlib.util, lit_l2softmax, lit_l2softmax.ops, lit_l2softmax.kernels.local_response_norm as norm
from pathlib import Path
assert Path(norm.__file__).parent.name == "local_response_norm"
assert (Path(lit_l2softmax.__file__).parent / "configs" / "mnist.yaml").is_file()
print(lit_l2softmax.__file__)
"""
NO_TOP_LEVEL_KERNELS = 'assert importlib.util.find_spec("kernels") is None\n'


def imported_from(cwd, path=None, program=PROGRAM + NO_TOP_LEVEL_KERNELS):
    environment = {**os.environ}
    if path is not None:
        environment["PYTHONPATH"] = os.pathsep.join([str(path), environment["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip()).parent


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with an sdist built from a copy of the sources, and a wheel built from that sdist."""
    source = tmp_path_factory.mktemp("source") / "checkout"
    ignored = shutil.ignore_patterns(".venv*", ".git", "*.egg-info", "__pycache__", ".*_cache", "build", "dist", "runs")
    shutil.copytree(ROOT, source, symlinks=True, ignore=ignored)
    out = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


def test_from_the_root_of_the_checkout():
    # Here a folder `kernels` is in sight, and Python may take it for an empty namespace; nothing of ours imports it so.
    assert imported_from(ROOT, program=PROGRAM) == ROOT / "lit_l2softmax"


def test_from_elsewhere(tmp_path):
    assert imported_from(tmp_path).name == "lit_l2softmax"


def test_from_the_wheel(built, tmp_path):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")} == {"lit_l2softmax"}
    assert "lit_l2softmax/py.typed" in names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "lit_l2softmax").rglob("*.py")} <= set(names)
    assert imported_from(tmp_path, tmp_path / "site") == tmp_path / "site" / "lit_l2softmax"


def test_from_the_sdist(built, tmp_path):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (root,) = tmp_path.iterdir()
    assert imported_from("/", root) == root / "lit_l2softmax"
    assert (root / "lit_l2softmax" / "configs" / "mnist.yaml").is_file()
