"""Best overlap beside a slow loop and pycocotools; what counts as an object."""

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from whytransfer.errors import InputError
from whytransfer.images.torchvision_sets import Arrays
from whytransfer.masks import RegionStore, open_engine
from whytransfer.masks.annotated import Annotated
from whytransfer.masks.quality import best_overlaps, from_store, measure, overlaps
from whytransfer.masks.regions import NO_REGION, Regions
from whytransfer.records import Sample


def slow(objects: Regions, regions: Regions) -> np.ndarray:
    """|A and B| / |A or B|, pair by pair."""
    table = np.zeros((len(objects), len(regions)))
    for i, a in enumerate(objects.stack()):
        for k, b in enumerate(regions.stack()):
            table[i, k] = (a & b).sum() / max((a | b).sum(), 1)
    return table


def some(seed: int, overlapping: bool, count: int = 6, size: tuple[int, int] = (23, 31)) -> Regions:
    rng = np.random.default_rng(seed)
    if overlapping:
        return Regions(rng.random((count, *size)) < rng.random((count, 1, 1)))
    ids = rng.integers(0, count + 1, size).astype(np.uint8)
    return Regions(np.where(ids == count, NO_REGION, ids).astype(np.uint8))


@pytest.mark.parametrize("of_objects", [False, True])
@pytest.mark.parametrize("of_regions", [False, True])
def test_overlaps_are_those_of_a_slow_loop_and_of_pycocotools(of_objects, of_regions):
    objects, regions = some(1, of_objects), some(2, of_regions, 9)
    np.testing.assert_allclose(overlaps(objects, regions), slow(objects, regions), rtol=0, atol=1e-15)
    np.testing.assert_allclose(best_overlaps(objects, regions), slow(objects, regions).max(axis=1), atol=1e-15)
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (extra masks)")
    encoded = [
        mask.encode(np.asfortranarray(r.stack().transpose(1, 2, 0).astype(np.uint8))) for r in (objects, regions)
    ]
    wanted = mask.iou(*encoded, [0] * len(regions))
    np.testing.assert_allclose(overlaps(objects, regions), wanted, atol=1e-12)


@pytest.mark.parametrize("overlapping", [False, True])
def test_regions_equal_to_the_objects_cover_them_wholly(overlapping):
    objects = some(3, overlapping)
    assert best_overlaps(objects, objects).tolist() == [1.0] * len(objects)


def test_nothing_covers_nothing():
    objects, none = some(4, True), Regions(np.zeros((0, 23, 31), bool))
    assert best_overlaps(objects, none).tolist() == [0.0] * 6 and best_overlaps(none, objects).tolist() == []
    empty = Regions(np.zeros((2, 23, 31), bool))
    assert best_overlaps(empty, objects).tolist() == []  # an object of no pixel is none
    assert best_overlaps(objects, Regions(np.full((23, 31), NO_REGION, np.uint8))).tolist() == [0.0] * 6


def test_an_object_half_covered():
    truth, cells = np.zeros((1, 10, 10), bool), np.zeros((10, 10), np.uint8)
    truth[0, :, :4] = True
    cells[:, 2:] = 1  # 20 of 40 pixels, union 40 with the left part; 20 of 80 with the right part, union 100
    assert overlaps(Regions(truth), Regions(cells)).tolist() == [[0.5, 0.2]]


class People:
    """Two people drew the first image, nobody the second, and the third has an empty drawing."""

    name, classes, labels = "people", (), np.full(3, -1)

    def __len__(self) -> int:
        return 3

    def __getitem__(self, i: int) -> Sample:
        return Sample(torch.zeros((3, 4, 6), dtype=torch.uint8), str(i))

    path, stacks = "drawings", False

    def segmentations(self, name, size):
        halves, thirds = np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        halves[:, 3:], thirds[:, 2:4], thirds[:, 4:] = 1, 1, 2
        drawn = (Regions(halves), Regions(thirds, np.array([5, 6, 7])))
        return {"0": drawn, "1": None, "2": (Regions(np.full(size, NO_REGION, np.uint8)),)}[name]

    def class_name(self, label):
        return f"class {label}"


def test_every_segment_of_every_person_is_an_object_and_unknown_images_are_none():
    people = People()
    halves = people.segmentations("0", (4, 6))[0]
    found = list(measure(people, lambda i, sample: halves, Annotated(people)))
    assert [i for i, _ in found] == [0, 1, 2] and found[1][1] is None and found[2][1] is None
    covered = found[0][1]
    np.testing.assert_allclose(covered.overlaps, [1, 1, 2 / 3, 1 / 4, 2 / 3])
    assert covered.classes.tolist() == [-1, -1, 5, 6, 7] and covered.regions == 2


def test_regions_of_another_size_are_refused():
    people = People()
    with pytest.raises(InputError, match="0: regions of .8, 8., image of .4, 6. px"):
        list(measure(people, lambda i, sample: Regions(np.zeros((8, 8), np.uint8)), Annotated(people)))


def test_a_store_without_an_image_names_it(tmp_path):
    images = Arrays("two", np.zeros((2, 5, 5, 3), np.uint8), np.array([-1, -1]), ())
    of = from_store(RegionStore.create(tmp_path / "s", "grid n=2", "grid:2"), images)
    with pytest.raises(InputError, match="image 1 has no regions in .*--engine grid:2 --out"):
        of(1, images[1])


def test_the_samples_own_masks_are_a_truth():
    masks = torch.zeros((2, 6, 6), dtype=torch.bool)
    masks[0, :3], masks[1, 3:] = True, True
    sample = Sample(
        torch.zeros((3, 6, 6), dtype=torch.uint8), "x", masks=tv_tensors.Mask(masks), box_labels=torch.tensor([4, 9])
    )
    truth = open_engine("annotated")
    ((_, covered),) = measure([sample], lambda i, s: open_engine("grid:2")(s), truth)
    np.testing.assert_allclose(covered.overlaps, [0.5, 0.5])
    assert covered.classes.tolist() == [4, 9] and truth.class_name(4) == "4"
