"""`whytransfer advise` on an engineer's folder: unbalanced, with copies, classes of one and two, damaged files."""

import json
import shutil

import numpy as np
import pytest
import torch
from console import call
from PIL import Image

import whytransfer
from whytransfer.commands.advise import floor_of
from whytransfer.diagnosis import candidates, out_of_fold
from whytransfer.errors import InputError
from whytransfer.images.scenes import Scenes

QUICK = {"size": 16, "changed": 8, "views": 1, "shares": (50,), "device": "cpu", "batch": 32}
BARE = "random:resnet18"


@pytest.fixture(scope="module", autouse=True)
def no_waiting():
    """Four strengths of regularisation, and speed from three calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "RATE_SECONDS", 0.0)
        patch.setattr(candidates, "RATE_BATCH", 2)
        patch.setattr(out_of_fold, "CS", out_of_fold.CS[::3])
        yield


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """red (20 pictures), blue (10), odd (2), alone (1); one copy in red, one picture of blue that is in red too."""
    root = tmp_path_factory.mktemp("advise") / "photos"
    scenes, chance, at = Scenes(33, 0, 24), np.random.default_rng(0), 0
    for name, count in (("red", 20), ("blue", 10), ("odd", 2), ("alone", 1)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            picture = scenes.render_many([at])[0] // 4 + chance.integers(0, 4, (24, 24, 3), dtype=np.uint8)
            picture[..., {"red": 0, "blue": 2, "odd": 1, "alone": 1}[name]] += 150
            Image.fromarray(picture).save(root / name / f"{i}.png")
            at += 1
    shutil.copy(root / "red" / "0.png", root / "red" / "copy.png")
    shutil.copy(root / "red" / "1.png", root / "blue" / "torn.png")
    return root


@pytest.fixture(scope="module")
def answer(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return whytransfer.advise(images=str(photos), backbone=BARE, out=out, **QUICK), out


def test_what_cannot_serve_is_left_out_and_said(answer):
    found, _ = answer
    # red/copy is a copy in its own class; blue comes first, so red/1 repeats blue/torn
    assert found["classes"] == {"blue": 11, "odd": 2, "red": 19} and found["pictures"] == 32
    notes = "\n".join(found["notes"])
    assert "2 pictures repeat another, pixel by pixel, and count once" in notes
    assert "1 of them have another label there, so one of the two is wrong: blue/torn.png and red/1.png" in notes
    assert "1 classes have one picture, which cannot both train and test; they are left out: alone" in notes


def test_colour_tells_these_labels(answer):
    found, _ = answer
    over = found["alone"]["colour"]["over_largest_class"]
    largest = 100 * 19 / 32
    assert found["alone"]["colour"]["value"] > 85  # 32 pictures are too few for the interval to exclude 0
    assert found["largest_class"]["value"] == pytest.approx(largest, abs=1e-3)
    assert over["value"] == pytest.approx(found["alone"]["colour"]["value"] - largest, abs=2e-3)


def test_files_hold_the_answer_and_the_results(answer):
    found, out = answer
    assert json.loads((out / "advice.json").read_text()) == found
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {(r["data"], r["metric"]) for r in rows} >= {("photos", "top1"), ("photos (50 % of the labels)", "top1")}
    assert all(r["provenance"]["weights_sha256"] and r["provenance"]["command"] for r in rows)


def test_the_picture_lies_beside_with_its_tables(answer):
    found, out = answer
    names = {path.name for path in (out / "figures").iterdir()}
    assert names == {"advice.svg", "advice.png", "advice.pdf"} | {
        f"{table}.{kind}" for table in ("labels", "invariance") for kind in ("csv", "parquet")
    }
    text = (out / "figures" / "advice.svg").read_text()
    for part in ("Do more labels pay?", "Pose: needed and offered", "Colour: needed and offered", "32 pictures of 3"):
        assert part in text


def test_what_was_measured_is_not_measured_again(answer, photos, monkeypatch):
    found, out = answer
    monkeypatch.setattr(candidates, "extract", None)  # would fail
    again = whytransfer.advise(images=str(photos), backbone=BARE, out=out, **QUICK)
    assert again == found
    with pytest.raises(TypeError):
        whytransfer.advise(images=str(photos), backbone=BARE, out=out, **{**QUICK, "seed": 1})


def test_candidates_are_looked_for_and_the_floor_is_added(photos, tmp_path, capfd):
    """A candidate with the weights of random:resnet18:5, one of another kind, and a file that is none."""
    weights = tmp_path / "runs"
    weights.mkdir()
    torch.save(whytransfer.load_backbone("random:resnet18:5").state_dict(), weights / "a.pth")
    torch.save({"x": torch.zeros(2)}, weights / "b.pth")
    code = call(
        "advise", "--images", photos, "--candidates", weights, "--out", tmp_path / "out", "--size", "16", "--changed",
        "8", "--views", "1", "--shares", "50", "--metric", "mean_per_class", "--json",
    )  # fmt: skip
    printed = capfd.readouterr()
    assert code == 0 and printed.out.count("\n") == 1
    found = json.loads(printed.out)
    assert [c["backbone"] for c in found["candidates"] if not c["untrained"]] == [str(weights / "a.pth")]
    assert [c["backbone"] for c in found["candidates"] if c["untrained"]] == [BARE]
    assert found["metric"] == "mean_per_class" and found["largest_class"]["value"] == pytest.approx(100 / 3, abs=1e-2)
    assert f"{weights / 'b.pth'} is no candidate" in printed.err and any("b.pth" in note for note in found["notes"])
    assert found["advice"][0].startswith(("None of these is shown to help", "Take "))


def test_people_get_a_table_and_sentences(answer, photos, capfd):
    _, out = answer
    arguments = (f"--{name}={value[0] if name == 'shares' else value}" for name, value in QUICK.items())
    assert call("advise", "--images", photos, "--backbone", BARE, "--out", out, *arguments) == 0
    text = capfd.readouterr().out
    for part in ("32 pictures of 3 classes", "colour alone", "always the largest class", "(50 %)", "untrained"):
        assert part in text


def test_an_unreadable_picture_is_named_and_left_out_when_allowed(photos, tmp_path):
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "red" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n half")
    given = {"images": str(tmp_path / "photos"), "backbone": BARE, "out": tmp_path / "out", **QUICK}
    with pytest.raises(InputError, match=r"red/3.png.*--skip-unreadable"):
        whytransfer.advise(**given)
    assert not (tmp_path / "out").exists()
    found = whytransfer.advise(**given, skip_unreadable=True)
    assert "1 pictures cannot be read and are left out: red/3.png" in found["notes"] and found["pictures"] == 31


def test_labels_come_from_a_table(photos, tmp_path):
    lines = [
        f"{c}/{i}.png,{'even' if i % 2 == 0 else 'uneven'}" for c, n in (("red", 12), ("blue", 8)) for i in range(n)
    ]
    (tmp_path / "labels.csv").write_text("name,label\n" + "\n".join(lines) + "\n")
    found = whytransfer.advise(
        images=str(photos), labels=tmp_path / "labels.csv", backbone=BARE, out=tmp_path / "out", **QUICK
    )
    assert found["classes"] == {"even": 10, "uneven": 10}
    assert any("are not in labels.csv" in note for note in found["notes"])


def test_architectures_have_a_floor_where_they_are_ours():
    assert floor_of("resnet18-small") == "random:resnet18-small" and floor_of("vit_b_16") == ""
    assert floor_of("resnet18+resnet18") == "random:resnet18+random:resnet18:1"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "Nothing to choose among. Name backbones"),
        ({"candidates": ["EMPTY"]}, "no run, export or weight file below .*empty. Name backbones"),
        ({"candidates": ["EMPTY/none"]}, "no such file or folder"),
        ({"backbone": "rundom:resnet18"}, "Did you mean 'random'"),
        ({"backbone": BARE, "labels": "EMPTY"}, "is a folder; a CSV file is needed"),
        ({"backbone": BARE, "images": "FLAT"}, "no picture of .* has a label.*--labels"),
        ({"backbone": BARE, "images": "scenes:9:0:16"}, "pictures in classes of .*: at least 10"),
        ({"backbone": BARE, "shares": (0,)}, "greater than 0"),
    ],
)
def test_bad_requests_are_refused_and_write_nothing(photos, tmp_path, settings, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "flat").mkdir()
    for i in range(3):
        shutil.copy(photos / "red" / f"{i}.png", tmp_path / "flat")
    places = {"EMPTY": str(tmp_path / "empty"), "FLAT": str(tmp_path / "flat")}

    def placed(value):
        for name, place in places.items():
            value = value.replace(name, place) if isinstance(value, str) else value
        return [placed(v) for v in value] if isinstance(value, list) else value

    given = {"images": str(photos), **QUICK, **{key: placed(value) for key, value in settings.items()}}
    with pytest.raises(InputError, match=message):
        whytransfer.advise(**given, out=tmp_path / "out")
    assert not (tmp_path / "out" / "advice.json").exists()
