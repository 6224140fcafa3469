"""The engine: equal bytes however it is run, images of any kind, and a ranking that is worth its name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.images.scenes import Scenes
from whytransfer.masks import candidates as grouping
from whytransfer.masks import mcg
from whytransfer.masks.mcg import MCG
from whytransfer.masks.ranking import Ranking
from whytransfer.records import Sample


@pytest.fixture(scope="module")
def learnt() -> Ranking:
    return mcg.learnt_from_scenes(24, 5, 96)


def sample_of(pixels: np.ndarray) -> Sample:
    return Sample(torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), "test")


def best_overlap(maps: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the truth's masks of the best IoU with any region."""
    both = (maps[:, None] & truth).sum(axis=(2, 3))
    return float((both / (maps[:, None] | truth).sum(axis=(2, 3))).max(axis=0).mean())


def test_the_learnt_ranking_finds_more_than_the_largest_or_the_first(learnt: Ranking):
    engine, scores = MCG(learnt, best=8), []
    for sample in (Scenes(10, 77, 96)[i] for i in range(10)):
        found = mcg.candidates(np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy()))
        truth = np.asarray(sample.masks)
        first, every = found.masks(np.arange(8)), found.masks(np.arange(len(found.members)))
        largest = found.masks(np.argsort(-found.features[:, 3], kind="stable")[:8])
        regions = engine(sample)
        assert regions.maps.shape == (8, 96, 96)
        scores.append([best_overlap(maps, truth) for maps in (regions.maps, first, largest, every)])
    ranked, first, largest, bound = np.mean(scores, axis=0)
    assert ranked > first + 0.1 and ranked > largest + 0.1
    assert ranked > 0.75 * bound


def test_equal_images_have_equal_regions_in_any_thread(learnt: Ranking):
    samples = [Scenes(6, 3, 64)[i] for i in range(6)]
    alone = [MCG(learnt)(sample).maps.tobytes() for sample in samples]
    with ThreadPoolExecutor(4) as pool:
        together = [regions.maps.tobytes() for regions in pool.map(MCG(learnt), samples)]
    assert alone == together


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 8), (23, 64)])
@pytest.mark.parametrize("kind", ["plain", "grey", "noise"])
def test_images_of_any_kind_have_regions(learnt: Ranking, shape: tuple[int, int], kind: str):
    rng = np.random.default_rng(0)
    pixels = {
        "plain": np.full((*shape, 3), 77, np.uint8),
        "grey": rng.integers(0, 256, (*shape, 1), dtype=np.uint8).repeat(3, axis=2),
        "noise": rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
    }[kind]
    regions = MCG(learnt)(sample_of(pixels))
    assert regions.overlapping and regions.size == shape
    assert 1 <= len(regions) <= 16 and regions.areas().min() >= 1
    if kind == "plain":
        assert regions.maps.all() and len(regions) == 1


def test_large_images_are_worked_on_small_and_enlarged(learnt: Ranking, monkeypatch: pytest.MonkeyPatch):
    pixels = Scenes(1, 9, 120)[0]
    small = MCG(learnt)(pixels)
    monkeypatch.setattr(mcg, "MAX_PIXELS", 60 * 60)
    regions = MCG(learnt)(pixels)
    assert regions.size == small.size == (120, 120)
    blocks = regions.maps.reshape(len(regions), 60, 2, 60, 2)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert mcg.shrunk(np.zeros((1000, 10, 3), np.uint8)).shape == (600, 6, 3)


def test_the_recipe_says_all_that_decides(learnt: Ranking, tmp_path: Path):
    recipe = MCG(learnt).recipe
    learnt.save(tmp_path / "r.safetensors")
    assert MCG.from_spec(str(tmp_path / "r.safetensors")).recipe == recipe
    assert learnt.digest() in recipe and "best=16" in recipe
    assert MCG(learnt, best=4).recipe != recipe
    (tmp_path / "model.yml").write_text("a")
    assert "edges=structured:" in MCG(learnt, edge_model=tmp_path / "model.yml").recipe


def test_wrong_settings_are_refused(learnt: Ranking, tmp_path: Path):
    for best in (0, 256):
        with pytest.raises(InputError, match=f"best is {best}; a store holds 1 to 255"):
            MCG(learnt, best=best)
    with pytest.raises(InputError, match="ranking .*missing: there is no such file"):
        MCG.from_spec(str(tmp_path / "missing"))


def test_without_a_ranking_one_is_learnt_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd):
    monkeypatch.setenv("WHYTRANSFER_CACHE", str(tmp_path))
    monkeypatch.setattr(mcg, "SCENES", (3, 1, 32))
    monkeypatch.setattr(grouping, "LIMITS", (20, 20, 20, 20))
    first = MCG()
    assert "learning to rank regions from 3 generated scenes, once" in capfd.readouterr().err.replace("\n", " ")
    (kept,) = (tmp_path / "rankings").iterdir()
    content = kept.read_bytes()
    assert MCG().recipe == first.recipe and "learning" not in capfd.readouterr().err
    kept.unlink()
    assert MCG().recipe == first.recipe and kept.read_bytes() == content


def test_masks_of_another_size_teach_too():
    scene = Scenes(1, 0, 64)[0]
    pixels, truth = scene.image.permute(1, 2, 0).numpy(), np.asarray(scene.masks)
    assert mcg.learn([(pixels, truth)]).digest() == mcg.learn([(pixels, truth.repeat(2, 1).repeat(2, 2))]).digest()
    with pytest.raises(InputError, match="no image has any"):
        mcg.learn([(pixels, truth[:0])])
