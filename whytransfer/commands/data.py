"""Opening image sets for a command: decoded once into the cache, with progress."""

from __future__ import annotations

from typing import Any

from whytransfer import progress


def cached(spec: str, max_side_px: int | None, cache_gb: float = 20.0, skip_unreadable: bool = False) -> Any:
    """The PixelCache of the images that `spec` names; building it shows a bar."""
    from whytransfer.images import open_images
    from whytransfer.images.cache import PixelCache

    images = open_images(spec)
    with progress.bar(f"decoding {images.name}", len(images)) as update:
        return PixelCache.open(
            images,
            max_side_px,
            max_bytes=int(cache_gb * 1e9),
            progress=lambda done, total: update(done),
            skip_unreadable=skip_unreadable,
        )
