"""Exemplar on the keys of the batch (test_exemplar.py has its identity with moco-v2-small under unique labels)."""

import copy
import math

import pytest
import torch
from tiny import Tiny, views

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.methods.exemplar_small import ExemplarSmall
from whytransfer.records import Views


def made(**options):
    return build("exemplar-small", Tiny(), classes=3, images=64, dim=4, hidden=8, **options).double().train()


def test_classmates_of_the_batch_leave_the_denominator():
    method, v, total = made(T=0.3), views(batch=6), 0.0
    other = copy.deepcopy(method).requires_grad_(False).moco
    for one, two in (v.images, v.images[::-1]):
        q, k = other.encode(one), other.encode_keys(two)
        for i in range(6):
            terms = [math.exp(q[i] @ k[j] / 0.3) for j in range(6) if v.labels[j] != v.labels[i]]
            own = math.exp(q[i] @ k[i] / 0.3)
            total -= math.log(own / (own + sum(terms))) / 12
    assert float(method.loss(v)["loss"]) == pytest.approx(total, rel=1e-9)


def test_one_label_for_all_leaves_only_the_positive():
    method = made()
    v = views(batch=8)
    loss = method.loss(Views(v.images, v.index, torch.zeros(8, dtype=torch.int64)))["loss"]
    loss.backward()
    assert float(loss) == 0.0 and not any(p.grad.any() for p in method.backbone.parameters())


def test_settings_are_those_of_moco_v2_small():
    assert options_of("exemplar-small") == options_of("moco-v2-small")
    small, moco = METHODS["exemplar-small"], METHODS["moco-v2-small"]
    assert small is ExemplarSmall
    assert (small.recipe, small.defaults, small.needs) == (moco.recipe, moco.defaults, ("labels",))


def test_batches_without_enough_to_tell_apart_are_refused():
    made().check_batch(64, 2)
    with pytest.raises(InputError, match="8 images in 4 equal parts are too few"):
        made().check_batch(8, 4)
