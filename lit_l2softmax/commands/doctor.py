"""``doctor``: what is installed, what runs here and why, and whether it computes what it should."""

import platform
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_l2softmax import __version__
from lit_l2softmax.installation import cpu, faults, requirements, version

from .only_help import help_was_asked

if TYPE_CHECKING:
    from lit_l2softmax.selftest import Outcome


def main(arguments: Sequence[str]) -> int:
    """Prints what it finds; returns 0 where all is well and 1 where something is broken or wrong.

    Raises:
        ConfigError: on an option other than help.
    """
    if help_was_asked(arguments):
        return 0
    print(f"lit_l2softmax {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    packages = [one.name for one in requirements()] or ["torch", "triton", "lightning"]
    print(", ".join(f"{name} {version(name) or 'is missing'}" for name in packages))
    broken = faults()
    if version("torch") is not None:
        broken += _computed()
    for fault in broken:
        print(f"fault: {fault}")
    print(f"{len(broken)} faults" if len(broken) > 1 else "one fault" if broken else "all is well")
    return 1 if broken else 0


def _computed() -> list[str]:
    """Prints the device, what "auto" takes there and how each operator fares; returns what is wrong."""
    try:
        import torch  # seconds, which the versions above need not wait for
    except (ImportError, OSError) as error:  # a library of its own that is missing or of another build
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return [f"torch {version('torch')} cannot be imported ({reason}); install it anew"]

    from lit_l2softmax import selftest

    on_cuda = torch.cuda.is_available()
    device = torch.device("cuda" if on_cuda else "cpu")
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    if on_cuda:
        print(f"device: {torch.cuda.get_device_name()}; torch is built for {build}")
        print('impl="auto": triton, the kernels, for 16 and 32 bits; torch for float64, which they do not compute in')
    else:
        why = "torch sees none" if torch.version.cuda else f"torch is {build}"
        print(f"device: {cpu()}, {torch.get_num_threads()} threads; no CUDA device: {why}")
        print('impl="auto": torch, PyTorch calls on tiles, for kernels run on CUDA devices alone')
    print("\nerrors, forward and backward, as a share of what rounding allows:")
    outcomes = list(selftest.run(device))
    names = [str(dtype).removeprefix("torch.") for dtype in selftest.DTYPES]
    print(f"  {'':<34}" + "".join(f"{name:>18}" for name in names))
    for operator in dict.fromkeys(outcome.operator for outcome in outcomes):
        cells = [_cell(outcome) for outcome in outcomes if outcome.operator == operator]
        print(f"  {operator:<34}" + "".join(f"{cell:>18}" for cell in cells))
    print()
    return [
        f"{outcome.operator} of {str(outcome.dtype).removeprefix('torch.')}, impl={outcome.impl!r}, "
        + (f"does not run: {outcome.refusal}" if outcome.refusal else f"is {outcome.share:.3g} times too far off")
        for outcome in outcomes
        if not outcome.right
    ]


def _cell(outcome: "Outcome") -> str:
    figure = "fails" if outcome.refusal else f"{outcome.share:.2f}" + ("" if outcome.right else " WRONG")
    return f"{outcome.impl} {figure}"
