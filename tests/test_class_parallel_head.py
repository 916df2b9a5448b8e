"""A head whose classes are spread over processes trains as the head of one process."""

import pytest
from gloo_ranks import ranks

SCRIPT = "class_parallel_head_ranks.py"


def test_two_processes_that_share_the_classes_are_one(tmp_path):
    ranks(SCRIPT, 2, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "overs"), [(2, (1,)), (3, (3, 1)), (4, (2, 4))])
def test_any_mesh_of_processes_is_one(tmp_path, size, overs):
    ranks(SCRIPT, size, tmp_path, *overs)
