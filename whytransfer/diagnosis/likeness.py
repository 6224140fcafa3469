"""How like an inversion is to its picture: PSNR, SSIM, MS-SSIM, hue, and how much of the picture is there at all.

Published inversions are scored by LPIPS, whose weights must be fetched (lpips.py takes them from files). The stand-in
that needs none is 1 - MS-SSIM: it is published and was measured against people [Wang 2003], anyone can check it with
another program, and it looks at structure at several scales, where PSNR looks at pixels. It is blind to colour, which
the error of hue measures by itself. It is not LPIPS, and its values cannot be compared with published ones.

All functions take pictures (N, 3, H, W) in [0, 1], the true ones first, and return (N,) float64.
Shape letters: N pictures, C channels, H height, W width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW_PX, SIGMA_PX = 11, 1.5  # Wang 2004
C1, C2 = 0.01**2, 0.03**2
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang 2003, finest first
BLUR, AROUND = 1 / 64, 1 / 16  # of the side: what coverage smooths away, and the sigma of its windows
STRUCTURE, RECOVERED = 0.03, 0.5  # standard deviation of luma that counts; likeness from which on a place is recovered


def psnr(truth: Tensor, made: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB; 100 at most, which equal pictures have."""
    error = (truth.double() - made.double()).square().flatten(1).mean(1)
    return -10 * error.clamp(min=1e-10).log10()


def ssim(truth: Tensor, made: Tensor) -> Tensor:
    """Mean structural similarity of the three channels, 11 x 11 Gaussian windows inside the picture  [Wang 2004]."""
    likeness, _ = _ssim_maps(truth.double(), made.double())
    return likeness.flatten(1).mean(1)


def scales_of(side_px: int) -> int:
    """How many of the five scales of MS-SSIM a picture has: its window must fit the coarsest. 224 has five."""
    return min(len(MS_WEIGHTS), 1 + int(math.log2(max(1, side_px // WINDOW_PX))))


def ms_ssim(truth: Tensor, made: Tensor) -> Tensor:
    """Multi-scale structural similarity of the luma, of as many scales as fit  [Wang 2003, equation 7].

    With fewer than five the weights are scaled to a sum of 1; negative parts count as 0.
    """
    x, y, scales = luma(truth), luma(made), scales_of(min(truth.shape[2:]))
    weights = torch.tensor(MS_WEIGHTS[:scales], dtype=torch.float64, device=x.device)
    parts = []
    for scale in range(scales):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        likeness, structure = _ssim_maps(x, y)
        parts.append((likeness if scale == scales - 1 else structure).flatten(1).mean(1).clamp(min=0))
    return (torch.stack(parts, 1) ** (weights / weights.sum())).prod(1)


def _ssim_maps(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """SSIM and its part of contrast and structure at every place whose window lies inside."""
    smooth = lambda z: _smoothed(z, SIGMA_PX, WINDOW_PX // 2, 0)  # noqa: E731
    mx, my = smooth(x), smooth(y)
    vx, vy, vxy = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
    structure = (2 * vxy + C2) / (vx + vy + C2)
    return structure * (2 * mx * my + C1) / (mx * mx + my * my + C1), structure


def luma(pictures: Tensor) -> Tensor:
    """(N, 3, H, W) -> (N, 1, H, W) float64, the weights of ITU-R BT.601."""
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64, device=pictures.device)
    return (pictures.double() * weights[:, None, None]).sum(1, keepdim=True)


def _smoothed(x: Tensor, sigma_px: float, radius_px: int, padding_px: int) -> Tensor:
    """Gaussian means of (N, C, H, W), with zeros around it."""
    at = torch.arange(-radius_px, radius_px + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-0.5 * (at / sigma_px) ** 2)
    kernel, c = kernel / kernel.sum(), x.shape[1]
    x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(c, 1, -1, 1), padding=(padding_px, 0), groups=c)
    return F.conv2d(x, kernel.view(1, 1, 1, -1).expand(c, 1, 1, -1), padding=(0, padding_px), groups=c)


def lab(pictures: Tensor) -> Tensor:
    """sRGB (N, 3, H, W) -> CIELAB (N, 3, H, W) float64, white of D65 (IEC 61966-2-1, CIE 15)."""
    rgb = pictures.double()
    linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0) + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    white = torch.tensor([0.95047, 1.0, 1.08883], dtype=torch.float64, device=rgb.device)
    xyz = torch.einsum("ij,njhw->nihw", torch.tensor(to_xyz, dtype=torch.float64, device=rgb.device), linear)
    t = xyz / white[:, None, None]
    x, y, z = torch.where(t > 0.008856, t.clamp(min=1e-12) ** (1 / 3), 7.787 * t + 16 / 116).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


def hue_error(truth: Tensor, made: Tensor) -> Tensor:
    """Mean angle between the hues in CIELAB, in degrees; NaN where the one or the other picture is all grey.

    Pixels weigh by the geometric mean of both chromas, as in the difference of hue of CIE 1976: grey has no hue, so
    neither grey places nor colours that were lost count (chroma_kept tells of these). Unrelated hues are 90 apart.
    """
    a, b = lab(truth)[:, 1:], lab(made)[:, 1:]
    angle = torch.atan2(a[:, 1], a[:, 0]) - torch.atan2(b[:, 1], b[:, 0])
    angle = torch.rad2deg(torch.atan2(angle.sin(), angle.cos()).abs())
    weight = (a.norm(dim=1) * b.norm(dim=1)).sqrt()
    total = weight.flatten(1).sum(1)
    mean = (angle * weight).flatten(1).sum(1) / total
    return torch.where(total > 0.5 * angle[0].numel(), mean, torch.nan)  # half a unit of chroma is below any eye


def chroma_kept(truth: Tensor, made: Tensor) -> Tensor:
    """Mean chroma in CIELAB as a share of the true one's, in %; NaN for a grey picture."""
    a, b = (lab(x)[:, 1:].norm(dim=1).flatten(1).mean(1) for x in (truth, made))
    return torch.where(a > 0.5, 100 * b / a, torch.nan)


def recovered(truth: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """Where the picture has structure, and where of that the inversion shows it, both (N, H, W) bool.

    Both lumas are smoothed by a Gaussian of 1/64 of the side, since features do not place finer detail. In Gaussian
    windows with a sigma of 1/16 of the side, a place has structure where the standard deviation of the true luma is at
    least 0.03 (eight grey levels of 255), and it is recovered where 2 cov / (var + var') is at least 0.5: right place,
    right sign, and at least 27 % of the contrast. Brightness and hue play no part. An even picture recovers nothing.
    Coverage is the recovered share of the places that have structure.
    """
    side = truth.shape[-1]
    x, y = (_mean_around(luma(z), BLUR * side) for z in (truth, made))
    mx, my = _mean_around(x, AROUND * side), _mean_around(y, AROUND * side)
    vx, vy = _mean_around(x * x, AROUND * side) - mx * mx, _mean_around(y * y, AROUND * side) - my * my
    alike = 2 * (_mean_around(x * y, AROUND * side) - mx * my) / (vx + vy).clamp(min=1e-12)
    structure = vx[:, 0] >= STRUCTURE**2
    return structure, structure & (alike[:, 0] >= RECOVERED)


def _mean_around(x: Tensor, sigma_px: float) -> Tensor:
    """Gaussian means; at the borders of what lies inside."""
    radius = max(1, math.ceil(3 * sigma_px))
    return _smoothed(x, sigma_px, radius, radius) / _smoothed(torch.ones_like(x[:1, :1]), sigma_px, radius, radius)
