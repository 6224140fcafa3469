"""Scores of inversions beside scikit-image and closed forms; coverage by pictures whose parts are known."""

import numpy as np
import pytest
import torch

from whytransfer.diagnosis.likeness import (
    chroma_kept,
    hue_error,
    lab,
    luma,
    ms_ssim,
    psnr,
    recovered,
    scales_of,
    ssim,
)


@pytest.fixture
def pair():
    chance = torch.Generator().manual_seed(0)
    coarse = torch.rand((3, 3, 8, 8), generator=chance)
    truth = torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bicubic").clamp(0, 1)
    return truth, (truth + 0.1 * torch.randn(truth.shape, generator=chance)).clamp(0, 1)


def pixels(x):
    return x.permute(1, 2, 0).double().numpy()


def test_psnr_ssim_and_lab_are_those_of_scikit_image(pair):
    metrics, color = pytest.importorskip("skimage.metrics"), pytest.importorskip("skimage.color")
    truth, made = pair
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    for n in range(3):
        a, b = pixels(truth[n]), pixels(made[n])
        assert psnr(truth, made)[n].item() == pytest.approx(metrics.peak_signal_noise_ratio(a, b, data_range=1.0))
        theirs = metrics.structural_similarity(a, b, channel_axis=2, **options)
        assert ssim(truth, made)[n].item() == pytest.approx(theirs, abs=1e-7)
        assert np.allclose(pixels(lab(made)[n]), color.rgb2lab(b), atol=2e-3)


def test_ms_ssim_written_out_with_scikit_image(pair):
    metrics = pytest.importorskip("skimage.metrics")
    truth, made = (luma(x)[0, 0].numpy() for x in pair)
    options = {"data_range": 1.0, "gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
    parts = []
    for scale in range(3):
        likeness, full = metrics.structural_similarity(truth, made, **options)
        inside = lambda z: z[5:-5, 5:-5]  # noqa: E731
        mx, my = (metrics._structural_similarity.gaussian(z, sigma=1.5, truncate=3.5) for z in (truth, made))
        brightness = (2 * mx * my + 1e-4) / (mx**2 + my**2 + 1e-4)
        parts.append(likeness if scale == 2 else inside(full / brightness).mean())
        truth, made = (z.reshape(z.shape[0] // 2, 2, z.shape[1] // 2, 2).mean((1, 3)) for z in (truth, made))
    weights = np.array([0.0448, 0.2856, 0.3001])
    assert ms_ssim(*pair)[0].item() == pytest.approx(np.prod(np.array(parts) ** (weights / weights.sum())), abs=1e-6)


def test_scales_are_as_many_as_fit():
    assert [scales_of(side) for side in (11, 21, 22, 32, 64, 176, 224, 4000)] == [1, 1, 2, 2, 3, 5, 5, 5]


def test_equal_pictures_and_even_ones(pair):
    truth, _ = pair
    grey = torch.full_like(truth, 0.5)
    assert torch.allclose(ssim(truth, truth), torch.ones(3).double()) and (psnr(truth, truth) == 100).all()
    assert torch.allclose(ms_ssim(truth, truth), torch.ones(3).double())
    assert hue_error(truth, truth).max() < 1e-6
    assert torch.allclose(chroma_kept(truth, truth), torch.full((3,), 100.0).double())
    assert hue_error(truth, grey).isnan().all() and chroma_kept(grey, truth).isnan().all()
    structure, there = recovered(truth, grey)
    assert structure.float().mean() > 0.9 and not there.any()
    structure, there = recovered(truth, truth)
    assert torch.equal(structure, there)
    assert not recovered(grey, truth)[0].any()


def test_hue_is_the_angle_by_which_colours_are_turned():
    from skimage.color import lab2rgb

    angles = np.deg2rad(np.array([10.0, 70.0, 200.0, 300.0]))

    def coloured(turn, chroma):
        a, b = chroma * np.cos(angles + turn), chroma * np.sin(angles + turn)
        flat = np.stack([np.full(4, 60.0), a, b], axis=-1)[None].repeat(4, axis=0)
        return torch.from_numpy(lab2rgb(flat)).permute(2, 0, 1)[None]

    truth = coloured(0.0, 20.0)
    for turn in (0.0, 40.0, -100.0):
        found = hue_error(truth, coloured(np.deg2rad(turn), 20.0)).item()
        assert found == pytest.approx(abs(turn), abs=0.1)
    assert chroma_kept(truth, coloured(1.0, 10.0)).item() == pytest.approx(50, abs=0.1)
    half = coloured(0.0, 20.0)
    half[..., :2, :] = coloured(np.pi / 2, 20.0)[..., :2, :]  # two of four rows turned by 90 degrees
    assert hue_error(truth, half).item() == pytest.approx(45, abs=0.3)


def test_coverage_is_the_part_that_is_there():
    chance = torch.Generator().manual_seed(3)
    coarse = torch.rand((1, 3, 16, 16), generator=chance)
    truth = torch.nn.functional.interpolate(coarse, size=(128, 128), mode="bicubic")
    half = truth.clone()
    half[..., 64:] = 0.5
    structure, there = recovered(truth, half)
    assert structure.float().mean() > 0.9
    assert there[..., :52].sum() / structure[..., :52].sum() > 0.98  # a window away from the border
    assert not there[..., 96:].any()  # beyond all smoothing across the border
    share = lambda made: (recovered(truth, made)[1].sum() / structure.sum()).item()  # noqa: E731
    assert share(1 - truth) == 0  # the sign counts
    assert share(0.5 * truth + 0.4) > 0.98  # contrast and brightness need not be equal
    assert share(truth.flip(1)) > 0.5  # nor the hue: red and blue changed places
    assert share(truth.roll(16, 3)) < 0.3  # a cell beside its place is not there
