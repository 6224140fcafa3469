"""The papers' recipes say what the papers say, in the papers' order."""

import pytest

from whytransfer.errors import InputError
from whytransfer.views import RECIPES, recipe
from whytransfer.views.operations import (
    CenterCrop,
    ColorJitter,
    Flip,
    GaussianBlur,
    Grayscale,
    RandomResizedCrop,
    Resize,
    Solarise,
)

ORDER = {
    "moco-v1": ["RandomResizedCrop", "Grayscale", "ColorJitter", "Flip"],
    "moco-v2": ["RandomResizedCrop", "ColorJitter", "Grayscale", "GaussianBlur", "Flip"],
    "spatial": ["RandomResizedCrop", "Flip"],
    "appearance": ["ColorJitter", "Grayscale", "GaussianBlur", "Resize", "CenterCrop"],
    "simclr": ["RandomResizedCrop", "Flip", "SimCLRJitter", "Grayscale", "TenthBlur"],
    "byol": ["RandomResizedCrop", "Flip", "BYOLJitter", "Grayscale", "TenthBlur"],
    "detcon-s": ["SingleTryCrop", "Flip", "SimCLRJitter", "Grayscale", "TenthBlur"],
    "detcon-b": ["SingleTryCrop", "Flip", "BYOLJitter", "Grayscale", "TenthBlur"],
    "supervised": ["RandomResizedCrop", "Flip"],
    "ladder-1": ["Resize", "CenterCrop", "Flip"],
    "ladder-2": ["RandomResizedCrop", "Flip"],
    "ladder-3": ["RandomResizedCrop", "ColorJitter", "Flip"],
    "ladder-4": ["RandomResizedCrop", "ColorJitter", "Grayscale", "Flip"],
    "ladder-5": ["RandomResizedCrop", "ColorJitter", "Grayscale", "GaussianBlur", "Flip"],
}


@pytest.mark.parametrize("name", ORDER)
def test_order(name):
    assert [type(op).__name__ for op in RECIPES[name].views[0]] == ORDER[name]


def test_every_recipe_is_listed_under_its_own_name_and_can_be_a_key():
    assert set(RECIPES) == {*ORDER, "default", *(f"ladder-{row}-supervised" for row in range(1, 6))}
    for name, listed in RECIPES.items():
        assert listed.name == name and hash(listed) == hash(recipe(name))


def test_aliases_and_ladder_ends_are_the_papers_own():
    assert RECIPES["default"].views == RECIPES["moco-v2"].views == RECIPES["ladder-5"].views
    assert RECIPES["ladder-2"].views == RECIPES["spatial"].views
    assert RECIPES["ladder-2-supervised"].views == RECIPES["supervised"].views


@pytest.mark.parametrize("name", [n for n in RECIPES if "supervised" not in n])
def test_contrastive_recipes_have_two_views_and_supervised_ones_one(name):
    assert len(RECIPES[name].views) == 2
    assert len(RECIPES["supervised"].views) == len(RECIPES["ladder-3-supervised"].views) == 1


def operation(name, kind, view=0):
    return next(op for op in RECIPES[name].views[view] if isinstance(op, kind))


def test_numbers_of_the_papers():
    assert operation("moco-v1", ColorJitter) == ColorJitter(0.4, 0.4, 0.4, 0.4, p=1.0)
    assert operation("moco-v2", ColorJitter) == ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8)
    assert operation("moco-v2", RandomResizedCrop).scale == (0.2, 1.0)
    assert operation("moco-v2", GaussianBlur) == GaussianBlur(p=0.5, sigma_px=(0.1, 2.0))
    assert operation("moco-v2", Grayscale).p == 0.2 and operation("moco-v2", Flip).p == 0.5
    assert operation("supervised", RandomResizedCrop).scale == (0.08, 1.0)
    assert operation("ladder-1", Resize).times == 256 / 224 and operation("appearance", Resize).times == 1.0
    assert operation("ladder-4", RandomResizedCrop).scale[0] == 0.2
    assert operation("ladder-4-supervised", RandomResizedCrop).scale[0] == 0.08
    assert operation("ladder-1", CenterCrop) == CenterCrop()
    assert operation("simclr", ColorJitter).brightness == 0.8 and operation("simclr", ColorJitter).hue == 0.2


@pytest.mark.parametrize("name", ["byol", "detcon-b"])
def test_byols_views_are_unequal(name):
    assert [operation(name, GaussianBlur, view).p for view in (0, 1)] == [1.0, 0.1]
    assert not any(isinstance(op, Solarise) for op in RECIPES[name].views[0])
    assert operation(name, Solarise, 1) == Solarise(p=0.2, threshold=0.5)
    assert operation(name, ColorJitter, 0) == operation(name, ColorJitter, 1)
    assert (operation(name, ColorJitter).saturation, operation(name, ColorJitter).p) == (0.2, 0.8)


def test_an_unknown_recipe_is_answered_with_the_near_names():
    with pytest.raises(InputError, match=r"unknown recipe 'spacial'. Did you mean 'spatial'"):
        recipe("spacial")
