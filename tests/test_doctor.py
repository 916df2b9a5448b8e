"""`doctor`: it finds what is broken and what computes wrongly, and says so by its exit status."""

import math
import re
import sys
from importlib.metadata import version

import pytest
import torch

from lit_l2softmax import installation, selftest
from lit_l2softmax.__main__ import main
from lit_l2softmax.commands import doctor

INSTALLED = version("torch")  # without the "+cu130" of torch.__version__, which a build for CUDA adds
OPERATORS = ("l2_softmax_cross_entropy", "linear_l2_softmax_cross_entropy", "local_response_norm")


def consulted(capsys, *options):
    status = main(["doctor", *options])
    return status, capsys.readouterr()


def test_here_all_is_well(capsys):
    status, printed = consulted(capsys)
    lines = printed.out.splitlines()
    assert (status, lines[-1]) == (0, "all is well"), printed.out
    assert f"torch {INSTALLED}" in lines[1]
    for name in ("triton", "lightning", "wandb"):
        assert re.search(rf"\b{name} \d", lines[1])
    assert "pytest" not in lines[1]  # an extra's
    impl = "triton" if torch.cuda.is_available() else "torch"
    (table,) = re.findall(r"float32 +bfloat16 +float16 +float64\n((?:  \w+.*\n)+)", printed.out)
    for line, operator in zip(table.splitlines(), OPERATORS, strict=True):
        assert re.fullmatch(rf"  {operator}( +{impl} 0\.\d\d){{3}} +torch 0\.\d\d", line)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ImportError("libtorch_cpu.so: undefined symbol\nand more"), "libtorch_cpu.so: undefined symbol"),
        (OSError("libgomp.so.1: cannot open shared object file"), "libgomp.so.1: cannot open shared object file"),
        (ImportError(), "ImportError"),
    ],
)
def test_a_torch_that_cannot_be_imported_is_a_fault_and_no_traceback(capsys, monkeypatch, error, reason):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "torch":
                raise error

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    status, printed = consulted(capsys)
    assert status == 1
    said = f"fault: torch {INSTALLED} cannot be imported ({reason}); install it anew"
    assert said in printed.out.splitlines()


class Off(torch.autograd.Function):
    """A result, or its gradient, times a factor."""

    @staticmethod
    def forward(ctx, x, part, factor):
        ctx.factor = factor if part == "gradient" else 1
        return x * (factor if part == "result" else 1)

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None, None


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("part", ["result", "gradient"])
def test_an_operator_that_computes_wrongly_is_found(capsys, monkeypatch, operator, part):
    """By a part in a thousand, which float32 does not round away and half types do."""
    real = getattr(selftest, operator)

    def broken(*arguments, impl, **options):
        result = real(*arguments, impl=impl, **options)
        return Off.apply(result, part, 1.001) if impl == "auto" else result

    monkeypatch.setattr(selftest, operator, broken)
    status, printed = consulted(capsys)
    assert status == 1
    assert re.search(rf"^fault: {operator} of float32, impl='torch', is [\d.e+]+ times too far off$", printed.out, re.M)
    assert "WRONG" in printed.out
    others = [name for name in OPERATORS if name != operator]
    assert not any(f"fault: {name}" in printed.out for name in others)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("part", ["result", "gradient"])
@pytest.mark.parametrize("factor", [1.05, math.nan])
def test_what_no_dtype_rounds_away_is_found_in_all(capsys, monkeypatch, operator, part, factor):
    """A twentieth is more than bfloat16's own rounding; a NaN is more than anything, be the rest right."""
    real = getattr(selftest, operator)

    def broken(*arguments, impl, **options):
        result = real(*arguments, impl=impl, **options)
        return Off.apply(result, part, factor) if impl == "auto" else result

    monkeypatch.setattr(selftest, operator, broken)
    status, printed = consulted(capsys)
    assert status == 1
    assert printed.out.splitlines()[-1] == "4 faults"


def test_an_operator_that_does_not_run_says_why(capsys, monkeypatch):
    def refuse(*_, **__):
        raise ImportError("needs the package triton\n  (which is not there)")

    monkeypatch.setattr(selftest, "l2_softmax_cross_entropy", refuse)
    status, printed = consulted(capsys)
    assert status == 1
    assert (
        "fault: l2_softmax_cross_entropy of float32, impl='torch', does not run: "
        "needs the package triton (which is not there)" in printed.out
    )
    assert "linear_l2_softmax_cross_entropy " in printed.out  # the others are looked at all the same


def test_versions_that_are_not_tested_and_packages_that_are_missing_are_faults(capsys, monkeypatch):
    real = installation.metadata.version

    def pretended(name):
        if name == "wandb":
            raise installation.metadata.PackageNotFoundError(name)
        return "5.0.1" if name == "jsonargparse" else real(name)

    monkeypatch.setattr(installation.metadata, "version", pretended)
    assert [fault.partition(";")[0] for fault in installation.faults()] == [
        "jsonargparse 5.0.1 is none of <5,>=4.40, which is tested",
        "wandb is not installed",
    ]
    status, printed = consulted(capsys)
    assert status == 1
    assert "wandb is missing" in printed.out
    assert "fault: wandb is not installed; pip install 'wandb" in printed.out
    assert printed.out.splitlines()[-1] == "2 faults"


def test_a_torchvision_of_another_torch_is_a_fault(monkeypatch):
    """Where it cannot be imported, neither can Lightning; it is asked in a process of its own."""
    real = installation.metadata.version
    monkeypatch.setattr(installation.metadata, "version", lambda name: "0.9" if name == "torchvision" else real(name))
    (fault,) = installation.faults()  # there is none in these tests, so its import fails
    assert fault.startswith(f"torchvision 0.9 does not fit torch {INSTALLED} (ModuleNotFoundError: ")
    assert "pip uninstall torchvision" in fault
    monkeypatch.setattr(installation, "_refusal", lambda name: None)
    assert installation.faults() == []


def test_a_module_is_asked_for_its_refusal():
    assert installation._refusal("math") is None
    assert installation._refusal("no_such_module") == "ModuleNotFoundError: No module named 'no_such_module'"


def test_without_torch_the_versions_are_there_all_the_same(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda name: None if name == "torch" else "1.0")
    _, printed = consulted(capsys)
    assert "torch is missing" in printed.out
    assert "impl=" not in printed.out


def test_a_checkout_that_is_not_installed_has_versions_too(capsys, monkeypatch):
    def nowhere(_):
        raise installation.metadata.PackageNotFoundError

    monkeypatch.setattr(installation.metadata, "requires", nowhere)
    assert installation.requirements() == []
    status, printed = consulted(capsys)
    assert status == 0
    assert f"torch {INSTALLED}, triton" in printed.out


def test_half_types_are_judged_by_their_own_rounding():
    """A bound that forgot it would find every operator wrong; one that has too much of it would find none."""
    shares = {outcome.dtype: outcome.share for outcome in selftest.run(torch.device("cpu"))}
    assert all(1e-3 < shares[dtype] < 0.6 for dtype in selftest.DTYPES)


def test_doctor_takes_no_options_but_help(capsys):
    status, printed = consulted(capsys, "--help")
    assert (status, printed.out.splitlines()[0]) == (0, "usage: python -m lit_l2softmax doctor")
    status, printed = consulted(capsys, "--fast")
    assert (status, printed.err) == (2, "error: doctor takes no options, got --fast\n")
