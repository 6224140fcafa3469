"""`whytransfer masks` and `masks quality` from the command line, and as functions."""

import json
import re

import numpy as np
import pytest
from console import call
from PIL import Image

import whytransfer
from whytransfer.commands import masks
from whytransfer.commands.masks import MasksSettings, projection, projection_hours
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.masks import ENGINES, RegionStore, making


def test_masks_are_made_once_and_the_projection_is_printed(photos, tmp_path, capsys):
    given = ["masks", f"--images={photos}", "--engine=felzenszwalb:50:10", f"--out={tmp_path / 's'}", "--workers=1"]
    assert call(*given) == 0
    printed = capsys.readouterr().out
    assert "by=whytransfer" in printed and "ImageNet's 1,281,167 images would take" in printed
    assert call(*given, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert call(*given) == 0
    assert "speed" in printed and "speed" not in (again := capsys.readouterr().out) and "ImageNet" not in again
    assert (answer["images"], answer["made"], answer["imagenet_hours_on_16_cores"]) == (12, 0, None)
    assert len(RegionStore.open(tmp_path / "s")) == 12


def test_other_processes_are_told_where_the_store_really_is(photos, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(masks, "FEWEST", 1)
    monkeypatch.setattr(making, "make_on_cores", lambda job, *_: jobs.append(job) or making.Made())
    whytransfer.make_masks(images="photos", engine="grid:2", out="~/kept", workers=2)
    assert [(job.store, job.at) for job in jobs] == [(str(tmp_path / "kept"), str(photos.parent))]
    assert (tmp_path / "kept" / "store.json").is_file()


def test_the_projection_is_images_over_rate_over_cores():
    assert projection_hours(1_281_167 / 16 / 3600) == pytest.approx(1.0)
    assert projection_hours(7.4) == pytest.approx(3.0, abs=0.01)  # the slowest engine that is fast enough
    assert projection_hours(0.0) is None


def test_a_busy_machine_is_not_projected_onto_imagenet():
    """7 % of a core is what other work left, no speed of an engine: half an hour, not eight."""
    alone, held_up = projection(38.6, 0.97, 0.15), projection(2.77, 2.77 / 38.6, 0.15)
    assert alone.startswith("at 39 images/s per core ImageNet's 1,281,167 images would take 34 min 34 s on 16")
    assert held_up.startswith(alone) and "\n" not in alone
    assert "had 7 % of theirs" in held_up and held_up.endswith("2.8 images/s per core and 8 h 01 min")


def test_a_handful_of_images_has_no_interval():
    for images, has_one in (("scenes:1:3:32", False), ("scenes:4:3:32", False), ("scenes:5:3:32", True)):
        (mean, *_, less) = whytransfer.masks_quality(images=images, engine=["grid:2", "grid:3"], truth="annotated")
        assert (mean.low is not None, less.low is not None) == (has_one, has_one) and 0 < mean.value < 100


def test_quality_of_a_store_and_of_an_engine_are_the_same_results(tmp_path, capsys):
    images = "scenes:12:0:48"
    whytransfer.make_masks(images=images, engine="grid:4", out=tmp_path / "s", workers=1)
    of_engine = whytransfer.masks_quality(images=images, engine="grid:4", truth="annotated")
    of_store = whytransfer.masks_quality(images=images, masks=tmp_path / "s", truth="annotated")
    assert [r.value for r in of_engine] == [r.value for r in of_store]
    first, *classes = of_engine
    assert first.metric == "best overlap" and first.low <= first.value <= first.high and first.n == 12
    assert {r.metric for r in classes} <= {f"best overlap of {name}" for name in open_images(images).classes}
    assert first.unit == "%" and first.direction == "higher" and first.provenance["recipe"] == "grid n=4"
    total = sum(r.value * r.provenance["objects"] for r in classes)
    assert total / first.provenance["objects"] == pytest.approx(first.value)
    assert call("masks", "quality", f"--images={images}", "--engine=grid:4", "--truth=annotated", "--json") == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["value"] for row in printed] == [r.value for r in of_engine]
    perfect = whytransfer.masks_quality(images=images, engine="annotated", truth="annotated")
    assert {r.value for r in perfect} == {100.0}


def test_engines_are_compared_with_the_first_on_the_same_images(tmp_path, capsys):
    images = "scenes:12:0:48"
    whytransfer.make_masks(images=images, engine="grid:2", out=tmp_path / "s", workers=1)
    found = whytransfer.masks_quality(
        images=images, engine=["grid:4", "annotated"], masks=tmp_path / "s", truth="annotated"
    )
    (four,), (perfect,), (two,) = (
        [r for r in found if r.metric == "best overlap" and r.model == name]
        for name in ("grid:4", "annotated", str(tmp_path / "s"))
    )
    above, below = [r for r in found if r.metric == "best overlap, difference"]
    assert [above.model, below.model] == ["annotated - grid:4", f"{tmp_path / 's'} - grid:4"]
    assert above.value == pytest.approx(100 - four.value) and below.value == pytest.approx(two.value - four.value)
    # the truth is the same at every draw, so the difference is as unsure as grid:4 alone, on the same draws
    assert (above.low, above.high) == pytest.approx((100 - four.high, 100 - four.low)) and above.unit == "points"
    assert call("masks", "quality", f"--images={images}", "--engine", "grid:4", "grid:2", "--truth=annotated") == 0
    overall, by_class = capsys.readouterr().out.split("by class")
    assert "grid:2 - grid:4" in overall and "best overlap of" not in overall
    lines = by_class.splitlines()
    of_four = [r for r in found if r.model == "grid:4" and r.metric.startswith("best overlap of ")]
    for r in of_four:  # a row of its class, in which grid:4 is the first of two engines
        (line,) = (line for line in lines if line.startswith(f"│ {r.metric.removeprefix('best overlap of ')} "))
        cells = [cell.strip() for cell in line.strip("│").split("│")]
        assert cells[1:3] == [str(r.provenance["objects"]), str(r.n)] and len(cells) == 5
        assert cells[3].split()[0] == f"{r.value:.2f}" and ("[" in cells[3]) == (r.n >= 5)
    assert {r.n >= 5 for r in of_four} == {True, False}


def test_images_without_annotation_are_left_out_and_counted(photos, tmp_path, capsys):
    (tmp_path / "maps").mkdir()
    for name in ("0", "1"):
        source = next((photos / "cat").glob(f"{name}.*"))
        with Image.open(source) as image:
            Image.fromarray(np.arange(image.height * image.width, dtype=np.uint8).reshape(image.height, -1) % 7).save(
                tmp_path / "maps" / f"{name}.png"
            )
    given = [f"--images={photos / 'cat'}", "--engine=grid:2", f"--truth=annotated:{tmp_path / 'maps'}"]
    assert call("masks", "quality", *given) == 0
    assert "left out: 2 images without an annotated object" in capsys.readouterr().out
    with pytest.raises(InputError, match="image 2.jpg has no masks"):
        whytransfer.make_masks(
            images=str(photos / "cat"), engine=f"annotated:{tmp_path / 'maps'}", out=tmp_path / "s", workers=1
        )
    made = whytransfer.make_masks(
        images=str(photos / "cat"),
        engine=f"annotated:{tmp_path / 'maps'}",
        out=tmp_path / "s",
        workers=1,
        allow_missing=True,
    )
    assert made["without_region"] == 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["masks", "qualty"], "unknown command 'masks qualty'. Did you mean 'masks quality'"),
        (["masks", "--images=IN", "--out=OUT", "--engine=gird"], "unknown region engine 'gird'. Did you mean 'grid'"),
        (["masks", "--images=IN", "--out=OUT", "--on=spark"], "--on spark: work can be done here"),
        (["masks", "--images=IN", "--out=OUT", "--on=ray", "--workers=2"], "--workers is for this machine"),
        (["masks", "--images=IN", "--out=OUT", "--allow-missing"], "--allow-missing is for --engine annotated"),
        (["masks", "--images=IN", "--out=OUT", "--workers=0"], "workers: Input should be greater than or equal to 1"),
        (["masks", "quality", "--images=IN", "--truth=annotated"], "give --engine"),
        (["masks", "quality", "--images=IN", "--engine=grid", "--truth=grid"], "--truth grid: what people drew is"),
        (["masks", "quality", "--images=IN", "--engine=grid", "--truth=annotated"], "an object in annotated: give"),
        (["masks", "quality", "--images=IN", "--engine=grid", "--truth=IN"], "say annotated:IN"),
        (["masks", "quality", "--images=IN", "--masks=OUT", "--truth=annotated"], "is no store of regions"),
    ],
)  # fmt: skip
def test_bad_requests_name_what_to_do(photos, tmp_path, capsys, arguments, message):
    out = tmp_path / "out"
    assert call(*(a.replace("IN", str(photos)).replace("OUT", str(out)) for a in arguments)) == 2
    captured = capsys.readouterr()
    assert message.replace("IN", str(photos)) in captured.err and captured.out == "" and not out.exists()


def test_help_of_masks_names_every_engine_as_it_is_typed(capsys):
    assert call("masks", "--help") == 0
    named = {word.split(":")[0] for word in re.findall(r"[a-z][\w:-]+", capsys.readouterr().out)}
    assert set(ENGINES) <= named
    assert all(name in ENGINES for name in named if name.startswith("felzenszwalb"))


@pytest.mark.parametrize("command", ["masks", "masks quality"])
def test_help_teaches_with_examples(capsys, command):
    assert call(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text and f"whytransfer {command}" in text and "--json" in text
    assert call("--help") == 0
    assert f"  {command:15}" in capsys.readouterr().out


def test_the_help_lists_the_engines_that_there_are():
    listed, _, _ = (MasksSettings.__doc__ or "").partition("Examples:")
    assert set(re.findall(r"^ {6}([a-z-]+)", listed, re.MULTILINE)) == set(ENGINES)
