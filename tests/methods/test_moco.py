"""MoCo against its pseudocode written out, and the order facts that others got wrong."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from tiny import Tiny, views
from torch import nn

from whytransfer import chance
from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.methods.moco import MoCoV1, MoCoV2
from whytransfer.nn.losses import info_nce
from whytransfer.nn.schedules import build_optimizer


def moco_v2(queue=32, seed=3, splits=2, **options):
    method = build("moco-v2", Tiny(), classes=None, images=100, seed=seed, queue=queue, dim=4, splits=splits, **options)
    return method.double().train()


class PaperMoCo:
    """The pseudocode of [He 2020, alg. 1] with the projector of v2, on `devices` devices, one line at a time."""

    names = ("conv", "gain", "shift", "w1", "b1", "w2", "b2")

    def __init__(self, method, devices):
        b, p = method.backbone, method.projector
        start = (b.conv.weight, b.bn.weight, b.bn.bias, p[0].weight, p[0].bias, p[2].weight, p[2].bias)
        self.f_q = {n: t.detach().clone().requires_grad_() for n, t in zip(self.names, start, strict=True)}
        self.f_k = {n: t.detach().clone() for n, t in self.f_q.items()}
        self.velocity = {n: torch.zeros_like(t) for n, t in self.f_k.items()}
        self.queue, self.devices, self.seed = method.queue.keys.clone(), devices, method.seed

    def encode(self, f, images):
        out = []
        for part in images.chunk(self.devices):  # each device alone
            x = F.conv2d(part, f["conv"])
            mean, var = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, correction=0)
            x = (x - mean) / (var + 1e-5).sqrt() * f["gain"].view(1, -1, 1, 1) + f["shift"].view(1, -1, 1, 1)
            z = F.relu(F.relu(x).mean((2, 3)) @ f["w1"].T + f["b1"]) @ f["w2"].T + f["b2"]
            out.append(z / z.norm(dim=1, keepdim=True))
        return torch.cat(out)

    def momentum_update(self, m):
        for n in self.names:
            self.f_k[n] = m * self.f_k[n] + (1 - m) * self.f_q[n].detach()

    def step(self, x_q, x_k, t, m, T, lr, decay):
        self.momentum_update(m)  # before the keys, as the code of the paper does
        order = torch.from_numpy(chance.permutation(self.seed, t, len(x_k)))
        shuffled_keys = self.encode(self.f_k, x_k[order])
        k = shuffled_keys[torch.argsort(order)]
        q = self.encode(self.f_q, x_q)
        l_pos = torch.stack([q[i] @ k[i] for i in range(len(q))])[:, None]
        l_neg = q @ self.queue.T
        loss = F.cross_entropy(torch.cat([l_pos, l_neg], dim=1) / T, torch.zeros(len(q), dtype=torch.long))
        gradients = torch.autograd.grad(loss, list(self.f_q.values()))
        with torch.no_grad():
            for n, g in zip(self.names, gradients, strict=True):
                self.velocity[n] = 0.9 * self.velocity[n] + g + decay * self.f_q[n]
                self.f_q[n] -= lr * self.velocity[n]
        self.queue = torch.cat([self.queue[len(k) :], k])  # oldest first
        return loss.detach()


def test_three_steps_equal_the_pseudocode():
    ours = moco_v2(m=0.9)
    paper = PaperMoCo(ours, devices=2)
    optimizer = build_optimizer(MoCoV2.defaults, ours)
    for t in range(3):
        v = views(seed=t)
        out = ours.loss(v)
        out["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        ours.after_step({k: x.detach() for k, x in out.items()}, progress=0.0)
        expected = paper.step(*v.images, t, m=0.9, T=0.2, lr=0.03, decay=1e-4)
        torch.testing.assert_close(out["loss"].detach(), expected, rtol=1e-10, atol=0)
    paper.momentum_update(0.9)  # ours has done it already: nothing lies between the end of a step and the next
    b, p = ours.key_backbone, ours.key_projector
    keys = (b.conv.weight, b.bn.weight, b.bn.bias, p[0].weight, p[0].bias, p[2].weight, p[2].bias)
    for name, tensor in zip(PaperMoCo.names, keys, strict=True):
        torch.testing.assert_close(tensor, paper.f_k[name], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ours.backbone.conv.weight, paper.f_q["conv"], rtol=1e-9, atol=1e-12)
    oldest_first = ours.queue.keys.roll(-int(ours.queue.pointer), dims=0)
    torch.testing.assert_close(oldest_first, paper.queue, rtol=1e-9, atol=1e-12)


def test_no_key_is_its_own_negative():
    method, v = moco_v2(queue=8), views()
    before = method.queue.keys.clone()
    out = method.loss(v)
    assert torch.equal(method.queue.keys, before)  # the loss only reads
    method.after_step(out, 0.0)
    assert torch.equal(method.queue.keys, out["keys"])  # these keys, all of them, and only now
    # with its positive among the negatives a loss could never fall below log 2
    q = k = out["keys"].detach()
    assert float(info_nce(q, k, -q, 0.2)) < math.log(2) <= float(info_nce(q, k, torch.cat([-q, q]), 0.2))


def test_queue_ends_up_with_the_last_keys_of_all_parts_in_order():
    method, kept = moco_v2(queue=24), []
    for t in range(5):
        parts = [method.loss(views(batch=4, seed=10 * t + i))["keys"] for i in range(2)]
        method.after_step({"keys": torch.cat(parts)}, 0.0)
        kept += parts
    assert torch.equal(method.queue.keys.roll(-int(method.queue.pointer), dims=0), torch.cat(kept[-6:]))


def test_key_encoder_starts_as_the_query_encoder_and_is_never_trained():
    method = moco_v2()
    for q, k in ((method.backbone, method.key_backbone), (method.projector, method.key_projector)):
        assert all(torch.equal(a, b) for a, b in zip(q.state_dict().values(), k.state_dict().values(), strict=True))
        assert not any(p.requires_grad for p in k.parameters())
    method.loss(views())["loss"].backward()
    assert all(p.grad is None for p in method.key_backbone.parameters())
    assert all(p.grad is not None for p in [*method.backbone.parameters(), *method.projector.parameters()])


def test_the_first_view_is_the_query():
    method, v = moco_v2(), views()
    im_q, im_k = (x.clone().requires_grad_() for x in v.images)
    method.contrast(im_q, im_k)["loss"].backward()
    assert im_q.grad is not None and im_k.grad is None
    other = copy.deepcopy(method)
    torch.testing.assert_close(method.loss(v)["keys"], other.encode_keys(v.images[1]), rtol=0, atol=0)


def test_keys_have_other_neighbours_than_queries_and_others_at_the_next_step():
    method, x = moco_v2(), views().images[0]
    first = method.encode_keys(x)
    query = F.normalize(method.projector(method.backbone(x).vector), dim=1)  # equal weights, but groups in order
    assert not torch.allclose(first, query)
    assert torch.equal(first, method.encode_keys(x))
    method.steps += 1
    assert not torch.allclose(first, method.encode_keys(x))


def test_one_group_makes_shuffling_invisible():
    method, x = moco_v2(splits=1), views().images[0]
    first = method.encode_keys(x)
    method.steps += 1
    torch.testing.assert_close(first, method.encode_keys(x))


def test_a_resumed_method_goes_on_alike():
    method = moco_v2()
    method.after_step(method.loss(views(seed=1)), 0.0)
    other = moco_v2(seed=9)
    other.seed = method.seed
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert other.steps == 1
    a, b = method.loss(views(seed=2)), other.loss(views(seed=2))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(("name", "T", "layers"), [("moco-v1", 0.07, 1), ("moco-v2", 0.2, 3)])
def test_papers_settings(name, T, layers):
    assert options_of(name) == {"dim": 128, "queue": 65536, "m": 0.999, "T": T, "splits": 8}
    method = METHODS[name](Tiny(), classes=None, images=10**6)
    assert len(list(method.projector.modules())) == {1: 1, 3: 4}[layers] and method.recipe == name
    assert not any(isinstance(m, nn.BatchNorm1d) for m in method.projector.modules())
    assert method.queue.keys.shape == (65536, 128) and method.views == 2 and method.needs == ()


def test_mixed_precision_keeps_keys_and_loss_in_float32():
    method = MoCoV1(Tiny(), classes=None, images=64, queue=32, splits=4)
    method = method.to(memory_format=torch.channels_last).train()
    v = views(batch=16, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = method.loss(v)
    out["loss"].backward()
    assert out["loss"].dtype == out["keys"].dtype == torch.float32 and out["loss"].isfinite()
    torch.testing.assert_close(out["keys"].norm(dim=1), torch.ones(16))


@pytest.mark.parametrize(
    ("batch", "parts", "text"), [(12, 1, "not divisible by a batch of 12"), (16, 16, "batch norm in 2 groups")]
)
def test_a_batch_is_refused_before_anything_is_computed(batch, parts, text):
    moco_v2().check_batch(16, 2)
    with pytest.raises(InputError, match=text):
        moco_v2().check_batch(batch, parts)
