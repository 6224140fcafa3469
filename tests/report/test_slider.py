"""The gallery of inversions: pictures of every backbone beside each other, any name as text, of a bounded size."""

import re

import numpy as np
import pytest
import torch
from chart_rows import row

from whytransfer.diagnosis import inverted_pictures
from whytransfer.diagnosis.inversion import Inversions
from whytransfer.errors import InputError
from whytransfer.records import Result
from whytransfer.report import slider

HOSTILE = '<script>alert("1")</script>'


def inversions(model, names, seed=0, side=32):
    truth = torch.rand(len(names), 3, side, side, generator=torch.Generator().manual_seed(7))
    made = torch.rand(1, *truth.shape, generator=torch.Generator().manual_seed(seed))
    losses = torch.zeros(1, len(names), 2)
    return Inversions((model,), names, truth, (None,) * len(names), made, losses, torch.ones(1, len(names)))


def results(model, n):
    def result(metric, each):
        return Result(model, "d", "inversion", metric, 1.0, "%", "lower", n, 0, provenance={"each": each})

    return [result("1 - MS-SSIM (3 scales)", [0.25] * n), result("coverage", [40.0] * n)]


@pytest.fixture()
def study(tmp_path):
    """Two backbones and two seeds in cells of a study, three pictures each, one of a hostile name."""
    rows, names = [], ("cat", HOSTILE, "dog")
    for backbone in ("first", "second & last"):
        for seed in (1, 0):
            model = f"cells/{backbone}/files"
            rows.append(row(backbone, "inverted", "coverage", 1.0, seed, "diagnose-inversion", model=model))
            folder = tmp_path / rows[-1]["folder"] / "files"
            folder.mkdir(parents=True)
            inverted_pictures.keep(inversions(model, names, seed), results(model, 3), folder)
    return tmp_path, rows


def test_what_was_kept_comes_back(tmp_path):
    made = inversions("m", ("a", "b"))
    path = inverted_pictures.keep(made, results("m", 2), tmp_path)
    back = inverted_pictures.read(path)
    assert (back.models, back.names) == (("m",), ("a", "b")) and back.captions == (
        ("1 - MS-SSIM 0.25\ncoverage 40 %",) * 2,
    )
    assert (
        np.abs(back.made[0, 1].astype(float) / 255 - made.made[0, 1].permute(1, 2, 0).numpy()).max() <= 0.5 / 255 + 1e-6
    )
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"inversion.npz cannot be read .* Run its cell again"):
        inverted_pictures.read(path)


def test_one_gallery_of_all_backbones_and_the_lowest_seed(study):
    folder, rows = study
    (gallery,) = slider.galleries(rows, folder)
    assert (gallery.item, gallery.seed, list(gallery.originals)) == ("inverted", 0, ["cat", HOSTILE, "dog"])
    assert set(gallery.made) == {"first", "second & last"}
    expected = inversions("m", ("cat", HOSTILE, "dog"), 0).made[0, 2].mul(255).round().byte().permute(1, 2, 0).numpy()
    assert (gallery.made["first"]["dog"][0] == expected).all()


def test_the_html_shows_every_picture_and_trusts_no_name(study):
    folder, rows = study
    (text,) = slider.drawn(rows, folder, order=["second & last", "first"])
    assert text.count('type="radio"') == 3 and text.count('class="sheet"') == 3 and text.count(" checked") == 1
    assert text.count("<img ") == 6 and text.count("<script") == 0 and "&lt;script&gt;" in text
    assert re.findall(r'figure data-backbone="([^"]+)" data-item="inverted"', text)[:2] == [
        "second &amp; last",
        "first",
    ]
    assert "coverage 40 %" in text and text.count('class="wipe"') == 1
    assert slider.drawn([r for r in rows if r["stage"] == "pretrain"], folder) == []


def test_cells_without_pictures_are_left_out(study):
    folder, rows = study
    (folder / rows[0]["folder"] / "files" / "inversion.npz").unlink()
    (folder / rows[1]["folder"] / "files" / "inversion.npz").unlink()
    (gallery,) = slider.galleries(rows, folder)
    assert set(gallery.made) == {"second & last"}


def test_a_gallery_is_of_a_bounded_size(monkeypatch):
    names = [f"p{k}" for k in range(40)]
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    gallery = slider.Gallery("i", 0, dict.fromkeys(names, noise), {"b": dict.fromkeys(names, (noise, "w"))})
    text = slider.slider(gallery, 0)
    assert text.count('class="sheet"') == slider.MOST_PICTURES and "16 more pictures" in text
    monkeypatch.setattr(slider, "MOST_BYTES", 30_000)
    text = slider.slider(gallery, 0)
    assert 2 <= text.count('class="sheet"') < 20 and len(text) < 45_000 and ">p0<" in text and ">p39<" in text
