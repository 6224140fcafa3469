"""Codes of regions: decoded they are what was encoded, at any size by the nearest pixel, and cheaper than a JPEG."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from whytransfer.images.decode import decode as decode_image
from whytransfer.masks.coding import decode, encode, labels_of, size_of
from whytransfer.masks.regions import NO_REGION, Regions


def blobs(height: int, width: int, ids: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, ids, (max(height // 6, 1), max(width // 6, 1)), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)).copy()


def kinds(height: int, width: int) -> list[Regions]:
    ids = blobs(height, width, 9)
    with_void = np.where(ids == 3, NO_REGION, ids).astype(np.uint8)
    rng = np.random.default_rng(1)
    stack = np.stack([blobs(height, width, 3, seed) == 1 for seed in range(5)] + [np.ones((height, width), bool)])
    return [
        Regions(ids),
        Regions(with_void, np.arange(9) * 10**12),
        Regions(rng.integers(0, 256, (height, width), dtype=np.uint8)),
        Regions(stack),
        Regions(stack, np.array([3, -1, 7, 7, 0, 2])),
        Regions(np.zeros((0, height, width), bool)),
        Regions(np.zeros((3, height, width), bool)),
        Regions(rng.random((4, height, width)) < 0.5),
    ]


def same(a: Regions, b: Regions) -> bool:
    labels = (a.labels is None and b.labels is None) or np.array_equal(a.labels, b.labels)
    return labels and a.maps.dtype == b.maps.dtype and np.array_equal(a.maps, b.maps)


@pytest.mark.parametrize("size", [(37, 61), (1, 1), (1, 300), (300, 1), (128, 128)])
def test_a_code_holds_everything(size):
    for regions in kinds(*size):
        code = encode(regions)
        assert same(decode(code), regions) and size_of(code) == size
        labels = labels_of(code)
        assert labels is None if regions.labels is None else np.array_equal(labels, regions.labels)


@pytest.mark.parametrize("asked", [(20, 31), (37, 61), (80, 60), (1, 1), (7, 200), (74, 122)])
def test_any_size_shows_the_pixel_at_each_centre(asked):
    height, width = 37, 61
    rows, columns = ((np.arange(n) + 0.5) * stored / n for n, stored in zip(asked, (height, width), strict=True))
    for regions in kinds(height, width):
        wanted = regions.maps[..., rows.astype(int)[:, None], columns.astype(int)]
        assert same(decode(encode(regions), asked), Regions(wanted, regions.labels))


def test_a_shrunk_map_lies_as_a_shrunk_picture_does():
    """The cache shrinks pictures with Pillow; its nearest resize takes the same pixel centres."""
    ids = blobs(375, 500, 20)
    wanted = np.asarray(Image.fromarray(ids).resize((299, 224), Image.Resampling.NEAREST))
    assert (decode(encode(Regions(ids)), (224, 299)).maps == wanted).mean() > 0.999  # ties at pixel borders aside


def test_reading_regions_costs_less_than_decoding_their_image():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(int)
    file = io.BytesIO()
    grained = (smooth + rng.integers(-12, 13, smooth.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(grained).save(file, format="JPEG", quality=90)  # about 100 kB, as an ImageNet picture
    regions = Regions(blobs(375, 500, 40))
    y, x = np.mgrid[:375, :500]
    discs = [(x - a) ** 2 + (y - b) ** 2 < r * r for a, b, r in rng.integers(20, 350, (16, 3))]
    codes = encode(regions), encode(Regions(np.stack(discs)))

    def least(work) -> float:
        spent = []
        for _ in range(15):
            began = time.process_time()
            work()
            spent.append(time.process_time() - began)
        return min(spent)

    image = least(lambda: decode_image(file.getvalue(), "x"))
    for code in codes:
        assert len(code) < 20_000
        assert least(lambda code=code: decode(code, (224, 299))) < image
    assert least(lambda: decode(codes[0])) < image
