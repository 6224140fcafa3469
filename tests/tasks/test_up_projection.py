"""The fast up-projection is the slow one: zeros between the values, then a 5x5 convolution."""

import pytest
import torch
import torch.nn.functional as F

from whytransfer.tasks.up_projection import FastUnpool, UpProjection, decoder


def slow(fast: FastUnpool, x: torch.Tensor) -> torch.Tensor:
    """Zero-unpool, then the 5x5 kernel that the four small ones are parts of."""
    b, c, h, w = x.shape
    spread = torch.zeros(b, c, 2 * h, 2 * w, dtype=x.dtype)
    spread[:, :, ::2, ::2] = x
    even, odd = (0, 2, 4), (1, 3)
    kernel = torch.zeros(fast.convs[0].out_channels, c, 5, 5, dtype=x.dtype)
    for conv, (rows, columns) in zip(fast.convs, [(even, even), (even, odd), (odd, even), (odd, odd)], strict=True):
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                kernel[:, :, row, column] = conv.weight[:, :, i, j]
    assert (kernel != 0).all()
    return F.conv2d(spread, kernel, padding=2)


@pytest.mark.parametrize("size", [(4, 5), (1, 1), (1, 6)])
def test_four_small_convolutions_are_one_of_zeros_between(size):
    torch.manual_seed(0)
    fast = FastUnpool(3, 2).double()
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    torch.testing.assert_close(fast(x), slow(fast, x), rtol=0, atol=1e-12)


def test_the_block_is_two_branches_and_the_decoder_four_blocks():
    torch.manual_seed(1)
    block = UpProjection(6, 4).eval()
    x = torch.randn(1, 6, 3, 4)
    one, two, three, four, five = block.main
    main = five(four(three(two(one(x)))))
    torch.testing.assert_close(block(x), (main + block.shortcut[1](block.shortcut[0](x))).relu())
    whole = decoder(2048)
    assert [b.main[0].convs[0].weight.shape[:2] for b in whole[:-1]] == [(512, 2048), (256, 512), (128, 256), (64, 128)]
    assert whole[-1].weight.shape == (1, 64, 3, 3)
    assert decoder(8, (4, 4)).eval()(torch.zeros(1, 8, 3, 5)).shape == (1, 1, 12, 20)
