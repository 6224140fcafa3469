"""How long does a folder of a million pictures take to open, and what does it keep in memory? Bound: linear, 60 s.

    python benchmarks/startup.py [--files 20000] [--small]

Makes that many tiny files (links to one JPEG) in a temporary folder, and half as many for the slope, then times
open_images, the stamp (what a PixelCache looks at when nothing has changed) and the same for a zip of them.
Expected on a local disk: 3 s per million to open a folder and 10 s for its stamp, 25 s and 4 s for a zip;
45 state bytes per image once open (29 of them its name here), 40 more in a zip, whose opening takes 650 for a moment.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image

from whytransfer.images import open_images

CLASSES = 100
_LINKS = 30_000  # ext4 allows 65,000 links to one file


def make(folder: Path, count: int, jpeg: bytes) -> None:
    """`count` files in class folders, linked to a few real ones."""
    for i in range(count):
        path = folder / f"n{i % CLASSES:08d}" / f"n{i % CLASSES:08d}_{i}.JPEG"
        if i < CLASSES:
            path.parent.mkdir(parents=True)
        if i % _LINKS == 0:
            path.write_bytes(jpeg)
            first = path
        else:
            os.link(first, path)


def pack(target: Path, count: int, jpeg: bytes) -> None:
    """The same as a zip."""
    with zipfile.ZipFile(target, "w") as archive:
        for i in range(count):
            archive.writestr(f"n{i % CLASSES:08d}/n{i % CLASSES:08d}_{i}.JPEG", jpeg)


def measure(spec: Path) -> tuple[float, float, float]:
    """Seconds to open, seconds for the stamp, state bytes per image."""
    began = time.perf_counter()
    images = open_images(str(spec))
    opened = time.perf_counter()
    images.stamp()  # type: ignore[attr-defined]
    return opened - began, time.perf_counter() - opened, images.nbytes / len(images)  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000, help="links to one JPEG that are made (20,000)")
    parser.add_argument("--small", action="store_true", help="2,000 files")
    arguments = parser.parse_args()
    encoded = io.BytesIO()
    Image.new("RGB", (8, 8)).save(encoded, "JPEG")
    for count in sorted({(2_000 if arguments.small else arguments.files) // part for part in (2, 1)}):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder) / "tree", count, encoded.getvalue())
            pack(Path(folder) / "tree.zip", count, encoded.getvalue())
            for kind, spec in (("folder", Path(folder) / "tree"), ("zip", Path(folder) / "tree.zip")):
                opened, stamped, state = measure(spec)
                print(
                    f"{kind:6} {count:>9,} files: open {opened:6.3f} s = {opened / count * 1e6:5.2f} s per million, "
                    f"stamp {stamped / count * 1e6:5.2f} s per million, {state:.1f} state bytes per image"
                )


if __name__ == "__main__":
    main()
