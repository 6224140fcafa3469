"""CelebA [Liu 2015]: aligned faces, labelled with who they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.folder import Files
from whytransfer.images.index import Index, Names
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts, rows

LAYOUT = Layout(
    "celeba",
    "ROOT/img_align_celeba/000001.jpg, ROOT/identity_CelebA.txt and ROOT/list_eval_partition.txt (all may lie in "
    "ROOT/celeba; or Img/, Anno/ and Eval/ as the authors pack them)",
    ("train", "valid", "test", "all"),
)


def celeba(rest: str) -> Files:
    """The set named "celeba:ROOT[:train|valid|test|all]"; classes are the identities of that split.

    Identities do not overlap between the official splits, so a split's classes are its own.
    """
    root, parts = root_and_parts("celeba", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    root = root / "celeba" if (root / "celeba").is_dir() else root
    folder = LAYOUT.find(root, ["img_align_celeba", "Img/img_align_celeba"])
    folder = folder / "img_align_celeba" if (folder / "img_align_celeba").is_dir() else folder  # as Kaggle packs it
    identities = _numbers(LAYOUT.find(root, ["identity_CelebA.txt", "Anno/identity_CelebA.txt"]))
    parts_file = LAYOUT.find(root, ["list_eval_partition.txt", "Eval/list_eval_partition.txt"])
    partition = _numbers(parts_file)
    wanted = LAYOUT.splits.index(split)
    names = sorted(name for name, part in partition.items() if split == "all" or part == wanted)
    if not names:
        raise InputError(f"celeba: {parts_file} has no image of the {split} split (number {wanted}): copy it again.")
    require_files(LAYOUT, folder, names, named_files(folder, (".jpg",)), f"images of the {split} split")
    if strangers := [name for name in names if name not in identities]:
        raise InputError(f"celeba: identity_CelebA.txt lacks {len(strangers):,} of them, first {strangers[0]}.")
    people, labels = np.unique([identities[name] for name in names], return_inverse=True)
    classes = tuple(str(person) for person in people.tolist())
    return Files(folder, Index(Names(names), labels.astype(np.int64), classes), f"celeba/{split}", ("identity",))


def _numbers(path: Path) -> dict[str, int]:
    """Lines "000001.jpg 2880"."""
    found = {}
    for line, fields in rows(path):
        if len(fields) != 2 or not fields[1].isdecimal():
            raise LAYOUT.damaged(path, line, "FILE NUMBER", " ".join(fields))
        found[fields[0]] = int(fields[1])
    return found
