"""Images whose class is in their file names: Abyssinian_12.jpg, 0002_c1s1_000451.jpg, Ada_Lovelace_7.png."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.folder import Files, scan
from whytransfer.images.index import Index, Names, first_of, missing_path, short_name


def by_name(rest: str) -> Files:
    """The set named "by-name:FOLDER": the class of LABEL_NUMBER.jpg is LABEL, what comes before the last underscore.

    Pets and faces are published so. Folders below are passed over, and a note says so.
    Raises InputError for a missing or empty folder and for a name without an underscore.
    """
    root = Path(rest).expanduser()
    if not root.is_dir():
        raise missing_path(root)
    others: Counter[str] = Counter()
    found = scan(root, others)
    names = sorted(found[""])
    if not names:
        raise InputError(f"by-name: no images in {root} itself; what lies in folders below it is not taken.")
    labels_of = [name.rpartition(".")[0].rpartition("_")[0] for name in names]
    if bare := [name for name, label in zip(names, labels_of, strict=True) if not label]:
        raise InputError(
            f"by-name: {len(bare):,} of the {len(names):,} images of {root} are not called LABEL_NUMBER: "
            f"{first_of(bare)}. Put them into class folders instead."
        )
    classes, labels = np.unique(labels_of, return_inverse=True)
    below = sum(len(inside) for folder, inside in found.items() if folder)
    notes = (f"{below:,} images in folders below {root} are not taken",) if below else ()
    index = Index(Names(names), labels.astype(np.int64), tuple(classes.tolist()), notes)
    return Files(root, index, short_name(root.absolute()))
