"""The DetCon loss against a loop written from its formula, against lightly's, and in the cases that have a name."""

import math
import sys

import pytest
import torch
from worlds import in_processes

from whytransfer.errors import InputError
from whytransfer.nn import detcon, info_nce
from whytransfer.nn import detcon as public
from whytransfer.nn.gather import gather


def rows(batch=4, draws=5, dim=6, seed=0, dtype=torch.float64):
    """q1, q2, z1, z2 and ids of three regions, so that draws repeat and some regions are in one view only."""
    g = torch.Generator().manual_seed(seed)
    vectors = [torch.randn(batch, draws, dim, generator=g, dtype=dtype) for _ in range(4)]
    return vectors, [torch.randint(0, 4, (batch, draws), generator=g) for _ in range(2)]


def slow(q1, q2, z1, z2, ids1, ids2, T=0.1, local_negatives=True, peers=lambda b, g: True):
    """The formula, term by term: every anchor of both views, its positives, its negatives, its weight."""
    unit = [torch.nn.functional.normalize(x, dim=-1) for x in (q1, q2, z1, z2)]
    q, z, ids = unit[:2], unit[2:], (ids1.tolist(), ids2.tolist())
    batch, draws = ids1.shape
    total = torch.zeros((), dtype=q1.dtype)
    for v, b, m in torch.cartesian_prod(torch.arange(2), torch.arange(batch), torch.arange(draws)).tolist():
        own, other = ids[v][b], ids[1 - v][b]
        positives = [(1 - v, b, n) for n in range(draws) if other[n] == own[m]]
        if own[m] < 0 or not positives:
            continue
        keys = []
        for u, g, n in torch.cartesian_prod(torch.arange(2), torch.arange(batch), torch.arange(draws)).tolist():
            same_region_same_view = g == b and u == v and ids[u][g][n] == own[m]
            local = g == b and (u, g, n) not in positives
            if ids[u][g][n] >= 0 and peers(b, g) and not same_region_same_view and (local_negatives or not local):
                keys.append((u, g, n))
        logit = {key: (q[v][b, m] @ z[key[0]][key[1], key[2]]) / T for key in keys}
        log_sum = torch.stack([logit[key] for key in keys]).logsumexp(0)
        loss = log_sum - sum(logit[key] for key in positives) / len(positives)
        total = total + loss / own.count(own[m])
    return total / (batch * draws)


def gradients(loss, vectors):
    return torch.autograd.grad(loss, vectors, retain_graph=True)


@pytest.mark.parametrize("local_negatives", [True, False])
@pytest.mark.parametrize("T", [0.1, 1.0])
@pytest.mark.parametrize("absent", [False, True])
def test_value_and_gradients_are_those_of_a_slow_loop(local_negatives, T, absent):
    vectors, ids = rows()
    vectors = [x.requires_grad_() for x in vectors]
    if absent:
        ids[0][1], ids[1][2, 3], ids[0][3], ids[1][3] = -1, -1, -1, -1
    ours = detcon(*vectors, *ids, T, local_negatives)
    theirs = slow(*vectors, *ids, T, local_negatives)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(ours, vectors), gradients(theirs, vectors), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("logits", [1, 300, 1000])
def test_computed_a_few_images_at_a_time_it_is_the_same(monkeypatch, logits):
    vectors, ids = rows(batch=5)
    vectors = [x.requires_grad_() for x in vectors]
    whole = detcon(*vectors, *ids)
    expected = gradients(whole, vectors)
    monkeypatch.setattr(
        sys.modules["whytransfer.nn.detcon"], "LOGITS", {"cpu": logits}
    )  # nn.detcon itself is the function
    parts = detcon(*vectors, *ids)
    torch.testing.assert_close(parts, whole)
    torch.testing.assert_close(gradients(parts, vectors), expected)


def test_keys_without_gradient_and_anchors_that_are_keys():
    vectors, ids = rows()
    q1, q2, z1, z2 = (x.requires_grad_() for x in vectors)
    ours, theirs = detcon(q1, q2, z1.detach(), z2.detach(), *ids), slow(q1, q2, z1.detach(), z2.detach(), *ids)
    torch.testing.assert_close(gradients(ours, [q1, q2]), gradients(theirs, [q1, q2]))
    assert all(g is None for g in torch.autograd.grad(ours, [z1, z2], allow_unused=True))
    both, looped = detcon(q1, q2, q1, q2, *ids), slow(q1, q2, q1, q2, *ids)
    torch.testing.assert_close(both, looped)
    torch.testing.assert_close(gradients(both, [q1, q2]), gradients(looped, [q1, q2]))


@pytest.mark.parametrize("kind", ["DetConBLoss", "DetConSLoss"])
@pytest.mark.parametrize("draws", [1, 16])
def test_lightly_gives_the_same(kind, draws):
    lightly = pytest.importorskip("lightly.loss", reason="lightly is not installed (extra bench)")
    (q1, q2, z1, z2), ids = rows(batch=8, draws=draws, dim=32, dtype=torch.float32)
    loss = getattr(lightly, kind)(temperature=0.1, gather_distributed=False)
    if kind == "DetConSLoss":
        z1, z2 = q1, q2
        theirs = loss(q1, q2, *ids)
    else:
        theirs = loss(q1, q2, z1, z2, *ids)
    torch.testing.assert_close(detcon(q1, q2, z1, z2, *ids), theirs, rtol=1e-6, atol=1e-6)


def nt_xent(z1, z2, T):
    """NT-Xent [Chen 2020], by its formula: mean over the 2 B anchors."""
    z = torch.nn.functional.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / T).fill_diagonal_(-torch.inf)
    own = torch.arange(len(z)).roll(len(z1))
    return torch.nn.functional.cross_entropy(logits, own)


def test_one_region_per_image_is_twice_nt_xent():
    (z1, z2, *_), _ = rows(batch=7, draws=1)
    same = torch.zeros(7, 1, dtype=torch.int64)
    torch.testing.assert_close(detcon(z1, z2, z1, z2, same, same), 2 * nt_xent(z1[:, 0], z2[:, 0], 0.1))


def test_without_a_region_in_common_it_is_zero_with_zero_gradients():
    vectors, (ids1, _) = rows()
    vectors = [x.requires_grad_() for x in vectors]
    for ids2 in (ids1 + 10, torch.full_like(ids1, -1)):
        loss = detcon(*vectors, ids1, ids2)
        assert loss.item() == 0 and all((g == 0).all() for g in gradients(loss, vectors))
    nothing = torch.full_like(ids1, -1)
    loss = detcon(*vectors, nothing, nothing)
    assert loss.item() == 0 and all((g == 0).all() for g in gradients(loss, vectors))


def test_a_region_weighs_one_however_often_it_was_drawn():
    """The anchors 0, 1, 1, 1 of view 1 weigh 1, 1/3, 1/3, 1/3: all vectors alike, every anchor's loss is one number."""
    same = torch.ones(1, 4, 3, dtype=torch.float64)
    ids1, ids2 = torch.tensor([[0, 1, 1, 1]]), torch.tensor([[0, 1, 5, 6]])
    forward = math.log(4 + 3) + math.log(4 + 1)  # keys left to regions 0 and 1: of view 2 all, of view 1 the others
    backward = 2 * math.log(4 + 3)  # regions 0 and 1 of view 2; 5 and 6 have no partner
    expected = torch.tensor((forward + backward) / 4, dtype=torch.float64)
    torch.testing.assert_close(detcon(same, same, same, same, ids1, ids2), expected)


def test_views_may_be_swapped_and_images_reordered():
    (q1, q2, z1, z2), (ids1, ids2) = rows()
    whole = detcon(q1, q2, z1, z2, ids1, ids2)
    torch.testing.assert_close(detcon(q2, q1, z2, z1, ids2, ids1), whole)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(detcon(*(x[order] for x in (q1, q2, z1, z2, ids1, ids2))), whole)
    renamed = torch.tensor([7, 254, 3, 0])
    torch.testing.assert_close(detcon(q1, q2, z1, z2, renamed[ids1], renamed[ids2]), whole)


def test_lengths_do_not_matter_and_half_precision_is_not_used():
    vectors, ids = rows(dtype=torch.float32)
    whole = detcon(*vectors, *ids)
    torch.testing.assert_close(detcon(*(3 * x for x in vectors), *ids), whole)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(detcon(*vectors, *ids), whole)
    assert detcon(*(x.bfloat16() for x in vectors), *ids).dtype == torch.float32


@pytest.mark.parametrize("cut", [2, 3, 6])
def test_cut_anchors_see_the_keys_of_their_part_only(cut):
    vectors, ids = rows(batch=6)
    part = 6 // cut
    expected = slow(*vectors, *ids, peers=lambda b, g: b // part == g // part)
    torch.testing.assert_close(detcon(*vectors, *ids, cut=cut), expected)


def test_a_part_may_be_the_batches_of_some_processes(monkeypatch):
    vectors, ids = rows(batch=8)
    ids[1][5] = -1
    keys = torch.nn.functional.normalize(torch.stack(vectors[2:], dim=1), dim=-1)
    of_all = {torch.float64: keys, torch.int64: torch.stack(ids, dim=1)}
    module, total = sys.modules[detcon.__module__], 0.0
    monkeypatch.setattr(module, "gather", lambda mine: of_all[mine.dtype])
    for rank in range(4):  # of two images each, and two processes make a part
        monkeypatch.setattr(module, "world", lambda rank=rank: (rank, 4))
        here = slice(2 * rank, 2 * rank + 2)
        total = total + detcon(*(x[here] for x in vectors), *(i[here] for i in ids), cut=2) / 4
    torch.testing.assert_close(total, slow(*vectors, *ids, peers=lambda b, g: b // 4 == g // 4))


def test_what_cannot_be_computed_is_refused():
    vectors, ids = rows(batch=6)
    with pytest.raises(InputError, match="keys of 6 images .6 per process. cannot be cut into 4 equal parts"):
        detcon(*vectors, *ids, cut=4)
    with pytest.raises(InputError, match="cannot be cut into 0 equal parts"):
        detcon(*vectors, *ids, cut=0)
    with pytest.raises(InputError, match=r"detcon needs q1, q2, z1, z2 \(B, M, D\) and ids1, ids2 \(B, M\), got"):
        detcon(*vectors, ids[0], ids[1][:, :2])
    with pytest.raises(InputError, match="temperature above 0"):
        detcon(*vectors, *ids, 0.0)


def test_it_is_public_and_beside_the_others():
    assert public is detcon and callable(info_nce)


def _joined(symmetric, cut):
    """Loss and gradients of the joined batch of 8 images, in one process."""
    (q1, q2, z1, z2), ids = rows(batch=8)
    ids[1][5] = -1
    q1, q2 = q1.requires_grad_(), q2.requires_grad_()
    z1, z2 = (q1, q2) if symmetric else (z1, z2)
    loss = detcon(q1, q2, z1, z2, *ids, cut=cut)
    loss.backward()
    return loss.detach(), q1.grad, q2.grad


def _shares(rank, world):
    found = []
    for symmetric, cut in CASES:
        vectors, ids = rows(batch=8)
        ids[1][5] = -1
        here = slice(8 * rank // world, 8 * (rank + 1) // world)
        q1, q2, z1, z2 = (x[here].clone() for x in vectors)
        q1.requires_grad_(), q2.requires_grad_()
        z1, z2 = (q1, q2) if symmetric else (z1, z2)
        loss = detcon(q1, q2, z1, z2, *(i[here] for i in ids), cut=cut)
        loss.backward()
        found.append((gather(loss.detach()[None]).mean(), gather(q1.grad) / world, gather(q2.grad) / world))  # DDP's
    return found


CASES = [(symmetric, cut) for symmetric in (True, False) for cut in (1, 2, 4)]


def test_two_processes_give_what_one_gives_on_the_joined_batch(tmp_path):
    for found in in_processes(_shares, 2, tmp_path):
        for (symmetric, cut), values in zip(CASES, found, strict=True):
            torch.testing.assert_close(values, _joined(symmetric, cut))
