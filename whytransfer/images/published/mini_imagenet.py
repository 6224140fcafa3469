"""mini-ImageNet [Vinyals 2016] by the lists of [Ravi & Larochelle 2017]: 64 base, 16 validation and 20 novel classes.

The lists call image 7 of a class n0153282900000007.jpg. Such files exist only where someone has made them; ImageNet has
its own numbers, and 7 is then the seventh file of the class in their order [the list maker of Chen 2019].
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.folder import Files
from whytransfer.images.index import Index, Names, is_image
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts

SPLITS = ("train", "val", "test")
LAYOUT = Layout(
    "mini-imagenet",
    "the lists ROOT/train.csv, val.csv and test.csv (or in LIST, a folder or zip) with lines filename,label, and "
    "either ROOT/images/n0153282900000005.jpg, ... or ImageNet's class folders ROOT/train/n01532829/*.JPEG (also below "
    "ROOT/ILSVRC/Data/CLS-LOC)",
    (*SPLITS, "train+val"),
)
_IMAGENET = ("train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train")
_LISTED = re.compile(r"(n\d{8})(\d{8})\.jpg")
_NUMBERED = re.compile(r"_(\d+)\.")


class ClassSplitFiles(Files):
    """Image files whose classes are divided: `class_splits` is {class: split}."""

    def __init__(self, root: Path, index: Index, name: str, class_splits: Mapping[str, str]) -> None:
        super().__init__(root, index, name)
        self.class_splits = dict(class_splits)


def mini_imagenet(rest: str) -> ClassSplitFiles:
    """The set named "mini-imagenet:ROOT[:train|val|test|train+val[:LIST]]"; train are base classes, test the novel."""
    root, parts = root_and_parts("mini-imagenet", rest, ("SPLIT", "LIST"))
    split = LAYOUT.split(parts)
    lists = Path(parts[1]).expanduser() if len(parts) > 1 and parts[1] else root
    listed, splits = [], {}
    for part in split.split("+"):
        found = list(read_split(lists, part))
        listed += found
        splits.update({label: part for _, label in found})
    if (root / "images").is_dir():
        folder, names = root / "images", [name for name, _ in listed]
        require_files(LAYOUT, folder, names, named_files(folder, (".jpg",)), f"images of {split}")
    else:
        folder = LAYOUT.find(root, ["images", *_IMAGENET])
        names = list(_of_imagenet(folder, listed))
    classes, labels = np.unique([label for _, label in listed], return_inverse=True)
    index = Index(Names(names), labels.astype(np.int64), tuple(classes.tolist()))
    return ClassSplitFiles(folder, index, f"mini-imagenet/{split}", splits)


def read_split(lists: Path, split: str) -> Iterator[tuple[str, str]]:
    """(file name, wnid) of every line of a split's list, in a folder or in a zip."""
    where = LAYOUT.find(lists, [f"{split}.csv"]) if not lists.is_file() else lists / f"{split}.csv"
    try:
        if lists.is_file():
            with zipfile.ZipFile(lists) as archive:
                text = archive.read(f"{split}.csv").decode()
        else:
            text = where.read_text()
    except (OSError, KeyError, UnicodeDecodeError, zipfile.BadZipFile) as error:
        raise InputError(f"mini-imagenet: cannot read {where}: {error}") from None
    lines = text.splitlines()
    if len(lines) < 2 or lines[0].strip() != "filename,label":
        raise LAYOUT.damaged(where, 1, "filename,label, and images after it", lines[0] if lines else "")
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        name, _, label = line.strip().partition(",")
        if not (match := _LISTED.fullmatch(name)) or match[1] != label:
            raise LAYOUT.damaged(where, number, "n0153282900000005.jpg,n01532829", line)
        yield name, label


def _of_imagenet(folder: Path, listed: list[tuple[str, str]]) -> Iterator[str]:
    """The file of each listed image: the k-th of its class, by the number in its name."""
    ordered: dict[str, list[str]] = {}
    for name, wnid in listed:
        if wnid not in ordered:
            ordered[wnid] = _sorted_by_number(folder, wnid)
        rank = int(name[len(wnid) : len(wnid) + 8])
        if not 1 <= rank <= len(ordered[wnid]):
            raise InputError(
                f"mini-imagenet: {name} is image {rank} of {wnid}, and {folder / wnid} has {len(ordered[wnid])}: the "
                "whole class folders of ImageNet's training set are needed."
            )
        yield f"{wnid}/{ordered[wnid][rank - 1]}"


def _sorted_by_number(folder: Path, wnid: str) -> list[str]:
    if not (folder / wnid).is_dir():
        raise LAYOUT.refusal(folder, f"the class folder {wnid}")
    names = [name for name in os.listdir(folder / wnid) if is_image(name)]
    numbers = {name: match for name in names if (match := _NUMBERED.search(name))}
    if len(numbers) < len(names):
        odd = next(name for name in names if name not in numbers)
        raise InputError(
            f"mini-imagenet: {folder / wnid / odd} has no number as in n01532829_10.JPEG: take ImageNet's."
        )
    return sorted(names, key=lambda name: int(numbers[name][1]))
