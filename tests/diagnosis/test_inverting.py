"""Fitting pictures to features: N at once are each alone, a kill changes nothing, refusals say why."""

import copy

import pytest
import torch
from test_hourglass import plainly

from whytransfer.backbones import Backbone, load_backbone
from whytransfer.diagnosis.hourglass import Hourglass
from whytransfer.diagnosis.inverting import Job, invert
from whytransfer.errors import InputError, RunError
from whytransfer.records import Features

NET = Hourglass(channels=(4, 6), kernels=(5, 3), skip=2, noise=4)


class Colours(Backbone):
    """Sees means of 4 x 4 pixels after its normalisation."""

    def __init__(self, scale=1.0):
        super().__init__("colours", 3)
        self.scale = torch.nn.Parameter(torch.tensor(scale), requires_grad=False)

    def forward(self, images):
        x = torch.nn.functional.avg_pool2d(self.normalise(images), 4) * self.scale
        return Features(vector=x.mean((2, 3)), map=x, stages={"fine": self.normalise(images)})


def jobs_of(backbones, count=2, size_px=16, precision=torch.float32):
    chance = torch.Generator().manual_seed(0)
    pictures = torch.rand((count, 3, size_px, size_px), generator=chance).to(precision)
    return [Job(b, p, (i, 100 + i)) for b in backbones for i, p in enumerate(pictures)]


@pytest.mark.parametrize("together", [None, 4])
def test_several_pictures_and_backbones_at_once_are_each_alone(together):
    backbones = [b.double() for b in (Colours(), load_backbone("random:resnet18-small"))]
    jobs = jobs_of(backbones, precision=torch.float64)
    all_ = invert(jobs, steps=4, network=NET, together=together)
    alone = [invert([job], steps=4, network=NET) for job in jobs]
    assert all_.losses.shape == (4, 4) and all_.pictures.shape == (4, 3, 16, 16)
    assert torch.allclose(all_.losses, torch.cat([a.losses for a in alone]), rtol=1e-7)
    assert torch.allclose(all_.pictures, torch.cat([a.pictures for a in alone]), atol=1e-7)
    assert torch.allclose(all_.scales, torch.cat([a.scales for a in alone]), rtol=1e-9)


def test_the_loss_is_the_published_mean_and_falls_until_the_picture_is_there():
    [job] = jobs_of([Colours()], count=1)
    found = invert([job], steps=150, network=NET)
    assert found.losses[0, -1] < 0.1 * found.losses[0, 0]
    truth, made = (torch.nn.functional.avg_pool2d(p, 4) for p in (job.picture, found.pictures[0]))
    assert (truth - made).abs().mean() < 0.1
    # the first loss is that of the first network's picture, which the backbone gets in its normalised colours
    weights = {name: values[None] for name, values in NET.start(job.seeds[0]).items()}
    first = NET.pictures(weights, NET.noise_of(job.seeds[1], 16)[None])
    target = job.backbone(job.picture[None]).map
    assert found.losses[0, 0].item() == pytest.approx(
        (torch.nn.functional.avg_pool2d(first, 4) - target).square().mean().item(), rel=1e-4
    )


def test_the_whole_loop_is_the_published_one_step_by_step():
    """In double precision, where rounding does not part them: net as written, Adam as it comes, a batch of one."""
    [job] = jobs_of([Colours().double()], count=1, precision=torch.float64)
    weights = {name: values.double().requires_grad_() for name, values in NET.start(job.seeds[0]).items()}
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)
    noise, target = NET.noise_of(job.seeds[1], 16).double(), job.backbone(job.picture[None]).map
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        made = plainly(NET, weights, noise)[None]  # normalised, as what Colours sees after its normalisation
        losses.append(torch.nn.functional.mse_loss(torch.nn.functional.avg_pool2d(made, 4), target))
        losses[-1].backward()
        optimizer.step()
    found = invert([job], steps=12, network=NET)
    assert torch.allclose(found.losses[0], torch.stack(losses).detach(), rtol=1e-8)
    std, mean = job.backbone.std[:, None, None], job.backbone.mean[:, None, None]
    assert torch.allclose(found.pictures[0], (plainly(NET, weights, noise) * std + mean).clamp(0, 1), atol=1e-8)


def test_adam_takes_steps_of_one_thousandth():
    [job] = jobs_of([Colours()], count=1)
    before, pictures = NET.start(job.seeds[0]), []
    found = invert([job], steps=1, network=NET, watch=lambda step, made: pictures.append(made))
    assert not pictures  # the watch is not called before the first step
    weights = {name: values[None].clone().requires_grad_() for name, values in before.items()}
    made = NET.pictures(weights, NET.noise_of(job.seeds[1], 16)[None])
    target = job.backbone(job.picture[None]).map
    (torch.nn.functional.avg_pool2d(made, 4) - target).square().mean().backward()
    moved = {k: v.detach() - 1e-3 * v.grad / (v.grad.abs() + 1e-8) for k, v in weights.items()}
    expected = NET.pictures(moved, NET.noise_of(job.seeds[1], 16)[None])
    std, mean = job.backbone.std[:, None, None], job.backbone.mean[:, None, None]
    assert torch.allclose(found.pictures, (expected * std + mean).clamp(0, 1), atol=1e-3)


def test_a_killed_inversion_ends_as_an_uninterrupted_one(tmp_path):
    jobs, seen = jobs_of([Colours()]), []
    whole = invert(jobs, steps=6, network=NET, folder=tmp_path / "whole")

    def killed(step, pictures):
        seen.append(pictures)
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        invert(jobs, steps=6, network=NET, folder=tmp_path / "cut", watch=killed, watch_every=2, save_every_s=0)
    assert len(seen) == 2 and seen[0].shape == (2, 3, 16, 16) and seen[0].min() >= 0 and seen[0].max() <= 1
    again = invert(jobs, steps=6, network=NET, folder=tmp_path / "cut")
    assert torch.equal(again.pictures, whole.pictures) and torch.equal(again.losses, whole.losses)


def test_stages_by_name():
    jobs = jobs_of([Colours()])
    assert invert(jobs, "fine", 1, NET).scales[0] != invert(jobs, "vector", 1, NET).scales[0]
    with pytest.raises(InputError, match="unknown feature stage 'layer5'. Known: fine, vector"):
        invert(jobs, "layer5", 1, NET)


def test_features_that_say_nothing_are_refused():
    with pytest.raises(InputError, match="are those of an even grey picture.*nothing to invert"):
        invert(jobs_of([Colours(0.0)]), steps=1, network=NET)
    with pytest.raises(InputError, match="backbone colours: the features of the last map are not finite"):
        invert(jobs_of([Colours(float("nan"))]), steps=1, network=NET)


def test_a_loss_that_is_no_number_ends_the_run():
    backbone = Colours()
    jobs = jobs_of([backbone])

    def broken(step, pictures):
        backbone.scale.fill_(float("inf"))

    with pytest.raises(RunError, match="a loss is no number any more after 2 steps. Another --seed"):
        invert(jobs, steps=5, network=NET, watch=broken, watch_every=2)


def test_frozen_backbones_stay_frozen():
    backbone = load_backbone("random:resnet18-small")
    before = copy.deepcopy(backbone.state_dict())
    invert(jobs_of([backbone], 1), steps=2, network=NET)
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    assert all(p.grad is None for p in backbone.parameters())
