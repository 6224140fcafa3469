"""Split batch norm is as many devices as it has groups: compared with that many real networks."""

import copy

import pytest
import torch
from torch import nn

from whytransfer.backbones.resnet import BasicBlock, build
from whytransfer.errors import InputError
from whytransfer.nn.batchnorm import SplitBatchNorm1d, SplitBatchNorm2d, groups_here, shuffled, split_batch_norm


def devices(encoder, batch, groups):
    """Plain copies of the encoder, one per group, each fed its own share; copies share the encoder's weights."""
    copies = [copy.deepcopy(encoder) for _ in range(groups)]
    for one in copies:
        for name, module in one.named_modules():
            module._parameters = encoder.get_submodule(name)._parameters
    return copies, torch.cat([one(part) for one, part in zip(copies, batch.chunk(groups), strict=True)])


def test_eight_groups_equal_eight_networks_in_outputs_gradients_and_statistics():
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
    plain = nn.Sequential(stem, BasicBlock(8, 8, 1, nn.BatchNorm2d), BasicBlock(16, 8, 2, nn.BatchNorm2d)).double()
    split = split_batch_norm(copy.deepcopy(plain), 8)
    batch = torch.rand(32, 3, 6, 6, dtype=torch.float64)
    copies, expected = devices(plain, batch, 8)
    ours = split(batch)
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    weights = torch.randn_like(expected)
    (ours * weights).sum().backward()
    (expected * weights).sum().backward()
    for (name, p), reference in zip(split.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(p.grad, reference.grad, rtol=1e-8, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}")
    for name in ("0.1.running_mean", "2.downsample.1.running_var"):
        mean = torch.stack([one.state_dict()[name] for one in copies]).mean(0)
        torch.testing.assert_close(split.state_dict()[name], mean, rtol=1e-10, atol=1e-12)
    assert int(split[0][1].num_batches_tracked) == 1


def test_the_groups_are_dealt_over_the_processes(monkeypatch):
    """Of eight groups each of two processes makes four, so that the whole batch falls into eight on any number."""
    norm = split_batch_norm(nn.Sequential(nn.BatchNorm1d(5)), 8).train()
    x = torch.randn(32, 5, dtype=torch.float64)
    norm.double()
    alone = norm(x)
    monkeypatch.setattr("whytransfer.nn.batchnorm.world", lambda: (0, 2))
    torch.testing.assert_close(torch.cat([norm(x[:16]), norm(x[16:])]), alone, rtol=0, atol=0)
    monkeypatch.setattr("whytransfer.nn.batchnorm.world", lambda: (0, 3))
    with pytest.raises(InputError, match="in 8 groups cannot be dealt over 3 processes.*a multiple of 3"):
        norm(x)
    assert groups_here(1) == 1  # one group: plain batch norm, of each process


def test_state_dict_and_parameters_stay_those_of_the_plain_network():
    plain = build("resnet18-small")
    before, parameters = {k: v.clone() for k, v in plain.state_dict().items()}, list(plain.parameters())
    split = split_batch_norm(plain, 4)
    assert split is plain and sum(isinstance(m, SplitBatchNorm2d) for m in plain.modules()) == 20
    assert list(plain.state_dict()) == list(before)
    assert all(torch.equal(plain.state_dict()[k], v) for k, v in before.items())
    assert [id(p) for p in plain.parameters()] == [id(p) for p in parameters]


def test_evaluation_is_plain_batch_norm():
    norm, plain = SplitBatchNorm2d(5, 4), nn.BatchNorm2d(5)
    norm(torch.randn(8, 5, 3, 3))
    plain.load_state_dict(norm.state_dict())
    x = torch.randn(3, 5, 2, 2)
    assert torch.equal(norm.eval()(x), plain.eval()(x))


def test_heads_are_split_too():
    norm, plain = SplitBatchNorm1d(5, 2), nn.BatchNorm1d(5)
    x = torch.randn(8, 5)
    torch.testing.assert_close(norm(x), torch.cat([plain(x[:4]), plain(x[4:])]))


def test_mixed_precision_keeps_layout_and_agrees_with_full_precision():
    x = torch.randn(16, 8, 6, 6).to(memory_format=torch.channels_last)
    norm = SplitBatchNorm2d(8, 4)
    full = norm(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = norm(x.bfloat16())
    assert half.dtype == torch.bfloat16 and half.is_contiguous(memory_format=torch.channels_last)
    assert full.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(half.float(), full, rtol=0.02, atol=0.02)


def test_groups_do_not_see_each_other_and_shuffling_regroups():
    norm = SplitBatchNorm1d(4, 2)
    x = torch.randn(8, 4)
    y = norm(x)
    changed = x.clone()
    changed[5] += 3
    assert torch.equal(norm(changed)[:4], y[:4]) and not torch.allclose(norm(changed)[4:], y[4:])
    order = torch.tensor([0, 4, 1, 5, 2, 6, 3, 7])
    mixed = shuffled(norm, x, order)
    torch.testing.assert_close(mixed[[0, 4, 1, 5]], norm(torch.cat([x[[0, 4, 1, 5]], x[[2, 6, 3, 7]]]))[:4])


def test_shuffling_gives_every_row_back_to_its_image():
    x, order = torch.randn(9, 2), torch.randperm(9)
    assert torch.equal(shuffled(lambda rows: 2 * rows, x, order), 2 * x)


@pytest.mark.parametrize(("batch", "groups"), [(10, 4), (4, 4), (2, 8)])
def test_refuses_groups_that_do_not_come_out_even(batch, groups):
    with pytest.raises(
        InputError, match=f"batch norm in {groups} groups needs a batch of a multiple of {groups}.*got {batch}"
    ):
        SplitBatchNorm1d(3, groups)(torch.randn(batch, 3))
