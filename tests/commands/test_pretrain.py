"""What `pretrain` decides before it trains: views, learning rate, arithmetic, and the words at the end."""

import dataclasses
import threading
from pathlib import Path

import pytest
import torch
import yaml

from whytransfer import methods
from whytransfer.commands import card, pretrain
from whytransfer.commands.method import given_options, planned, recipe_for, training_of, views_for
from whytransfer.commands.pretrain import PretrainSettings, has_bf16, in_bf16
from whytransfer.errors import InputError, RunError
from whytransfer.nn.schedules import Training, lr_at
from whytransfer.runs import RunFolder
from whytransfer.views.recipes import RECIPES, recipe

PAPER = Training("sgd", lr_per_256=0.03, weight_decay=1e-4, epochs=200, batch=256)


def settings(**given):
    return PretrainSettings.made_from({"images": "scenes:8", "out": Path("unused"), **given})


def test_a_recipe_gives_as_many_views_as_the_method_reads():
    two, one = recipe("moco-v2"), recipe("supervised")
    assert views_for(two, 2) == two
    assert views_for(two, 1).views == two.views[:1] and views_for(two, 1).name == "moco-v2"
    assert views_for(one, 2).views == one.views * 2
    for name in RECIPES:
        assert [len(views_for(recipe(name), count).views) for count in (1, 2)] == [1, 2], name


def test_training_on_labels_takes_the_twin_of_a_rung():
    supervised, moco = methods.METHODS["supervised"], methods.METHODS["moco-v2"]
    for rung in range(1, 6):
        assert recipe_for(f"ladder-{rung}", supervised) == f"ladder-{rung}-supervised"
        assert recipe_for(f"ladder-{rung}", moco) == f"ladder-{rung}"
    assert recipe_for("ladder-2-supervised", supervised) == "ladder-2-supervised"
    assert recipe_for("default", supervised) == "default"
    for name in ("supcon", "exemplar-v2"):  # labels, but two views to compare
        assert recipe_for("ladder-2", methods.METHODS[name]) == "ladder-2"


def test_the_learning_rate_is_the_papers_in_proportion_or_the_one_asked_for():
    paper = training_of(settings(batch=64), PAPER)
    assert paper.lr_per_256 == 0.03 and paper.batch == 64 and paper.epochs == 200
    assert lr_at(paper, 0, 10, 200, paper.batch) == pytest.approx(0.03 / 4)
    own = training_of(settings(batch=64, lr=0.5, epochs=3), PAPER)
    assert lr_at(own, 0, 10, own.epochs, own.batch) == pytest.approx(0.5)
    assert training_of(settings(), PAPER) == PAPER


def test_iterations_are_a_length_of_their_own():
    # 1000 images in batches of 64: 15 steps an epoch
    training, options = planned(settings(method="byol", batch=64, iterations=600), images=1000)
    assert training.epochs == 40 and training.lr_per_256 == 0.45 and options["tau"] == 0.97  # as for 40 epochs
    assert planned(settings(method="byol", batch=64, epochs=40), images=1000) == (training, options)
    broken, _ = planned(settings(method="moco-v2", batch=64, iterations=31), images=1000)
    assert broken.epochs == 3  # of which the last ends early
    assert planned(settings(method="moco-v2", batch=64), images=1000)[0].epochs == 200
    with pytest.raises(InputError, match="--epochs 3 and --iterations 40 both say how long: give one"):
        planned(settings(epochs=3, iterations=40), images=1000)
    with pytest.raises(InputError, match="--batch 4096 is larger than the data: 1000 images"):
        planned(settings(method="simclr", iterations=10), images=1000)


def test_settings_reach_the_letter_that_the_paper_has_for_them():
    assert given_options(settings(method="moco-v2", momentum=0.9, temperature=0.1, dim=64)) == {
        "m": 0.9, "T": 0.1, "dim": 64,
    }  # fmt: skip
    assert given_options(settings(method="byol", momentum=0.9, hidden=32)) == {"tau": 0.9, "hidden": 32}
    assert given_options(settings(method="instdisc", negatives=64, momentum=0.0)) == {"negatives": 64, "m": 0.0}
    own = planned(settings(method="byol", batch=64, epochs=40, momentum=0.5), images=1000)[1]
    assert own["tau"] == 0.5  # asked for, so not the preset's
    with pytest.raises(
        InputError, match=r"--queue 8: byol has no such setting.*\(byol has --momentum, --dim, --hidden\)"
    ):
        given_options(settings(method="byol", queue=8))
    with pytest.raises(InputError, match=r"--temperature 0.1: supervised has no such setting.*a method that has it\."):
        given_options(settings(method="supervised", temperature=0.1))


def test_negatives_of_an_image_can_be_left_out():
    """[Henaff 2021]: its code's local_negatives; False is a wish, not an absence."""
    assert given_options(settings(method="detcon-b", local_negatives=False)) == {"local_negatives": False}
    assert planned(settings(method="detcon-s-one-view", batch=8), images=16)[1]["local_negatives"] is True
    with pytest.raises(InputError, match=r"--local-negatives False: simclr has no such setting"):
        given_options(settings(method="simclr", local_negatives=False))


def test_a_step_schedule_drops_where_it_is_asked_to():
    """[Henaff 2021] on COCO: a tenth at 96 % and at 98 % of the run."""
    asked = settings(method="detcon-b", batch=64, epochs=300, schedule="step", milestones=(0.96, 0.98))
    training, _ = planned(asked, images=1000)
    rates = [lr_at(training, step, 1, 300, 64) / (0.3 * 64 / 256) for step in (3, 287, 288, 293, 294, 299)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert training_of(settings(schedule="step"), PAPER).milestones == (0.6, 0.8)
    with pytest.raises(InputError, match="--milestones: the cosine schedule has none. Add --schedule step"):
        training_of(settings(milestones=(0.5,)), PAPER)
    with pytest.raises(InputError, match="milestones.*less than 1"):
        settings(milestones=(1.5,))


def test_a_run_that_only_warms_up_is_said(capsys):
    ten = Training("lars", 0.2, warmup_epochs=10, epochs=5, batch=4)
    card.say_if_all_is_warm_up(ten, None, images=8)
    assert "the warm-up is 10 epochs long and the run 5, so the learning rate only rises" in capsys.readouterr().err
    card.say_if_all_is_warm_up(ten, 5, images=8)
    assert "the run 2.5, so" in capsys.readouterr().err
    card.say_if_all_is_warm_up(dataclasses.replace(ten, warmup_epochs=1.0), 1, images=8)
    assert "the warm-up is 1 epoch long and the run 0.5, so" in capsys.readouterr().err
    for longer in (dataclasses.replace(ten, epochs=11), dataclasses.replace(ten, warmup_epochs=0)):
        card.say_if_all_is_warm_up(longer, None, images=8)
    assert capsys.readouterr().err == ""


def test_small_groups_of_batch_norm_are_said(capsys):
    card.say_how_small_groups_are(32, 2, 8)
    assert "in 8 groups sees 2 images at a time" in (words := capsys.readouterr().err) and "or --splits 4." in words
    for batch, splits in ((32, 8), (2, 1)):
        card.say_how_small_groups_are(batch, 1, splits)
    assert capsys.readouterr().err == ""


def test_zero_weight_decay_and_warmup_are_wishes_too():
    asked = training_of(settings(weight_decay=0.0, warmup_epochs=0.0), Training("sgd", 0.1, warmup_epochs=5))
    assert asked.weight_decay == 0.0 and asked.warmup_epochs == 0.0


def test_auto_takes_bfloat16_where_it_is_there_and_reproducible(monkeypatch):
    monkeypatch.setattr(pretrain, "has_bf16", lambda device: True)
    assert [in_bf16("auto", size) for size in (8, 16, 17, 224)] == [False, False, True, True]
    assert in_bf16("bf16", 8) and not in_bf16("32", 224)
    monkeypatch.setattr(pretrain, "has_bf16", lambda device: False)
    assert not in_bf16("auto", 224)


def test_bfloat16_is_that_of_the_device_and_of_real_instructions(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: not including_emulation)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    for there in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there, raising=False)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        assert has_bf16(cpu) == in_bf16("auto", 64, cpu) == there
        assert has_bf16(gpu) and in_bf16("auto", 64, gpu) and has_bf16()
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        assert has_bf16() == there


def test_no_gpu_is_said_and_not_replaced(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pretrain.device_of("auto") == pretrain.device_of("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match="a GPU was asked for and PyTorch sees none"):
        pretrain.device_of("cuda")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "resnet19"}, "unknown backbone 'resnet19'"),
        ({"batch": 4096}, "--batch 4096 is larger than the data: 64 images"),
        ({"method": "moco-v2", "batch": 24, "queue": 64, "splits": 2}, "64 keys is not divisible by"),
        ({"method": "supervised", "batch": 10, "accumulate": 4}, "split evenly into 4 parts"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_anything_is_decoded(tmp_path, monkeypatch, given, message):
    from whytransfer.images.cache import PixelCache

    monkeypatch.setattr(PixelCache, "open", lambda *_, **__: pytest.fail("decoded first"))
    with pytest.raises(InputError, match=message):
        pretrain.pretrain(images="scenes:64:0:24", out=tmp_path / "run", **given)


def test_foreign_classes_to_watch_are_refused_and_leave_nothing(tmp_path, photos):
    (tmp_path / "val").mkdir()
    (photos / "fox").rename(tmp_path / "val" / "fox")
    with pytest.raises(InputError, match="classes that the training set lacks"):
        pretrain.pretrain(images=str(photos), val=str(tmp_path / "val"), out=tmp_path / "run", batch=4, size=16)
    assert not (tmp_path / "run").exists()


def test_unusual_settings_are_said(capsys):
    eight = range(8)
    card.say_what_is_unusual(settings(method="moco-v2"), "moco-v2", {"queue": 16}, eight)
    words = capsys.readouterr().err
    assert "the queue (16 keys) is larger than the data (8 images)" in words and "which needs none" in words
    assert "queue" not in methods.options_of("moco-v2-small")
    card.say_what_is_unusual(settings(method="moco-v2"), "moco-v2", {"queue": 65536}, range(5000))
    assert "(65,536 keys) is larger than the data (5,000 images)" in capsys.readouterr().err
    for method, taken in (("instdisc-softmax", "all of them are taken"), ("instdisc", "some are drawn several times")):
        card.say_what_is_unusual(settings(method=method), "moco-v1", {"negatives": 4096}, eight)
        assert f"--negatives 4,096 are more than the bank holds (8 images): {taken}" in capsys.readouterr().err
    for method, role in (
        ("supcon-queue", "as positives"),
        ("exemplar-v2", "which leave the loss"),
        ("moco-v1", "as neg"),
    ):
        card.say_what_is_unusual(settings(method=method), "moco-v2", {"queue": 16}, eight)
        assert role in (words := capsys.readouterr().err) and "is the preset for small data" in words
    card.say_what_is_unusual(settings(method="supervised", recipe="ladder-2"), "ladder-2-supervised", {}, eight)
    assert "supervised takes the views ladder-2-supervised" in capsys.readouterr().err
    card.say_what_is_unusual(settings(recipe="ladder-2"), "ladder-2", {}, eight)
    assert capsys.readouterr().err == ""


def test_the_plan_names_what_nobody_typed(capsys):
    s = settings(method="moco-v2", batch=64, iterations=20)
    training, options = planned(s, images=1234)
    config = {
        "epochs": 3,
        "images": 1234,
        "precision": "bf16-mixed",
        "batch": 64,
        "weight_decay": training.weight_decay,
    }
    config |= {"optimizer": training.optimizer, "schedule": training.schedule, "lr": training.lr_per_256 / 4}
    told = {"config": config, "method": "moco-v2", "arch": "resnet18", "recipe": "moco-v2", "size": 64}
    card.say_the_plan(told, options, s.iterations)
    said = capsys.readouterr().err
    assert said.startswith(
        "moco-v2: resnet18 on 1,234 images; views moco-v2 of 64 px; 20 iterations at batch 64; sgd, lr "
    )
    assert "lr 0.0075 (cosine), weight decay 0.0001; " in said and "queue 65,536" in said and "T 0.2" in said
    card.say_the_plan(told, {})
    assert capsys.readouterr().err.endswith(
        "; 3 epochs at batch 64; sgd, lr 0.0075 (cosine), weight decay 0.0001; bfloat16\n"
    )


def test_a_folder_that_cannot_be_written_is_said_before_anything_is_read(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="nothing can be written in"):
        pretrain.pretrain(images="nowhere at all", out=tmp_path / "file" / "run")


@pytest.mark.parametrize("method", ["supcon", "exemplar-v2"])
def test_labels_are_asked_for_before_anything_is_made(tmp_path, photos, method):
    for i, path in enumerate(sorted(photos.rglob("*.*"))):
        path.rename(photos / f"{i}{path.suffix}")
    for folder in [p for p in photos.iterdir() if p.is_dir()]:
        folder.rmdir()
    with pytest.raises(InputError, match=f"--method {method} needs labels, and 12 of the 12 images of .* have none"):
        pretrain.pretrain(images=str(photos), method=method, batch=4, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("saved", [True, False])
def test_going_on_with_other_threads_is_said(tmp_path, capsys, saved):
    made = {"config": {}, "versions": {"torch": "2.15", "threads": "2"}}
    folder = RunFolder.open(tmp_path, made)
    if saved:
        folder.save({"step": 1, "metrics": []})
    card.say_what_changed(folder, made)
    assert capsys.readouterr().err == ""
    card.say_what_changed(folder, {"versions": {"torch": "2.15", "threads": "1"}})
    said = capsys.readouterr().err
    assert ("threads: 2 then, 1 now" in said and "bits" in said and "torch" not in said) if saved else said == ""


def test_the_config_file_names_every_setting_of_the_method(tmp_path):
    s = settings(method="moco-v2", queue=32)
    config = {"recipe": "moco-v2", "epochs": 9, "batch": 8, "lr": 0.1, "weight_decay": 0.0, "warmup_epochs": 0.0}
    config |= {"schedule": "cosine", "optimizer": "sgd"}
    config |= {"precision": "bf16-mixed", "cache_px": 128, "moco-v2.m": 0.999, "moco-v2.T": 0.2, "moco-v2.queue": 32}
    folder = RunFolder.open(tmp_path, {"config": config})
    card.write_config(s, folder)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert {"momentum": 0.999, "temperature": 0.2, "queue": 32, "precision": "bf16", "cache_px": 128}.items() <= (
        written.items()
    )
    assert "splits" not in written and PretrainSettings.made_from(written | {"out": tmp_path}).momentum == 0.999


def test_the_config_file_says_how_long_in_one_way(tmp_path):
    config = {"recipe": "byol", "epochs": 3, "batch": 8, "lr": 0.1, "weight_decay": 0.0, "warmup_epochs": 0.0}
    config |= {"schedule": "cosine", "optimizer": "lars", "precision": "32-true", "cache_px": 128, "byol.tau": 0.97}
    folder = RunFolder.open(tmp_path, {"config": config})
    card.write_config(settings(method="byol", iterations=20), folder)
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert written["iterations"] == 20 and "epochs" not in written and written["momentum"] == 0.97
    assert PretrainSettings.made_from(written | {"out": tmp_path}).iterations == 20


class Group:
    """A process of two, whose broadcasts are written down or, in the second one, dictated."""

    world_size = 2

    def __init__(self, first, *dictated):
        self.is_global_zero, self.said, self.dictated = first, [], list(dictated)
        self.thrice = threading.Event()

    def broadcast(self, value):
        self.said.append(value)
        if len(self.said) == 3:
            self.thrice.set()
        return value if self.is_global_zero else self.dictated.pop(0)


def test_processes_wait_in_turns_for_what_the_first_one_makes(monkeypatch):
    monkeypatch.setattr(pretrain, "BEAT_S", 0.02)
    made = threading.Event()
    group, second = Group(True), Group(False, False, False, True, False)

    def slowly():
        assert group.thrice.wait(60)  # broadcasts go on while this works
        return "made"

    assert pretrain.first_rank_first(group, slowly) == "made"
    assert not any(group.said[:3]) and group.said[-2:] == [True, False]
    assert pretrain.first_rank_first(second, lambda: made.set() or "read") == "read"
    assert made.is_set() and not second.dictated


@pytest.mark.parametrize("failure", [InputError("no such folder"), RunError("a worker was killed")])
def test_what_fails_in_the_first_process_ends_all_and_is_said_once(failure):
    def work():
        raise failure

    with pytest.raises(type(failure), match=str(failure)):
        pretrain.first_rank_first(Group(True), work)
    with pytest.raises(SystemExit):
        pretrain.first_rank_first(Group(False, True, True), lambda: pytest.fail("made without the first"))


STANDING = {"knn": 40.0, "pairs": 50.0, "spread": 0.3, "rank": 90.0}
WATCHED = {**STANDING, "knn_queries": "val images", "knn_query_count": 500}


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (STANDING, {**STANDING, "knn": 30.0}, "kNN 40.0 %, random features 30.0 %: 10.0 points above random features"),
        (STANDING, {**STANDING, "knn": 42.5}, "2.5 points BELOW random features; not collapsed"),
        (WATCHED, {**STANDING, "knn": 30.0}, "kNN 40.0 % of 500 val images, random features 30.0 %: 10.0 points above"),
        (WATCHED, {**STANDING, "knn": 30.0}, "10.0 points above random features (± 5.9)"),
        (WATCHED, {**STANDING, "knn": 42.5}, "2.5 points below random features, within chance (± 6.1)"),
        (STANDING, {**STANDING, "pairs": 60.0}, "matched less often (50.0 %) than by random features: 60.0 %"),
        ({**STANDING, "knn": None}, {"knn": None, "pairs": 20.0}, "pair matching 50.0 %, random features 20.0 %"),
        ({**STANDING, "knn": None}, {"knn": None, "pairs": 60.0}, "so no kNN): 10.0 points BELOW random features; not"),
        ({**STANDING, "knn": None, "pair_count": 100}, {"knn": None, "pairs": 51.0},
         "pair matching 50.0 % of 100 images, random features 51.0 % (no labels, so no kNN): 1.0 points below random "
         "features, within chance (± 13.9); not"),
        ({**STANDING, "pair_count": 256}, {**STANDING, "pairs": 60.0}, "than by random features: 60.0 % (± 8.6); not"),
        (WATCHED, {**STANDING, "knn": 40.0}, "no better than random features, within chance (± 6.1); not"),
        ({**WATCHED, "knn": 100.0}, {**STANDING, "knn": 100.0}, "100.0 %: no better than random features; not"),
        ({**STANDING, "rank": 1.1}, STANDING, "collapsed: nearly one feature"),
        ({**STANDING, "rank": 3.1}, {**STANDING, "rank": 2.0}, "cannot be told from so few or so similar"),
        ({**STANDING, "spread": 0.001}, {**STANDING, "rank": 2.0}, "collapsed: nearly one feature"),
        ({**STANDING, "loss": 0.0}, STANDING, "the loss was exactly 0, so the last steps taught nothing"),
        (STANDING, {}, "not watched"),
        ({}, STANDING, "not watched"),  # watched at first, continued with --no-monitor
    ],
)  # fmt: skip
def test_a_run_ends_with_its_standing_in_words(now, before, words):
    summary = pretrain._summary(Path("run"), {"loss": 1.0, "epoch": 3, "width": 512, "random": before, **now})
    assert words in summary["standing"] and summary["run"] == "run" and summary["loss"] == now.get("loss", 1.0)
    assert ("exactly 0" in words) == ("exactly 0" in summary["standing"])
