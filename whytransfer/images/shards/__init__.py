"""Images in tar files, as WebDataset lays them out: read by place, and made of any image set."""

from whytransfer.images.shards.packing import pack
from whytransfer.images.shards.reading import AnnotatedShards, Shards, expanded, open_shards

__all__ = ["AnnotatedShards", "Shards", "expanded", "open_shards", "pack"]
