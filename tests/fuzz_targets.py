"""Every reader of foreign files as a target for fuzzing: whole files to begin with, how they are changed and read.

studies/fuzz.py runs them for as long as one likes, tests/test_fuzz.py with a few examples each. A content is always
bytes; where a reader needs several files they stand together in one JSON text.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import io
import json
import math
import pickle
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image, PngImagePlugin
from safetensors.torch import save

HOSTILE = (
    None, True, False, -1, 0, 1, 2**31, 2**63, -(2**70), 1e308, math.nan, math.inf, 0.5, "", "x", "x" * 300, "\0",
    "\ud800", "../../escape", "/etc/passwd", "a/b", "{seed}", "{nothing}", "1e999", "random:resnet18", [], {}, [[[]]],
    [None], [1, 2, 3, 4], {"a": None}, "@deep list@", "@deep map@",
)  # fmt: skip
DEEP = {'"@deep list@"': "[" * 20_000 + "]" * 20_000, '"@deep map@"': '{"a":' * 20_000 + "0" + "}" * 20_000}


@dataclass(frozen=True)
class Target:
    """A reader: `read(content, folder)` gives a result or InputError or RunError; below `folder` it may write."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    changed: Callable[[list[bytes]], SearchStrategy[bytes]]

    def files(self) -> SearchStrategy[bytes]:
        """Changed files, to be drawn from by Hypothesis."""
        return self.changed(self.seeds())


# ---- how files are changed


def as_bytes(seeds: list[bytes]) -> SearchStrategy[bytes]:
    """Bytes overwritten, put in, left out, repeated; the end cut off."""
    edits = st.tuples(
        st.sampled_from(("over", "in", "out", "again")), st.floats(0, 1), st.binary(max_size=12), st.integers(0, 40)
    )

    def change(seed: bytes, todo: list[Any], kept: float) -> bytes:
        content = bytearray(seed)
        for how, place, new, length in todo:
            at = int(place * len(content))
            if how == "over":
                content[at : at + len(new)] = new
            elif how == "in":
                content[at:at] = new
            elif how == "out":
                del content[at : at + length]
            else:
                content[at:at] = content[at : at + length] * 3
        return bytes(content[: max(1, int(kept * len(content)))])

    whole_or_cut = st.one_of(st.just(1.0), st.floats(0, 1))
    return st.builds(change, st.sampled_from(seeds), st.lists(edits, min_size=1, max_size=4), whole_or_cut)


def places_of(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value in lists and dictionaries, from the outside in."""
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for key, value in items:
        yield tree, key
        yield from places_of(value)


@st.composite
def changed_tree(draw: Any, seeds: list[bytes], text: Callable[[Any], str]) -> bytes:
    """A document in which one to three values are replaced by hostile ones, left out, or moved to another name."""
    tree = json.loads(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(places_of(tree))
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        how = draw(st.sampled_from(("value", "value", "value", "out", "key", "text")))
        if how == "out":
            del holder[key]
        elif how == "key" and isinstance(holder, dict):
            holder[draw(st.sampled_from([h for h in HOSTILE if isinstance(h, str)]))] = holder.pop(key)
        elif how == "text":
            holder[key] = draw(st.text(max_size=20))
        else:
            holder[key] = copy.deepcopy(draw(st.sampled_from(HOSTILE)))  # the next change may be inside it
    found = text(tree)
    for mark, deep in DEEP.items():
        found = found.replace(mark, deep)
    return found.encode(errors="surrogatepass")


def as_json(seeds: list[bytes]) -> SearchStrategy[bytes]:
    return st.one_of(changed_tree(seeds, json.dumps), changed_tree(seeds, json.dumps), as_bytes(seeds))


def as_yaml(seeds: list[bytes]) -> SearchStrategy[bytes]:
    """JSON is YAML; written as YAML it has no quotes, so that hostile texts become other types."""
    loose = changed_tree(seeds, lambda tree: yaml.safe_dump(tree, allow_unicode=True, width=10**6))
    return st.one_of(
        changed_tree(seeds, json.dumps), loose, as_bytes([yaml.safe_dump(json.loads(s)).encode() for s in seeds])
    )


def parts(content: bytes) -> dict[str, Any] | None:
    """The files in a JSON text; None where a change has left none."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def below(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def text_of(value: Any) -> bytes:
    return json.dumps(value).encode()


# ---- images


@functools.cache
def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    rgb = Image.fromarray(rng.integers(0, 256, (12, 9, 3), dtype=np.uint8))
    deep = Image.fromarray(rng.integers(0, 65535, (6, 5)).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = 6
    told = PngImagePlugin.PngInfo()
    told.add_text("comment", "x" * 40, zip=True)
    kinds = [
        (rgb, "JPEG", {"exif": exif}), (rgb, "PNG", {"pnginfo": told}), (rgb.convert("RGBA"), "PNG", {}),
        (rgb.quantize(8), "PNG", {"transparency": 3}), (deep, "PNG", {}), (rgb, "WEBP", {}), (rgb, "BMP", {}),
        (rgb, "GIF", {}), (rgb.convert("CMYK"), "JPEG", {}), (rgb.convert("L"), "JPEG", {"progressive": True}),
    ]  # fmt: skip
    found = []
    for image, kind, options in kinds:
        file = io.BytesIO()
        image.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def read_picture(content: bytes, folder: Path) -> object:
    from whytransfer.images.decode import decode, upright_size

    pixels = decode(content, "x.img")
    assert pixels.dtype == np.uint8 and pixels.shape == (*upright_size(content, "x.img"), 3)
    return min(decode(content, "x.img", 4).shape[:2]) <= 4


# ---- annotations


@functools.cache
def coco() -> list[bytes]:
    box = {"id": 7, "image_id": 1, "category_id": 3, "bbox": [1, 2, 4, 3], "area": 12, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 6, "width": 8}],
        "categories": [
            {"id": 3, "name": "cat", "supercategory": "animal"},
            {"id": 5, "name": "dog", "supercategory": "animal"},
        ],
        "annotations": [
            {**box, "segmentation": [[1, 1, 5, 1, 5, 4, 1, 4]]},
            {**box, "id": 8, "segmentation": {"size": [6, 8], "counts": [10, 5, 33]}},
            {**box, "id": 9, "iscrowd": 1, "segmentation": {"size": [6, 8], "counts": "0X1"}, "difficult": 1},
        ],
    }
    found = [
        {"image_id": 1, "category_id": 3, "score": 0.5, "bbox": [1, 2, 4, 4]},
        {"image_id": 1, "category_id": 5, "score": 0.2, "bbox": [0, 0, 1, 1]},
    ]
    return [text_of({"truth": truth, "found": found})]


def read_coco(content: bytes, folder: Path) -> object:
    """As the ground truth and detections of an error analysis."""
    from whytransfer.diagnosis.detection_files import found_by, ground_truth
    from whytransfer.diagnosis.detection_table import matched_with

    given = parts(content)
    for name in ("truth", "found"):
        below(folder, f"{name}.json", content if given is None else text_of(given.get(name)))
    truth = ground_truth(folder / "truth.json")
    return list(matched_with(truth, found_by(folder / "found.json", truth)).rows())


def read_instances(content: bytes, folder: Path) -> object:
    """As the annotations of an image set, masks too."""
    from whytransfer.images.published.instances import Instances

    given = parts(content)
    found = Instances.open(below(folder, "instances.json", content if given is None else text_of(given.get("truth"))))
    return [found.read(i) for i in range(len(found.names))]


VOC = """<annotation><filename>1.jpg</filename><size><width>8</width><height>6</height><depth>3</depth></size>
<object><name>cat</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>
<part><name>head</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>2</xmax><ymax>3</ymax></bndbox></part></object>
</annotation>"""


def read_voc(content: bytes, folder: Path) -> object:
    from whytransfer.diagnosis.detection_files import ground_truth
    from whytransfer.images.index import Names
    from whytransfer.images.published.voc import Boxes

    below(folder, "Annotations/1.xml", content)
    boxes = Boxes(folder / "Annotations", Names(["1"]))
    return boxes.read(0), boxes.difficult(0), ground_truth(folder)


def read_labels(content: bytes, folder: Path) -> object:
    from whytransfer.images import Folder
    from whytransfer.images.labels_file import labelled_by

    for name in ("a.png", "b/c.png"):
        below(folder, f"photos/{name}", pictures()[1])
    return labelled_by(Folder(folder / "photos"), below(folder, "labels.csv", content))


# ---- weights and cards


def tensors() -> dict[str, Any]:
    return {"conv1.weight": torch.ones(4, 3, 3, 3), "layer1.0.conv1.weight": torch.zeros(2), "bn1.bias": torch.ones(4)}


@functools.cache
def weights() -> list[bytes]:
    """A kind of file, the first byte, then the file: as torch.save, safetensors, npz, npy and pickles write it."""
    file, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": tensors(), "epoch": 3}, file)
    torch.save(tensors(), old, _use_new_zipfile_serialization=False)
    haiku = {"res_net50/~/initial_conv": {"w": np.ones((3, 3, 3, 4), np.float32)}}
    npz, npy = io.BytesIO(), io.BytesIO()
    np.savez(npz, **{"res_net50/~/initial_conv/w": haiku["res_net50/~/initial_conv"]["w"]})
    np.save(npy, np.array(haiku, dtype=object))
    models = pickle.dumps(
        {"model": {"stem.conv1.weight": np.ones((4, 3, 7, 7), np.float32)}, "__author__": "x"}, protocol=2
    )
    plain = [file.getvalue(), old.getvalue(), save(tensors()), npz.getvalue(), npy.getvalue(), models]
    return [bytes([kind]) + content for kind, content in zip((0, 0, 1, 2, 3, 4), plain, strict=True)]


SPECS = ("{}.pth", "{}.safetensors", "detcon:{}.npz", "byol:{}.npy", "detectron2:{}.pkl")


def read_weights(content: bytes, folder: Path) -> object:
    from whytransfer.backbones.load import load_backbone

    spec = SPECS[content[0] % len(SPECS)].format(folder / "weights")
    below(folder, Path(spec.partition(":")[2] or spec).name, content[1:])
    return load_backbone(spec)


def card() -> dict[str, Any]:
    config = {"method": "moco-v2", "recipe": "default", "epochs": 1, "images": 4, "size": 24}
    result = {"knn": 12.5, "loss": 1.0, "width": 512}
    layout = {"arch": "resnet18", "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2], "geometry": {"same_pool": True}}
    return {"config": config, "finished": True, "result": result, **layout}


def read_card(content: bytes, folder: Path) -> object:
    """A run folder with a foreign card: as what a command goes on with, and as a backbone (its weights are none)."""
    from whytransfer.backbones.load import load_backbone
    from whytransfer.errors import InputError
    from whytransfer.runs import RunFolder

    below(folder, "run/card.json", content)
    below(folder, "run/backbone.safetensors", save(tensors()))
    try:
        RunFolder.open(folder / "run", card())
    except InputError as refusal:
        assert str(refusal)
    return load_backbone(folder / "run")


# ---- shards


@functools.cache
def samples() -> list[bytes]:
    known = {
        "size": [12, 9], "boxes_xyxy": [[1, 2, 4, 5], [0, 0, 9, 12]], "box_labels": [0, 1], "difficult": [0, 1],
        "masks": [[10, 5, 93], [0, 108]], "keypoints": [[[1, 2], [3, None]], [[0, 0], [1, 1]]],
    }  # fmt: skip
    about = {
        "format": 1, "name": "x", "shards": ["000000.tar"], "classes": ["a", "b"], "box_classes": ["cat", "dog"],
        "semantic_classes": [], "labelled_with": ["class", "boxes", "masks"], "eyes": None, "notes": [],
    }  # fmt: skip
    return [text_of({"objects": known, "card": about, "cls": 1})]


def read_shard(content: bytes, folder: Path) -> object:
    """A tar with one annotated picture, and the card beside it."""
    from whytransfer.images import open_images

    given = parts(content) or {}
    members = {"0.png": pictures()[1], "0.cls": str(given.get("cls")).encode(errors="replace")}
    members |= {"0.objects.json": text_of(given["objects"]) if "objects" in given else content}
    below(folder, "shards/shards.json", text_of(given.get("card")))
    with tarfile.open(folder / "shards" / "000000.tar", "w") as tar:
        for name, member in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(member)
            tar.addfile(about, io.BytesIO(member))
    images = open_images(str(folder / "shards"))
    return [images[i] for i in range(len(images))], images.fingerprint()


# ---- studies, settings and results


@functools.cache
def study() -> list[bytes]:
    content = {
        "study": "s",
        "seeds": [0, 1],
        "values": {"train": "scenes:40:0:24", "test": "scenes:20:1:24"},
        "pretrain": {"backbone": "resnet18-small", "size": 24, "epochs": 1, "batch": 8, "images": "{train}"},
        "transfer": {"size": 24, "train": "{train}", "test": "{test}"},
        "backbones": {
            "random": "random:resnet18:{seed}",
            "default": {"method": "moco-v2-small", "recipe": "default"},
            "fused": "default + random",
        },
        "tasks": {
            "class": {"task": "readout", "backbones": ["default", "fused"]},
            "find": {"task": "detection", "seeds": [0]},
        },
        "diagnoses": {
            "why": {"diagnose": "invariance", "images": "{test}"},
            "errors": {"diagnose": "errors", "of": "find"},
        },
    }
    return [text_of(content)]


def read_study_file(content: bytes, folder: Path) -> object:
    """The plan of a study file, which runs nothing."""
    from whytransfer.commands.study import StudySettings
    from whytransfer.commands.study_plan import Plan

    file = below(folder, "study.yaml", content)
    made = StudySettings.made_from({"file": file, "out": folder / "out", "dry_run": True, "calibrate": False})
    return list(Plan(made, None).lines())


def settings() -> list[bytes]:
    return [text_of({"method": "moco-v2", "images": "photos", "size": 24, "epochs": 3, "lr": 0.1, "monitor": True})]


def read_settings(content: bytes, folder: Path) -> object:
    from whytransfer.cli import parse

    return parse(["pretrain", "--config", str(below(folder, "settings.yaml", content)), "--out", str(folder / "run")])


def result(metric: str, value: float) -> dict[str, Any]:
    provenance = {"options": {"c": 1}, "command": "x", "versions": {"torch": "2"}, "train_fingerprint": "f"}
    row = {"model": "m", "data": "d", "task": "readout", "metric": metric, "value": value, "unit": "%", "n": 10}
    return {**row, "direction": "higher", "seed": 0, "low": value - 1, "high": value + 1, "provenance": provenance}


@functools.cache
def results() -> list[bytes]:
    cell = {
        "key": "transfer-0",
        "stage": "transfer",
        "item": "class",
        "backbone": "random",
        "seed": 0,
        "needs": [],
        "models": {"m": "random"},
    }
    about = {
        "format": 1,
        "key": "transfer-0",
        "name": "class/random/0",
        "stage": "transfer",
        "state": "finished",
        "place": "cells",
        "seconds": 1.0,
    }
    kept = {"study": "s", "cells": {"class/random/0": cell}, "file": {}, "command": "x"}
    rows = [result("top1", 50.0), result("top5", 90.0)]
    return [text_of({"format": {"format": 1}, "study": kept, "cell": about, "rows": rows})]


def written_results(content: bytes, folder: Path) -> Path:
    """The folder of a study as another program might write it; the digest of its rows is right."""
    given = parts(content) or {}
    rows = given.get("rows")
    lines = b"".join(text_of(row) + b"\n" for row in rows) if isinstance(rows, list) else content
    cell = given.get("cell")
    if isinstance(cell, dict):
        cell = {"sha256": hashlib.sha256(lines).hexdigest(), **cell}
    for name, value in (
        ("study.json", given.get("format")),
        ("studies/s.json", given.get("study")),
        ("cells/transfer-0/cell.json", cell),
    ):
        below(folder, f"study/{name}", text_of(value) if given else content)
    below(folder, "study/cells/transfer-0/results.jsonl", lines)
    return folder / "study"


def read_results(content: bytes, folder: Path) -> object:
    """The table of a study, by SQL and as means."""
    import whytransfer
    from whytransfer.commands.results import finished_rows, table_of

    place = written_results(content, folder)
    return table_of(finished_rows(place)), whytransfer.results(place, "SELECT metric, value FROM results")


def read_kept(content: bytes, folder: Path) -> object:
    """results.jsonl of `whytransfer transfer`, to which new results are added."""
    from whytransfer.commands.result_files import keep, kept_results
    from whytransfer.records import Result

    rows = (parts(content) or {}).get("rows")
    lines = b"".join(text_of(row) + b"\n" for row in rows) if isinstance(rows, list) else content
    below(folder, "results.jsonl", lines)
    keep(folder, [Result(**result("top1", 60.0))])
    return kept_results(folder)


# ---- regions


@functools.cache
def regions() -> list[bytes]:
    """A part of a store with a label map and a stack."""
    from whytransfer.masks.coding import encode
    from whytransfer.masks.regions import Regions

    rng = np.random.default_rng(0)
    flat = Regions(rng.integers(0, 3, (6, 8)).astype(np.uint8), np.arange(3))
    stack = Regions(rng.random((2, 6, 8)) < 0.5)
    codes = [encode(flat), encode(stack)]
    ends = np.cumsum([len(code) for code in codes]).astype("<u8")
    head = b"WTMASKS1" + struct.pack("<Q", 2) + b"a" * 16 + b"b" * 16
    return [head + ends.tobytes() + b"".join(codes)]


@st.composite
def changed_codes(draw: Any, seeds: list[bytes]) -> bytes:
    """Half of them with changes behind the compression, whose checksum would tell of most others."""
    content = draw(st.sampled_from(seeds))
    if draw(st.booleans()):
        drawn: bytes = draw(as_bytes(seeds))
        return drawn
    first, second = np.frombuffer(content[48:64], "<u8").tolist()
    codes = [content[64 : 64 + first], content[64 + first : 64 + second]]
    which = draw(st.integers(0, 1))
    head, body = bytearray(codes[which][:12]), bytearray(zlib.decompress(codes[which][12:]))
    changed = draw(st.sampled_from((head, body)))
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] = draw(st.integers(0, 255))
    del body[draw(st.one_of(st.just(len(body)), st.integers(0, len(body)))) :]
    codes[which] = bytes(head) + zlib.compress(bytes(body))
    ends = np.cumsum([len(code) for code in codes]).astype("<u8")
    return content[:48] + ends.tobytes() + b"".join(codes)


def read_regions(content: bytes, folder: Path) -> object:
    from whytransfer.masks import RegionStore

    below(folder, "store/store.json", text_of({"format": 1, "recipe": "grid", "engine": "grid:2"}))
    below(folder, "store/parts/0.part", content)
    store = RegionStore.open(folder / "store")
    return [store.regions_of(key) for key in (b"a" * 16, b"b" * 16)], [store.code(i) for i in range(len(store))]


TARGETS = {
    "picture": Target(pictures, read_picture, as_bytes),
    "coco": Target(coco, read_coco, as_json),
    "instances": Target(coco, read_instances, as_json),
    "voc": Target(lambda: [VOC.encode()], read_voc, as_bytes),
    "labels": Target(lambda: [b"name,label\na.png,x\nb/c.png,y\n"], read_labels, as_bytes),
    "weights": Target(weights, read_weights, as_bytes),
    "card": Target(lambda: [text_of(card())], read_card, as_json),
    "shard": Target(samples, read_shard, as_json),
    "study": Target(study, read_study_file, as_yaml),
    "settings": Target(settings, read_settings, as_yaml),
    "results": Target(results, read_results, as_json),
    "kept": Target(results, read_kept, as_json),
    "regions": Target(regions, read_regions, changed_codes),
}  # fmt: skip
