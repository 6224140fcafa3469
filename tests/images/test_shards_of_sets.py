"""Published sets, regions and runs on shards: everything that is known of an image is known of its packed copy."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import miniatures
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import whytransfer
from whytransfer.images import Folder, open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.keypoints import keypoint_table
from whytransfer.images.shards import pack
from whytransfer.images.targets import BoxTable, pixel_classes
from whytransfer.masks import RegionStore
from whytransfer.masks.grid import Grid
from whytransfer.masks.making import make
from whytransfer.tasks.depth import unit_of
from whytransfer.tasks.detection_data import AnnotatedImages

SETS = {
    "coco": lambda root: f"coco:{miniatures.coco(root)}:val2017",
    "voc": lambda root: f"voc:{miniatures.voc(root)}:2012:train",
    "voc masks": lambda root: f"voc:{miniatures.voc(root)}:2012:segmentation-train",
    "camvid": lambda root: f"camvid:{miniatures.camvid(root)}",
    "rgbd": lambda root: f"rgbd:{miniatures.rgbd(root)}",
    "mafl": lambda root: f"mafl:{miniatures.mafl(root)}",
}


@pytest.mark.parametrize("name", SETS)
def test_a_published_set_keeps_all_that_is_known(name, tmp_path):
    if name == "coco":
        pytest.importorskip("pycocotools")
    images = open_images(SETS[name](tmp_path / "in"))
    pack(images, tmp_path / "out", 2)
    shards = open_images(str(tmp_path / "out"))
    assert shards.labelled_with == images.labelled_with and list(shards.names) == list(images.names)
    assert pixel_classes(shards) == pixel_classes(images) and unit_of(shards) == unit_of(images)
    assert getattr(shards, "box_classes", ()) == getattr(images, "box_classes", ())
    for i in range(len(images)):
        ours, theirs = shards[i], images[i]
        for field in ("image", "boxes", "box_labels", "masks", "semantic", "depth", "keypoints"):
            a, b = getattr(ours, field), getattr(theirs, field)
            assert (a is None) == (b is None), field
            if a is not None:
                assert a.dtype == b.dtype and torch.equal(a.nan_to_num(-9), b.nan_to_num(-9)), field
    if "boxes" in images.labelled_with:
        tables = [AnnotatedImages(s, s.box_classes, False, "a test") for s in (shards, images)]
        for i in range(len(images)):
            a, b = (table.difficult(i) for table in tables)
            assert (a is None and b is None) or a.tolist() == b.tolist()
    if "keypoints" in images.labelled_with:
        ours, theirs = (keypoint_table(s, 32) for s in (shards, images))
        assert np.array_equal(ours.points, theirs.points) and ours.eyes == theirs.eyes


def test_boxes_of_shards_make_the_same_table(tmp_path):
    scenes = open_images("scenes:6:1:32")
    pack(scenes, tmp_path / "out", 4)
    tables = [BoxTable.read(PixelCache.open(s)) for s in (open_images(str(tmp_path / "out")), scenes)]
    assert all(torch.equal(tables[0].boxes(i), tables[1].boxes(i)) for i in range(6))


def test_regions_made_for_the_files_serve_the_shards(photos, tmp_path):
    pack(Folder(photos), tmp_path / "out", 5)
    engine = Grid(2)
    store = RegionStore.create(tmp_path / "regions", engine.recipe)
    make(Folder(photos), engine, store)
    store, shards = RegionStore.open(tmp_path / "regions"), PixelCache.open(open_images(str(tmp_path / "out")))
    assert store.missing(shards) == 0
    assert torch.equal(
        store.for_pixels(shards).regions(3), store.for_pixels(PixelCache.open(Folder(photos))).regions(3)
    )


RUN = {"method": "supervised", "size": 24, "batch": 4, "epochs": 3, "accelerator": "cpu", "monitor": False}


def test_a_run_killed_inside_a_shard_goes_on_there_as_the_run_on_files_does(photos, tmp_path):
    """SIGKILL between two steps of an epoch; every batch mixes images of all shards."""
    pack(Folder(photos), tmp_path / "shards", 5)
    whytransfer.pretrain(images=str(photos), out=tmp_path / "whole", **RUN)
    out = tmp_path / "killed"
    flags = [f"--{key}={value}" for key, value in RUN.items() if key != "monitor"]
    command = [sys.executable, "-m", "whytransfer.cli", "pretrain", f"--images={tmp_path / 'shards'}", f"--out={out}"]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": os.environ | threads}
    process = subprocess.Popen([*command, *flags, "--no-monitor", "--save-minutes=0"], **silent)
    deadline = time.monotonic() + 120
    while not (out / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run was to be killed before its end"
    whytransfer.pretrain(images=str(tmp_path / "shards"), out=out, **RUN)
    ours, theirs = (load_file(folder / "backbone.safetensors") for folder in (out, tmp_path / "whole"))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    losses = [
        [json.loads(row)["loss"] for row in (f / "metrics.jsonl").read_text().splitlines()]
        for f in (out, tmp_path / "whole")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_the_command(photos, tmp_path, capsys):
    from whytransfer.cli import main

    main(["pack", "--images", str(photos), "--out", str(tmp_path / "out"), "--shard-size", "5", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (told["shards"], told["images"], told["labelled_with"]) == (3, 12, ["class"])
    assert told["bytes"] == sum(path.stat().st_size for path in Path(tmp_path / "out").glob("*.tar"))
    assert len(whytransfer.pack(images=str(photos), out=tmp_path / "two", shard_size=6)) == len(told)
    with pytest.raises(SystemExit, match="2"):
        main(["pack", "--images", str(photos), "--out", str(tmp_path / "out")])
    assert "holds shards of other images, or of another --shard-size" in capsys.readouterr().err
