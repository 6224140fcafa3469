"""results.jsonl: a repeated result replaces its old one, every other one stays; each says where it came from."""

import json
import shutil
from functools import partial

import pytest
from PIL import Image

import whytransfer
from whytransfer.commands.common import interval_text
from whytransfer.commands.transfer import against_random, sizes_of, table_of
from whytransfer.errors import InputError
from whytransfer.images.scenes import Scenes
from whytransfer.records import Result
from whytransfer.tasks import TASKS


class Stub:
    """A task that answers at once, with the value that `answer` holds, and remembers how it was built."""

    answer = 1.0
    built: list = []

    def __init__(self, train, test, *, size_px, seed, batch, progress):
        self.data = f"{train.name} -> {test.name}"
        self.test = test
        Stub.built.append((size_px, batch, train))
        for part in (train, test):
            progress(len(part), len(part))

    def run(self, backbone, seed):
        for metric in ("top1", "top5"):
            yield Result(backbone.spec, self.data, "stub", metric, Stub.answer, "%", "higher", len(self.test), seed)


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setitem(TASKS, "stub", Stub)
    monkeypatch.setattr(Stub, "built", [])
    return Stub


def transfer(folder, *backbones, **settings):
    given = {"train": "scenes:12:0:16", "test": "scenes:6:1:16", "task": "stub", "size": 16, "device": "cpu"}
    return whytransfer.transfer(backbone=backbones, out=folder, **{**given, **settings})


def kept(folder):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {(r["model"], r["data"], r["seed"], r["metric"]): r["value"] for r in rows}, len(rows)


def result(model, value, low, high, unit="%", metric="top1", direction="higher"):
    return Result(model, "a -> b", "readout", metric, value, unit, direction, 100, 0, low, high)


@pytest.mark.parametrize(
    ("results", "lines"),
    [
        (
            [result("runs/a", 40.0, 36.0, 44.0), result("random:resnet18", 30.0, 27.0, 33.0)],
            ["runs/a: 10.00 points over random features in top1, beyond their intervals"],
        ),
        (
            [result("random:resnet18", 30.0, 27.0, 33.0), result("runs/a", 28.0, 24.0, 32.0)],
            ["runs/a: 2.00 points BELOW random features in top1, but their intervals overlap"],
        ),
        (
            [result("random:x", 0.3, 0.2, 0.4, "R2", "pose"), result("b", 0.5, 0.45, 0.6, "R2", "pose")],
            ["b: 0.20 R2 over random features in pose, beyond their intervals"],
        ),
        (
            [
                result("random:x", 0.9, 0.8, 1.0, "m", "rmse", "lower"),
                result("b", 0.5, 0.4, 0.6, "m", "rmse", "lower"),
                result("c", 1.0, 0.9, 1.1, "m", "rmse", "lower"),
            ],
            [
                "b: 0.40 m under random features in rmse, beyond their intervals",
                "c: 0.10 m ABOVE random features in rmse, but their intervals overlap",
            ],
        ),
        (
            [result("runs/a", 40.0, 36.0, 44.0), result("runs/a", 41.0, 36.0, 44.0, metric="mean_per_class")],
            ["no random features beside it: add random:resnet18, or your architecture, to see what training gave"],
        ),
    ],
)
def test_each_backbone_is_told_beside_random_features(results, lines):
    assert list(against_random(results)) == lines


def test_a_fusion_is_untrained_only_where_all_of_it_is():
    fused, run, random = "random:resnet18+runs/mine", "runs/mine", "random:resnet18"
    results = [result(model, value, 0.0, 100.0) for model, value in ((fused, 62.5), (run, 62.5), (random, 65.0))]
    assert [line.split(" random")[0] for line in against_random(results)] == [
        f"{fused}: 2.50 points BELOW",
        f"{run}: 2.50 points BELOW",
    ]
    assert next(against_random(results[:2])).startswith("no random features beside it")
    assert sizes_of([f"{random}:1+{random}:2"]) == [64] and sizes_of(["random:resnet18+torchvision:resnet18:x"]) == [
        224
    ]


def test_one_backbone_needs_no_list(stub, tmp_path):
    results = whytransfer.transfer(
        backbone="random:resnet18-small:1", out=tmp_path, train="scenes:12:0:16", test="scenes:6:1:16", task="stub"
    )
    assert [r.model for r in results] == ["random:resnet18-small:1"] * 2


def test_a_refused_transfer_leaves_no_folder(stub, tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        transfer(tmp_path / "out", "random:resnet18-small:1", test=str(tmp_path / "nowhere"))
    assert not (tmp_path / "out").exists()


def test_a_repeated_result_replaces_its_own_and_no_other(stub, tmp_path, monkeypatch):
    a, b = "random:resnet18-small:1", "random:resnet18-small:2"
    transfer(tmp_path, a, b)
    transfer(tmp_path, a, seed=7)
    transfer(tmp_path, a, test="scenes:5:2:16")
    assert kept(tmp_path)[1] == 8
    before, _ = kept(tmp_path)
    monkeypatch.setattr(stub, "answer", 2.0)
    results = transfer(tmp_path, a)
    after, rows = kept(tmp_path)
    changed = {key for key in before if before[key] != after[key]}
    assert rows == 8 and before.keys() == after.keys()
    assert changed == {(a, results[0].data, 0, metric) for metric in ("top1", "top5")}
    assert {r.value for r in results} == {2.0}


def pictures(folder, value):
    for i, name in enumerate(("ash", "elm", "ash/b", "elm/b")):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (16, 16), (value, 50 * i, 9)).save(folder / name / "0.png")
    return str(folder)


def test_other_images_sizes_or_weights_of_equal_names_are_other_results(tmp_path):
    import torch

    from whytransfer.backbones.load import load_backbone

    weights = tmp_path / "mine.pt"

    def train_again(seed):
        torch.save(load_backbone(f"random:resnet18-small:{seed}").state_dict(), weights)

    def rows(**settings):
        given = {"train": first, "test": first, "task": "knn", "size": 8}
        return len(transfer(tmp_path / "out", str(weights), **{**given, **settings})) and kept(tmp_path / "out")[1]

    first, second = pictures(tmp_path / "a" / "trees", 10), pictures(tmp_path / "b" / "trees", 200)
    train_again(1)
    assert rows() == 2 == rows()
    assert rows(test=second) == 4 and rows(train=second) == 6
    assert rows(size=16) == 8 == rows(size=16)
    train_again(2)
    assert rows() == 10 == rows()


def test_test_images_that_are_training_images_are_counted_and_said(tmp_path, capsys):
    one, other = pictures(tmp_path / "one", 10), pictures(tmp_path / "other", 200)
    shutil.copy(tmp_path / "one" / "ash" / "0.png", tmp_path / "other" / "ash" / "again.png")
    settings = {"task": "knn", "size": 8}
    same = transfer(tmp_path / "out", "random:resnet18-small", train=one, test=one, **settings)
    assert same[0].provenance["test_images_in_train"] == 4
    assert "note: 4 of the 4 test images are training images too" in capsys.readouterr().err
    found = transfer(tmp_path / "out", "random:resnet18-small", train=one, test=other, **settings)
    assert found[0].provenance["test_images_in_train"] == 1
    assert "note: 1 of the 5 test images are training images too" in capsys.readouterr().err
    few = {"train": one, "test": other, "cache_gb": 1e-9, "task": "knn", "size": 10}  # of a size not in the cache yet
    unknown = transfer(tmp_path / "out", "random:resnet18-small", **few)
    assert unknown[0].provenance["test_images_in_train"] is None
    assert "whether test images are training images too was not looked at" in capsys.readouterr().err


def test_tasks_on_annotated_images_refuse_to_skip(tmp_path):
    with pytest.raises(InputError, match="task depth leaves no image out, so it has no --skip-unreadable"):
        transfer(tmp_path, "random:resnet18", task="depth", skip_unreadable=True)


def test_label_efficiency_is_a_setting_of_tasks(tmp_path):
    with pytest.raises(InputError, match="label efficiency is the curve of a task: --task readout .* --labels 1 5 10"):
        transfer(tmp_path, "random:resnet18-small", task="label-efficiency")


def test_two_commands_that_keep_at_once_lose_nothing(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    from whytransfer.commands.result_files import keep

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: keep(tmp_path, [result(f"runs/{i}", 1.0, 0.0, 2.0)]), range(24)))
    assert kept(tmp_path)[1] == 24


def test_unreadable_images_can_be_left_out_as_in_pretraining(tmp_path):
    folder = pictures(tmp_path / "trees", 10)
    (tmp_path / "trees" / "ash" / "broken.png").write_bytes(b"no picture")
    settings = {"train": folder, "test": folder, "task": "knn", "size": 8}
    with pytest.raises(InputError, match="or leave out what cannot be read: --skip-unreadable"):
        transfer(tmp_path / "out", "random:resnet18-small", **settings)
    assert len(transfer(tmp_path / "out", "random:resnet18-small", skip_unreadable=True, **settings)) == 2


def test_every_result_says_where_it_came_from(stub, tmp_path):
    result = transfer(tmp_path, "random:resnet18-small")[0]
    assert result.provenance["train"] == "scenes:12:0:16" and result.provenance["test"] == "scenes:6:1:16"
    assert {"command", "versions"} <= result.provenance.keys()


def test_images_have_the_size_of_the_pretraining_and_are_opened_once(stub, tmp_path):
    transfer(tmp_path, "random:resnet18-small:1", "random:resnet18-small:2", size=None, batch=3)
    assert [(size, batch) for size, batch, _ in stub.built] == [(64, 3), (64, 3)]
    assert stub.built[0][2] is stub.built[1][2]


def run_at(folder, size, seed=1):
    """A run folder as pretraining leaves it."""
    from safetensors.torch import save_file

    from whytransfer.backbones.load import load_backbone

    folder.mkdir()
    save_file(load_backbone(f"random:resnet18-small:{seed}").state_dict(), folder / "backbone.safetensors")
    (folder / "card.json").write_text(json.dumps({"arch": "resnet18-small", "size": size, "finished": True}))
    return str(folder)


def test_random_weights_see_what_the_run_beside_them_sees(stub, tmp_path, capsys):
    run, random = run_at(tmp_path / "run", 24), "random:resnet18-small"
    transfer(tmp_path / "out", random, run, f"{run}/backbone.safetensors", size=None)
    assert [size for size, _, _ in stub.built] == [24, 24, 24]
    assert "different sizes" not in capsys.readouterr().err
    assert sizes_of(["torchvision:resnet18:x", random, run]) == [224, 24, 24]
    assert sizes_of([random, "torchvision:resnet18:x"]) == [224, 224] and sizes_of([random]) == [64]


def test_different_sizes_are_said_and_shown(stub, tmp_path, capsys):
    runs = run_at(tmp_path / "a", 24), run_at(tmp_path / "b", 32)
    columns, rows = table_of(transfer(tmp_path / "out", *runs, size=None))
    assert f"different sizes ({runs[0]} at 24 px, {runs[1]} at 32 px); --size N" in capsys.readouterr().err
    assert columns[1] == "size" and [row[1] for row in rows] == ["24 px"] * 2 + ["32 px"] * 2
    assert table_of(transfer(tmp_path / "out", *runs))[0][1] == "metric"


def test_every_backbone_is_found_before_the_first_works(stub, tmp_path):
    with pytest.raises(InputError, match="Did you mean 'random'"):
        transfer(tmp_path / "out", "random:resnet18-small", "rundom:resnet18")
    assert not stub.built and not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(stub, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/out .*Choose another --out"):
        transfer(tmp_path / "file" / "out", "random:resnet18-small")
    assert not stub.built


class Tuned(Stub):
    """A task with settings of its own, which reads annotated images."""

    annotated = True

    def __init__(self, train, test, *, size_px, seed, batch, progress, shot=1, lr=None, folder=None):
        super().__init__(train, test, size_px=size_px, seed=seed, batch=batch, progress=progress)
        Stub.built[-1] = (shot, lr, folder, train)


def test_a_task_gets_the_settings_it_has_and_no_others(stub, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "tuned", Tuned)
    monkeypatch.setitem(TASKS, "fixed", partial(Tuned, shot=3))
    random = "random:resnet18-small"
    transfer(tmp_path, random, task="tuned", shot=5, lr=0.5)
    shot, lr, folder, train = stub.built[0]
    assert (shot, lr, folder) == (5, 0.5, tmp_path) and isinstance(train, Scenes)
    for task, setting in {"stub": {"shot": 5}, "fixed": {"shot": 5}, "tuned": {"way": 5}}.items():
        with pytest.raises(InputError, match=f"task {task} has no --{next(iter(setting))}; it is a setting of: "):
            transfer(tmp_path, random, task=task, **setting)
    with pytest.raises(InputError, match=r"no --fit-batch"):
        transfer(tmp_path, random, fit_batch=2)
    assert len(stub.built) == 1


def test_other_settings_are_other_results(stub, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "tuned", Tuned)
    for settings in ({}, {"shot": 5}, {"shot": 5, "lr": 0.1}, {"shot": 5}):
        results = transfer(tmp_path, "random:resnet18-small", task="tuned", **settings)
        assert results[0].provenance["options"] == settings
    assert kept(tmp_path)[1] == 6


def test_a_fusion_sees_what_its_largest_member_sees(tmp_path):
    runs = run_at(tmp_path / "a", 24), run_at(tmp_path / "b", 32)
    assert sizes_of(["+".join(runs), f"{runs[0]}+random:resnet18", "random:resnet18"]) == [32, 24, 32]


LISTS = '{"model": ["m"], "data": "d", "task": "t", "seed": 0, "provenance": {}}'


@pytest.mark.parametrize("line", ["{", "[1, 2]", "3", '{"model": "m"}', LISTS])
def test_results_of_another_program_are_refused_before_the_work(stub, tmp_path, line):
    transfer(tmp_path, "random:resnet18-small")
    with open(tmp_path / "results.jsonl", "a") as file:
        file.write(line + "\n")
    before, stub.built[:] = (tmp_path / "results.jsonl").read_bytes(), []
    with pytest.raises(InputError, match=r"line 3 of .*results.jsonl is no result of this command.*another --out"):
        transfer(tmp_path, "random:resnet18-small")
    assert not stub.built and (tmp_path / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("card", ["{}", '{"size": "big"}', "[]", '{"size": null}', "{"])
def test_a_card_without_a_size_is_named(tmp_path, card):
    (tmp_path / "card.json").write_text(card)
    with pytest.raises(InputError, match=r"card.json does not tell the size of the images.*Give --size"):
        sizes_of([str(tmp_path)])


def test_an_interval_is_shown_where_there_is_one():
    bare = Result("m", "d", "t", "x", 1.0, "%", "higher", 5, 0)
    assert interval_text(bare) == ""
    assert interval_text(Result("m", "d", "t", "x", 1.0, "%", "higher", 5, 0, low=0.254, high=1.755)) == "[0.25, 1.75]"


def test_images_with_factors_and_landmarks_are_read_for_what_is_asked(tmp_path):
    settings = {"task": "ridge-readout", "train": "scenes:24:0:16", "test": "scenes:8:1:16"}
    read = {
        targets: transfer(tmp_path, "random:resnet18-small", targets=targets, **settings)
        for targets in (None, "landmarks")
    }
    names = {targets: [r.metric for r in results] for targets, results in read.items()}
    assert "object_hue" in names[None] and names["landmarks"] == ["mean", *(f"{a}{k}" for k in range(5) for a in "xy")]
    with pytest.raises(InputError, match="task factors has no --targets; it is a setting of: ridge-readout, kernel-"):
        transfer(tmp_path, "random:resnet18-small", targets="landmarks", task="factors")
