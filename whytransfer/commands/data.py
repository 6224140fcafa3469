"""Opening image sets for a command: what the user should know of them is said, decoding shows a bar."""

from __future__ import annotations

from typing import Any

from whytransfer import progress


def opened(spec: str) -> Any:
    """The ImageSet that `spec` names; says its notes (read as unlabelled, a folder passed through, files left out)."""
    from whytransfer.images import open_images

    images = open_images(spec)
    for note in getattr(images, "notes", ()):
        progress.say(f"note: {images.name}: {note}")
    return images


def cached(images: Any, max_side_px: int | None, cache_gb: float = 20.0, skip_unreadable: bool = False) -> Any:
    """The PixelCache of an ImageSet; building it shows a bar."""
    from whytransfer.images.cache import PixelCache

    with progress.bar(f"decoding {images.name}", len(images)) as update:
        return PixelCache.open(
            images,
            max_side_px,
            max_bytes=int(cache_gb * 1e9),
            progress=lambda done, total: update(done),
            skip_unreadable=skip_unreadable,
        )
