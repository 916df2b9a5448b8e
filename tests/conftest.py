"""What every test stands on: a closed network, caches of its own, real MNIST where there is one."""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "closed_network"))
sys.modules.pop("sitecustomize", None)
import own_environment  # noqa: E402
import pytest  # noqa: E402
import sitecustomize  # noqa: E402, F401 - closes the network of this process and of its children
import tiny_cifar10 as tiny_cifar10_files  # noqa: E402
import torch  # noqa: E402

if not torch.cuda.is_available():  # kernels are interpreted, which Triton decides where one is defined
    os.environ["TRITON_INTERPRET"] = "1"
    import faithful_interpreter  # noqa: F401 - before anything defines a kernel

torch.set_warn_always(True)  # a warning that torch gives once a process would fail whichever test came first
ROOT = Path(__file__).resolve().parents[1]
_REAL_DATA = os.environ.get(own_environment.DATA_VARIABLE)


@pytest.fixture(autouse=True)
def _environment_of_this_test(tmp_path, monkeypatch):
    own_environment.enter(monkeypatch, tmp_path, wandb_mode="disabled")


@pytest.fixture(scope="session")
def mnist_root():
    """The folder with the official MNIST files."""
    from lit_l2softmax.data import mnist_files  # not needed to test a kernel, nor there wherever one is

    if _REAL_DATA is None:
        pytest.skip(f"${own_environment.DATA_VARIABLE} names no folder with MNIST")
    root = Path(_REAL_DATA)
    if len(mnist_files.find(root)) < len(mnist_files.FILES):
        pytest.skip(f"{root}, which ${own_environment.DATA_VARIABLE} names, has no MNIST")
    return root


@pytest.fixture
def tiny_cifar10(tmp_path, monkeypatch):
    """A root with CIFAR-10's folder, of 40 images a file whose colour tells their class."""
    from lit_l2softmax.data import cifar10_files

    monkeypatch.setattr(cifar10_files, "RECORDS", tiny_cifar10_files.IMAGES)
    return tiny_cifar10_files.write(tmp_path / "cifar10")


@pytest.fixture(scope="session")
def cifar10_root():
    """The folder that holds CIFAR-10, in its real size."""
    from lit_l2softmax.data import cifar10_files

    root = Path(_REAL_DATA or "/nonexistent")
    if not (root / cifar10_files.FOLDER).is_dir():
        pytest.skip(f"${own_environment.DATA_VARIABLE} names no folder with {cifar10_files.FOLDER}")
    return root


@pytest.fixture
def fit(tmp_path, capsys):
    """Runs `fit` through the entry point in this process; returns the run folder and what was printed."""
    from lit_l2softmax.__main__ import main

    def run(config, *options, expect=0):
        before = set((tmp_path / "runs").glob("*/*"))
        status = main(["fit", "--config", str(config), "--runs", str(tmp_path / "runs"), *options])
        printed = capsys.readouterr()
        assert status == expect, printed.err
        new = set((tmp_path / "runs").glob("*/*")) - before
        assert len(new) <= 1
        return (new.pop() if new else None), printed

    return run
