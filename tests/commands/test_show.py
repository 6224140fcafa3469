"""The contact sheet as a file."""

import numpy as np
import pytest
from PIL import Image

import whytransfer
from whytransfer.commands.pretrain import PretrainSettings, open_pixels
from whytransfer.commands.show import ShowViewsSettings
from whytransfer.errors import InputError, RunError
from whytransfer.images import open_images
from whytransfer.images.build import pixels_of
from whytransfer.views import Viewer, recipe


def test_the_views_of_ones_own_pictures_become_a_png(photos, tmp_path):
    out = tmp_path / "new" / "views.png"
    assert whytransfer.show_views(images=str(photos), out=out, size=32, count=3) == out
    with Image.open(out) as sheet:
        assert sheet.format == "PNG" and min(sheet.size) > 3 * 32 and np.asarray(sheet).std() > 10
    again = tmp_path / "again.png"
    whytransfer.show_views(images=str(photos), out=again, size=32, count=3)
    assert again.read_bytes() == out.read_bytes()
    whytransfer.show_views(images=str(photos), out=again, size=32, count=3, seed=1)
    assert again.read_bytes() != out.read_bytes()


def test_more_pictures_than_there_are_means_all_of_them(photos, tmp_path):
    sheets = []
    for count in (12, 100):
        out = whytransfer.show_views(images=str(photos), out=tmp_path / f"{count}.png", size=16, count=count)
        sheets.append(out.read_bytes())
    assert sheets[0] == sheets[1]


def test_a_misspelt_recipe_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'spatial'"):
        whytransfer.show_views(images="nowhere", recipe="spatail", out=tmp_path / "new" / "views.png")
    assert not (tmp_path / "new").exists()


def views_of_the_first(sheet, size, seed=0):
    """Whether the sheet shows the first view of picture 0 as a run makes it of these cached pixels."""

    def check(pixels):
        view = Viewer(recipe("appearance"), size, seed)([pixels], np.array([0]), [0], epoch=0).images[0][0]
        zoom = max(1, round(150 / size))
        row = (view[0, size // 2] * 255).round().byte().numpy().repeat(zoom)
        with Image.open(sheet) as image:
            red = np.asarray(image)[:, :, 0]
        return (np.lib.stride_tricks.sliding_window_view(red, (1, len(row)))[:, :, 0] == row).all(axis=2).any()

    return check


def test_the_views_are_those_of_a_run_which_reads_the_cache(photos, tmp_path):
    large = tmp_path / "large"
    large.mkdir()
    for name in ("cat/0.jpg", "dog/1.png"):
        with Image.open(photos / name) as picture:
            picture.resize((200, 120), Image.Resampling.BICUBIC).save(large / name.replace("/", "-"))
    settings = PretrainSettings.made_from({"images": str(large), "out": tmp_path / "run", "size": 16})
    cached = open_pixels(settings, str(large)).pixels(0)
    assert min(cached.shape[:2]) == 32
    given = {"images": str(large), "size": 16, "recipe": "appearance"}
    shown = views_of_the_first(whytransfer.show_views(**given, out=tmp_path / "cached.png"), 16)
    whole = views_of_the_first(whytransfer.show_views(**given, out=tmp_path / "whole.png", cache_px=0), 16)
    original = pixels_of(open_images(str(large)), 0, None)
    assert shown(cached) and not shown(original)
    assert whole(original) and not whole(cached)


def test_size_and_seed_are_those_of_pretrain():
    for name in ("size", "seed", "cache_px"):
        assert ShowViewsSettings.model_fields[name].default == PretrainSettings.model_fields[name].default


def test_a_place_that_cannot_be_written_is_refused_before_anything_is_drawn(photos, tmp_path, monkeypatch):
    monkeypatch.setattr("whytransfer.views.sheet.contact_sheet", lambda *_, **__: pytest.fail("drawn"))
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="nothing can be written in .*Choose another --out"):
        whytransfer.show_views(images=str(photos), out=tmp_path / "file" / "below" / "views.png")
    with pytest.raises(InputError, match="is a file; a folder is needed"):
        whytransfer.show_views(images=str(photos), out=tmp_path / "file" / "views.png")
    with pytest.raises(InputError, match=r"give a name that ends in \.png"):
        whytransfer.show_views(images=str(photos), out=tmp_path / "views.jpg")
    (tmp_path / "views.png").mkdir()
    with pytest.raises(InputError, match="is a folder: give the name of a PNG file"):
        whytransfer.show_views(images=str(photos), out=tmp_path / "views.png")


def test_a_full_disk_is_said_and_leaves_the_old_sheet(photos, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    (tmp_path / "sheets").mkdir()
    out = tmp_path / "sheets" / "views.png"
    out.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="the disk is full"):
        whytransfer.show_views(images=str(photos), out=out, size=16, count=1)
    assert [p.read_bytes() for p in out.parent.iterdir()] == [b"old"]


def test_a_damaged_picture_is_named(photos, tmp_path):
    (photos / "cat" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"0\.jpg"):
        whytransfer.show_views(images=str(photos), out=tmp_path / "views.png", count=1)
