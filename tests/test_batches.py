"""The order of the training data: a function of (seed, epoch) and of nothing else."""

import subprocess
import sys

import pytest
import torch

from lit_l2softmax.data.batches import EpochOrder, batch_loader, mix


def order(seed=0, epoch=0, size=103, batch_size=10, shuffle=True, incomplete="drop"):
    sampler = EpochOrder(size, batch_size, shuffle=shuffle, incomplete=incomplete, seed=seed)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert {batch_epoch for batch_epoch, _ in batches} == {epoch}
    return [positions for _, positions in batches]


def test_an_epoch_is_a_permutation_of_its_own():
    rows = torch.cat(order(incomplete="keep"))
    assert sorted(rows.tolist()) == list(range(103))
    assert not torch.equal(rows, torch.arange(103))
    assert not torch.equal(rows, torch.cat(order(incomplete="keep", epoch=1)))
    assert not torch.equal(rows, torch.cat(order(incomplete="keep", seed=1)))


def test_an_epoch_does_not_depend_on_what_was_drawn_before():
    torch.manual_seed(0)
    first = torch.cat(order(epoch=3))
    torch.manual_seed(1)
    torch.rand(100)
    list(order(epoch=2))
    assert torch.equal(torch.cat(order(epoch=3)), first)


def test_an_incomplete_last_batch_is_kept_or_left_out():
    assert [len(batch) for batch in order(incomplete="keep")] == [10] * 10 + [3]
    assert [len(batch) for batch in order(incomplete="drop")] == [10] * 10
    assert [len(batch) for batch in order(size=100, incomplete="drop")] == [10] * 10


@pytest.mark.parametrize("size", [103, 100, 10, 109])
@pytest.mark.parametrize("shuffle", [True, False])
def test_completed_batches_are_pieces_of_one_endless_stream(size, shuffle):
    """As in tensorflow.examples' next_batch: the rest of an epoch and the beginning of the next one share a batch."""
    epochs = [torch.cat(order(epoch=e, size=size, shuffle=shuffle, incomplete="keep")) for e in range(8)]
    stream = torch.cat(epochs)
    seen = [batch for e in range(7) for batch in order(epoch=e, size=size, shuffle=shuffle, incomplete="complete")]
    assert {len(batch) for batch in seen} == {10}
    assert torch.equal(torch.cat(seen), stream[: 10 * len(seen)])
    assert 7 * size <= 10 * len(seen) < 7 * size + 10


def test_without_shuffling_rows_come_in_their_order():
    assert torch.equal(torch.cat(order(shuffle=False, epoch=5)), torch.arange(100))


def test_a_loader_gives_whole_batches_of_rows_that_belong_together():
    images, labels = torch.arange(23, dtype=torch.uint8)[:, None], torch.arange(23)
    for x, y in batch_loader(images, labels, 5, shuffle=True):
        assert torch.equal(x[:, 0].long(), y)


@pytest.mark.parametrize("other", [(1, "a", 2), ("a", 1, 3), ("b", 1, 2), (1, "a")])
def test_a_seed_depends_on_every_part_and_on_their_order(other):
    assert mix("a", 1, 2) != mix(*other)


def test_a_seed_is_the_same_in_every_process():
    program = "from lit_l2softmax.seeds import mix; print(mix(7, 'permutation', 3))"
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert int(printed) == mix(7, "permutation", 3) < 2**63
