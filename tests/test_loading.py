"""Loading: every image once, the same data for any world size, views ahead without surprises."""

import threading
import time

import numpy as np
import pytest

from whytransfer.errors import InputError
from whytransfer.loading import ahead, batch_indices, check_parts, pictures, steps_per_epoch


def test_an_epoch_visits_no_image_twice():
    seen = batch_indices(0, 0, images=103, batch=10).ravel()
    assert len(seen) == 100 == len(set(seen))


def test_ranks_share_every_global_batch():
    alone = batch_indices(0, 4, images=64, batch=16)
    ranks = [batch_indices(0, 4, images=64, batch=16, rank=r, world=4) for r in range(4)]
    np.testing.assert_array_equal(np.concatenate(ranks, axis=1), alone)


def test_bad_batches_are_refused():
    with pytest.raises(
        InputError, match="--batch 65 is larger than the data: 64 images. Give --batch of at most 64: the method's own"
    ):
        steps_per_epoch(64, 65)
    with pytest.raises(InputError, match="cannot be split over 3 processes"):
        batch_indices(0, 0, 64, 16, world=3)


class Made:
    """Pictures that remember which threads made them."""

    def __init__(self, decodes: bool) -> None:
        self.decodes, self.threads = decodes, set()

    def pixels(self, i: int) -> np.ndarray:
        self.threads.add(threading.current_thread().name)
        return np.full((1, 1, 3), i, np.uint8)


@pytest.mark.parametrize("decodes", [True, False])
def test_pictures_beyond_the_cache_are_decoded_on_all_cores_in_order(decodes):
    pixels = Made(decodes)
    assert [int(p[0, 0, 0]) for p in pictures(pixels, np.array([3, 1, 2, 1]))] == [3, 1, 2, 1]
    here = threading.current_thread().name
    assert here not in pixels.threads if decodes else pixels.threads == {here}
    assert pictures(pixels, []) == []


def test_unequal_parts_are_refused():
    check_parts(24, accumulate=3, world=2)
    with pytest.raises(InputError, match=r"--batch 10 cannot be split evenly into 4 parts .*a multiple of 4\."):
        check_parts(10, accumulate=4, world=1)
    with pytest.raises(InputError, match=r"3 parts \(--accumulate\) in each of 2 processes; choose a multiple of 6"):
        check_parts(15, accumulate=3, world=2)


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_ahead_keeps_the_order(depth):
    assert list(ahead(lambda i: i * i, range(20), depth)) == [i * i for i in range(20)]


def test_ahead_works_ahead_but_not_further_than_asked():
    made = []
    results = ahead(lambda i: made.append(i) or i, range(100), depth=3)
    next(results)
    time.sleep(0.3)
    assert 3 <= len(made) <= 6
    results.close()
    assert not any(t.name == "views-ahead" for t in threading.enumerate())


def test_an_error_ahead_is_raised_where_the_result_is_taken():
    def make(i):
        if i == 2:
            raise InputError("image 2 is broken")
        return i

    results = ahead(make, range(5), depth=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(InputError, match="image 2 is broken"):
        next(results)
