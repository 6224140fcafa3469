"""The spectral term against a dense eigenvalue solver, and two clusters that only the whole graph shows."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from whytransfer.masks import spectral


def random_graph(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A connected graph: arcs (E, 2), affinities (E,), masses (S,)."""
    rng = np.random.default_rng(seed)
    chain = np.stack([np.arange(count - 1), np.arange(1, count)], axis=1)
    more = np.unique(np.sort(rng.integers(0, count, (2 * count, 2)), axis=1), axis=0)
    more = more[more[:, 1] > more[:, 0] + 1]
    arcs = np.concatenate([chain, more])
    return arcs, rng.uniform(0.1, 5, len(arcs)), rng.uniform(20, 400, count)


def test_the_slowest_vectors_are_those_of_a_dense_solver():
    arcs, affinity, masses = random_graph(0)
    values, vectors = spectral.slowest(arcs, affinity, masses, 6)
    dense = np.zeros((len(masses), len(masses)))
    np.add.at(dense, (arcs[:, 0], arcs[:, 1]), affinity)
    dense += dense.T
    expected, known = eigh(np.diag(dense.sum(axis=1)) - dense, np.diag(masses))
    np.testing.assert_allclose(values, expected[1:7], rtol=1e-6)
    agreement = np.abs((known[:, 1:7] * masses[:, None]).T @ vectors)
    np.testing.assert_allclose(agreement, np.eye(6), atol=1e-5)


def test_the_weak_bridge_between_two_clusters_has_the_greatest_contrast():
    def cluster(start: int) -> list[tuple[int, int]]:
        return [(start + i, start + k) for k in range(8) for i in range(k)]

    arcs = np.array([*cluster(0), *cluster(8), (0, 8)])
    strengths = np.full(len(arcs), 0.2)
    strengths[-1] = 0.15  # locally the weakest boundary of all
    contrast = spectral.spectral_contrast(arcs, np.full(len(arcs), 5.0), strengths, np.full(16, 30))
    assert contrast.argmax() == len(arcs) - 1
    assert contrast.max() == 1 and contrast.min() >= 0


def test_two_regions_have_one_vector():
    contrast = spectral.spectral_contrast(np.array([[0, 1]]), np.ones(1), np.full(1, 0.3), np.array([4, 9]))
    np.testing.assert_array_equal(contrast, [1.0])
