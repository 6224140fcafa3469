"""NT-Xent, SupCon, BYOL and NCE against loops written from their formulas, against lightly, and in closed form."""

import math

import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.nn import byol, info_nce, nt_xent, supcon
from whytransfer.nn.losses import nce, supcon_queue, unit

SEEDS = [0, 1, 2]


def rows(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_nt_xent(z1, z2, T):
    """[Chen 2020, eq. 1], one anchor at a time."""
    z = [x / x.norm() for x in (*z1, *z2)]
    n, total = len(z), 0.0
    for i in range(n):
        j = (i + n // 2) % n
        total -= math.log(math.exp(z[i] @ z[j] / T) / sum(math.exp(z[i] @ z[k] / T) for k in range(n) if k != i))
    return total / n


def slow_supcon(z, labels, T):
    """[Khosla 2020, eq. 2], one anchor and one positive at a time."""
    flat = [(x / x.norm(), int(y)) for image, y in zip(z, labels, strict=True) for x in image]
    total = 0.0
    for i, (a, y) in enumerate(flat):
        others = [j for j in range(len(flat)) if j != i]
        below = sum(math.exp(a @ flat[j][0] / T) for j in others)
        positives = [j for j in others if flat[j][1] == y]
        terms = [math.log(math.exp(a @ flat[p][0] / T) / below) for p in positives]
        total -= sum(terms) / len(terms) if terms else 0.0
    return total / len(flat)


@pytest.mark.parametrize("T", [0.1, 0.5])
@pytest.mark.parametrize("seed", SEEDS)
def test_nt_xent_is_the_slow_loop_and_lightlys(seed, T):
    z1, z2 = rows(7, 5, seed=seed), rows(7, 5, seed=seed + 10)
    ours = nt_xent(z1, z2, T)
    assert float(ours) == pytest.approx(slow_nt_xent(z1, z2, T), rel=1e-12)
    loss = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    torch.testing.assert_close(ours, loss.NTXentLoss(temperature=T)(z1, z2), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_supcon_is_the_slow_loop(seed, views):
    z, labels = rows(6, views, 5, seed=seed), torch.tensor([0, 1, 0, 2, 1, 0])  # class 2 has one image
    assert float(supcon(z, labels, 0.3)) == pytest.approx(slow_supcon(z, labels, 0.3), rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_byol_is_the_squared_distance_and_lightlys(seed):
    p, z = rows(6, 5, seed=seed), rows(6, 5, seed=seed + 10)
    slow = sum(float(((a / a.norm() - b / b.norm()) ** 2).sum()) for a, b in zip(p, z, strict=True)) / 6
    assert float(byol(p, z)) == pytest.approx(slow, rel=1e-12)
    loss = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    torch.testing.assert_close(byol(p, z), 2 + 2 * loss.NegativeCosineSimilarity()(p, z))


@pytest.mark.parametrize("seed", SEEDS)
def test_nce_is_the_slow_loop(seed):
    q, k, noise = unit(rows(4, 5, seed=seed)), unit(rows(4, 5, seed=seed + 1)), unit(rows(9, 5, seed=seed + 2))
    T, images, Z, total = 0.2, 50, 33.0, 0.0
    for i in range(4):  # [Wu 2018, eq. 6 and 7]
        h = [(math.exp(q[i] @ v / T) / Z) / (math.exp(q[i] @ v / T) / Z + 9 / images) for v in (k[i], *noise)]
        total -= math.log(h[0]) + sum(math.log(1 - x) for x in h[1:])
    ours = nce(q, k, noise, T, images, torch.tensor(Z))
    assert float(ours) == pytest.approx(total / 4, rel=1e-6)  # Z is float32


@pytest.mark.parametrize("seed", SEEDS)
def test_supcon_on_a_queue_is_the_slow_loop(seed):
    q, k, queue = unit(rows(4, 5, seed=seed)), unit(rows(4, 5, seed=seed + 1)), unit(rows(9, 5, seed=seed + 2))
    labels, queued, T, total = torch.tensor([0, 1, 5, -1]), torch.tensor([0, 1, 0, 2, -1, -1, 1, 0, 0]), 0.2, 0.0
    for i in range(4):
        keys = [k[i], *queue]
        below = sum(math.exp(q[i] @ key / T) for key in keys)
        positives = [0] + [1 + j for j in range(9) if queued[j] == labels[i] >= 0]
        total -= sum(math.log(math.exp(q[i] @ keys[p] / T) / below) for p in positives) / len(positives)
    assert float(supcon_queue(q, k, labels, queue, queued, T)) == pytest.approx(total / 4, rel=1e-12)


def test_without_classmates_supcon_is_nt_xent():
    z1, z2 = rows(6, 5, seed=1), rows(6, 5, seed=2)
    z, expected = torch.stack([z1, z2], dim=1), nt_xent(z1, z2, 0.2)
    torch.testing.assert_close(supcon(z, torch.arange(6), 0.2), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(supcon(z, torch.full((6,), -1), 0.2), expected, rtol=1e-12, atol=0)  # unlabelled
    q, k, queue = unit(z1), unit(z2), unit(rows(9, 5, seed=3))
    alone = supcon_queue(q, k, torch.arange(6), queue, torch.arange(10, 19), 0.2)
    torch.testing.assert_close(alone, info_nce(q, k, queue, 0.2), rtol=1e-12, atol=0)


def test_an_image_that_is_alone_in_its_class_has_its_own_view():
    z, labels = rows(4, 2, 5), torch.tensor([0, 0, 0, 9])
    swapped = torch.tensor([3, 3, 3, 1])  # other names, same classes
    torch.testing.assert_close(supcon(z, labels, 0.2), supcon(z, swapped, 0.2), rtol=0, atol=0)
    single = rows(3, 1, 5).requires_grad_()
    loss = supcon(single, torch.tensor([0, 0, 1]), 0.2)  # one view: the last has no positive and adds 0
    assert float(loss.detach()) == pytest.approx(slow_supcon(single.detach(), torch.tensor([0, 0, 1]), 0.2))
    assert torch.autograd.grad(loss, single)[0].isfinite().all()


def test_closed_forms():
    same = torch.ones(5, 3, dtype=torch.float64)
    assert float(nt_xent(same, same, 0.1)) == pytest.approx(math.log(9), rel=1e-12)  # 10 equal views
    assert float(supcon(same[:, None].expand(5, 2, 3), torch.zeros(5), 0.1)) == pytest.approx(math.log(9), rel=1e-12)
    axes = torch.eye(4, dtype=torch.float64)
    expected = math.log(1 + 6 * math.exp(-1 / 0.5))  # own view at cosine 1, six others at 0
    assert float(nt_xent(axes, axes, 0.5)) == pytest.approx(expected, rel=1e-12)
    assert [float(byol(axes, x)) for x in (axes, -axes, axes.roll(1, 0))] == [0.0, 4.0, 2.0]
    half = nce(axes[:1], axes[:1], axes[:1], 1.0, images=1, z=torch.tensor(math.e, dtype=torch.float64))
    assert float(half) == pytest.approx(2 * math.log(2), rel=1e-12)  # data and noise are equally likely


@pytest.mark.parametrize("seed", SEEDS)
def test_neither_the_order_of_images_nor_that_of_views_matters(seed):
    z1, z2, labels = rows(6, 5, seed=seed), rows(6, 5, seed=seed + 1), torch.tensor([0, 1, 0, 2, 1, 0])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    for other in ((z1[order], z2[order]), (z2, z1)):
        torch.testing.assert_close(nt_xent(*other, 0.2), nt_xent(z1, z2, 0.2), rtol=1e-12, atol=0)
    z = torch.stack([z1, z2], dim=1)
    for other, names in ((z[order], labels[order]), (z.flip(1), labels)):
        torch.testing.assert_close(supcon(other, names, 0.2), supcon(z, labels, 0.2), rtol=1e-12, atol=0)


def test_length_does_not_matter_and_half_precision_is_left():
    z1, z2 = rows(4, 8, seed=1).float(), rows(4, 8, seed=2).float()
    torch.testing.assert_close(nt_xent(3 * z1, 0.5 * z2, 0.1), nt_xent(z1, z2, 0.1))
    torch.testing.assert_close(byol(3 * z1, 0.5 * z2), byol(z1, z2))
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent(z1, z2, 0.1), supcon(torch.stack([z1, z2], 1), torch.arange(4), 0.1), byol(z1, z2)
    assert all(x.dtype == torch.float32 for x in inside)
    torch.testing.assert_close(inside[0], nt_xent(z1, z2, 0.1), rtol=0, atol=0)


def test_a_single_view_has_nothing_to_be_compared_with():
    with pytest.raises(InputError, match="one view of one image has nothing to be compared with"):
        supcon(rows(1, 1, 4), torch.tensor([0]), 0.1)
