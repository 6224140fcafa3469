"""DetCon's methods against their steps written out by hand: regions, heads, target, gradients, order of events."""

import copy
import math

import pytest
import torch
from tiny import Tiny

from whytransfer.errors import InputError
from whytransfer.masks.pooling import chances, draw
from whytransfer.methods import METHODS, build
from whytransfer.methods.detcon_one_view import halves
from whytransfer.methods.detcon_small import SMALL, DetConBSmall, DetConSSmall
from whytransfer.nn import detcon
from whytransfer.records import Views

NAMES = ["detcon-s", "detcon-b", "detcon-s-one-view", "detcon-b-one-view", "detcon-s-small", "detcon-b-small"]


def made(name, seed=0, **options):
    options = {"dim": 4, "hidden": 8, "draws": 5} | options
    return build(name, Tiny(), classes=None, images=64, seed=seed, **options).double().train()


def views(batch=6, stack=False):
    """Pictures of 8 px (a map of 6 x 6 cells) and label maps of four ids, other ones in each view."""
    g = torch.Generator().manual_seed(1)
    images = tuple(torch.rand(batch, 3, 8, 8, generator=g, dtype=torch.float64) for _ in range(2))
    coarse = torch.randint(0, 4, (2, batch, 4, 4), generator=g, dtype=torch.uint8)
    maps = coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)
    regions = tuple((m[:, None] == torch.arange(4)[:, None, None]) if stack else m for m in maps)
    return Views(images, torch.arange(batch) + 10, torch.full((batch,), -1), regions)


def by_hand(method, v, networks):
    """Views -> what `networks` (backbone, head, head, ...) say of the drawn regions, region by region."""
    out, ids = [], []
    for view in (0, 1):
        backbone, *heads = (copy.deepcopy(n) for n in networks)
        features = backbone(v.images[view]).map
        drawn = draw(v.regions[view], (6, 6), chances(5, method.seed, method.steps, v.index, view))
        rows = []
        for b in range(len(features)):
            for m in range(5):
                inside = drawn.cells[b, m].view(6, 6).double()
                rows.append((features[b] * inside).sum((1, 2)) / inside.sum())
        x = torch.stack(rows)  # (B M, 6): batch norm sees them together
        for head in heads:
            x = head(x)
        out.append(x.view(len(features), 5, -1))
        ids.append(drawn.ids)
    return out, ids


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("local_negatives", [True, False])
def test_s_contrasts_the_projections_of_one_network(stack, local_negatives):
    method, v = made("detcon-s", local_negatives=local_negatives), views(stack=stack)
    z, ids = by_hand(method, v, [method.backbone, method.projector])
    expected = detcon(*z, *z, *ids, 0.1, local_negatives)
    torch.testing.assert_close(method.loss(v)["loss"], expected)


@pytest.mark.parametrize("cut", [1, 3])
def test_b_contrasts_predictions_with_projections_of_the_target(cut):
    method, v = made("detcon-b", cut=cut), views()
    q, ids = by_hand(method, v, [method.backbone, method.projector, method.predictor])
    z, _ = by_hand(method, v, [method.target_backbone, method.target_projector])
    out = method.loss(v)
    torch.testing.assert_close(out["loss"], detcon(*q, *z, *ids, 0.1, True, cut))
    found = [i in two for one, two in zip(ids[0].tolist(), ids[1].tolist(), strict=True) for i in one]
    assert float(out["matched"]) == pytest.approx(sum(found) / len(found))


def test_one_view_contrasts_the_halves_of_a_region():
    method, v = made("detcon-s-one-view"), views()
    v.regions[0][0].fill_(255)
    v.regions[0][1] = 0
    v.regions[0][1, 3, 3] = 2  # 9 / 16 of one cell
    features, one, two = halves(copy.deepcopy(method), v)
    drawn = draw(v.regions[0], (6, 6), chances(5, method.seed, method.steps, v.index, 0))
    torch.testing.assert_close(features, copy.deepcopy(method.backbone)(v.images[0]).map)
    assert (one.ids[0] == -1).all() and (one.cells[0] == 1).all()
    z = []
    for half, other in ((one, two), (two, one)):
        there = half.ids >= 0
        assert torch.equal(half.ids[there], drawn.ids[there]) and (half.cells[~there] == 1).all()
        both = there & (other.ids >= 0)
        assert (
            torch.equal((half.cells + other.cells)[both], drawn.cells[both])
            and not (half.cells * other.cells)[both].any()
        )
        lone = drawn.cells.sum(2) == 1
        assert lone.any() and ((half.ids == -1) | (other.ids == -1))[lone].all()
        rows = torch.einsum("bmp,bcp->bmc", half.cells.double(), features.flatten(2)) / half.cells.sum(2, keepdim=True)
        z.append(copy.deepcopy(method.projector)(rows.flatten(0, 1)).view(6, 5, -1))
    out = method.loss(Views(v.images[:1], v.index, v.labels, v.regions[:1]))
    torch.testing.assert_close(out["loss"], detcon(*z, *z, one.ids, two.ids))
    method.after_step(out, 0.5)
    assert not torch.equal(halves(method, v)[1].cells, one.cells)


def test_one_views_halves_are_even_and_owe_nothing_to_which_regions_were_drawn():
    method, v = made("detcon-s-one-view"), views(batch=64)
    v.regions[0].zero_()  # one region, which owns every cell
    drawn = chances(5, method.seed, 0, v.index, 0) < 0.5
    coins = halves(method, v)[1].cells[:, 0].bool()  # (64, 36)
    assert abs(float(coins.double().mean()) - 0.5) < 4 * 0.5 / coins.numel() ** 0.5  # four standard errors
    assert 0.3 < float((coins[:, :5] == drawn).double().mean()) < 0.7  # of 320: 0.5, give or take 0.03


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_all_that_is_trained_and_no_target(name):
    method = made(name)
    method.loss(views())["loss"].backward()
    for key, p in method.named_parameters():
        assert (p.grad is None) == key.startswith("target") == (not p.requires_grad), key


def test_the_target_is_drawn_apart_and_normalises_by_its_own_batches():
    method = made("detcon-b")
    assert not torch.equal(method.backbone.conv.weight, method.target_backbone.conv.weight)
    assert not torch.equal(method.projector[0].weight, method.target_projector[0].weight)
    method.loss(views())
    seen = method.target_backbone.bn
    assert seen.training and int(seen.num_batches_tracked) == 2  # the views are forwarded one by one
    assert not torch.equal(seen.running_mean, method.backbone.bn.running_mean)


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 0.996), (0.5, 0.998), (1.0, 1.0)])
def test_the_target_follows_once_per_step_with_a_momentum_that_rises_to_one(progress, tau):
    method = made("detcon-b")
    pairs = [(method.target_backbone, method.backbone), (method.target_projector, method.projector)]
    before = [[p.clone() for p in target.parameters()] for target, _ in pairs]
    method.after_step(method.loss(views()), progress)
    assert math.isclose(1 - (1 - 0.996) * (1 + math.cos(math.pi * progress)) / 2, tau, abs_tol=1e-12)
    for old, (target, online) in zip(before, pairs, strict=True):
        for o, t, p in zip(old, target.parameters(), online.parameters(), strict=True):
            torch.testing.assert_close(t, tau * o + (1 - tau) * p)


def test_each_step_draws_other_regions_and_a_saved_method_goes_on_with_them():
    method, v = made("detcon-s"), views()
    drawn = [method.regions(v)[0][1].ids]
    method.after_step({}, 0.1)
    drawn.append(method.regions(v)[0][1].ids)
    assert not torch.equal(*drawn) and method.steps == 1
    other = made("detcon-s", seed=0)
    other.load_state_dict(method.state_dict())
    assert other.steps == 1 and torch.equal(other.regions(v)[0][1].ids, drawn[1])


def test_images_without_regions_in_a_view_count_for_nothing():
    method, v = made("detcon-s"), views()
    v.regions[0][2], v.regions[1][4] = 255, 255
    z, ids = by_hand(method, v, [method.backbone, method.projector])
    assert (ids[0][2] == -1).all() and (ids[1][4] == -1).all()
    torch.testing.assert_close(method.loss(v)["loss"], detcon(*z, *z, *ids))
    for regions in v.regions:
        regions.fill_(255)
    out = made("detcon-b").loss(v)
    out["loss"].backward()
    assert out["loss"].item() == 0 and float(out["matched"]) == 0


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_learn(name):
    method, v = made(name), views()
    optimizer = torch.optim.SGD([p for p in method.parameters() if p.requires_grad], 0.05)
    losses = []
    for step in range(8):
        method.steps = 0  # the same regions each time
        out = method.loss(v)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        method.after_step(out, step / 8)
        losses.append(out["loss"].item())
    assert losses[-1] < losses[0]


def test_the_papers_sizes_and_settings():
    b, s = (build(n, Tiny(), classes=None, images=64) for n in ("detcon-b", "detcon-s"))
    assert b.projector[0].weight.shape == (4096, 6) and b.projector[3].weight.shape == (256, 4096)
    assert b.predictor[0].weight.shape == (4096, 256) and b.predictor[3].weight.shape == (256, 4096)
    assert s.projector[0].weight.shape == (2048, 6) and s.projector[3].weight.shape == (128, 2048)
    assert (b.tau, b.T, b.draws) == (0.996, 0.1, 16) and b.defaults.lr_per_256 == 0.2
    assert b.defaults.weight_decay == 1.5e-6 and b.defaults.optimizer == "lars" and b.defaults.batch == 4096
    assert all(METHODS[name].needs == ("regions",) for name in NAMES)
    t = s.defaults
    found = (t.optimizer, t.lr_per_256, t.weight_decay, t.momentum, t.schedule, t.warmup_epochs, t.epochs, t.batch)
    assert found == ("lars-simclr", 0.3, 1e-6, 0.9, "cosine", 10.0, 1000, 4096)
    assert (s.T, s.draws, s.cut, s.local_negatives) == (b.T, b.draws, b.cut, b.local_negatives) == (0.1, 16, 1, True)
    assert (s.recipe, b.recipe) == ("detcon-s", "detcon-b") and b.defaults.warmup_epochs == 10.0


def test_batches_that_cannot_be_contrasted_are_refused():
    method = made("detcon-s", cut=4)
    method.check_batch(64, 2)
    with pytest.raises(InputError, match="equal parts of at least 2 images, got 8 images in 8 parts"):
        method.check_batch(8, 8)
    with pytest.raises(InputError, match="keys of 6 images .* cannot be cut into 4 equal parts"):
        method.check_batch(6)
    v = views()
    with pytest.raises(InputError, match="DetCon contrasts regions and these views have none"):
        method.loss(Views(v.images, v.index, v.labels))


def test_the_small_presets_are_the_same_losses_on_narrower_heads():
    b, s = (build(f"detcon-{letter}-small", Tiny(), classes=None, images=64) for letter in "bs")
    assert type(b) is DetConBSmall and type(s) is DetConSSmall and b.defaults is s.defaults is SMALL
    assert [b.projector[3].weight.shape, s.projector[3].weight.shape] == [(128, 512)] * 2 and b.draws == s.draws == 16
    given = {"dim": 4, "hidden": 8}
    for letter in "bs":
        big, small = (made(f"detcon-{letter}{suffix}", T=0.1, **given) for suffix in ("", "-small"))
        torch.testing.assert_close(big.loss(views())["loss"], small.loss(views())["loss"])
