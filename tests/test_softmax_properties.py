"""The softmax operators on problems nobody has thought of: any sizes, strides, types, labels and options."""

import dataclasses

import pytest
import torch

pytest.importorskip("hypothesis")
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from softmax_cases import ROW_SCHEDULES, SCHEDULES, Case, check, force, force_rows

HALF, BRAIN, SINGLE = torch.float16, torch.bfloat16, torch.float32


def views(tensor):
    """The same numbers at other strides."""
    yield tensor
    yield tensor.T.contiguous().T
    yield torch.stack((tensor, tensor), -1).flatten(1)[:, ::2]
    padded = torch.full((tensor.shape[0] + 1, tensor.shape[1] + 3), torch.nan, dtype=tensor.dtype, device=tensor.device)
    padded[1:, 1:-2] = tensor
    yield padded[1:, 1:-2]


DIMENSION = st.integers(1, 40)


@st.composite
def cases(draw, d=DIMENSION):
    normalize = draw(st.booleans())
    return Case(
        n=draw(st.integers(1, 14)),
        d=draw(d),
        c=draw(st.integers(1, 40)),
        x_dtype=draw(st.sampled_from([SINGLE, BRAIN, HALF])),
        w_dtype=draw(st.sampled_from([SINGLE, BRAIN])),
        alpha=draw(st.sampled_from([0.5, 16.0, 64.0])),
        learn=draw(st.booleans()),
        bias=not normalize and draw(st.booleans()),
        normalize=normalize,
        angular=draw(st.sampled_from([0.0, 0.5])) if normalize else 0.0,
        weight=draw(st.booleans()),
        smoothing=draw(st.sampled_from([0.0, 0.1])),
        reduction=draw(st.sampled_from(["mean", "sum", "none"])),
        ignored=tuple(draw(st.sets(st.integers(1, 13), max_size=3))),
        seed=draw(st.integers(0, 10**6)),
    )


PROPERTY = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_any_linear_problem_is_solved_right(schedule, monkeypatch):
    impl = force(monkeypatch, schedule)

    @PROPERTY
    @given(case=cases(), view=st.integers(0, 3), row=st.integers(0, 13))
    def holds(case, view, row):
        inputs, target, weight = case.tensors()
        target[row % case.n] = (row * 7) % case.c
        inputs["input"] = list(views(inputs["input"]))[view]
        inputs["linear_weight"] = list(views(inputs["linear_weight"]))[-view]
        halves = case.x_dtype == case.w_dtype == BRAIN and schedule == "kernels, tiled"
        check(case, impl, (inputs, target, weight), tile_dtype=BRAIN if halves else None)

    holds()


@pytest.mark.parametrize("schedule", ROW_SCHEDULES)
def test_any_rows_are_solved_right(schedule, monkeypatch):
    impl = force_rows(monkeypatch, schedule)

    @PROPERTY
    @given(case=cases(d=st.none()), view=st.integers(0, 3))
    def holds(case, view):
        case = dataclasses.replace(case, bias=False, normalize=False, angular=0.0)
        inputs, target, weight = case.tensors()
        inputs["input"] = list(views(inputs["input"]))[view]
        check(case, impl, (inputs, target, weight))

    holds()
