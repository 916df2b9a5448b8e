"""Triton's interpreter, made to fail where a GPU would go wrong. Import it before anything that defines a kernel.

The plain interpreter runs kernels on the CPU, but forgives what a card does not. This one

* refuses an access outside of the tensors that a kernel was given, view by view, wherever the memory itself goes on;
* fills what a masked load of a block without ``other`` leaves undefined with NaN and with huge integers;
* refuses integer arithmetic that overflows 32 bits;
* refuses a hint (``tl.multiple_of``, ``tl.max_constancy``) that does not hold, on which a card would misalign a load;
* rounds to bfloat16 as a card does, to nearest even, and refuses arithmetic on bfloat16, which it would get wrong;
* lets ``tl.maximum`` and ``tl.minimum`` drop a NaN, as the instruction does;
* runs the programs of a grid in the order that ``order`` names, and of a large one only those that ``ends`` asks for.

Works on triton 3.6 and 3.7.
"""

import contextlib
import random
import warnings

import numpy as np
import triton.language as tl
import triton.runtime.interpreter as plain

_Builder, _Handle = type(plain.interpreter_builder), plain.TensorHandle
_order = "forward"
_ends = None  # programs to run at either end of a grid's first axis, all where None
_allowed = np.empty((0, 2), np.uint64)  # first and one-past-last byte of each stretch of memory a kernel may touch


@contextlib.contextmanager
def order(name):
    """Runs programs "forward", "reverse" or "shuffled" inside the block."""
    global _order
    before, _order = _order, name
    try:
        yield
    finally:
        _order = before


@contextlib.contextmanager
def ends(count):
    """Runs only the first ``count`` programs of a grid's first axis and the last ones inside the block.

    A kernel that asked for the number of programs would be told of these.
    """
    global _ends
    before, _ends = _ends, count
    try:
        yield
    finally:
        _ends = before


def _check(pointers, mask, what):
    bytes_each = max(pointers.get_element_ty().primitive_bitwidth // 8, 1)
    active = np.broadcast_to(pointers.data, np.broadcast_shapes(pointers.data.shape, mask.data.shape))
    active = active[np.broadcast_to(mask.data.astype(bool), active.shape)]
    before = np.searchsorted(_allowed[:, 0], active, side="right").astype(np.int64) - 1
    outside = (before < 0) | (active + np.uint64(bytes_each) > _allowed[np.maximum(before, 0), 1])
    if outside.any():
        raise IndexError(f"{what} out of bounds: {int(outside.sum())} of {active.size} active pointers")


def _masked_load(self, pointers, mask, other, *rest):
    _check(pointers, mask, "load")
    if other is None and pointers.data.size > 1:  # of a single number Triton takes `other=0` for none at all
        dtype = np.dtype(plain._get_np_dtype(pointers.get_element_ty()))
        undefined = np.nan if dtype.kind == "f" else True if dtype.kind == "b" else np.iinfo(dtype).max
        other = _Handle(np.full(pointers.data.shape, undefined, dtype), pointers.get_element_ty())
    return _plain_load(self, pointers, mask, other, *rest)


def _masked_store(self, pointers, value, mask, *rest):
    _check(pointers, mask, "store")
    return _plain_store(self, pointers, value, mask, *rest)


def _to_bfloat16(data):
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(data), np.uint16(0x7FC0), rounded)


def _cast(self, source, to):
    have, want = source.dtype.scalar, to.scalar
    data = source.data
    if have == tl.bfloat16:
        data = (np.ascontiguousarray(data).astype(np.uint32) << 16).view(np.float32)
    data = _to_bfloat16(data.astype(np.float32)) if want == tl.bfloat16 else data.astype(plain._get_np_dtype(to))
    return _Handle(data, want)


def _refusing_bfloat16(method):
    def operation(self, left, right):
        if tl.bfloat16 in (left.dtype.scalar, right.dtype.scalar):
            raise TypeError("arithmetic on bfloat16: cast to float32 right after the load")
        return method(self, left, right)

    return operation


def _hint(self, name, values):
    (promise,) = values  # of blocks of one dimension, and of single numbers
    if name == "tt.divisibility":
        holds = not (self.data.astype(np.int64) % promise).any()
    else:
        assert name == "tt.constancy", name
        groups = self.data.reshape(-1, promise)
        holds = (groups == groups[:, :1]).all()
    if not holds:
        raise ValueError(f"{name} of {promise} does not hold")
    _plain_hint(self, name, values)


def _extent(tensor):
    last = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.element_size()


def _arguments(self, positional, keywords):
    global _allowed
    positional, keywords = _plain_arguments(self, positional, keywords)
    extents, merged = [], []
    for argument in (*positional, *keywords.values()):
        tensor = getattr(argument, "base", argument)
        if hasattr(tensor, "data_ptr") and tensor.numel():
            extents.append(_extent(tensor))
    for low, high in sorted(extents):
        if merged and low <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], high)
        else:
            merged.append([low, high])
    _allowed = np.array(merged, np.uint64).reshape(-1, 2)
    return positional, keywords


def _set_grid(self, *grid):
    self.grid_dim, count = grid, int(np.prod(grid))
    self.permutation = list(range(count))
    if _order == "reverse":
        self.permutation.reverse()
    elif _order == "shuffled":
        random.Random(0).shuffle(self.permutation)


def _set_index(self, *index):
    place = self.permutation[int(np.ravel_multi_index(index, self.grid_dim))]
    first, *others = (int(i) for i in np.unravel_index(place, self.grid_dim))
    self.grid_idx = first if _ends is None or first < _ends else first + self.skipped, *others


def _call(self, *arguments, **options):
    if _ends is not None:
        programs, self.grid = self.grid[0], (min(self.grid[0], 2 * _ends), *self.grid[1:])
        plain.interpreter_builder.skipped = programs - self.grid[0]
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a card does not warn of log(0), nor of a block of NaN
        warnings.simplefilter("ignore", DeprecationWarning)  # triton 3.6 uses what numpy is about to drop
        return _plain_call(self, *arguments, **options)


_plain_hint, _Handle.set_attr = _Handle.set_attr, _hint
_plain_load, _plain_store = _Builder.create_masked_load, _Builder.create_masked_store
_plain_arguments, _plain_call = plain.GridExecutor._init_args_hst, plain.GridExecutor.__call__

plain.interpreter_builder.options = plain.InterpreterOptions(debug=True)  # checks integer overflow
_Builder.create_masked_load, _Builder.create_masked_store = _masked_load, _masked_store
_Builder.cast_impl = _cast
_Builder.create_fp_to_fp = lambda self, source, to, rounding: _cast(self, source, to)
for _name in ("add", "sub", "mul", "div"):
    setattr(_Builder, f"create_f{_name}", _refusing_bfloat16(getattr(_Builder, f"create_f{_name}")))
_Builder.create_maxnumf = lambda self, left, right: self.binary_op(left, right, np.fmax)
_Builder.create_minnumf = lambda self, left, right: self.binary_op(left, right, np.fmin)
plain.GridExecutor._init_args_hst, plain.GridExecutor.__call__ = _arguments, _call
_Builder.set_grid_dim, _Builder.set_grid_idx = _set_grid, _set_index
