"""The classes of ImageNet's validation images that lie in one folder: from the devkit, Kaggle's table or val.txt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from whytransfer.errors import InputError
from whytransfer.images.index import first_of
from whytransfer.images.matlab import read_matlab
from whytransfer.images.published.layout import Layout, rows

CLASSES = 1000
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE)
_DEVKIT = ("ILSVRC2012_devkit_t12/data", "devkit/data", "data")
_SYNSETS = ("LOC_synset_mapping.txt", "synset_words.txt", "synsets.txt")  # lines that begin with a wnid, sorted


def val_wnids(layout: Layout, root: Path, names: Sequence[str], train: Sequence[str]) -> dict[str, str]:
    """Image name -> wnid for every validation image.

    `train`: the wnids of the training split, [] where it is not there; val.txt counts classes in the sorted order of
    all thousand.
    Raises InputError when there is no listing, or one that does not know an image.
    """
    for devkit in (root / inside for inside in _DEVKIT):
        if (devkit / "ILSVRC2012_validation_ground_truth.txt").exists():
            return _complete(layout, names, _by_devkit(layout, devkit, names), devkit)
    if (table := root / "LOC_val_solution.csv").exists():
        return _complete(layout, names, _by_table(layout, table), table)
    if (listing := root / "val.txt").exists():
        return _complete(layout, names, _by_listing(layout, root, listing, train), listing)
    raise layout.refusal(
        root, "the classes of val: class folders in it, or the devkit, LOC_val_solution.csv or val.txt"
    )


def _by_devkit(layout: Layout, devkit: Path, names: Sequence[str]) -> dict[str, str]:
    """Line k of the ground truth is the ILSVRC2012_ID of image k; meta.mat says which wnid that is."""
    meta = devkit / "meta.mat"
    if not meta.exists():
        raise layout.refusal(devkit, "meta.mat, which says what the numbers of the ground truth mean,")
    try:
        synsets = read_matlab(meta)["synsets"]
        wnid_of = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    except (ValueError, TypeError, KeyError, IndexError, NotImplementedError) as error:
        raise InputError(f"imagenet: {meta} is damaged: {error}") from None
    truth = devkit / "ILSVRC2012_validation_ground_truth.txt"
    wnids = []
    for line, fields in rows(truth):
        if not fields[0].isdecimal() or int(fields[0]) not in wnid_of:
            raise layout.damaged(truth, line, "a class number of meta.mat", fields[0])
        wnids.append(wnid_of[int(fields[0])])
    numbers = {name: int(match[1]) for name in names if (match := _NUMBER.fullmatch(name))}
    return {name: wnids[number - 1] for name, number in numbers.items() if 1 <= number <= len(wnids)}


def _by_table(layout: Layout, table: Path) -> dict[str, str]:
    """Kaggle's ImageId,PredictionString: the string begins with the wnid."""
    found = {}
    for line, fields in rows(table, ","):
        if fields[0] == "ImageId":
            continue
        if len(fields) != 2 or not fields[1].split():
            raise layout.damaged(table, line, "ImageId,PredictionString", ",".join(fields))
        found[f"{fields[0]}.JPEG"] = fields[1].split()[0]
    return found


def _by_listing(layout: Layout, root: Path, listing: Path, train: Sequence[str]) -> dict[str, str]:
    """Caffe's val.txt: a file name and the position of its class among the thousand sorted wnids."""
    mapping = next((root / name for name in _SYNSETS if (root / name).exists()), None)
    wnids = sorted(fields[0] for _, fields in rows(mapping)) if mapping else list(train)
    if not mapping and len(wnids) != CLASSES:  # fewer classes would be counted otherwise
        needed = f"{' or '.join(_SYNSETS)} (or all {CLASSES:,} class folders in train)"
        raise layout.refusal(root, f"the list of classes that val.txt counts in, {needed},")
    found = {}
    for line, fields in rows(listing):
        if len(fields) != 2 or not fields[1].isdecimal() or int(fields[1]) >= len(wnids):
            raise layout.damaged(listing, line, f"FILE CLASS with a class below {len(wnids):,}", " ".join(fields))
        found[fields[0].rpartition("/")[2]] = wnids[int(fields[1])]
    return found


def _complete(layout: Layout, names: Sequence[str], found: dict[str, str], source: Path) -> dict[str, str]:
    if missing := [name for name in names if name not in found]:
        raise InputError(
            f"{layout.kind}: {len(missing):,} of {len(names):,} images of val are not in {source}: {first_of(missing)}."
        )
    return {name: found[name] for name in names}
