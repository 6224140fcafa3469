"""The generator of inversions: the published layout, written out plainly here, and one net that is N of them."""

import pytest
import torch
import torch.nn.functional as F

from whytransfer.diagnosis.hourglass import Hourglass

SMALL = Hourglass(channels=(4, 6, 5), kernels=(7, 5, 3), skip=2, noise=3)


def plainly(net, w, noise):
    """One picture from single weights, as the fact sheet tells it: convolve, average, double, join."""

    def conv(x, name):
        return F.conv2d(x, w[f"{name}_weight"], w[f"{name}_bias"], padding=w[f"{name}_weight"].shape[-1] // 2)

    def norm(x, name):
        return F.batch_norm(x, None, None, w[f"{name}_weight"], w[f"{name}_bias"], training=True)

    def active(x, name):
        return F.leaky_relu(norm(x, name), 0.2)

    def scale(x, i):
        skip = active(conv(x, f"{i}_skip"), f"{i}_skip_norm")
        x = active(F.avg_pool2d(conv(x, f"{i}_down"), 2), f"{i}_down_norm")
        x = active(conv(x, f"{i}_inner"), f"{i}_inner_norm")
        x = scale(x, i + 1) if i + 1 < len(net.channels) else x
        x = norm(torch.cat([skip, F.interpolate(x, scale_factor=2, mode="nearest")], dim=1), f"{i}_joined_norm")
        return active(conv(active(conv(x, f"{i}_up"), f"{i}_up_norm"), f"{i}_mix"), f"{i}_mix_norm")

    return conv(scale(noise[None], 0), "out")[0]


def drawn(net, count, size_px):
    """Weights of `count` networks, norms moved off 1 and 0 so that they show, and their noise; double precision."""
    chance = torch.Generator().manual_seed(1)
    singles = [net.start(seed) for seed in range(count)]
    for weights in singles:
        for name, values in weights.items():
            if "_norm_" in name:
                values += torch.empty_like(values).uniform_(-0.5, 0.5, generator=chance)
    singles = [{k: v.double().requires_grad_() for k, v in weights.items()} for weights in singles]
    return singles, torch.stack([net.noise_of(seed, size_px) for seed in range(count)]).double()


def test_the_published_layout():
    net = Hourglass()
    weights = net.start(0)
    assert sum(v.numel() for v in weights.values()) == 2_606_763  # counted on the published code
    assert weights["0_down_weight"].shape == (16, 32, 7, 7) and weights["2_up_weight"].shape == (64, 132, 5, 5)
    assert [net.side(size) for size in (32, 64, 128, 129, 224, 256)] == [128, 128, 128, 192, 256, 256]
    noise = net.noise_of(3, 224)
    assert noise.shape == (32, 256, 256) and noise.min() >= 0 and 0.0999 < noise.max() < 0.1
    bound = (32 * 49) ** -0.5
    assert 0.99 * bound < weights["0_down_weight"].abs().max() <= bound


@pytest.mark.parametrize("together", [1, 2, 3])
def test_side_by_side_is_the_plain_network_of_each(together):
    singles, noise = drawn(SMALL, 3, 20)
    stacked = {name: torch.stack([w[name] for w in singles]) for name in singles[0]}
    made = SMALL.pictures(stacked, noise, together)
    alone = torch.stack([plainly(SMALL, w, z) for w, z in zip(singles, noise, strict=True)])
    assert made.shape == (3, 3, 24, 24)
    assert torch.allclose(made, alone, rtol=0, atol=1e-10)
    towards = torch.randn_like(made)
    leaves = [v for w in singles for v in w.values()]
    ours, plain = (torch.autograd.grad((m * towards).sum(), leaves, retain_graph=True) for m in (made, alone))
    for a, b in zip(ours, plain, strict=True):
        assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


def test_seeds_decide_weights_and_noise():
    again, other = SMALL.start(5), SMALL.start(6)
    assert all(torch.equal(v, again[k]) for k, v in SMALL.start(5).items())
    assert not torch.equal(again["out_weight"], other["out_weight"])
    assert not torch.equal(SMALL.noise_of(5, 16), SMALL.noise_of(6, 16))


def test_the_published_network_takes_small_pictures_too():
    net = Hourglass()
    weights = {name: values[None] for name, values in net.start(0).items()}
    made = net.pictures(weights, net.noise_of(0, 32)[None])
    assert made.shape == (1, 3, 128, 128) and made.isfinite().all()
