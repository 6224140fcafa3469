"""Features in units of their own spread: what "the same" means is said by how much images differ.

Two images are compared after the features were centred and whitened by the mean and covariance S of many images:
similarity is the cosine there, distance the Mahalanobis distance sqrt((f - g)' S^-1 (f - g))  [Ericsson 2022, code].
Any W with W W' = S^-1 gives the same of both, so W = V diag(l^-1/2) of the eigendecomposition S = V diag(l) V' will do;
the published code takes the Cholesky factor of an inverse in single precision, which fails for narrow spectra.

For unrelated images the similarity is 0 on average and the squared distance 2 K, K the directions kept.
Letters: N images, D features, K directions, B pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from whytransfer.errors import InputError

FEW = 10  # images per feature under which distances of new images are noticeably larger than those of these images


@dataclass(frozen=True)
class Whitening:
    """x -> (x - mean) @ matrix, whose covariance over the images it was made of is the identity; float64 inside.

    `shrinkage` is the share of the covariance that was replaced by a multiple of the identity, 0 where there were
    enough images; `constant` features and directions without spread beyond rounding take no part.
    """

    mean: Tensor  # (D,) float64
    matrix: Tensor  # (D, K) float64
    images: int
    shrinkage: float = 0.0
    constant: int = 0

    def __call__(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K) float64; InputError for another number of features, or one that is not finite."""
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise InputError(f"this whitening takes features (B, {len(self.mean)}), got {tuple(features.shape)}")
        _check_finite(features)
        return (features.to(self.mean) - self.mean) @ self.matrix

    def similarity(self, f: Tensor, g: Tensor) -> Tensor:
        """Cosine (B,) of features f and g, each (B, D) or one (1, D) for all; NaN where one of them is the mean."""
        return cosine(self(f), self(g))

    def distance(self, f: Tensor, g: Tensor) -> Tensor:
        """Mahalanobis distance (B,) of features f and g, each (B, D) or one (1, D) for all."""
        return (self(f) - self(g)).norm(dim=1)

    @property
    def dimensions(self) -> int:
        """K, the directions in which images differ."""
        return self.matrix.shape[1]

    @property
    def note(self) -> str:
        """What a reader of the numbers should know; empty where nothing is unusual."""
        d = len(self.mean)
        told = []
        if self.shrinkage:
            told.append(
                f"{self.images:,} images do not determine the covariance of {d:,} features: {self.shrinkage:.1%} of it "
                "was replaced by a multiple of the identity [Ledoit & Wolf 2004]; take more images"
            )
        elif self.images < FEW * d:
            told.append(
                f"{self.images:,} images are few for the covariance of {d:,} features ({FEW * d:,} are enough): "
                "compare only with numbers from the same images"
            )
        if self.dimensions < d:
            told.append(f"{d - self.dimensions:,} of {d:,} directions have no spread and were left out")
        return "; ".join(told)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine (B,) of whitened features (B, K) or (1, K); NaN where one of them is zero."""
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def whiten(features: Tensor, shrinkage: float | None = None, ridge: float = 0.0) -> Whitening:
    """The whitening by the mean and the covariance (divided by N - 1) of features (N, D) of many images.

    Images not more than features leave the covariance singular: then it is shrunk towards a multiple of the identity by
    the amount that Ledoit and Wolf [2004, "A well-conditioned estimator"] derive, and the result says so. `shrinkage`
    in [0, 1] sets the amount instead. `ridge` is added to the diagonal (the published code adds 1e-10 for untrained
    networks). Constant features, and directions whose spread is that of rounding, are left out and counted.

    Raises InputError for fewer than two images, features that are not finite, and features that are all constant.
    """
    _check(features, shrinkage)
    x = features.double()
    mean = x.mean(0)
    x = x - mean
    floor = _rounding(features, mean)
    varies = x.square().mean(0) > floor
    if not bool(varies.any()):
        raise InputError(
            f"all {features.shape[1]:,} features are the same in all {len(features):,} images: the backbone is broken "
            "(collapsed), or the images are equal"
        )
    x = x[:, varies]
    cov = x.T @ x / (len(x) - 1)
    if shrinkage is None:
        shrinkage = ledoit_wolf(x) if len(x) <= x.shape[1] else 0.0
    cov = (1 - shrinkage) * cov + shrinkage * torch.diag(cov.diagonal().mean().expand(len(cov)))
    values, axes = torch.linalg.eigh(cov + ridge * torch.eye(len(cov)).to(cov))
    kept = values > max(floor, len(cov) * torch.finfo(torch.float64).eps * float(values[-1]))
    matrix = torch.zeros(features.shape[1], int(kept.sum()), dtype=torch.float64, device=x.device)
    matrix[varies] = axes[:, kept] * values[kept].rsqrt()
    return Whitening(mean, matrix, len(features), float(shrinkage), int((~varies).sum()))


def ledoit_wolf(x: Tensor) -> float:
    """The share of the covariance of centred x (N, D) to replace by its mean variance [Ledoit & Wolf 2004, lemma 3.4].

    Their estimator divides sums by N, and so does this.
    """
    n, d = x.shape
    squares = x.square()
    gram = x @ x.T if n <= d else x.T @ x  # both have the same sum of squares: the smaller one
    total = gram.square().sum() / n**2
    mean = squares.sum() / (n * d)  # m: mean variance
    far = total - d * mean**2  # D d^2: squared distance of the covariance from m I
    noise = squares.sum(1).square().sum() / n**2 - total / n  # D b^2: how much the covariance wobbles
    return float((noise.clamp(min=0) / far).clamp(max=1)) if far > 0 else 1.0


def _rounding(features: Tensor, mean: Tensor) -> float:
    """The variance that is nothing but the rounding of features as large as these."""
    precision = torch.finfo(features.dtype).eps if features.is_floating_point() else 0.0
    return (precision * float(mean.abs().max())) ** 2


def _check(features: Tensor, shrinkage: float | None) -> None:
    if features.ndim != 2 or features.shape[1] < 1:
        raise InputError(f"a whitening is made of features (N, D), got {tuple(features.shape)}")
    if len(features) < 2:
        raise InputError(f"a covariance needs two images at least, got {len(features)}")
    if shrinkage is not None and not 0 <= shrinkage <= 1:
        raise InputError(f"shrinkage is a share of the covariance, 0 to 1, got {shrinkage}")
    _check_finite(features)


def _check_finite(features: Tensor) -> None:
    broken = ~torch.isfinite(features)
    if bool(broken.any()):
        raise InputError(
            f"{int(broken.any(1).sum()):,} of {len(features):,} images have features that are not finite, in "
            f"{int(broken.any(0).sum()):,} of {features.shape[1]:,} features: the backbone is broken"
        )
