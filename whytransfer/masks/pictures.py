"""Folders of masks: label maps as PNG (VOC, CamVid, any), BSDS500's .mat, or a folder of masks per image.

Of a label map each value that occurs is one region. What is no region: of a palette PNG (VOC) 0, the background, and
255, the border; of a grey PNG 255; of a colour PNG (CamVid) black. `void=` names other values (colours as 0xRRGGBB
written in decimal). Classes: of SegmentationObject those of SegmentationClass beside it, else the values themselves;
label_colors.txt ("64 128 64  Animal" per line), in the folder or beside it, names CamVid's colours.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from whytransfer.errors import InputError
from whytransfer.images.index import is_image
from whytransfer.images.matlab import read_matlab
from whytransfer.masks.annotated import Size, of_values, require_size, stem
from whytransfer.masks.regions import NO_REGION, Regions

_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def open_folder(path: Path, void: tuple[int, ...] | None) -> LabelMaps | MaskFolders | Drawings:
    """By what the folder holds: .mat files, PNG files, or folders."""
    entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    files = _by_stem([Path(e.path) for e in entries if e.is_file() and is_image(e.name)])
    drawn = _by_stem([Path(e.path) for e in entries if e.is_file() and e.name.endswith(".mat")])
    folders = {e.name: Path(e.path) for e in entries if e.is_dir() and not e.name.startswith(".")}
    if drawn:
        return Drawings(path, drawn)
    if files:
        return LabelMaps(path, files, void)
    if any(is_image(name) for folder in folders.values() for name in os.listdir(folder)):
        return MaskFolders(path, folders)
    raise InputError(
        f"{path} holds no masks: looked for PNG or .mat files named as the images, and for a folder of "
        "pictures per image"
    )


def _by_stem(paths: list[Path]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in paths:
        if stem(path.name) in files:
            raise InputError(f"{path} and {files[stem(path.name)].name} are masks of one image: remove one of them")
        files[stem(path.name)] = path
    return files


class LabelMaps:
    """One picture per image, whose values are regions."""

    stacks = False

    def __init__(self, path: Path, files: dict[str, Path], void: tuple[int, ...] | None) -> None:
        self.path, self._files, self._void = path, files, void
        beside = path.parent / "SegmentationClass"
        self._classes = beside if path.name == "SegmentationObject" and beside.is_dir() else None
        if self._classes and (lacking := sorted({f.name for f in files.values()} - set(os.listdir(beside)))):
            raise InputError(
                f"{beside} lacks {len(lacking):,} of the {len(files):,} files of {path}, first {lacking[0]}: the "
                "classes of objects are read there. Copy both folders from the same release."
            )
        self._voc = path.name.startswith("Segmentation")
        self._names = _colour_names(path)

    def __str__(self) -> str:
        void = "" if self._void is None else f" void={','.join(map(str, self._void))}"
        return f"label-maps{void}"

    def segmentations(self, name: str, size: Size) -> tuple[Regions, ...] | None:
        """One label map (H, W)."""
        path = self._files.get(stem(name))
        if path is None:
            return None
        values, usual = _values(path)
        require_size(values.shape, size, path)
        regions = of_values(values, usual if self._void is None else self._void)
        if self._classes is None:
            return (regions,)
        return (Regions(regions.maps, self._majority(regions, self._classes / path.name)),)

    def files(self) -> Iterator[tuple[str, Path]]:
        """All pictures, those of classes too."""
        yield from self._files.items()
        if self._classes is not None:
            yield from ((f"class/{name}", self._classes / path.name) for name, path in self._files.items())

    def stems(self) -> Iterator[str]:
        """Names of the images it knows."""
        return iter(self._files)

    def class_name(self, label: int) -> str:
        """VOC's or the colour's name, or the number."""
        from whytransfer.images.published.voc import CLASSES

        if self._voc and label <= len(CLASSES):
            return ("background", *CLASSES)[label]
        return self._names.get(label, str(label))

    def _majority(self, regions: Regions, path: Path) -> NDArray[np.int64]:
        """The class that most pixels of each object have; a border's (255) is none."""
        classes, _ = _values(path)
        require_size(classes.shape, regions.size, path)
        counts = np.zeros((len(regions), 256), dtype=np.int64)
        inside = (regions.maps != NO_REGION) & (classes < 255)
        np.add.at(counts, (regions.maps[inside], classes[inside]), 1)
        return counts.argmax(axis=1)


class MaskFolders:
    """One folder per image, one picture per mask: what is not 0 (black) is in it. Masks may overlap."""

    stacks = True

    def __init__(self, path: Path, folders: dict[str, Path]) -> None:
        self.path, self._folders = path, folders

    def __str__(self) -> str:
        return "mask-folders"

    def segmentations(self, name: str, size: Size) -> tuple[Regions, ...] | None:
        """One stack (R, H, W), masks in the order of their names."""
        folder = self._folders.get(stem(name))
        if folder is None:
            return None
        stack = []
        for path in self._pictures(folder):
            values, _ = _values(path)
            require_size(values.shape, size, path)
            stack.append(values > 0)
        return (Regions(np.stack(stack) if stack else np.zeros((0, *size), dtype=bool)),)

    def files(self) -> Iterator[tuple[str, Path]]:
        """All pictures."""
        for name, folder in self._folders.items():
            yield from ((f"{name}/{path.name}", path) for path in self._pictures(folder))

    def stems(self) -> Iterator[str]:
        """Names of the images it knows."""
        return iter(self._folders)

    def class_name(self, label: int) -> str:
        """There are no classes."""
        return str(label)

    @staticmethod
    def _pictures(folder: Path) -> list[Path]:
        return [folder / name for name in sorted(os.listdir(folder)) if is_image(name)]


class Drawings:
    """BSDS500 [Arbelaez 2011]: a .mat file per image, in which each of 4 to 9 people segmented the whole of it."""

    stacks = False

    def __init__(self, path: Path, files: dict[str, Path]) -> None:
        self.path, self._files = path, files

    def __str__(self) -> str:
        return "bsds"

    def segmentations(self, name: str, size: Size) -> tuple[Regions, ...] | None:
        """One label map (H, W) per person, every segment a region, without classes."""
        path = self._files.get(stem(name))
        if path is None:
            return None
        found = []
        for values in _drawn(path):
            require_size(values.shape, size, path)
            found.append(Regions(of_values(values, ()).maps))
        return tuple(found)

    def files(self) -> Iterator[tuple[str, Path]]:
        """All .mat files."""
        yield from self._files.items()

    def stems(self) -> Iterator[str]:
        """Names of the images it knows."""
        return iter(self._files)

    def class_name(self, label: int) -> str:
        """There are no classes."""
        return str(label)


def _drawn(path: Path) -> list[NDArray[np.integer]]:
    try:
        people = read_matlab(path, squeeze=False)["groundTruth"].reshape(-1)
        return [np.asarray(person["Segmentation"][0, 0]) for person in people]
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise InputError(f"{path} is no ground truth of BSDS500 ({type(error).__name__}: {error})") from None


def _values(path: Path) -> tuple[NDArray[np.integer], tuple[int, ...]]:
    """(H, W) values of a mask picture, colours as 0xRRGGBB, and which of them usually are no region."""
    try:
        with Image.open(path) as image:
            image.load()
    except (UnidentifiedImageError, *_DAMAGE) as error:
        raise InputError(f"{path} cannot be read as a mask: {error}. Copy it again.") from None
    if image.mode == "P":
        return np.asarray(image), (0, 255)
    if image.mode == "1":
        return np.asarray(image).astype(np.uint8), (0,)
    if image.mode in ("L", "I", "I;16"):
        return np.asarray(image), (255,)
    if image.format == "JPEG" or image.mode not in ("RGB", "RGBA"):
        raise InputError(
            f"{path}: a mask must be a PNG of values or plain colours, this is {image.format} {image.mode}"
        )
    red, green, blue = (np.asarray(image)[..., c].astype(np.int64) for c in range(3))
    return red << 16 | green << 8 | blue, (0,)


def _colour_names(folder: Path) -> dict[int, str]:
    """Names by 0xRRGGBB from label_colors.txt."""
    path = next((p for p in (folder / "label_colors.txt", folder.parent / "label_colors.txt") if p.is_file()), None)
    names: dict[int, str] = {}
    for line in path.read_text().splitlines() if path else ():
        fields = line.split()
        if len(fields) >= 4 and all(field.isdecimal() for field in fields[:3]):
            red, green, blue = map(int, fields[:3])
            names[red << 16 | green << 8 | blue] = " ".join(fields[3:])
    return names
