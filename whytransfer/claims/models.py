"""The backbones that claims compare, by the names they have in every study of a scale.

`models(setup)` knows all of them; a claim takes those that it needs, and two claims that name one share its runs.
"""

from __future__ import annotations

from typing import Any

from whytransfer.claims import setup_why
from whytransfer.claims.setup import Settings, Setup
from whytransfer.errors import unknown_name

STEPS = (1, 2, 3, 4, 5)  # of the ladder of augmentations: flip, + crop, + colour, + grey, + blur
Models = dict[str, Any]


def models(setup: Setup) -> Models:
    """{name: a backbone that exists, or the settings of a pretraining}, every one that a claim may ask for."""
    contrastive = _usual(setup, "contrastive")
    return {
        "random": setup.random,
        "default": contrastive,
        "supervised": _usual(setup, "supervised"),
        "exemplar": _usual(setup, "exemplar"),
        "moco-like-exemplar": {**contrastive, **setup.alike},
        **_ladder(setup),
        **_other_images(setup),
        **_dense(setup),
        **setup_why.backbones(setup),
    }


def named(setup: Setup, name: str) -> str:
    """The first name of the same settings: a run that two findings call differently is one backbone of the study."""
    known = models(setup)
    if name not in known:
        raise unknown_name("backbone of the claims", name, known)
    return next(other for other in known if _whole(setup, known[other]) == _whole(setup, known[name]))


def _whole(setup: Setup, own: Any) -> Any:
    return {**setup.pretrain, **own} if isinstance(own, dict) else own


def on(name: str, images: str) -> str:
    """What a pretraining is called that differs in its images: on("default", "base") is "default-on-base"."""
    return f"{name}-on-{images}"


def on_set(setup: Setup, name: str, images: str) -> str:
    """The same for one of the Setup's sets; of the usual images, and labels, it is the usual pretraining."""
    source, method = setup.sets[images]
    usual = source == setup.pretrain["images"] and (name == "default" or method == setup.methods[name])
    return name if usual else on(name, images)


def long(method: str, epochs: int) -> str:
    """What a dense pretraining of so many epochs is called."""
    return f"{method}-{epochs}ep"


def _usual(setup: Setup, method: str) -> dict[str, Any]:
    return {**setup.methods[method], "epochs": setup.epochs}


def _ladder(setup: Setup) -> Models:
    """Step 5 is "default" and "supervised" themselves."""
    return {
        f"{name}-ladder-{step}": {**_usual(setup, method), "recipe": f"ladder-{step}"}
        for name, method in (("default", "contrastive"), ("supervised", "supervised"))
        for step in STEPS[:-1]
    }


def _other_images(setup: Setup) -> Models:
    """C04, C05, C09, C10. `iterations` makes the number of steps the same, whatever the number of images."""
    contrastive, supervised, steps = setup.methods["contrastive"], setup.methods["supervised"], setup.iterations
    found: Models = {}
    for name, (images, method) in setup.sets.items():
        for learner, own in (("default", contrastive), ("supervised", method)):
            if on_set(setup, learner, name) != learner:
                found[on(learner, name)] = {**own, "images": images, "iterations": steps}
    found[on("default", "tenth")] = {**contrastive, "images": setup.tenth, "iterations": steps}
    found[on("supervised", "tenth")] = {**supervised, "images": setup.tenth, "iterations": steps}
    for name, settings in (("base", setup.base_classes), ("identities", setup.identities)):
        for learner, usual in (("default", "contrastive"), ("supervised", "supervised"), ("exemplar", "exemplar")):
            found[on(learner, name)] = {**_usual(setup, usual), **settings}
    return found


def _dense(setup: Setup) -> Models:
    """C11 to C15: regions under several lengths, capacities, engines, resolutions; their baselines beside them."""
    dense, masks = setup.dense, setup.engines[setup.found]
    found: Models = {}
    for detcon, baseline in setup.pairs:
        for epochs in setup.lengths:
            found[long(detcon, epochs)] = {**dense, **setup.methods[detcon], "masks": masks, "epochs": epochs}
            found[long(baseline, epochs)] = {**dense, **setup.methods[baseline], "epochs": epochs}
    detcon, baseline = setup.pairs[0]
    usual = {**dense, **setup.methods[detcon], "epochs": setup.length}
    for arch in setup.capacities:
        found[f"{detcon}-{arch}"] = {**usual, "masks": masks, "backbone": arch}
        found[f"{baseline}-{arch}"] = {
            **dense, **setup.methods[baseline], "epochs": setup.length, "backbone": arch,
        }  # fmt: skip
    return {**found, **_masked(setup, detcon, {**usual, **setup.masked})}


def _masked(setup: Setup, detcon: str, usual: Settings) -> Models:
    """C13 to C15, on images that have regions that people drew."""
    found: Models = {f"{detcon}-{name}": {**usual, "masks": engine} for name, engine in setup.engines.items()}
    for px in setup.resolutions:
        for name in (setup.found, setup.clean):
            found[f"{detcon}-{name}-{px}px"] = {**usual, "masks": setup.engines[name], "size": px}
    clean = {**usual, "masks": setup.engines[setup.clean]}
    found[f"{detcon}-few-negatives"] = {**clean, "cut": setup.cut}
    found[f"{detcon}-one-view"] = {**clean, **setup.methods["one-view"]}
    return found
