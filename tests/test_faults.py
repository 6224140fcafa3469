"""What happens to a machine under a run: a disk that is full or read-only, a clock that runs backwards, a lost image.

Disks are real here (a small tmpfs, which needs root and mount); the same failures by hand-made errors are tested beside
each module. Kills: studies/soak.py, whose short form runs at the end.
"""

import itertools
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import whytransfer
from whytransfer import pretraining
from whytransfer.errors import InputError, RunError
from whytransfer.images import Folder, open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.shards import pack
from whytransfer.masks import RegionStore

RUN = {"method": "supervised", "size": 24, "batch": 4, "epochs": 2, "accelerator": "cpu", "monitor": False}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "backbone.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture
def whole(photos: Path) -> dict[str, torch.Tensor]:
    """The weights of a run that nothing happens to."""
    whytransfer.pretrain(images=str(photos), out=photos.parent / "whole", **RUN)
    return weights(photos.parent / "whole")


@pytest.fixture
def disk(tmp_path: Path):
    """A disk of 16 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not shutil.which("mount"):
        pytest.skip("a small disk needs the program mount")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        pytest.skip(f"a small disk needs root: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(folder)], check=True)


def left(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_run_on_a_full_disk_goes_on_when_there_is_room(photos, disk, whole):
    remount(disk, "size=60m")  # no checkpoint of a ResNet-18 and its momentum fits
    with pytest.raises(RunError, match=r"the disk is full: .* could not be written .*run the same command again"):
        whytransfer.pretrain(images=str(photos), out=disk / "run", **RUN)
    assert not left(disk) and not (disk / "run" / "checkpoint.pt").exists()
    remount(disk, "size=150m")  # the first checkpoint fits, not a second one beside it
    with pytest.raises(RunError, match="What was saved before is intact"):
        whytransfer.pretrain(images=str(photos), out=disk / "run", **RUN)
    assert torch.load(disk / "run" / "checkpoint.pt", weights_only=True)["step"] == 3 and not left(disk)
    remount(disk, "size=500m")
    whytransfer.pretrain(images=str(photos), out=disk / "run", **RUN)
    assert same(weights(disk / "run"), whole)


def test_a_cache_on_a_full_disk_leaves_nothing(photos, disk):
    with pytest.raises(RunError, match="disk full while caching pixels"):
        PixelCache.open(Folder(photos), None, disk / "cache")
    assert not [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size]
    remount(disk, "size=1m")
    assert len(PixelCache.open(Folder(photos), None, disk / "cache")) == 12


def test_shards_and_regions_on_a_full_disk_go_on(photos, disk, tmp_path):
    with pytest.raises(RunError, match="the disk is full: .*00000[01].tar"):
        pack(Folder(photos), disk / "shards", 4)
    assert not left(disk)
    remount(disk, "size=1m")
    assert pack(Folder(photos), disk / "shards", 4).shards == 3
    assert open_images(str(disk / "shards")).fingerprint() == Folder(photos).fingerprint()
    taken = 1024 - int(subprocess.run(["du", "-sk", str(disk)], capture_output=True, text=True).stdout.split()[0])
    (disk / "ballast").write_bytes(b"x" * 1024 * (taken - 8))
    with pytest.raises(RunError, match="the disk is full"):
        whytransfer.make_masks(images="scenes:400:0:64", engine="annotated", out=disk / "regions", workers=1)
    (disk / "ballast").unlink()
    assert whytransfer.make_masks(images=str(photos), engine="grid:2", out=disk / "grids", workers=1)["made"] == 12
    assert not left(disk / "grids") and len(RegionStore.open(disk / "grids")) == 12


def test_a_read_only_disk_is_said_before_the_work_and_can_be_read_from(photos, disk, tmp_path):
    remount(disk, "size=1m")
    pack(Folder(photos), disk / "shards", 5)
    for index in (disk / "shards").glob("*.index"):
        index.unlink()
    first = PixelCache.open(Folder(photos), None, disk / "cache")
    remount(disk, "ro")
    for act in (
        lambda: whytransfer.pretrain(images=str(photos), out=disk / "run", **RUN),
        lambda: whytransfer.make_masks(images=str(photos), engine="grid:2", out=disk / "regions"),
        lambda: pack(Folder(photos), disk / "more", 5),
    ):
        with pytest.raises(
            InputError, match="nothing can be written in .*Read-only file system.* Choose another --out"
        ):
            act()
    assert open_images(str(disk / "shards")).fingerprint() == Folder(photos).fingerprint()  # indexes: in the cache
    assert PixelCache.open(Folder(photos), None, disk / "cache").path == first.path
    with pytest.raises(InputError, match="cannot write the pixel cache .*set WHYTRANSFER_CACHE"):
        PixelCache.open(Folder(photos), 16, disk / "cache")


def test_a_clock_that_runs_backwards_changes_nothing(photos, whole, tmp_path, monkeypatch):
    now = itertools.count(int(time.time()), -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    monkeypatch.setattr(time, "time_ns", lambda: next(now) * 10**9)
    future = 2**32 * 10**9
    for path in photos.rglob("*.*"):
        os.utime(path, ns=(future, future))
    monkeypatch.setenv("WHYTRANSFER_CACHE", str(tmp_path / "cache"))
    whytransfer.pretrain(images=str(photos), out=tmp_path / "run", **RUN)
    assert same(weights(tmp_path / "run"), whole)
    caches = [PixelCache.open(Folder(photos), 20, tmp_path / "cache") for _ in range(2)]
    assert caches[0].path == caches[1].path
    pack(Folder(photos), tmp_path / "shards", 5)
    for index in (tmp_path / "shards").glob("*.index"):
        os.utime(index, ns=(1, 1))  # older than its shard: made anew, in the cache
    assert [open_images(str(tmp_path / "shards")).fingerprint() for _ in range(2)] == [Folder(photos).fingerprint()] * 2
    for _ in range(2):
        made = whytransfer.make_masks(images=str(photos), engine="grid:2", out=tmp_path / "regions", workers=1)
    assert made["made"] == 0 and len(RegionStore.open(tmp_path / "regions")) == 12


def test_an_image_that_is_deleted_under_a_run(photos, whole, tmp_path, monkeypatch):
    """Pictures beyond the cache are read at each use. A run with other images is refused; with the same it goes on."""
    lost, steps, step = photos / "fox" / "3.png", itertools.count(1), pretraining.Pretraining._step

    def deleting(self, *arguments):
        if next(steps) == 4:  # the first step of the second epoch
            lost.rename(tmp_path / "away.png")
        return step(self, *arguments)

    monkeypatch.setattr(pretraining.Pretraining, "_step", deleting)
    monkeypatch.setenv("WHYTRANSFER_CACHE", str(tmp_path / "cache"))  # where the whole run's pictures are not
    settings = {**RUN, "images": str(photos), "out": tmp_path / "run", "cache_gb": 1e-9}
    with pytest.raises(InputError, match="cannot read image .*fox/3.png: No such file or directory"):
        whytransfer.pretrain(**settings)
    with pytest.raises(
        InputError, match=r"another configuration. Differing keys:\n  data_fingerprint: .*\n  images: 12 there, 11"
    ):
        whytransfer.pretrain(**settings)
    (tmp_path / "away.png").rename(lost)
    whytransfer.pretrain(**settings)
    assert same(weights(tmp_path / "run"), whole)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the soak's processes are forks")
def test_the_soak_in_its_short_form(tmp_path):
    command = [
        sys.executable,
        str(Path(__file__).parents[1] / "studies" / "soak.py"),
        "--out",
        str(tmp_path),
        "--small",
    ]
    done = subprocess.run([*command, "--kinds", "training", "shards"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert done.stdout.count(": equal\n") >= 2 and "every run ended as the uninterrupted one" in done.stdout
