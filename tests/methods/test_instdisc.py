"""InstDisc against loops over its bank, and what the bank remembers."""

import copy
import math

import pytest
import torch
from tiny import Tiny, views

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.records import Views


def made(name="instdisc", seed=3, images=20, **options):
    return build(name, Tiny(), classes=None, images=images, seed=seed, dim=4, **options).double().train()


def batch(seed=0, index=(3, 7, 0, 19)):
    v = views(batch=4, seed=seed, count=1)
    return Views(v.images, torch.tensor(index), v.labels)


def features(method, v):
    other = copy.deepcopy(method).requires_grad_(False)
    z = other.projector(other.backbone(v.images[0]).vector)
    return [x / x.norm() for x in z]


def test_noise_contrast_is_the_one_of_a_slow_loop_and_keeps_its_first_constant():
    method, T, Z = made(negatives=9, T=0.5), 0.5, None
    for step in range(3):
        v = batch(seed=step, index=[3 + step, 7, 0, 19])
        rows, drawn, total = method.bank.rows, method.bank.draw(9, step).tolist(), 0.0
        scores = [
            [math.exp(f @ rows[j] / T) for j in (int(i), *drawn)]
            for f, i in zip(features(method, v), v.index, strict=True)
        ]
        Z = Z or 20 * sum(map(sum, scores)) / 40  # [Wu 2018, eq. 8], of the first batch
        for own, *noise in scores:
            total -= math.log((own / Z) / (own / Z + 9 / 20))
            total -= sum(math.log((9 / 20) / (x / Z + 9 / 20)) for x in noise)
        out = method.loss(v)
        assert float(out["loss"]) == pytest.approx(total / 4, rel=1e-6)
        method.after_step({k: x.detach() for k, x in out.items()}, 0.0)
        assert float(method.Z) == pytest.approx(Z, rel=1e-6)


def test_the_softmax_runs_over_the_whole_bank():
    method, v = made("instdisc-softmax", T=0.5), batch()
    total = 0.0
    for f, i in zip(features(method, v), v.index.tolist(), strict=True):  # [Wu 2018, eq. 2]
        p = [math.exp(f @ row / 0.5) for row in method.bank.rows]
        total -= math.log(p[i] / sum(p)) / 4
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_the_softmax_over_drawn_entries_never_counts_the_own_one_twice():
    method, v = made("instdisc-softmax", T=0.5, negatives=15), batch(index=[1, 7, 4, 19])
    drawn, total = method.bank.draw(15, 0).tolist(), 0.0
    assert set(drawn) & set(v.index.tolist())
    for f, i in zip(features(method, v), v.index.tolist(), strict=True):
        p = [math.exp(f @ method.bank.rows[j] / 0.5) for j in drawn if j != i]
        own = math.exp(f @ method.bank.rows[i] / 0.5)
        total -= math.log(own / (own + sum(p))) / 4
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", ["instdisc", "instdisc-softmax", "instdisc-small"])
def test_the_bank_remembers_what_was_seen_after_the_step(name):
    method, v = made(name), batch()
    before, seen = method.bank.rows.clone(), torch.stack(features(method, v)).detach()
    out = method.loss(v)
    assert torch.equal(method.bank.rows, before)  # the loss only reads
    method.after_step({k: x.detach() for k, x in out.items()}, 0.0)
    mixed = method.m * before[v.index] + (1 - method.m) * seen
    torch.testing.assert_close(method.bank.rows[v.index], mixed / mixed.norm(dim=1, keepdim=True))
    others = [i for i in range(20) if i not in v.index.tolist()]
    assert torch.equal(method.bank.rows[others], before[others])


def test_draws_are_others_at_each_step_and_a_resumed_method_goes_on_alike():
    method = made(negatives=9)
    assert not torch.equal(method.bank.draw(9, 0), method.bank.draw(9, 1))
    out = method.loss(batch(seed=1))
    method.after_step({k: x.detach() for k, x in out.items()}, 0.0)
    other = made(negatives=9)
    other.load_state_dict(copy.deepcopy(method.state_dict()))
    assert other.steps == 1 and float(other.Z) == float(method.Z) > 0
    assert torch.equal(method.loss(batch(seed=2))["loss"], other.loss(batch(seed=2))["loss"])


def test_in_the_small_preset_an_entry_counts_once_its_image_was_seen():
    method, v = made("instdisc-small", T=0.5), batch()  # methods/instdisc_small.py
    out = method.loss(v)
    assert float(out["loss"]) == 0
    out["loss"].backward()
    assert all(p.grad is None or not p.grad.any() for p in method.parameters())
    method.after_step({k: x.detach() for k, x in out.items()}, 0.0)
    later, total = batch(seed=1, index=[7, 1, 19, 2]), 0.0  # 1 and 2 are new
    rows = method.bank.rows
    for f, i in zip(features(method, later), later.index.tolist(), strict=True):
        if i in (7, 19):
            p = {j: math.exp(f @ rows[j] / 0.5) for j in (3, 7, 0, 19)}
            total -= math.log(p[i] / sum(p.values())) / 2
    assert float(method.loss(later)["loss"].detach()) == pytest.approx(total, rel=1e-9)


def test_settings():
    assert options_of("instdisc") == {"dim": 128, "negatives": 4096, "m": 0.5, "T": 0.07}
    assert options_of("instdisc-softmax") == {"dim": 128, "negatives": 65536, "m": 0.5, "T": 0.07}
    assert METHODS["instdisc"].recipe == "moco-v1" and METHODS["instdisc"].views == 1
    assert METHODS["instdisc-small"].needs == ()


def test_one_image_is_refused_and_so_is_a_batch_of_one():
    with pytest.raises(InputError, match="memory bank of 1 image.*needs at least 2"):
        made(images=1)
    with pytest.raises(InputError, match="at least 2 images per forward pass, got 8 in 8 parts"):
        made().check_batch(8, 8)
