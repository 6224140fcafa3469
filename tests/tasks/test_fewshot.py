"""The few-shot task: episodes of known features, who may choose the learning rate, the base classes, published runs."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, RunError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.tasks import TASKS, fewshot, predictions
from whytransfer.tasks.episodes import LinearProtocol, draw, linear, prototypes
from whytransfer.tasks.features import extract
from whytransfer.tasks.fewshot import FewShot, mean_and_interval, parts_of

RGB = ("red", "green", "blue")


class Colours:
    """Images of one colour each; every class has a hue of its own, and may be in a split."""

    def __init__(self, labels, classes, name="colours", seed=0, noise=25.0, splits=None):
        self.labels, self.classes, self.name, self.seed, self.noise = labels, classes, name, seed, noise
        self.class_splits = splits or {}

    def __len__(self):
        return len(self.labels)

    def pixels(self, i):
        chance = np.random.default_rng([self.seed, i])
        hue = np.random.default_rng([7, int(self.classes[self.labels[i]])]).uniform(40, 215, 3)
        return np.broadcast_to((hue + self.noise * chance.normal(size=3)).clip(0, 255), (12, 16, 3)).astype(np.uint8)


def colours(first, count, images, seed=0, splits=None, noise=25.0):
    names = tuple(str(first + k) for k in range(count))
    return Colours(np.repeat(np.arange(count), images), names, f"colours-{first}", seed, noise, splits)


def omniglot(root):
    """Two published runs of three characters, and two alphabets of two characters, two pictures each."""
    rng = np.random.default_rng(0)
    for run in ("run01", "run02"):
        names = [f"{run}/training/class0{k}.png" for k in (1, 2, 3)] + [f"{run}/test/item0{k}.png" for k in (1, 2, 3)]
        for name in names:
            path = root / "all_runs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(path)
        pairs = [f"{names[3 + k]} {names[(k + 1) % 3]}" for k in range(3)]
        (root / "all_runs" / run / "class_labels.txt").write_text("\n".join(pairs))
    for folder in ("Greek/a", "Greek/b", "Latin/a", "Latin/b"):
        (root / "images_background" / folder).mkdir(parents=True)
        for k in range(2):
            Image.new("L", (9, 9), 40 * k).save(root / "images_background" / folder / f"{k}.png")
    return root


def of(results):
    return {(r.task, r.metric): r for r in results}


def test_every_number_is_that_of_the_parts(toy, tmp_path):
    base, novel = colours(0, 4, 22), colours(50, 6, 20, noise=60)
    before = fingerprint(toy)
    found = of(TASKS["fewshot"](base, novel, size_px=8, episodes=20, folder=tmp_path).run(toy, 3))
    tasks = [(f"fewshot-5way-{k}shot", f"{m}_5way_{k}shot") for k in (1, 5) for m in ("prototypes", "linear")]
    tasks.append(("fewshot-base", "base_top1"))
    assert list(found) == tasks and fingerprint(toy) == before
    x = extract(toy, novel, 8, resize_px=9).vectors
    for shot in (1, 5):
        episodes = draw(novel.labels, 5, shot, 15, 20, seed=3)
        r = found[f"fewshot-5way-{shot}shot", f"prototypes_5way_{shot}shot"]
        accuracy = 100 * (prototypes(x, episodes).numpy() == episodes.query_labels).mean(1)
        assert r.value == pytest.approx(accuracy.mean()) and r.n == 20 and r.direction == "higher"
        assert r.high - r.value == pytest.approx(1.96 * accuracy.std() / 20**0.5) == pytest.approx(r.value - r.low)
        r = found[f"fewshot-5way-{shot}shot", f"linear_5way_{shot}shot"]
        lr = r.provenance["sgd"]["lr"]
        assert lr == fewshot.LRS[int(np.argmax(r.provenance["validation_accuracy"]))]
        predicted = linear(x, episodes, (lr,), LinearProtocol(lr))[0].numpy()
        assert r.value == pytest.approx(100 * (predicted == episodes.query_labels).mean())
        kept = predictions.read(tmp_path, r.provenance["predictions"])
        assert np.array_equal(kept["linear"], predicted) and np.array_equal(kept["truth"], episodes.query_labels)
        assert np.array_equal(kept["query"], episodes.query)
        assert r.provenance["validation_way"] == 4 and r.provenance["lr_from"] == "validation classes"
        assert r.provenance["classes"] == 6 and r.provenance["frozen"] and r.provenance["resize_px"] == 9
        assert json.loads(r.to_json())["provenance"]["sgd"]["dampening"] == 0.9
    r = found["fewshot-base", "base_top1"]
    assert r.n in (17, 18) and r.low <= r.value <= r.high and r.value > 80 and r.data == "colours-0"
    kept = predictions.read(tmp_path, r.provenance["predictions"])
    assert 100 * (kept["predicted"] == kept["truth"]).mean() == pytest.approx(r.value) and len(kept["truth"]) == r.n
    assert np.array_equal(base.labels[kept["images"]], kept["truth"]) and kept["classes"].tolist() == [
        "0",
        "1",
        "2",
        "3",
    ]
    again = of(FewShot(base, novel, size_px=8, episodes=20).run(toy, 3))
    assert {k: r.value for k, r in again.items()} == {k: r.value for k, r in found.items()}


def test_sets_called_alike_keep_their_predictions_apart(toy, tmp_path):
    base, alike = colours(0, 4, 22), [colours(50, 6, 20, noise=60) for _ in range(2)]
    alike[0].fingerprint, alike[1].fingerprint = "one", "other"
    settings = {"size_px": 8, "protocol": "prototypes", "shot": 1, "episodes": 5, "folder": tmp_path}
    where = [next(FewShot(base, novel, **settings).run(toy)).provenance["predictions"] for novel in alike]
    assert where[0] != where[1]


def test_the_interval_is_the_published_one():
    value, half = mean_and_interval(np.array([40.0, 60.0, 80.0, 60.0]))
    assert value == 60 and half == pytest.approx(1.96 * np.sqrt(200) / 2)


def test_who_chooses_the_learning_rate_and_who_is_base():
    splits = {"0": "train", "1": "val", "2": "-", "50": "val"}
    train, test = colours(0, 3, 2, splits=splits), colours(50, 2, 2)
    base, validation = parts_of(train, test)
    assert base.tolist() == [True, True, False, False, True, True] and validation.tolist() == (~base).tolist()
    base, validation = parts_of(colours(0, 3, 2), test)
    assert base.all() and validation.all()
    base, validation = parts_of(colours(49, 3, 1), test)  # 49, 50, 51; 50 and 51 are in the test set
    assert base.tolist() == validation.tolist() == [True, False, False]
    unlabelled = colours(0, 2, 2)
    unlabelled.classes, unlabelled.labels = (), np.full(4, -1)
    assert not np.concatenate(parts_of(unlabelled, test)).any()


def test_without_validation_classes_the_published_rate_is_taken_and_said(toy, capsys):
    base = colours(0, 3, 20, splits={"0": "train", "1": "train", "2": "train"})
    task = FewShot(base, colours(50, 3, 18), size_px=8, protocol="linear", way=3, shot=1, episodes=5)
    (result,) = task.run(toy)
    assert result.provenance["lr_from"] == "published" and result.provenance["sgd"]["lr"] == 0.01
    assert result.provenance["train_images"] == 0  # of base classes nothing is needed here
    assert "has no validation classes to choose a learning rate on" in capsys.readouterr().err
    (given,) = FewShot(base, colours(50, 3, 18), 8, protocol="linear", way=3, shot=1, episodes=5, lr=0.5).run(toy)
    assert given.provenance["lr_from"] == "given" and given.provenance["sgd"]["lr"] == 0.5


def test_prototypes_alone_never_look_at_the_training_images(toy):
    class Untouched(Colours):
        def pixels(self, i):
            pytest.fail("a training image was read")

    train = Untouched(np.zeros(4, int), ("0",), "train")
    task = FewShot(train, colours(50, 5, 16, noise=1), size_px=8, protocol="prototypes", shot=1, episodes=9)
    (result,) = task.run(toy)
    assert result.value > 95 and result.metric == "prototypes_5way_1shot" and result.data == "train -> colours-50"


def test_one_set_for_both_neither_chooses_nor_is_base(toy):
    """As in cross-domain few-shot learning, where all of a data set is novel."""
    novel = colours(50, 5, 17)
    found = of(FewShot(novel, novel, size_px=8, shot=1, episodes=4).run(toy))
    assert {m for _, m in found} == {"prototypes_5way_1shot", "linear_5way_1shot"}
    assert found["fewshot-5way-1shot", "linear_5way_1shot"].provenance["lr_from"] == "published"


def test_published_runs_are_scored_by_their_error(toy, tmp_path):
    runs = PixelCache.open(open_images(f"omniglot:{omniglot(tmp_path)}:runs"))
    train = PixelCache.open(open_images(f"omniglot:{tmp_path}"))
    found = of(FewShot(train, runs, size_px=8, protocol="prototypes").run(toy))
    (result,) = found.values()
    assert list(found) == [("fewshot-3way-1shot-published", "prototypes_error")]
    assert result.direction == "lower" and result.n == 2 and result.provenance["queries_per_episode"] == 3
    x = extract(toy, runs, 8, resize_px=9).vectors
    wrong = []
    for support, query in open_images(f"omniglot:{tmp_path}:runs").episodes:
        nearest = torch.cdist(x[query], x[support]).argmin(1).numpy()
        wrong.append((runs.labels[support][nearest] != runs.labels[query]).mean())
    assert result.value == pytest.approx(100 * np.mean(wrong))
    with pytest.raises(InputError, match="omniglot/runs comes with episodes of its own: leave out way, shot"):
        FewShot(train, runs, size_px=8, way=5, shot=1)


def test_refusals(toy, plain):
    base, novel = colours(0, 3, 20), colours(50, 3, 18)
    with pytest.raises(InputError, match="unknown few-shot protocol 'prototype'. Did you mean 'prototypes'"):
        FewShot(base, novel, size_px=8, protocol="prototype")
    with pytest.raises(
        InputError, match="5-way 1-shot episodes with 15 queries need 5 classes of 16 images or more; 3 of"
    ):
        FewShot(base, novel, size_px=8)
    with pytest.raises(InputError, match="few-shot learning needs labels"):
        FewShot(base, plain(np.array([-1, 0, 1]), RGB), size_px=8)
    with pytest.raises(RunError, match="the linear classifier diverged at lr 1e.200 .*Give a lower --lr"):
        list(FewShot(base, novel, 8, protocol="linear", way=3, shot=1, episodes=2, lr=1e200).run(toy))
