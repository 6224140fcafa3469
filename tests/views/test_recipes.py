"""The papers' recipes say what the papers say: every operation, every number, in the papers' order."""

from dataclasses import astuple

import pytest

from whytransfer.errors import InputError
from whytransfer.views import RECIPES, recipe
from whytransfer.views.operations import (
    BYOLJitter,
    CenterCrop,
    ColorJitter,
    Flip,
    GaussianBlur,
    Grayscale,
    RandomResizedCrop,
    Resize,
    SimCLRJitter,
    SingleTryCrop,
    Solarise,
    TenthBlur,
)

ASPECTS = (3 / 4, 4 / 3)

# One line an operation, with all its numbers, none by default:
#   crops            share of the picture's area, width / height, resampling
#   Resize           shorter side in sides of the view, resampling
#   jitters          brightness, contrast, saturation, hue, p
#   blurs            p, sigma in pixels
#   Solarise         p, threshold
#   Flip, Grayscale  p
# Written from the papers and their code, not from `recipes`. `2 * [view]`: two draws of one pipeline.
PAPERS = {
    # facebookresearch/moco, main_moco.py
    "moco-v1": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (Grayscale, 0.2),
        (ColorJitter, 0.4, 0.4, 0.4, 0.4, 1.0),
        (Flip, 0.5),
    ]],
    "moco-v2": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (GaussianBlur, 0.5, (0.1, 2.0)),
        (Flip, 0.5),
    ]],
    # linusericsson/ssl-invariances, main_moco.py: default, ventral, dorsal
    "default": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (GaussianBlur, 0.5, (0.1, 2.0)),
        (Flip, 0.5),
    ]],
    "spatial": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (Flip, 0.5),
    ]],
    "appearance": 2 * [[
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (GaussianBlur, 0.5, (0.1, 2.0)),
        (Resize, 1.0, "bilinear"),
        (CenterCrop,),
    ]],
    # google-research/simclr, data_util.py at strength 1
    "simclr": 2 * [[
        (RandomResizedCrop, (0.08, 1.0), ASPECTS, "bicubic"),
        (Flip, 0.5),
        (SimCLRJitter, 0.8, 0.8, 0.8, 0.2, 0.8),
        (Grayscale, 0.2),
        (TenthBlur, 0.5, (0.1, 2.0)),
    ]],
    # google-deepmind/deepmind-research, byol/utils
    "byol": [
        [
            (SingleTryCrop, (0.08, 1.0), ASPECTS, "bicubic"),
            (Flip, 0.5),
            (BYOLJitter, 0.4, 0.4, 0.2, 0.1, 0.8),
            (Grayscale, 0.2),
            (TenthBlur, 1.0, (0.1, 2.0)),
        ],
        [
            (SingleTryCrop, (0.08, 1.0), ASPECTS, "bicubic"),
            (Flip, 0.5),
            (BYOLJitter, 0.4, 0.4, 0.2, 0.1, 0.8),
            (Grayscale, 0.2),
            (TenthBlur, 0.1, (0.1, 2.0)),
            (Solarise, 0.2, 0.5),
        ],
    ],
    # google-deepmind/detcon; its code for S was not released: SimCLR's colours
    "detcon-s": 2 * [[
        (SingleTryCrop, (0.08, 1.0), ASPECTS, "bicubic"),
        (Flip, 0.5),
        (SimCLRJitter, 0.8, 0.8, 0.8, 0.2, 0.8),
        (Grayscale, 0.2),
        (TenthBlur, 0.5, (0.1, 2.0)),
    ]],
    "detcon-b": [
        [
            (SingleTryCrop, (0.08, 1.0), ASPECTS, "bicubic"),
            (Flip, 0.5),
            (BYOLJitter, 0.4, 0.4, 0.2, 0.1, 0.8),
            (Grayscale, 0.2),
            (TenthBlur, 1.0, (0.1, 2.0)),
        ],
        [
            (SingleTryCrop, (0.08, 1.0), ASPECTS, "bicubic"),
            (Flip, 0.5),
            (BYOLJitter, 0.4, 0.4, 0.2, 0.1, 0.8),
            (Grayscale, 0.2),
            (TenthBlur, 0.1, (0.1, 2.0)),
            (Solarise, 0.2, 0.5),
        ],
    ],
    "supervised": [[
        (RandomResizedCrop, (0.08, 1.0), ASPECTS, "bilinear"),
        (Flip, 0.5),
    ]],
    # [Zhao 2021, table 1], rows 1 to 5: areas from 0.2 of the picture for contrastive training, ...
    "ladder-1": 2 * [[
        (Resize, 256 / 224, "bilinear"),
        (CenterCrop,),
        (Flip, 0.5),
    ]],
    "ladder-2": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (Flip, 0.5),
    ]],
    "ladder-3": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Flip, 0.5),
    ]],
    "ladder-4": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (Flip, 0.5),
    ]],
    "ladder-5": 2 * [[
        (RandomResizedCrop, (0.2, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (GaussianBlur, 0.5, (0.1, 2.0)),
        (Flip, 0.5),
    ]],
    # ... and from 0.08 for supervised training (its footnote 1)
    "ladder-1-supervised": [[
        (Resize, 256 / 224, "bilinear"),
        (CenterCrop,),
        (Flip, 0.5),
    ]],
    "ladder-2-supervised": [[
        (RandomResizedCrop, (0.08, 1.0), ASPECTS, "bilinear"),
        (Flip, 0.5),
    ]],
    "ladder-3-supervised": [[
        (RandomResizedCrop, (0.08, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Flip, 0.5),
    ]],
    "ladder-4-supervised": [[
        (RandomResizedCrop, (0.08, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (Flip, 0.5),
    ]],
    "ladder-5-supervised": [[
        (RandomResizedCrop, (0.08, 1.0), ASPECTS, "bilinear"),
        (ColorJitter, 0.4, 0.4, 0.4, 0.1, 0.8),
        (Grayscale, 0.2),
        (GaussianBlur, 0.5, (0.1, 2.0)),
        (Flip, 0.5),
    ]],
}  # fmt: skip


@pytest.mark.parametrize("name", PAPERS)
def test_every_operation_and_number_of_every_view_is_the_papers(name):
    assert [[(type(op), *astuple(op)) for op in view] for view in RECIPES[name].views] == PAPERS[name]


def test_every_recipe_is_in_the_table_under_its_own_name_and_can_be_a_key():
    assert set(RECIPES) == set(PAPERS)
    for name, listed in RECIPES.items():
        assert listed.name == name and hash(listed) == hash(recipe(name))


def test_aliases_and_ladder_ends_are_the_papers_own():
    assert RECIPES["default"].views == RECIPES["moco-v2"].views == RECIPES["ladder-5"].views
    assert RECIPES["ladder-2"].views == RECIPES["spatial"].views
    assert RECIPES["ladder-2-supervised"].views == RECIPES["supervised"].views


def test_an_unknown_recipe_is_answered_with_the_near_names():
    with pytest.raises(InputError, match=r"unknown recipe 'spacial'. Did you mean 'spatial'"):
        recipe("spacial")
