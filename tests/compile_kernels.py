"""Compiles every kernel for a card that need not be there, through the code that would launch it.

Run as ``python compile_kernels.py CAPABILITY`` in a process of its own, without the interpreter. Prints one line of
JSON a compiled kernel: its name, its specialisation, registers, spilling instructions, bytes of shared memory, 128-bit
loads, tensor-core instructions, and loop-carried values in its intermediate form. With a second argument, ``product``,
the linear operator's flags are compiled in every combination.
"""

import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp()  # a kernel from a cache would not have been compiled

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

BINARIES = Path(triton.__file__).parent / "backends/nvidia/bin"


class Card:
    """What Triton asks of a driver in order to compile; it can launch nothing."""

    def __init__(self, capability):
        self.target = GPUTarget("cuda", capability, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0

    def map_python_to_cpp_type(self, name):
        return name


def resources(cubin):
    """What a cubin uses, by the tools that come with Triton."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = subprocess.run(
            [BINARIES / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True, check=True
        )
        code = subprocess.run([BINARIES / "nvdisasm", "-c", file.name], capture_output=True, text=True, check=True)
    return {
        "registers": int(re.search(r"REG:(\d+)", usage.stdout + usage.stderr)[1]),
        "spills": len(re.findall(r"\b(?:LDL|STL)\b", code.stdout)),
        "wide_loads": len(re.findall(r"\bLDG\.E[.\w]*\.128", code.stdout)),
        "tensor_cores": len(re.findall(r"\b(?:HG?MMA|UTC\w*MMA)\b", code.stdout)),
        "atomics": len(re.findall(r"\b(?:ATOMG?|RED)\b", code.stdout)),
    }


def record_instead_of_launching():
    """Makes every launch a compilation and a line of JSON; a specialisation is compiled once."""
    compile_only, seen = JITFunction.run, set()

    def run(self, *arguments, grid, warmup, **options):
        compiled = compile_only(self, *arguments, grid=grid, warmup=True, **options)
        if compiled.hash not in seen:
            seen.add(compiled.hash)
            loops = re.findall(r"iter_args\(([^)]*)\)", compiled.asm["ttir"])
            carried = [loop.count("=") for loop in loops]
            approximate = len(re.findall(r"\blg2\.approx", compiled.asm["ptx"]))
            print(
                json.dumps(
                    {
                        "kernel": f"{'.'.join(self.fn.__module__.split('.')[-2:])}.{self.fn.__name__}",
                        "case": CASE,
                        **DETAILS,
                        "shared_bytes": compiled.metadata.shared,
                        "carried": carried,
                        "approximate_logarithms": approximate,
                        **resources(compiled.asm["cubin"]),
                    }
                ),
                flush=True,
            )
        return compiled

    JITFunction.run = run


CASE, DETAILS = "", {}


def linear(
    x_dtype, w_dtype, shape, *, normalize=False, angular=0.0, bias=False, weight=False, smoothing=0.0, learn=False
):
    """Both directions of the linear operator; the numbers are not computed, so none is looked at."""
    from lit_l2softmax.kernels._softmax import CrossEntropyOptions
    from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy import kernel_schedule
    from lit_l2softmax.kernels.linear_l2_softmax_cross_entropy.problem import Problem, Wanted

    global CASE
    N, D, C = shape
    CASE = f"{shape} {x_dtype} {w_dtype} {normalize=} {angular=} {bias=} {weight=} {smoothing=} {learn=}"
    problem = Problem(
        torch.zeros(N, D, dtype=x_dtype),
        torch.zeros(C, D, dtype=w_dtype),
        torch.zeros(N, dtype=torch.int64),
        torch.zeros(C, dtype=w_dtype) if bias else None,
        torch.zeros(C) if weight else None,
        torch.tensor(16.0) if learn else 16.0,
        normalize,
        angular,
        0.0,
        CrossEntropyOptions(-100, "mean", smoothing, 1e-12),
    )
    loss, kept = kernel_schedule.forward(problem)
    kernel_schedule.backward(torch.ones_like(loss), problem, kept, Wanted(True, True, bias, learn))


def rows(dtype, shape, *, weight=False, smoothing=0.0, learn=False):
    """Both directions of the row operator."""
    from lit_l2softmax.kernels._softmax import CrossEntropyOptions
    from lit_l2softmax.kernels.l2_softmax_cross_entropy import kernels

    global CASE
    N, C = shape
    CASE = f"{shape} {dtype} {weight=} {smoothing=} {learn=}"
    x, target = torch.zeros(N, C, dtype=dtype), torch.zeros(N, dtype=torch.int64)
    class_weight, alpha = torch.zeros(C) if weight else None, torch.tensor(16.0) if learn else 16.0
    options = CrossEntropyOptions(-100, "mean", smoothing, 1e-12)
    loss, total, kept = kernels.forward(x, target, class_weight, alpha, options)
    kernels.backward(torch.ones_like(loss), x, target, class_weight, alpha, total, kept, True, options)


def normalise(dtype, shape, size, beta=0.75, memory_format=torch.contiguous_format, window="torch"):
    """Both directions of local response normalisation."""
    from lit_l2softmax.kernels.local_response_norm import kernels
    from lit_l2softmax.kernels.local_response_norm.problem import Problem

    global CASE, DETAILS
    CASE = f"{shape} {dtype} {size=} {beta=} {memory_format} {window}"
    x = torch.zeros(shape, dtype=dtype).to(memory_format=memory_format)
    problem = Problem.of(x, size, 1e-3, beta, 1.0, window)
    together = memory_format == torch.channels_last
    DETAILS = {
        "behind": problem.behind,
        "ahead": problem.ahead,
        "bytes_at_once": x.element_size() * (math.gcd(shape[1], 16 // x.element_size()) if together else 1),
    }
    kernels.backward(kernels.forward(x, problem), x, problem)
    DETAILS = {}


def covering_set():
    """Every configuration the launch code picks, and every flag on and off; not their product."""
    half, brain, single = torch.float16, torch.bfloat16, torch.float32
    for C in (10, 1000, 8192, 100_000):  # a block that does not fill, one that does not divide, one that does, a loop
        rows(single, (8, C))
    rows(brain, (8, 1000), weight=True, smoothing=0.1)
    rows(half, (8, 1000), smoothing=0.1, learn=True)
    for C in (10, 128, 1000, 20_000):  # the small path's blocks of 16 and 128 classes; one class range, and several
        linear(single, single, (40, 512, C), bias=True)
        linear(brain, brain, (40, 512, C), normalize=True, angular=0.5, learn=True)
        linear(half, half, (40, 500, C), normalize=True, weight=True, smoothing=0.1)
        linear(brain, single, (2000, 64, C), bias=True, weight=True, smoothing=0.1, learn=True)
    for dtype in (single, brain):  # a number of classes without a factor of two
        linear(dtype, dtype, (40, 512, 1001))
    for dtype in (single, brain, half):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            normalise(dtype, (2, 64, 12, 12), 9, memory_format=memory_format)  # System 2's
        for C in (40, 20, 34, 65):  # one load may take eight neighbours, four, two, one
            normalise(dtype, (2, C, 3, 5), 5, memory_format=torch.channels_last)
    for beta, size in ((0.5, 1), (1.0, 4), (0.3, 5), (0.75, 17), (0.75, 18)):
        normalise(single, (2, 65, 3, 5), size, beta, window="onnx")
    normalise(single, (1, 2**24, 1), 3)  # more channels than a program counts: as for wide windows
    for size in (9, 17):  # the most registers
        normalise(single, (2, 65, 3, 5), size, memory_format=torch.channels_last)


def product():
    """Every combination of dtypes and of the linear operator's flags, on both paths, both blocks of the small one."""
    half, brain, single = torch.float16, torch.bfloat16, torch.float32
    dtypes = ((single, single), (brain, brain), (half, half), (brain, single))
    kinds = ({}, {"bias": True}, {"normalize": True}, {"normalize": True, "angular": 0.5})
    for (x, w), C, kind in itertools.product(dtypes, (10, 128, 1000), kinds):
        for weight, smoothing, learn in itertools.product((False, True), (0.0, 0.1), (False, True)):
            linear(x, w, (40, 512, C), **kind, weight=weight, smoothing=smoothing, learn=learn)


if __name__ == "__main__":
    driver.set_active(Card(int(sys.argv[1])))
    record_instead_of_launching()
    product() if sys.argv[2:] == ["product"] else covering_set()
