"""What the claims of a scale have in common: images, methods, lengths of runs, tasks. Equal settings are one cell.

A scale is one Setup; the four are in setup_small (demo, laptop, gpu) and setup_full. "{data}" in a text is the folder
of the image sets, "{seed}" the seed of the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Setup:
    """One scale. Settings are those of `whytransfer pretrain`, `transfer`, `diagnose` and `masks quality`."""

    seeds: tuple[int, ...]
    random: str  # an untrained backbone of the same architecture
    pretrain: Settings  # shared by all pretrainings; the settings of a method or a finding win
    epochs: int  # of a pretraining on the images of `pretrain`
    methods: Mapping[str, Settings]  # contrastive, supervised, exemplar; simclr, byol, detcon, detcon-b, one-view
    tasks: Mapping[str, Settings]
    diagnoses: Mapping[str, Settings]

    # C04, C05: other images to pretrain on, each for as many steps
    iterations: int  # as many as those epochs have
    sets: Mapping[str, tuple[str, Settings]]  # name -> images, the supervised method on their annotations
    synthetic: tuple[str, ...]  # those of `sets` that are generated
    tenth: str  # a tenth of the images of `pretrain`

    alike: Settings  # C08: what makes the contrastive method's queue and temperature those of "exemplar"

    # C09, C10: the images that classes or persons are learnt from
    base_classes: Settings  # images, and settings that go with them
    identities: Settings

    # C11 to C15: regions, on images large enough for maps to tell them apart
    dense: Settings  # shared by all of them, instead of `pretrain`
    masked: Settings  # C13 to C15: other images, where those of `dense` have no regions that people drew
    pairs: tuple[tuple[str, str], ...]  # (detcon's method, its baseline)
    lengths: tuple[int, ...]  # epochs of C11, ascending
    length: int  # epochs of C12 to C15
    capacities: tuple[str, ...]  # backbones, ascending
    engines: Mapping[str, str]  # name -> regions, from coarse or arbitrary to clean
    clean: str  # of `engines`: what people drew
    found: str  # of `engines`: what an algorithm finds, as in the paper's main results
    resolutions: tuple[int, int, int]  # px
    cut: int  # C15: parts of a batch that are contrasted apart
