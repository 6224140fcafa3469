"""The product through oneDNN: as exact as float32, whatever the strides, and never slower by orders of magnitude."""

import time

import pytest
import torch

from whytransfer.tasks import matmul as module
from whytransfer.tasks.matmul import matmul


def strided(rows: int, columns: int, kind: str) -> torch.Tensor:
    """A (rows, columns) matrix stored in one of the ways in which slices and transposes leave it."""
    whole = torch.randn(rows, columns, 3) if kind == "gaps" else torch.randn(columns, rows)
    return {"gaps": lambda: whole[:, :, 1], "transposed": lambda: whole.T, "plain": lambda: whole.T.contiguous()}[
        kind
    ]()


@pytest.mark.parametrize("left", ["plain", "transposed", "gaps"])
@pytest.mark.parametrize("right", ["plain", "transposed", "gaps"])
def test_equals_the_product_in_float64(left, right):
    torch.manual_seed(0)
    a, b = strided(70, 513, left), strided(513, 21, right)
    exact = a.double() @ b.double()
    error = (matmul(a, b) - exact).abs().max()
    assert error <= 3 * (a @ b - exact).abs().max() + 1e-5
    assert matmul(a, b).dtype == torch.float32


def test_other_types_and_empty_matrices_take_the_usual_way(monkeypatch):
    a = torch.randn(4, 5, dtype=torch.float64)
    assert torch.equal(matmul(a, a.T), a @ a.T)
    assert matmul(torch.zeros(0, 5), torch.zeros(5, 3)).shape == (0, 3)
    assert torch.equal(matmul(torch.zeros(2, 0), torch.zeros(0, 3)), torch.zeros(2, 3))
    monkeypatch.setattr(module, "_onednn", lambda: False)
    b = torch.randn(4, 5)
    assert torch.equal(matmul(b, b.T), b @ b.T)


def test_a_slice_of_many_problems_is_not_sent_to_the_reference_loop():
    # weights of one fold among five: (513, 40) with gaps took seconds before it was copied
    x, weights = torch.randn(2000, 513), torch.randn(513, 5, 40)
    matmul(x, weights[:, 2])
    began = time.process_time()
    matmul(x, weights[:, 2])
    ours = time.process_time() - began
    began = time.process_time()
    x @ weights[:, 2].contiguous()
    assert ours < 20 * (time.process_time() - began) + 0.05
