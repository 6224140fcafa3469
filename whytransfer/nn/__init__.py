"""The arithmetic that methods and tasks share: each formula once, with its source and a closed-form test."""

from __future__ import annotations

from whytransfer.nn.detcon import detcon
from whytransfer.nn.losses import byol, info_nce, nt_xent, supcon

__all__ = ["byol", "detcon", "info_nce", "nt_xent", "supcon"]
