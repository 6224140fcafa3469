"""The store: found by content, whole after any kill, shared by processes, at the size of cached pictures."""

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from whytransfer.errors import InputError, RunError
from whytransfer.images import open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.masks import RegionStore, open_engine
from whytransfer.masks.making import make
from whytransfer.masks.regions import Regions
from whytransfer.masks.store import content_of, contents


def made(photos: Path, folder: Path, spec: str = "grid:3") -> RegionStore:
    engine = open_engine(spec)
    make(open_images(str(photos)), engine, RegionStore.create(folder, engine.recipe, spec))
    return RegionStore.open(folder)


def keys(count: int) -> list[bytes]:
    return [k.to_bytes(16, "big") for k in range(1, count + 1)]


def test_the_same_image_elsewhere_finds_its_regions(photos, tmp_path):
    store = made(photos, tmp_path / "store")
    moved = tmp_path / "elsewhere" / "deep"
    moved.mkdir(parents=True)
    shutil.copy(photos / "dog" / "2.jpg", moved / "another name.jpg")
    cache = PixelCache.open(open_images(str(moved)))
    stored = store.for_pixels(cache)
    wanted = open_engine("grid:3")(cache.images[0]).maps
    assert np.array_equal(stored.regions(0), wanted) and len(stored) == 1 and len(store) == 12
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.write(photos / "cat" / "1.png", "x/1.png")
    assert len(store.for_pixels(PixelCache.open(open_images(str(tmp_path / "photos.zip"))))) == 1


def test_regions_have_the_size_of_the_cached_picture(photos, tmp_path):
    store = made(photos, tmp_path / "store", "felzenszwalb:100:10")
    for side in (None, 16, 7):
        cache = PixelCache.open(open_images(str(photos)), side)
        stored = store.for_pixels(cache)
        for i in range(len(cache)):
            regions = stored.regions(i)
            assert regions.shape == cache.pixels(i).shape[:2] and regions.dtype == torch.uint8
    assert stored.recipe == store.recipe and stored.labels(0) is None


def test_a_turned_photo_keeps_its_regions_upright(tmp_path):
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8))
    picture.save(tmp_path / "in" / "turned.jpg", exif=exif)
    cache = PixelCache.open(open_images(str(tmp_path / "in")), 20)
    stored = made(tmp_path / "in", tmp_path / "store").for_pixels(cache)
    assert stored.regions(0).shape == cache.pixels(0).shape[:2] == (33, 20)


def test_subsets_and_left_out_images_find_their_own(photos, tmp_path):
    store = made(photos, tmp_path / "store", "felzenszwalb:50:5")
    (photos / "cat" / "0.jpg").write_bytes(b"broken")
    cache = PixelCache.open(open_images(str(photos)), skip_unreadable=True)
    part = subset(cache, [5, 0, 9])
    whole, some = store.for_pixels(cache), store.for_pixels(part)
    for k, i in enumerate([5, 0, 9]):
        assert np.array_equal(some.regions(k), whole.regions(i))
        assert some.regions(k).shape == part.pixels(k).shape[:2]
    assert some.fingerprint != whole.fingerprint
    assert whole.fingerprint == store.for_pixels(cache).fingerprint


def test_what_images_contain_is_read_once(photos, tmp_path, monkeypatch):
    store = made(photos, tmp_path / "store")
    cache = PixelCache.open(open_images(str(photos)))
    seen: list[int] = []
    before = store.for_pixels(cache, lambda done, total: seen.append(done)).fingerprint
    assert seen == [12]
    monkeypatch.setattr("whytransfer.masks.store.contents", lambda *_: pytest.fail("read again"))
    assert store.for_pixels(cache).fingerprint == before


def test_generated_images_are_known_by_their_pixels(tmp_path):
    images = open_images("scenes:6:0:32")
    engine = open_engine("annotated")
    make(images, engine, RegionStore.create(tmp_path / "s", engine.recipe))
    store = RegionStore.open(tmp_path / "s")
    stored = store.for_pixels(PixelCache.open(open_images("scenes:3:0:32")))
    for i in range(3):
        assert np.array_equal(stored.regions(i), images[i].masks) and np.array_equal(
            stored.labels(i), images[i].box_labels
        )
    assert content_of(images, 0) != content_of(images, 1)
    assert stored.regions(0).dtype == torch.bool


def test_missing_images_are_counted_and_the_command_is_named(photos, tmp_path):
    store = made(photos / "cat", tmp_path / "store")
    message = (
        r"8 of the 12 images of photos have no regions in .*whytransfer masks --images IMAGES --engine grid:3 --out"
    )
    with pytest.raises(InputError, match=message):
        store.for_pixels(PixelCache.open(open_images(str(photos))))


def test_what_is_no_store_or_another_ones_is_refused(photos, tmp_path):
    with pytest.raises(InputError, match="is no store of regions: it does not exist. Make one with"):
        RegionStore.open(tmp_path / "none")
    with pytest.raises(InputError, match="it has no store.json"):
        RegionStore.open(photos)
    with pytest.raises(InputError, match="is not empty and holds no store.json"):
        RegionStore.create(photos, "grid n=3")
    made(photos, tmp_path / "store")
    with pytest.raises(InputError, match="(?s)another recipe.*there: +grid n=3.*asked for: grid n=4.*another --out"):
        RegionStore.create(tmp_path / "store", "grid n=4")
    (tmp_path / "store" / "store.json").write_text('{"format": 2, "recipe": "", "engine": ""}')
    with pytest.raises(InputError, match="of format 2, this version reads 1"):
        RegionStore.open(tmp_path / "store")
    (tmp_path / "store" / "store.json").write_text("{")
    with pytest.raises(InputError, match="store.json is damaged or no store's"):
        RegionStore.open(tmp_path / "store")


@pytest.mark.parametrize("cut", [4, 20, -1])
def test_a_damaged_part_is_named(photos, tmp_path, cut):
    made(photos, tmp_path / "store")
    (part,) = (tmp_path / "store" / "parts").glob("*.part")
    part.write_bytes(part.read_bytes()[:cut])
    with pytest.raises(
        InputError, match=rf"{part.name} is damaged \(its index does not fit its size\): delete it and make its"
    ):
        RegionStore.open(tmp_path / "store")


def test_parts_are_written_when_full_and_duplicates_count_once(tmp_path):
    store = RegionStore.create(tmp_path / "s", "test")
    maps = [Regions(np.full((2, 3), k % 255, np.uint8)) for k in range(600)]
    for _ in range(2):
        with store.writer() as writer:
            for key, regions in zip(keys(600), maps, strict=True):
                writer.add(key, regions)
            assert len(list((tmp_path / "s" / "parts").glob("*.part"))) in (1, 3)
    store = RegionStore.open(tmp_path / "s")
    assert len(store) == 600 and store.nbytes == 600 * 32
    for k in (0, 511, 512, 599):
        assert store.regions_of(keys(600)[k]).maps.tolist() == maps[k].maps.tolist()
    assert keys(600)[5] in store and b"\xff" * 16 not in store and store.regions_of(b"\xff" * 16) is None


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    store = RegionStore.create(tmp_path / "s", "test")
    with store.writer() as writer:
        writer.add(keys(1)[0], Regions(np.zeros((2, 2), np.uint8)))
    before = sorted((tmp_path / "s" / "parts").iterdir())

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    writer.add(keys(2)[1], Regions(np.zeros((2, 2), np.uint8)))
    with pytest.raises(RunError, match="the disk is full"):
        writer.flush()
    assert sorted((tmp_path / "s" / "parts").iterdir()) == before


def test_leftovers_of_a_killed_writer_are_removed_and_those_of_a_living_one_stay(tmp_path):
    RegionStore.create(tmp_path / "s", "test")
    parts = tmp_path / "s" / "parts"
    for name in (".old.part.x.tmp", ".held.part.y.tmp", ".new.part.z.tmp"):
        (parts / name).write_bytes(b"half")
    for name in (".old.part.x.tmp", ".held.part.y.tmp"):
        os.utime(parts / name, (time.time() - 60,) * 2)
    holder = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); input()"
    )
    command = [sys.executable, "-c", holder, str(parts / ".held.part.y.tmp")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        RegionStore.create(tmp_path / "s", "test")
        process.send_signal(signal.SIGKILL)
    assert {p.name for p in parts.iterdir()} == {".held.part.y.tmp", ".new.part.z.tmp"}
    RegionStore.create(tmp_path / "s", "test")
    assert {p.name for p in parts.iterdir()} == {".new.part.z.tmp"}


def test_contents_of_unreadable_files_are_zeros(photos):
    images = open_images(str(photos))
    (photos / "fox" / "0.jpg").unlink()
    found = contents(images)
    assert (found == 0).all(axis=1).tolist() == [name == "fox/0.jpg" for name in images.names]
