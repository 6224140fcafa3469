"""Dead leaves: a function of (seed, index), with forms that are what their names say."""

import numpy as np
import pytest

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.leaves import FORMS, LEAVES, RADII, Leaves


def test_a_picture_depends_on_seed_and_index_alone():
    few, many = Leaves(3, 7, 24), Leaves(9, 7, 24)
    assert all(np.array_equal(few[i].image, many[i].image) and few[i].label == many[i].label for i in range(3))
    assert not np.array_equal(few[0].image, few[1].image)
    assert not np.array_equal(few[0].image, Leaves(3, 8, 24)[0].image)
    assert len({Leaves(*numbers).fingerprint() for numbers in ((3, 7, 24), (9, 7, 24), (3, 8, 24), (3, 7, 32))}) == 4


def test_forms_cover_the_area_that_geometry_gives_them():
    """Per unit radius: pi, 1.6^2, an equilateral triangle in the unit circle, two by a half, a ring, a cross."""
    side = np.linspace(-1.2, 1.2, 1201)
    u, v = np.meshgrid(side, side)
    areas = {name: inside(u, v).mean() * 2.4**2 for name, inside in FORMS.items()}
    expected = {
        "disc": np.pi, "square": 2.56, "triangle": 3 * np.sqrt(3) / 4, "bar": 1.0, "ring": 0.6 * np.pi, "cross": 1.75,
    }  # fmt: skip
    for name, area in expected.items():
        assert areas[name] == pytest.approx(area, rel=0.02), name


def test_pictures_are_full_of_leaves_in_many_colours_and_all_classes_come():
    images = Leaves(60, 0, 32)
    assert set(images.labels.tolist()) == set(range(len(FORMS))) and LEAVES > 100 and RADII[0] < RADII[1]
    image = images[0].image.permute(1, 2, 0).reshape(-1, 3).numpy()
    assert len(np.unique(image, axis=0)) > 20
    assert (image == 128).all(1).mean() < 0.3  # the ground


def test_it_is_opened_by_name_and_refuses_nonsense():
    images = open_images("leaves:5:2:32")
    assert len(images) == 5 and images.name == "leaves:5:2:32" and images[4].image.shape == (3, 32, 32)
    with pytest.raises(InputError, match="leaves: the size must be 16 to 512 pixels, got 4"):
        open_images("leaves:5:2:4")
    with pytest.raises(InputError, match="leaves:many is not leaves:COUNT"):
        open_images("leaves:many")
    with pytest.raises(IndexError, match="index 5 is outside"):
        _ = images[5]
