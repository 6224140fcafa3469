"""`whytransfer pack`: an image set as shards, for disks and object stores that dislike a million small files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from whytransfer.commands.common import Settings, print_json, print_table


class PackSettings(Settings):
    """Write images, labels and annotations as tar files in WebDataset's layout.

    Everything that takes images takes the folder it makes, any of its shards, or their URL once they are copied to an
    object store (s3://, gs://, https://; pip install 'whytransfer[remote]'). Encoded pictures are copied byte for byte:
    pretraining on the shards is the same run as on the files, and regions made for the files serve the shards. Other
    sources become PNG. Killed anywhere, the same command goes on.

    Examples:
      whytransfer pack --images photos/ --out shards/
      whytransfer pretrain --images shards/ --out runs/mine
      whytransfer pretrain --images "shards/{000000..000009}.tar" --out runs/a-part      (in quotes, for the shell)
      whytransfer pack --images coco:/data/coco:val2017 --out coco-shards/ --shard-size 500
    """

    images: str
    """Folder, zip, coco:ROOT, scenes:COUNT, ...: see docs/images.md."""
    out: Path
    """Folder to make, or one that the same command left unfinished."""
    shard_size: Annotated[int, Field(ge=1)] = 1000
    """Images per shard. Shards of 100 MB to 1 GB suit object stores."""


def pack(**settings: Any) -> dict[str, Any]:
    """Make shards; keywords are the fields of PackSettings. Returns what `--json` prints.

    pack(images="photos/", out="shards/")["shards"] is how many there are.
    """
    return PackSettings.called(run, settings)


def run(s: PackSettings) -> dict[str, Any]:
    """Wire the settings to objects and write."""
    import time

    from whytransfer import progress
    from whytransfer.commands.data import opened
    from whytransfer.images.shards import pack as packed

    images = opened(s.images)
    began = time.perf_counter()
    with progress.bar(f"packing {images.name}", len(images)) as update:
        made = packed(images, s.out, s.shard_size, update)
    return {
        "folder": str(made.folder),
        "shards": made.shards,
        "images": made.images,
        "bytes": made.bytes,
        "labelled_with": list(made.labelled_with),
        "notes": list(made.notes),
        "seconds": time.perf_counter() - began,
    }


def show(s: PackSettings) -> None:
    """Run and print the answer for people, or as a JSON line."""
    answer = run(s)
    if s.as_json:
        print_json([answer])
        return
    rows = [
        ["shards", f"{answer['shards']:,}"],
        ["images", f"{answer['images']:,}"],
        ["size", f"{answer['bytes'] / 1e6:,.1f} MB"],
        ["labelled with", " and ".join(answer["labelled_with"]) or "nothing"],
        ["time", f"{answer['seconds']:,.1f} s"],
    ]
    print_table(f"packed {s.images}", ["", "value"], rows)
    for note in answer["notes"]:
        print(f"note: {note}")
    print(f"use them: --images {answer['folder']}")
