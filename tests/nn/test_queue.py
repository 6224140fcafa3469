"""The queue is a ring: after enough keys it holds exactly the last K, and reading it never writes."""

import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.nn.queue import KeyQueue


def numbered(first, count, dim=3):
    return torch.arange(first, first + count, dtype=torch.float32)[:, None].expand(count, dim)


def test_starts_as_unit_directions_of_its_own_seed():
    before = torch.random.get_rng_state()
    a, b, c = KeyQueue(64, 8, seed=1), KeyQueue(64, 8, seed=1), KeyQueue(64, 8, seed=2)
    assert torch.equal(a.keys, b.keys) and not torch.equal(a.keys, c.keys)
    torch.testing.assert_close(a.keys.norm(dim=1), torch.ones(64))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_holds_the_last_keys_in_order_across_the_seam():
    queue = KeyQueue(12, 3)
    first = queue.keys.clone()
    queue.enqueue(numbered(0, 4))
    assert torch.equal(queue.keys[:4], numbered(0, 4)) and torch.equal(queue.keys[4:], first[4:])
    for start in range(4, 32, 4):
        queue.enqueue(numbered(start, 4))
    assert int(queue.pointer) == 32 % 12
    oldest_first = queue.keys.roll(-int(queue.pointer), dims=0)
    assert torch.equal(oldest_first, numbered(20, 12))


def test_another_batch_size_may_follow_and_wraps_exactly():
    queue = KeyQueue(6, 3)
    for start, count in ((0, 2), (2, 2), (4, 3), (7, 6)):
        queue.enqueue(numbered(start, count))
    assert torch.equal(queue.keys.roll(-int(queue.pointer), dims=0), numbered(7, 6))


def test_labels_travel_with_their_keys():
    queue = KeyQueue(6, 3)
    assert queue.labels.tolist() == [-1] * 6
    for start in range(0, 8, 2):
        queue.enqueue(numbered(start, 2), torch.tensor([start, start + 1]))
    assert torch.equal(queue.labels.float(), queue.keys[:, 0]) and queue.labels.dtype == torch.int64
    queue.enqueue(numbered(8, 2))  # without labels
    assert queue.labels.tolist() == [6, 7, -1, -1, 4, 5] and torch.equal(queue.keys[2:4], numbered(8, 2))


def test_state_travels_with_a_checkpoint():
    queue, other = KeyQueue(8, 3, seed=1), KeyQueue(8, 3, seed=2)
    queue.enqueue(numbered(0, 4))
    other.load_state_dict(queue.state_dict())
    other.enqueue(numbered(4, 4))
    assert torch.equal(other.keys, numbered(0, 8)) and int(other.pointer) == 0


@pytest.mark.parametrize(("size", "batch", "near"), [(100, 32, "a queue of 96 or 128"), (16, 32, "a queue of 32")])
def test_refuses_a_batch_that_does_not_divide_it(size, batch, near):
    with pytest.raises(InputError, match=f"queue of {size} keys is not divisible by a batch of {batch}.*{near}"):
        KeyQueue(size, 2).enqueue(torch.zeros(batch, 2))


@pytest.mark.parametrize(("size", "dim"), [(0, 4), (4, 0)])
def test_refuses_to_be_empty(size, dim):
    with pytest.raises(InputError, match="holds nothing"):
        KeyQueue(size, dim)
