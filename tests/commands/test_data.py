"""What a user should know of an image set reaches standard error, once, from every command that opens one."""

import json

import pytest

import whytransfer
from whytransfer import cli
from whytransfer.commands.pretrain import PretrainSettings, open_pixels
from whytransfer.tasks import TASKS


def a_loose_picture(photos):
    (photos / "loose.jpg").write_bytes((photos / "cat" / "0.jpg").read_bytes())
    return photos, "note: photos: 1 images lie beside 3 image folders, so all are read as unlabelled"


def a_wrapper(photos):
    outer = photos.parent / "outer"
    outer.mkdir()
    photos.rename(outer / "photos")
    return outer, "note: outer: all images lie in the folder photos, so the classes are the folders in it"


def other_formats(photos):
    for i, suffix in enumerate(("gif", "gif", "gif", "tif", "tif", "heic")):
        (photos / "cat" / f"new{i}.{suffix}").touch()
    return photos, "note: photos: 6 other files left out (3 .gif, 2 .tif, 1 .heic)"


COMMANDS = {
    "show views": ["--size=16", "--count=2", "--out=OUT.png", "--json"],
    "show masks": ["--masks=grid:3", "--size=16", "--count=2", "--out=OUT.png", "--json"],
    "masks": ["--engine=grid:3", "--workers=1", "--out=OUT", "--json"],
}


@pytest.mark.parametrize("case", [a_loose_picture, a_wrapper, other_formats])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_says_what_it_found_once(photos, tmp_path, capsys, command, case):
    images, note = case(photos)
    given = [a.replace("OUT", str(tmp_path / "out")) for a in COMMANDS[command]]
    cli.main([*command.split(), f"--images={images}", *given])
    said = capsys.readouterr()
    assert said.err.count(note) == said.err.count("note:") == 1 and json.loads(said.out)


@pytest.mark.parametrize("case", [a_loose_picture, a_wrapper, other_formats])
def test_a_pretraining_run_says_it_whether_or_not_the_cache_is_there(photos, tmp_path, capsys, case):
    images, note = case(photos)
    for _ in range(2):
        open_pixels(PretrainSettings(images=str(images), out=tmp_path / "run", size=16), str(images))
        assert capsys.readouterr().err.count(note) == 1


def test_a_transfer_at_two_sizes_says_it_once(photos, tmp_path, capsys, monkeypatch):
    class Nothing:
        def __init__(self, *sets, **settings):
            pass

        def run(self, backbone, seed):
            return []

    monkeypatch.setitem(TASKS, "nothing", Nothing)
    monkeypatch.setattr("whytransfer.commands.transfer.sizes_of", lambda specs: [16, 24])
    images, note = a_loose_picture(photos)
    backbones = ["random:resnet18-small:1", "random:resnet18-small:2"]
    given = {"train": str(images), "test": str(images), "task": "nothing", "device": "cpu"}
    whytransfer.transfer(backbone=backbones, out=tmp_path / "out", size=None, **given)
    assert capsys.readouterr().err.count(note) == 1
