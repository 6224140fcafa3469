"""What only the whole image shows: boundaries from the slowest vibrations of a graph of regions.

Normalised cuts [Shi and Malik 2000]: regions are masses, arcs are springs, stiff where no boundary is seen; the
eigenvectors of smallest eigenvalue change where groups of regions part, also where the local contrast is weak, and
hardly change inside texture. The published method solves this for pixels, decimated twice [Pont-Tuset et al. 2017,
section 3]; here the regions themselves are the decimation, which leaves a cut between regions at its cost [Galasso et
al. 2014, "Spectral graph reduction for efficient image and streaming video segmentation"].
Letters: S regions, E arcs.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from whytransfer.compiled import KEPT

VECTORS = 8
STEPS = 40  # of the Lanczos iteration
SHIFT = 1e-6  # keeps the inverse finite
FALL = 0.06  # boundary strength that makes an affinity e times smaller

kernel = njit(cache=KEPT, nogil=True, error_model="numpy")


def spectral_contrast(
    arcs: NDArray[np.int64], lengths: NDArray[np.float64], strengths: NDArray[np.float64], areas: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(E,) sum over eigenvectors of the change across each arc, by the root of the eigenvalue; 1 at the largest.

    arcs (E, 2) pairs of regions, lengths (E,) in pixel sides, strengths (E,), areas (S,) in pixels.
    """
    values, vectors = slowest(arcs, lengths * np.exp(-strengths / FALL), mass(areas), VECTORS)
    change = np.abs(vectors[arcs[:, 0]] - vectors[arcs[:, 1]])  # (E, vectors)
    contrast = (change / np.sqrt(np.maximum(values, 1e-6))).sum(axis=1)
    return np.asarray(contrast / max(contrast.max(), 1e-12), dtype=np.float64)


def mass(areas: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of a region: the affinities of its pixels, four each."""
    return np.asarray(4.0 * areas, dtype=np.float64)


def slowest(
    arcs: NDArray[np.int64], affinity: NDArray[np.float64], masses: NDArray[np.float64], count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest eigenvalues above 0 of the graph's Laplacian by its masses, and their vectors (S, count).

    Lanczos on the inverse from a fixed start, with full reorthogonalisation, in sums of fixed order: equal bits on any
    number of threads, which a BLAS does not promise.
    """
    from scipy.linalg import eigh_tridiagonal

    root = np.sqrt(masses)
    diagonal, beside, basis = lanczos(factor(arcs, affinity, root), root, min(STEPS, len(masses) - 1))
    last = len(diagonal) - 1
    values, small = eigh_tridiagonal(diagonal, beside, select="i", select_range=(max(0, last - count + 1), last))
    return (1.0 / values - SHIFT)[::-1], combined(basis, small[:, ::-1]) / root[:, None]


@kernel
def factor(arcs, affinity, root):
    """Lower Cholesky factor (S, S) of M^-1/2 (D - W) M^-1/2 + SHIFT."""
    size = len(root)
    lower = np.zeros((size, size))
    for i in range(size):
        lower[i, i] = SHIFT
    for e in range(len(arcs)):
        a, b = max(arcs[e]), min(arcs[e])
        lower[a, a] += affinity[e] / root[a] ** 2
        lower[b, b] += affinity[e] / root[b] ** 2
        lower[a, b] -= affinity[e] / (root[a] * root[b])
    upper = lower.T.copy()  # rows are updated, so that memory is read in order
    for k in range(size):
        upper[k, k:] /= np.sqrt(upper[k, k])
        for i in range(k + 1, size):
            if upper[k, i] != 0.0:
                scale = upper[k, i]
                for j in range(i, size):
                    upper[i, j] -= scale * upper[k, j]
    return upper.T.copy()


@kernel
def _solve(lower, vector):
    """Replace the vector by (lower lower^T)^-1 vector."""
    size = len(vector)
    for i in range(size):
        total = vector[i]
        for j in range(i):
            total -= lower[i, j] * vector[j]
        vector[i] = total / lower[i, i]
    for i in range(size - 1, -1, -1):
        vector[i] /= lower[i, i]
        for j in range(i):
            vector[j] -= lower[i, j] * vector[i]


@kernel
def lanczos(lower, root, steps):
    """Tridiagonal form of the inverse, without the graph's null vector: (diagonal, off-diagonal, basis (k, S))."""
    size = len(root)
    basis = np.zeros((steps + 1, size))
    basis[0] = root / np.sqrt((root**2).sum())  # the null vector, to which all others are orthogonal
    diagonal, beside = np.zeros(steps), np.zeros(steps)
    vector = np.empty(size)
    for i in range(size):
        vector[i] = ((i * 7919) % 1009) / 1009.0 - 0.5
    done = 0
    for k in range(steps):
        for j in range(2 * (k + 1)):  # twice, against rounding
            along = 0.0
            for i in range(size):
                along += vector[i] * basis[j % (k + 1), i]
            for i in range(size):
                vector[i] -= along * basis[j % (k + 1), i]
        norm = np.sqrt((vector**2).sum())
        if norm < 1e-9:
            break
        if k > 0:
            beside[k - 1] = norm
        basis[k + 1] = vector / norm
        vector = basis[k + 1].copy()
        _solve(lower, vector)
        for i in range(size):
            diagonal[k] += vector[i] * basis[k + 1, i]
        done = k + 1
    return diagonal[:done], beside[: max(done - 1, 0)], basis[1 : done + 1]


@kernel
def combined(basis, small):
    """(k, S) basis and (k, n) coordinates -> (S, n) vectors."""
    out = np.zeros((basis.shape[1], small.shape[1]))
    for k in range(basis.shape[0]):
        for i in range(basis.shape[1]):
            for n in range(small.shape[1]):
                out[i, n] += basis[k, i] * small[k, n]
    return out
