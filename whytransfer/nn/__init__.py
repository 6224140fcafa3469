"""The arithmetic that methods and tasks share: each formula once, with its source and a closed-form test."""

from __future__ import annotations

from whytransfer.nn.detcon import detcon
from whytransfer.nn.losses import info_nce

__all__ = ["detcon", "info_nce"]
