"""Two processes see the keys of both, in the order of ranks; one process sees its own."""

import torch
from worlds import in_processes

from whytransfer.nn.gather import gather, gather_with_grad
from whytransfer.nn.queue import KeyQueue


def test_alone_it_is_a_no_op():
    rows = torch.randn(3, 2)
    assert gather(rows) is rows and gather_with_grad(rows) is rows


def _filled(rank, world):
    queue = KeyQueue(8, 3, seed=0)
    queue.enqueue(gather(torch.arange(6.0).view(2, 3) + 10 * rank))
    rows = torch.ones(2, 3, requires_grad=True)
    (gather_with_grad(rows) * torch.arange(12.0).view(4, 3) * (rank + 1)).sum().backward()
    return {**queue.state_dict(), "gradient": rows.grad}


def test_two_processes_fill_equal_queues(tmp_path):
    first, second = in_processes(_filled, 2, tmp_path)
    expected = torch.cat([torch.arange(6.0).view(2, 3), torch.arange(6.0).view(2, 3) + 10])
    assert torch.equal(first["keys"][:4], expected) and int(first["pointer"]) == 4
    assert all(torch.equal(first[name], second[name]) for name in ("keys", "pointer"))
    gradients = torch.cat([first["gradient"], second["gradient"]])
    assert torch.equal(gradients, 3 * torch.arange(12.0).view(4, 3))  # of rank 0 once, of rank 1 twice
