"""The table of methods: names, options, and what the loop may rely on."""

import pytest
from tiny import Tiny
from torch import nn

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of
from whytransfer.nn.schedules import Training
from whytransfer.views.recipes import RECIPES


@pytest.mark.parametrize("name", METHODS)
def test_what_the_loop_relies_on(name):
    kind = METHODS[name]
    assert isinstance(kind.defaults, Training) and kind.recipe in RECIPES and kind.views in (1, 2)
    backbone = Tiny()
    method = build(name, backbone, classes=3, images=64)
    assert isinstance(method, nn.Module) and method.backbone is backbone and method.training is True
    for needed in ("check_batch", "loss", "after_step"):
        assert callable(getattr(method, needed))
    assert set(method.needs) <= {"labels", "regions"} and list(backbone.state_dict()) == list(Tiny().state_dict())


def test_initial_weights_of_the_head_follow_the_seed():
    def first(seed):
        return build("moco-v2", Tiny(), classes=None, images=64, seed=seed, queue=8).projector[0].weight

    assert first(1).equal(first(1)) and not first(1).equal(first(2))


def test_misspelt_method():
    with pytest.raises(InputError, match="unknown method 'moko-v2'. Did you mean 'moco-v2'"):
        build("moko-v2", Tiny(), classes=None, images=64)


def test_unknown_option_names_the_known_ones():
    with pytest.raises(InputError, match="unknown option of moco-v2 'temperature'.*Known: T, dim, m, queue, splits"):
        build("moco-v2", Tiny(), classes=None, images=64, temperature=0.1)
    with pytest.raises(InputError, match="unknown option of supervised 'queue'"):
        build("supervised", Tiny(), classes=3, images=64, queue=8)
    assert options_of("supervised") == {}
