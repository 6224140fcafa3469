"""What the demo runs, and what it says of the results: the table, and no more in words than the intervals carry."""

import json
import math

import pytest

from whytransfer import cli
from whytransfer.commands import demo
from whytransfer.records import Result

VALUES = {  # model -> class in %, R2 of pose, R2 of colour
    "random": (27.07, 0.32, 0.47),
    "supervised": (33.4, 0.31, 0.38),
    "default": (24.47, 0.25, 0.58),
    "spatial": (18.4, 0.22, 0.65),
    "appearance": (31.13, 0.33, 0.33),
}


def made(values=VALUES, half=0.02):
    """Results of both tasks as the demo gets them: task after task, each model after model, more metrics than shown."""
    metrics = {"readout": ("top1", "mean_per_class"), "factors": ("object_hue", "pose", "colour")}
    results = []
    for task, names in metrics.items():
        for model, (top1, pose, colour) in values.items():
            spec = "random:resnet18:0" if model == "random" else f"out/runs/{model}"
            by_name = {"top1": top1, "mean_per_class": 1.0, "object_hue": 0.99, "pose": pose, "colour": colour}
            for metric in names:
                value, wide = by_name[metric], 2.0 if task == "readout" else half
                unit = "%" if task == "readout" else "R2"
                interval = value - wide, value + wide
                results.append(Result(spec, "a -> b", task, metric, value, unit, "higher", 1500, 0, *interval))
    return results


def test_the_models_are_those_that_the_readme_compares():
    assert demo.MODELS == {
        "random": None,
        "supervised": ("supervised", "supervised"),
        "default": ("moco-v2-small", "default"),
        "spatial": ("moco-v2-small", "spatial"),
        "appearance": ("moco-v2-small", "appearance"),
    }


def test_the_table_has_a_row_for_each_model_and_an_interval_for_each_value():
    assert list(demo.COLUMNS) == ["class, % right", "pose, R2", "colour, R2"]
    assert demo.table(made()) == [
        ["random", "27.07 [25.07, 29.07]", "0.32 [0.30, 0.34]", "0.47 [0.45, 0.49]"],
        ["supervised", "33.40 [31.40, 35.40]", "0.31 [0.29, 0.33]", "0.38 [0.36, 0.40]"],
        ["default", "24.47 [22.47, 26.47]", "0.25 [0.23, 0.27]", "0.58 [0.56, 0.60]"],
        ["spatial", "18.40 [16.40, 20.40]", "0.22 [0.20, 0.24]", "0.65 [0.63, 0.67]"],
        ["appearance", "31.13 [29.13, 33.13]", "0.33 [0.31, 0.35]", "0.33 [0.31, 0.35]"],
    ]


def test_a_table_of_other_models_than_the_demos_is_not_made_up():
    with pytest.raises(ValueError, match="zip"):
        demo.table([r for r in made() if "spatial" not in r.model])


def test_each_model_is_told_beside_random_features():
    assert demo.against_random(made()) == [
        "against random features, class: supervised, appearance above; default within intervals; spatial BELOW",
        "against random features, pose: supervised, appearance within intervals; default, spatial BELOW",
        "against random features, colour: default, spatial above; supervised, appearance BELOW",
    ]


def test_the_reading_tells_the_trade_off():
    assert demo.reading(made()) == (
        "Trade-off — pose: appearance over spatial by 0.11 R2, beyond their intervals; "
        "colour: spatial over appearance by 0.32 R2, beyond their intervals."
    )


def test_the_reading_names_the_better_one_also_against_the_expectation():
    turned = VALUES | {"spatial": VALUES["appearance"], "appearance": VALUES["spatial"]}
    assert demo.reading(made(turned)) == (
        "Trade-off — pose: spatial over appearance by 0.11 R2, beyond their intervals; "
        "colour: appearance over spatial by 0.32 R2, beyond their intervals."
    )


@pytest.mark.parametrize("pose", [(0.30, 0.28), (0.28, 0.30), (0.29, 0.29), (0.25, 0.375)])
def test_what_the_intervals_do_not_carry_is_said_to_be_undecided(pose):
    """The last pair's intervals, +-1/16, just touch."""
    spatial, appearance = pose
    values = VALUES | {"spatial": (18.0, spatial, 0.75), "appearance": (31.0, appearance, 0.25)}
    assert demo.reading(made(values, half=0.0625)) == (
        "Trade-off — pose: appearance and spatial cannot be told apart here; "
        "colour: spatial over appearance by 0.50 R2, beyond their intervals."
    )
    apart = VALUES | {"spatial": (18.0, 0.25, 0.75), "appearance": (31.0, math.nextafter(0.375, 1), 0.25)}
    assert "pose: appearance over spatial" in demo.reading(made(apart, half=0.0625))


@pytest.fixture
def calls(monkeypatch):
    """What the demo asks of the other commands, in order; they do nothing but answer."""
    asked = []

    def stands_for(name, answer):
        def call(**settings):
            asked.append((name, settings))
            return answer(settings)

        return call

    for module, name, answer in (
        ("pretrain", "pretrain", lambda s: {}),
        ("transfer", "transfer", lambda s: [r for r in made() if r.task == s["task"]]),
        ("show", "show_views", lambda s: s["out"]),
    ):
        monkeypatch.setattr(f"whytransfer.commands.{module}.{name}", stands_for(name, answer))
    return asked


@pytest.mark.parametrize(("quick", "counts", "epochs"), [(True, (400, 300), 1), (False, (2000, 1500), 5)])
def test_all_models_see_the_same_images_and_only_the_views_differ(calls, tmp_path, quick, counts, epochs):
    results = demo.demo(out=tmp_path, quick=quick, seed=3)
    assert results == made()
    train, test = f"scenes:{counts[0]}:6:48", f"scenes:{counts[1]}:7:48"  # no seed shares its scenes with another
    shared = {"images": train, "backbone": "resnet18", "size": 48, "epochs": epochs, "batch": 64, "seed": 3}
    trained = {name: way for name, way in demo.MODELS.items() if way}
    assert [settings for name, settings in calls if name == "pretrain"] == [
        {**shared, "out": tmp_path / "runs" / name, "method": method, "recipe": recipe}
        for name, (method, recipe) in trained.items()
    ]
    specs = ["random:resnet18:3", *(str(tmp_path / "runs" / name) for name in trained)]
    asked = {"backbone": specs, "train": train, "test": test, "size": 48, "out": tmp_path, "seed": 3}
    assert [s for name, s in calls if name == "transfer"] == [{**asked, "task": t} for t in ("readout", "factors")]
    sheets = [(s["recipe"], s["out"].name, s["images"]) for name, s in calls if name == "show_views"]
    assert sheets == [(r, f"views-{r}.png", train) for r in ("default", "spatial", "appearance")]


def test_json_prints_the_results_alone(calls, tmp_path, capfd):
    cli.main(["demo", "--quick", f"--out={tmp_path}", "--json"])
    printed = capfd.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert lines == [json.loads(result.to_json()) for result in made()]
    assert "appearance: moco-v2-small under recipe appearance" in printed.err


def test_people_get_the_table_and_the_reading(calls, tmp_path, capfd):
    cli.main(["demo", "--quick", f"--out={tmp_path}"])
    printed = " ".join(capfd.readouterr().out.split())
    assert "33.40 [31.40, 35.40]" in printed and demo.reading(made()) in printed
    assert "one seed" in printed and f"are in {tmp_path}/" in printed
