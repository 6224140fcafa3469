"""Stage 1, disk or generator -> Sample: one source per file, no augmentation."""

from __future__ import annotations

from pathlib import Path

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.archive import Archive
from whytransfer.images.folder import Folder
from whytransfer.images.index import CARD, TARS, missing_path
from whytransfer.images.subsets import holdout, labelled_with, match_classes, require_labels, subset
from whytransfer.records import ImageSet

__all__ = [
    "Archive",
    "Folder",
    "holdout",
    "labelled_with",
    "match_classes",
    "open_images",
    "require_labels",
    "subset",
]
PUBLISHED = (
    "imagenet", "imagenet-10pct", "imagenet-100", "places", "celeba", "coco", "synthia", "voc", "cityscapes", "camvid",
    "ade", "nyu", "sunrgbd", "rgbd",
    "mini-imagenet", "omniglot", "landmarks", "celeba-landmarks", "mafl", "300w", "300w-published", "lsp",
    "causal3dident",
)  # the names of published.SETS, known here without importing its readers  # fmt: skip
GENERATED = ("scenes", "leaves")
PARTS = ("classes", "share", "by-name")  # of another set, or of a folder as it is not labelled by folders
KINDS = ("cifar10", "cifar100", "stl10", "caltech101", "flowers102", "hf", *GENERATED, *PARTS, *PUBLISHED)


def open_images(spec: str) -> ImageSet:
    """The image set that a string names.

    A path is a folder of pictures, a zip of one, or a folder inside a zip (photos.zip/train). Other sources are
    "cifar10:ROOT[:train|test]", "cifar100:...", "stl10:ROOT[:train|test|unlabeled]", "caltech101:ROOT",
    "flowers102:ROOT[:train|val|test]", "hf:PATH[:SPLIT]" and the generated "scenes:COUNT[:SEED[:SIZE]]" and
    "leaves:COUNT[:SEED[:SIZE]]". "share:PER_CENT:IMAGES" is a part of every class of any of them, "by-name:FOLDER" a
    folder of LABEL_NUMBER.jpg.
    Published layouts (docs/images.md shows each tree): "imagenet:ROOT[:train|val]",
    "imagenet-10pct:ROOT[:SPLIT[:LIST]]", "imagenet-100:ROOT[:SPLIT[:LIST]]", "places:ROOT[:SPLIT]",
    "celeba:ROOT[:SPLIT]", "coco:ROOT[:SPLIT]", "synthia:ROOT", "voc:ROOT[:YEAR[:SPLIT]]", "cityscapes:ROOT[:SPLIT]",
    "camvid:ROOT[:SPLIT]", "ade:ROOT[:SPLIT]"; with depth "nyu:ROOT[:SPLIT]", "sunrgbd:ROOT[:SPLIT]" and
    "rgbd:ROOT[:PER_METRE[:INVALID]]"; with classes divided "mini-imagenet:ROOT[:SPLIT[:LIST]]", "omniglot:ROOT[:SPLIT]"
    and, over any other files, "classes:IMAGES:LIST:SPLIT"; with landmarks "landmarks:ROOT[:SPLIT]",
    "celeba-landmarks:...", "mafl:...", "300w:...", "300w-published:..." and "lsp:..."; with latent factors
    "causal3dident:ROOT[:SPLIT]".
    Shards (WebDataset's tar files) are "FILE.tar", "train-{000..012}.tar", a folder that `pack` made, or a URL of one
    of these: "s3://...", "gs://...", "https://..." (extra `remote`).
    Raises InputError that says what was found instead.
    """
    kind, _, rest = spec.partition(":")
    path = Path(spec).expanduser()
    if kind in KINDS and rest and not path.exists():
        return _open_named(kind, rest)
    if (path / CARD).is_file() or (not path.is_dir() and ("://" in spec or spec.endswith(TARS))):
        from whytransfer.images.shards import open_shards

        return open_shards(spec)
    if path.is_dir():
        return Folder(path)
    for outer in (path, *path.parents):
        if outer.is_file():
            return Archive(outer, "" if outer == path else path.relative_to(outer).as_posix())
    if rest and kind.replace("-", "_").isidentifier():
        raise unknown_name("image source", kind, KINDS)
    raise missing_path(path)


def _open_named(kind: str, rest: str) -> ImageSet:
    if kind in GENERATED:
        return _generated(kind, rest)
    if kind == "share":
        return _share(rest)
    if kind == "by-name":
        from whytransfer.images.by_name import by_name

        return by_name(rest)
    if kind == "classes":
        from whytransfer.images.class_splits import classes_of_list

        return classes_of_list(rest)
    if kind in PUBLISHED:
        from whytransfer.images.published import SETS

        return SETS[kind](rest)
    if kind == "hf":
        from whytransfer.images.huggingface import open_hf

        return open_hf(rest)
    from whytransfer.images.torchvision_sets import open_torchvision

    return open_torchvision(kind, rest)


def _generated(kind: str, rest: str) -> ImageSet:
    try:
        numbers = [int(part) for part in rest.split(":")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 3:
        raise InputError(f"{kind}:{rest} is not {kind}:COUNT[:SEED[:SIZE]] in whole numbers, such as {kind}:4000:0:64")
    if kind == "leaves":
        from whytransfer.images.leaves import Leaves

        return Leaves(*numbers)
    from whytransfer.images.scenes import Scenes

    return Scenes(*numbers)


def _share(rest: str) -> ImageSet:
    """The same images every time, of every class alike: a smaller share of the same set is not a part of a larger."""
    share, _, spec = rest.partition(":")
    try:
        fraction = float(share) / 100
    except ValueError:
        fraction = 0.0
    if not 0 < fraction < 1 or not spec:
        raise InputError(f"share:{rest} is not share:PER_CENT:IMAGES with 0 < PER_CENT < 100, such as share:10:photos/")
    return holdout(open_images(spec), fraction, seed=0)[1]
