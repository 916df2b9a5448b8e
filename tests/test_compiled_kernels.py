"""The kernels, compiled for cards that are not there: that they compile, fit, and do not spill."""

from importlib.metadata import version

import kernel_table
import pytest

pytest.importorskip("triton.backends.nvidia")
# The other products are the vendor's, or of too few numbers for a tensor core.
HAVE_PRODUCTS = {"linear_l2_softmax_cross_entropy.small_kernels._bwd_classes_kernel"}
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # that one block may ask for
# Values a loop carries: triton 3.6 to 3.9 silently drop one that starts as an alias of another.
CARRIED = {
    "l2_softmax_cross_entropy.kernels._fwd_kernel": {(2, 3)},
    "l2_softmax_cross_entropy.kernels._bwd_kernel": {()},
    "linear_l2_softmax_cross_entropy.small_kernels._fwd_kernel": {(1, 1), (1, 1, 1)},
    "linear_l2_softmax_cross_entropy.small_kernels._bwd_rows_kernel": {(1,)},
    "linear_l2_softmax_cross_entropy.small_kernels._bwd_classes_kernel": {(1,)},
    "linear_l2_softmax_cross_entropy.small_kernels._bwd_merge_kernel": {(), (2,)},  # of one split there is no loop
    "linear_l2_softmax_cross_entropy.tiled_kernels._norms_kernel": {(1,)},
    "linear_l2_softmax_cross_entropy.tiled_kernels._target_kernel": {(1, 1)},
    "linear_l2_softmax_cross_entropy.tiled_kernels._fold_kernel": {(2,), (3,)},
    "linear_l2_softmax_cross_entropy.tiled_kernels._loss_kernel": {()},
    "linear_l2_softmax_cross_entropy.tiled_kernels._prepare_kernel": {()},
    "linear_l2_softmax_cross_entropy.tiled_kernels._slopes_kernel": {()},
    "linear_l2_softmax_cross_entropy.tiled_kernels._finish_kernel": {(), (1,)},
    # A group of x and what a window reaches behind it.
    "local_response_norm.kernels._fwd_kernel": lambda behind, ahead: {(8 + behind,)},
    # Two groups of x, one of g s^-beta, one of t and what a mirrored window reaches behind it.
    "local_response_norm.kernels._bwd_kernel": lambda behind, ahead: {(32 + ahead,)},
    "local_response_norm.kernels._wide_fwd_kernel": {(1,)},
    "local_response_norm.kernels._wide_slope_kernel": {(1,)},
    "local_response_norm.kernels._wide_bwd_kernel": {(1, 1)},
}


CARDS = [90, pytest.param(80, marks=pytest.mark.slow), pytest.param(100, marks=pytest.mark.slow)]


@pytest.mark.parametrize("capability", CARDS)
def test_kernels_fit_a_card_load_as_wide_as_rows_allow_and_use_what_the_table_says(capability):
    """One test, for to compile takes a minute. A register more is a diff in ``bench/results/compiled-kernels.csv``.

    ``make kernel-table`` makes that, and somebody looks at it.
    """
    kernels = kernel_table.compiled_for(capability)
    assert {kernel["kernel"] for kernel in kernels} == set(CARRIED)
    for kernel in kernels:
        assert_sound(kernel, capability)
    assert_wide(kernels)
    committed = [row for row in kernel_table.read() if row["card"] == f"sm_{capability}"]
    if committed[0]["triton"] != (installed := version("triton")):
        pytest.skip(f"the table is Triton {committed[0]['triton']}'s, {installed} is installed")
    assert kernel_table.rows(capability, kernels) == committed


@pytest.mark.slow
def test_every_combination_of_flags_compiles_without_spilling():
    kernels = kernel_table.compiled_for(90, "product")
    assert {kernel["kernel"] for kernel in kernels} == {name for name in CARRIED if name.startswith("linear_")}
    for kernel in kernels:
        assert_sound(kernel, 90)


def assert_sound(kernel, capability):
    assert kernel["spills"] == 0, kernel
    assert kernel["atomics"] == 0, kernel
    assert kernel["approximate_logarithms"] == 0, kernel
    assert kernel["shared_bytes"] <= SHARED_BYTES[capability], kernel
    carried = CARRIED[kernel["kernel"]]
    if callable(carried):
        carried = carried(kernel["behind"], kernel["ahead"])
    assert tuple(kernel["carried"]) in carried, kernel
    assert (kernel["tensor_cores"] > 0) == (kernel["kernel"] in HAVE_PRODUCTS), kernel


def assert_wide(kernels):
    """Rows are loaded sixteen bytes at once, where they allow it."""

    def of(names, length):
        found = [kernel for kernel in kernels if kernel["kernel"].endswith(names) and length in kernel["case"]]
        assert found
        return found

    for kernel in of("l2_softmax_cross_entropy.kernels._fwd_kernel", "1000)"):  # no multiple of 16, but of 8
        assert kernel["wide_loads"] > 0, kernel
    for kernel in of("l2_softmax_cross_entropy.kernels._bwd_kernel", "1000)"):
        assert kernel["wide_loads"] > 0, kernel
    for kernel in of(("_fold_kernel", "_slopes_kernel"), "1001)"):  # a tile's rows are as long in memory as they need
        assert kernel["wide_loads"] > 0, kernel
    for kernel in of(("_norms_kernel", "_target_kernel", "_finish_kernel"), "512, 1000)"):
        assert kernel["wide_loads"] > 0, kernel
    walks = [kernel for kernel in kernels if kernel["kernel"].startswith("local_") and "wide" not in kernel["kernel"]]
    assert {kernel["bytes_at_once"] for kernel in walks} == {2, 4, 8, 16}
    for kernel in walks:  # a thread moves what is its own
        assert kernel["shared_bytes"] == 0, kernel
        assert (kernel["wide_loads"] > 0) == (kernel["bytes_at_once"] == 16), kernel
