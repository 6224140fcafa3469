"""Batch norm over processes against PyTorch's on the joined batch: outputs, all gradients, running statistics."""

import copy

import pytest
import torch
from torch import nn
from worlds import in_processes

from whytransfer.nn.batchnorm import split_batch_norm
from whytransfer.nn.gather import gather
from whytransfer.nn.joined_norm import JoinedBatchNorm1d, JoinedBatchNorm2d, average_statistics, join_batch_norm


def network():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4, affine=False)]
    head = [nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5)]
    return nn.Sequential(*body, *head).double()


def batch():
    g = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 7, 7, generator=g, dtype=torch.float64), torch.randn(8, 5, generator=g).double()


def computed(net, x, weights, world):
    """Output, gradients of the images and of the weights (summed over processes), statistics: of all rows."""
    x = x.clone().requires_grad_()
    y = net(x)
    (y * weights).sum().backward()
    joined = {name: gather(p.grad[None]).sum(0) for name, p in net.named_parameters()}
    return {"y": gather(y.detach()), "x": gather(x.grad), **joined, **dict(net.named_buffers())}


def on_a_share(rank, world):
    x, weights = batch()
    mine = slice(8 * rank // world, 8 * (rank + 1) // world)
    found = computed(join_batch_norm(network()), x[mine], weights[mine], world)
    groups = split_batch_norm(network(), 4)
    groups(x[mine])
    average_statistics(groups)
    half = join_batch_norm(network()).float()
    with torch.autocast("cpu", torch.bfloat16):
        y = half[:2](x[mine].float().to(memory_format=torch.channels_last))
    kept = torch.tensor(y.dtype == torch.bfloat16 and y.is_contiguous(memory_format=torch.channels_last))
    return {"joined": found, "groups": dict(groups.named_buffers()), "layout kept": kept, "half": gather(y.detach())}


@pytest.mark.parametrize("world", [2, 4])
def test_processes_normalise_as_one_with_the_joined_batch(world, tmp_path):
    x, weights = batch()
    expected, groups = computed(network(), x, weights, 1), split_batch_norm(network(), 4)
    groups(x)
    for found in in_processes(on_a_share, world, tmp_path):
        assert found["joined"].keys() == expected.keys()
        torch.testing.assert_close(found["joined"], expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found["groups"], dict(groups.named_buffers()), rtol=1e-12, atol=1e-14)
        assert found["layout kept"]
        torch.testing.assert_close(found["half"].double(), network()[:2](x), rtol=0.02, atol=0.02)


def test_alone_and_in_evaluation_it_is_plain_batch_norm_and_groups_stay():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm1d(3)))
    plain = copy.deepcopy(net)
    joined = join_batch_norm(net)
    assert type(joined[0]) is JoinedBatchNorm2d and type(joined[1][0]) is JoinedBatchNorm1d
    assert joined.state_dict().keys() == plain.state_dict().keys()
    x = torch.randn(4, 3, 2, 2)
    for training in (True, False):
        assert torch.equal(joined[0].train(training)(x), plain[0].train(training)(x))
    kinds = [type(join_batch_norm(split_batch_norm(nn.Sequential(nn.BatchNorm2d(3)), n))[0]).__name__ for n in (1, 2)]
    assert kinds == ["JoinedBatchNorm2d", "SplitBatchNorm2d"]
