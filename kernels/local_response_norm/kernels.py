"""One kernel each way: a program walks the channels of a block of positions, with what windows need in registers.

Channels are taken eight at a time, a group; a window reaches no further than into the groups on either side. Forward
holds three groups of x, the last, this and the next, and writes this group's y. Backward runs one group ahead: with x
of three groups and g of the middle one it has t of the middle one, and with t of three groups it writes dx of the group
before. Nothing is read or summed twice but at the ends of a program's share of the channels.

A thread owns a position with all its channels. Where channels are apart in memory, neighbouring threads read
neighbouring positions; where a position's channels lie together, a thread reads at once as many of them as divide C and
fit into 16 bytes, and takes them apart in registers. A group is a tuple of eight blocks, so that all of this is written
once and every index is known to the compiler.

Windows that reach further to either side have kernels of their own, two of them backward, which read a window anew for
every number and keep t in memory.

Legend: C channels, ``inner`` numbers from one channel to the next, see :class:`.problem.Layout`.
"""

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problem import Layout, Problem

GROUP = 8  # channels; the kernels have it written out
BLOCK = 128  # positions of a program, one a thread
WIDE_BLOCK = 512  # numbers of a program, four a thread
PROGRAMS = 1024  # of which there shall be as many: where positions are few, their channels are shared out


@triton.jit
def _powers(s, beta, BETA: tl.constexpr):
    """``s^-beta`` and ``1 / s``; BETA is beta where there is a closed form, else 0."""
    if BETA == 0.75:
        root = tl.rsqrt(s)
        return root * tl.sqrt(root), root * root
    elif BETA == 0.5:
        root = tl.rsqrt(s)
        return root, root * root
    elif BETA == 1.0:
        inverse = 1.0 / s
        return inverse, inverse
    else:
        return tl.exp2(-beta * tl.log2(s)), 1.0 / s


@triton.jit
def _positions(outer, C, inner, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Where the first sample of a program begins, where from there its positions do, and which of them there are."""
    start = tl.program_id(0).to(tl.int64) * BLOCK
    sample = start // inner
    place = (start % inner).to(tl.int32) + tl.arange(0, BLOCK)
    offsets = (place // inner).to(tl.int64) * C * inner + place % inner
    if WIDTH:  # inner is 1; offsets of 32 bits take half the registers
        offsets = tl.multiple_of(place * C, WIDTH)
    return sample * C * inner, offsets, sample + place // inner < outer


@triton.jit
def _take_apart(tile):
    """The columns of a tile of 2, 4 or 8; a thread that holds whole rows does so without a move."""
    if tile.shape[1] == 2:
        return tl.split(tile)
    else:
        even, odd = tl.split(tl.reshape(tile, (tile.shape[0], tile.shape[1] // 2, 2)))
        evens, odds, columns = _take_apart(even), _take_apart(odd), ()
        for j in tl.static_range(tile.shape[1] // 2):
            columns = columns + (evens[j], odds[j])
        return columns


@triton.jit
def _put_together(columns, WIDTH: tl.constexpr):
    """The reverse of _take_apart."""
    if WIDTH == 2:
        return tl.join(columns[0], columns[1])
    else:
        even, odd = _put_together(columns[::2], WIDTH // 2), _put_together(columns[1::2], WIDTH // 2)
        return tl.reshape(tl.join(even, odd), (even.shape[0], WIDTH))


@triton.jit
def _tile(offsets, there, channel, C, WIDTH: tl.constexpr):
    """Where WIDTH neighbouring channels lie, ``(BLOCK, WIDTH)``, and whose there are, all or none: WIDTH divides C."""
    places = offsets[:, None] + (tl.multiple_of(channel, WIDTH) + tl.arange(0, WIDTH))[None, :]
    return places, (there & (channel >= 0) & (channel < C))[:, None]


@triton.jit
def _load(ptr, offsets, there, first, C, inner, WIDTH: tl.constexpr):
    """A group, zero where there is no such channel or position."""
    group = ()
    if WIDTH > 1:
        for j in tl.static_range(0, 8, WIDTH):
            places, mask = _tile(offsets, there, first + j, C, WIDTH)
            group = group + _take_apart(tl.load(ptr + places, mask=mask, other=0.0).to(tl.float32))
    else:
        for j in tl.static_range(8):
            mask = there & (first + j >= 0) & (first + j < C)
            numbers = tl.load(ptr + (offsets + (first + j) * tl.cast(inner, tl.int64)), mask=mask, other=0.0)
            group = group + (numbers.to(tl.float32),)
    return group


@triton.jit
def _store(ptr, offsets, there, first, C, inner, group, WIDTH: tl.constexpr):
    if WIDTH > 1:
        for j in tl.static_range(0, 8, WIDTH):
            places, mask = _tile(offsets, there, first + j, C, WIDTH)
            tl.store(ptr + places, _put_together(group[j : j + WIDTH], WIDTH), mask=mask)
    else:
        for j in tl.static_range(8):
            tl.store(ptr + (offsets + (first + j) * tl.cast(inner, tl.int64)), group[j], mask=there & (first + j < C))


@triton.jit
def _zeros(BLOCK: tl.constexpr):
    """A group of zeros, each one of its own: triton 3.6 to 3.9 lose loop-carried values that begin as the same one."""
    group = ()
    for _ in tl.static_range(8):
        group = group + (tl.zeros((BLOCK,), tl.float32),)
    return group


@triton.jit
def _window_sums(terms, SIZE: tl.constexpr, COUNT: tl.constexpr):
    """Sums over SIZE terms, beginning at each of the first COUNT, by doubling."""
    if SIZE == 1:
        return terms
    else:
        halves = _window_sums(terms, SIZE // 2, COUNT + SIZE // 2)
        sums = ()
        for j in tl.static_range(COUNT):
            total = halves[j] + halves[j + SIZE // 2]
            if SIZE % 2:
                total += terms[j + SIZE - 1]
            sums = sums + (total,)
        return sums


@triton.jit
def _energies(x, scale, k, BEHIND: tl.constexpr, AHEAD: tl.constexpr):
    """``s`` of the middle one of three groups ``x``."""
    squares = ()
    for j in tl.static_range(8 - BEHIND, 16 + AHEAD):
        squares = squares + (x[j] * x[j],)
    sums = _window_sums(squares, BEHIND + 1 + AHEAD, 8)
    energies = ()
    for j in tl.static_range(8):
        energies = energies + (k + scale * sums[j],)
    return energies


@triton.jit
def _fwd_kernel(
    x_ptr, y_ptr,  # (outer, C, inner)
    outer, C, inner, share, scale, beta, k,
    BETA: tl.constexpr, BEHIND: tl.constexpr, AHEAD: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    base, offsets, there = _positions(outer, C, inner, WIDTH, BLOCK)
    x_ptr += base
    y_ptr += base
    start = tl.program_id(1) * share
    past = _load(x_ptr, offsets, there, start - 8, C, inner, WIDTH)
    here = _load(x_ptr, offsets, there, start, C, inner, WIDTH)
    for first in range(start, tl.minimum(start + share, C), 8):
        next = _load(x_ptr, offsets, there, first + 8, C, inner, WIDTH)
        s = _energies(past + here + next, scale, k, BEHIND, AHEAD)
        y = ()
        for j in tl.static_range(8):
            power, _ = _powers(s[j], beta, BETA)
            y = y + (here[j] * power,)
        _store(y_ptr, offsets, there, first, C, inner, y, WIDTH)
        past = here
        here = next


@triton.jit
def _bwd_kernel(
    g_ptr, x_ptr, dx_ptr,  # (outer, C, inner)
    outer, C, inner, share, scale, beta, k, twice,  # 2 scale beta
    BETA: tl.constexpr, BEHIND: tl.constexpr, AHEAD: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    base, offsets, there = _positions(outer, C, inner, WIDTH, BLOCK)
    g_ptr += base
    x_ptr += base
    dx_ptr += base
    start = tl.program_id(1) * share
    begin = tl.maximum(start - 16, -8)  # t of the group before the first, and of the first
    here = _load(x_ptr, offsets, there, begin, C, inner, WIDTH)
    next = _load(x_ptr, offsets, there, begin + 8, C, inner, WIDTH)
    t_past, t_here, direct = _zeros(BLOCK), _zeros(BLOCK), _zeros(BLOCK)
    for first in range(begin, tl.minimum(start + share, C), 8):
        after_next = _load(x_ptr, offsets, there, first + 16, C, inner, WIDTH)
        g = _load(g_ptr, offsets, there, first + 8, C, inner, WIDTH)
        s = _energies(here + next + after_next, scale, k, BEHIND, AHEAD)
        direct_next, t_next = (), ()  # g s^-beta and t
        for j in tl.static_range(8):
            power, inverse = _powers(s[j], beta, BETA)
            direct_next = direct_next + (g[j] * power,)
            # Where there is no channel, s may be 0.
            is_channel = (first + 8 + j >= 0) & (first + 8 + j < C)
            t_next = t_next + (tl.where(is_channel, g[j] * power * next[j] * inverse, 0.0),)
        terms = (t_past + t_here + t_next)[8 - AHEAD : 16 + BEHIND]  # the mirrored window
        sums = _window_sums(terms, BEHIND + 1 + AHEAD, 8)
        dx = ()
        for j in tl.static_range(8):
            dx = dx + (direct[j] - twice * here[j] * sums[j],)
        _store(dx_ptr, offsets, there & (first >= start), first, C, inner, dx, WIDTH)
        here, next = next, after_next
        t_past, t_here, direct = t_here, t_next, direct_next


@triton.jit
def _wide_offsets(numbers, C, inner, BLOCK: tl.constexpr):
    """A program's numbers: where they are, which of them there are, and their channels."""
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return offsets, offsets < numbers, offsets // inner % C


@triton.jit
def _load_neighbours(ptr, offsets, there, channels, step, C, inner):
    mask = there & (channels + step >= 0) & (channels + step < C)
    return tl.load(ptr + (offsets + step * tl.cast(inner, tl.int64)), mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _wide_powers(
    x_ptr, offsets, there, channels, C, inner, behind, ahead, scale, beta, k, BETA: tl.constexpr, BLOCK: tl.constexpr
):
    squares = tl.zeros((BLOCK,), tl.float32)
    for step in range(-behind, ahead + 1):
        x = _load_neighbours(x_ptr, offsets, there, channels, step, C, inner)
        squares += x * x
    return _powers(k + scale * squares, beta, BETA)


@triton.jit
def _wide_fwd_kernel(
    x_ptr, y_ptr,  # (outer, C, inner)
    numbers, C, inner, behind, ahead, scale, beta, k, BETA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    offsets, there, channels = _wide_offsets(numbers, C, inner, BLOCK)
    power, _ = _wide_powers(
        x_ptr, offsets, there, channels, C, inner, behind, ahead, scale, beta, k, BETA, BLOCK
    )  # fmt: skip
    x = tl.load(x_ptr + offsets, mask=there, other=0.0).to(tl.float32)
    tl.store(y_ptr + offsets, x * power, mask=there)


@triton.jit
def _wide_slope_kernel(
    g_ptr, x_ptr, t_ptr,  # (outer, C, inner); t in float32
    numbers, C, inner, behind, ahead, scale, beta, k, BETA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    offsets, there, channels = _wide_offsets(numbers, C, inner, BLOCK)
    power, inverse = _wide_powers(
        x_ptr, offsets, there, channels, C, inner, behind, ahead, scale, beta, k, BETA, BLOCK
    )  # fmt: skip
    g = tl.load(g_ptr + offsets, mask=there, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=there, other=0.0).to(tl.float32)
    tl.store(t_ptr + offsets, g * power * x * inverse, mask=there)


@triton.jit
def _wide_bwd_kernel(
    g_ptr, x_ptr, t_ptr, dx_ptr,  # (outer, C, inner); t in float32
    numbers, C, inner, behind, ahead, scale, beta, k, twice, BETA: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    offsets, there, channels = _wide_offsets(numbers, C, inner, BLOCK)
    power, _ = _wide_powers(
        x_ptr, offsets, there, channels, C, inner, behind, ahead, scale, beta, k, BETA, BLOCK
    )  # fmt: skip
    sums = tl.zeros((BLOCK,), tl.float32)
    for step in range(-ahead, behind + 1):  # the mirrored window
        sums += _load_neighbours(t_ptr, offsets, there, channels, step, C, inner)
    g = tl.load(g_ptr + offsets, mask=there, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + offsets, mask=there, other=0.0).to(tl.float32)
    tl.store(dx_ptr + offsets, g * power - twice * x * sums, mask=there)


def _walks(problem: Problem, layout: Layout) -> bool:
    """Whether windows reach no further than a group, and a program's positions are counted with 32 bits."""
    reach, C, inner = max(problem.behind, problem.ahead), layout.channels, layout.inner
    counted = C * BLOCK < 2**31 if inner == 1 else C < 2**30 and inner < 2**31 - BLOCK
    return reach <= GROUP and counted


def _closed_form(problem: Problem) -> dict[str, float]:
    return {"BETA": problem.beta if problem.beta in (0.75, 0.5, 1.0) else 0.0}


def _walk(kernel: Any, tensors: tuple[Tensor, ...], layout: Layout, problem: Problem, *more: float) -> None:
    """Launches a kernel that walks the channels, a position a thread."""
    outer, C, inner = layout.outer, layout.channels, layout.inner
    blocks = triton.cdiv(outer * inner, BLOCK)
    # At either end of a share a group more is read, and backward two: no share is less than two groups.
    shares = min(triton.cdiv(PROGRAMS, blocks), triton.cdiv(C, 2 * GROUP))
    share = triton.cdiv(triton.cdiv(C, shares), GROUP) * GROUP
    width = math.gcd(C, GROUP, 16 // tensors[0].element_size()) if inner == 1 else 0
    kernel[(blocks, triton.cdiv(C, share))](
        *tensors, outer, C, inner, share, problem.scale, problem.beta, problem.k, *more,
        BEHIND=problem.behind, AHEAD=problem.ahead, WIDTH=width, BLOCK=BLOCK, num_warps=4, **_closed_form(problem),
    )  # fmt: skip


def _each_number(kernel: Any, tensors: tuple[Tensor, ...], layout: Layout, problem: Problem, *more: float) -> None:
    """Launches a kernel that reads a window for each number."""
    numbers = layout.outer * layout.channels * layout.inner
    kernel[(triton.cdiv(numbers, WIDE_BLOCK),)](
        *tensors,
        numbers, layout.channels, layout.inner, problem.behind, problem.ahead, problem.scale, problem.beta, problem.k,
        *more, BLOCK=WIDE_BLOCK, num_warps=4, **_closed_form(problem),
    )  # fmt: skip


def forward(input: Tensor, problem: Problem) -> Tensor:
    """The normalised tensor, dense, in the input's order of dimensions."""
    output = torch.empty_like(input)
    layout = Layout(output)
    tensors = layout.planes(input), layout.planes(output)
    with torch.cuda.device_of(input):
        if _walks(problem, layout):
            _walk(_fwd_kernel, tensors, layout, problem)
        else:
            _each_number(_wide_fwd_kernel, tensors, layout, problem)
    return output


def backward(grad: Tensor, input: Tensor, problem: Problem) -> Tensor:
    """The gradient of the input, like :func:`forward`'s result."""
    dinput = torch.empty_like(input)
    layout = Layout(dinput)
    g, x, dx = layout.planes(grad), layout.planes(input), layout.planes(dinput)
    twice = 2 * problem.scale * problem.beta
    with torch.cuda.device_of(input):
        if _walks(problem, layout):
            _walk(_bwd_kernel, (g, x, dx), layout, problem, twice)
        else:
            t = torch.empty_like(x, dtype=torch.float32)
            _each_number(_wide_slope_kernel, (g, x, t), layout, problem)
            _each_number(_wide_bwd_kernel, (g, x, t, dx), layout, problem, twice)
    return dinput
