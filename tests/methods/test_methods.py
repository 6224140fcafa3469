"""The table of methods: names, options, and what the loop may rely on."""

import pytest
from tiny import Tiny
from torch import nn

from whytransfer.errors import InputError
from whytransfer.methods import METHODS, build, options_of, preset
from whytransfer.nn.schedules import Training
from whytransfer.views.recipes import RECIPES


@pytest.mark.parametrize("name", METHODS)
def test_what_the_loop_relies_on(name):
    kind = METHODS[name]
    assert isinstance(kind.defaults, Training) and kind.recipe in RECIPES and kind.views in (1, 2)
    backbone = Tiny()
    method = build(name, backbone, classes=3, images=64, **({"queue": 8} if "queue" in options_of(name) else {}))
    assert isinstance(method, nn.Module) and method.backbone is backbone and method.training is True
    for needed in ("check_batch", "loss", "after_step"):
        assert callable(getattr(method, needed))
    assert set(method.needs) <= {"labels", "regions", "boxes", "semantic"}
    assert list(backbone.state_dict()) == list(Tiny().state_dict())


def test_initial_weights_of_the_head_follow_the_seed():
    def first(seed):
        return build("moco-v2", Tiny(), classes=None, images=64, seed=seed, queue=8).projector[0].weight

    assert first(1).equal(first(1)) and not first(1).equal(first(2))


@pytest.mark.parametrize("name", [n for n in METHODS if "labels" in METHODS[n].needs])
@pytest.mark.parametrize(("classes", "found"), [(None, "found no labels"), (1, "found 1 class")])
def test_methods_on_labels_refuse_to_go_without(name, classes, found):
    with pytest.raises(InputError, match=f"at least 2 classes, {found}.*one folder per class"):
        build(name, Tiny(), classes=classes, images=64)


def test_settings_follow_the_length_of_a_run_where_a_paper_says_so():
    byol = {n: preset("byol", n) for n in (1, 40, 100, 200, 300, 700, 1000, 5000)}
    lr = {n: training.lr_per_256 for n, (training, _) in byol.items()}
    assert lr == {1: 0.45, 40: 0.45, 100: 0.45, 200: 0.3, 300: 0.3, 700: 0.2, 1000: 0.2, 5000: 0.2}
    tau = {n: options["tau"] for n, (_, options) in byol.items()}
    assert tau == {1: 0.97, 40: 0.97, 100: 0.99, 200: 0.99, 300: 0.99, 700: 0.996, 1000: 0.996, 5000: 0.996}
    assert [byol[n][0].weight_decay for n in (300, 1000)] == [1e-6, 1.5e-6]
    assert preset("byol") == (METHODS["byol"].defaults, {}) and options_of("byol")["tau"] == 0.996
    detcon = {n: preset("detcon-b", n) for n in (50, 100, 200, 300, 500, 1000)}
    assert [t.warmup_epochs for t, _ in detcon.values()] == [1, 1, 2, 3, 5, 10]  # a hundredth at the paper's lengths
    assert [o["tau"] for _, o in detcon.values()] == [0.99, 0.99, 0.99, 0.99, 0.99, 0.996]
    assert [t.lr_per_256 for t, _ in detcon.values()] == [0.45, 0.45, 0.3, 0.3, 0.3, 0.2]
    assert preset("detcon-b-small", 300) == (METHODS["detcon-b-small"].defaults, {})
    assert preset("byol-small", 300) == (METHODS["byol-small"].defaults, {})
    assert preset("moco-v2", 7.5) == (METHODS["moco-v2"].defaults, {})


def test_misspelt_method():
    with pytest.raises(InputError, match="unknown method 'moko-v2'. Did you mean 'moco-v2'"):
        build("moko-v2", Tiny(), classes=None, images=64)


def test_unknown_option_names_the_known_ones():
    with pytest.raises(InputError, match="unknown option of moco-v2 'temperature'.*Known: T, dim, m, queue, splits"):
        build("moco-v2", Tiny(), classes=None, images=64, temperature=0.1)
    with pytest.raises(InputError, match="unknown option of supervised 'queue'"):
        build("supervised", Tiny(), classes=3, images=64, queue=8)
    assert options_of("supervised") == {}
