"""A key stands for what decides a result, and for nothing else."""

from pathlib import Path
from typing import Any

import pytest
from fake_stages import STAGES, STUDY, FakeImages, Lab

from whytransfer.study import contents, sources, status
from whytransfer.study.cells import filled, needs_of


def keys(path: Path, **change: Any) -> dict[str, str]:
    return {entry.cell.name: entry.key for entry in Lab(path).entries({**STUDY, **change})}


def changed(path: Path, **change: Any) -> set[str]:
    """Names of the cells whose keys a change of the study changes."""
    before, after = keys(path), keys(path, **change)
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_equal_studies_have_equal_keys_and_a_setting_changes_its_cells_and_all_above(tmp_path: Path):
    assert changed(tmp_path) == set()
    backbones = {**STUDY["backbones"], "two": {"level": 21}}
    assert changed(tmp_path, backbones=backbones) == {
        "pretrain/two/0", "pretrain/two/1", "class/two/0", "class/two/1", "class/both/0", "class/both/1", "pose/two/0",
        "errors/0", "all/0", "all/1",
    }  # fmt: skip
    assert changed(tmp_path, tasks={**STUDY["tasks"], "pose": {**STUDY["tasks"]["pose"], "level": 3}}) == {
        "pose/one/0", "pose/two/0", "errors/0",
    }  # fmt: skip


def test_a_default_written_out_and_a_setting_of_speed_change_no_key(tmp_path: Path):
    assert changed(tmp_path, pretrain={"size": 16, "wait": 0.0, "threads": 8}) == set()


def test_names_change_no_key(tmp_path: Path):
    before = keys(tmp_path)
    backbones = {"uno": {"level": 10}, "two": {"level": 20}, "both": "uno + two", "random": "random:x:{seed}"}
    study: dict[str, Any] = {
        "study": "other",
        "backbones": backbones,
        "tasks": {"klasse": {"level": 1}},
        "diagnoses": {},
    }
    after = keys(tmp_path, **study)
    assert after["klasse/uno/0"] == before["class/one/0"] and after["klasse/both/1"] == before["class/both/1"]


def test_images_of_another_content_change_the_cells_that_see_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = keys(tmp_path)
    monkeypatch.setitem(FakeImages.content, "b", "other")
    after = keys(tmp_path)
    assert {name.split("/")[0] for name in before if before[name] != after[name]} == {"class", "pose", "errors"}


def test_code_changes_the_cells_of_its_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = keys(tmp_path)
    monkeypatch.setattr(sources, "closure", lambda modules: {"tasks.x": "changed"})
    assert all(before[name] != key for name, key in keys(tmp_path).items())


def test_references_are_found_and_filled():
    assert needs_of(["<a/b/0>+<c/d/0>", "random:x", "<a/b/0>"]) == ("a/b/0", "c/d/0")
    assert filled(["<a>+<b>", "x"], {"a": "A", "b": "B"}.__getitem__) == ["A+B", "x"]


SOURCES = {
    "__init__.py": "",
    "errors.py": "X = 1",
    "images/__init__.py": "from pack.images.subsets import subset\nfrom pack.images.folder import Folder\n",
    "images/subsets.py": "def subset(): ...\n",
    "images/folder.py": "class Folder: ...\n",
    "tasks/readout.py": (
        "from pack import errors\nfrom pack.images import subset\n\ndef f():\n    from pack.nn import knn\n"
    ),
    "nn/__init__.py": "",
    "nn/knn.py": "import numpy\n",
}


def written(root: Path, **change: str) -> Path:
    for name, text in {**SOURCES, **change}.items():
        (root / "pack" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "pack" / name).write_text(text)
    sources._digest.cache_clear()
    sources._imports.cache_clear()
    return root / "pack"


def test_the_closure_is_what_is_imported_through_the_lists_of_folders(tmp_path: Path):
    found = sources.closure(["tasks.readout"], written(tmp_path))
    assert list(found) == ["images.subsets", "nn.knn", "tasks.readout"]


def test_comments_docstrings_and_line_breaks_are_no_change_and_code_is(tmp_path: Path):
    before = sources.closure(["tasks.readout"], written(tmp_path))
    said = '"""Neighbours."""\n\nimport numpy  # fast\n'
    assert sources.closure(["tasks.readout"], written(tmp_path, **{"nn/knn.py": said})) == before
    coded = sources.closure(["tasks.readout"], written(tmp_path, **{"nn/knn.py": "import numpy as np\n"}))
    assert [name for name in before if before[name] != coded[name]] == ["nn.knn"]
    assert sources.code_of(before) != sources.code_of(coded)


def test_weights_and_files_are_known_by_their_bytes(tmp_path: Path):
    (tmp_path / "w.pth").write_bytes(b"one")
    first = contents.Contents().of_file(f"moco:{tmp_path / 'w.pth'}", "x")
    assert first == contents.Contents().of_file(str(tmp_path / "w.pth"), "x")
    (tmp_path / "w.pth").write_bytes(b"two")
    assert contents.Contents().of_file(f"moco:{tmp_path / 'w.pth'}", "x") != first
    assert contents.Contents().of_file("random:resnet18:3", "x") is None
    with pytest.raises(Exception, match="class/one/0: masks: there is no such file or folder as no/where"):
        contents.Contents().of_file("no/where", "class/one/0: masks")


def test_what_a_cell_names_is_looked_up_before_anything_runs(tmp_path: Path):
    with pytest.raises(Exception, match="class/one/0: images: nowhere does not exist"):
        Lab(tmp_path).entries({**STUDY, "transfer": {"images": "nowhere"}})


def test_a_real_set_is_read_once(photos: Path, monkeypatch: pytest.MonkeyPatch):
    import os

    from whytransfer.images import open_images
    from whytransfer.images.folder import Folder

    for path in photos.rglob("*.*"):
        os.utime(path, (1e9, 1e9))  # long settled
    first = contents.fingerprint(open_images(str(photos)))
    assert first == open_images(str(photos)).fingerprint()
    monkeypatch.setattr(Folder, "encoded", lambda self, i: pytest.fail("read again"))
    assert contents.fingerprint(open_images(str(photos))) == first


def test_patterns_choose_cells_and_what_they_need(tmp_path: Path):
    from fnmatch import fnmatchcase

    entries = Lab(tmp_path).entries(STUDY)
    chosen = status.wanted(entries, ["class/both/0", "mas*"], fnmatchcase)
    assert [entry.cell.name for entry in chosen] == ["pretrain/one/0", "pretrain/two/0", "class/both/0", "masks"]
    assert status.wanted(entries, [], fnmatchcase) == entries


def test_the_stages_name_modules_that_are_there():
    from whytransfer.commands.study_stages import STAGES as REAL

    given = {"method": "moco-v2-small", "masks": "felzenszwalb-opencv:1", "task": "depth", "engine": "mcg"}
    for name, stage in REAL.items():
        several = {"task": ["depth", "readout"]} if name == "diagnose-complementarity" else {}
        assert sources.closure(stage.modules({**given, **several}))
    assert set(STAGES) - set(REAL) == {"diagnose-all"}
