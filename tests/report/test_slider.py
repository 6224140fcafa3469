"""The gallery of inversions: pictures of every backbone beside each other, any name as text, of a bounded size."""

import re

import numpy as np
import pytest
from chart_rows import row
from inverted import inversions, keep_pictures, results

from whytransfer.diagnosis import inverted_pictures
from whytransfer.errors import InputError
from whytransfer.report import slider

HOSTILE = '<script>alert("1")</script>'


@pytest.fixture()
def study(tmp_path):
    """Two backbones and two seeds in cells of a study, three pictures each, one of a hostile name."""
    rows = [
        row(backbone, "inverted", "coverage", 1.0, seed, "diagnose-inversion", model=f"cells/{backbone}/files")
        for backbone in ("first", "second & last") for seed in (1, 0)
    ]  # fmt: skip
    keep_pictures(rows, tmp_path, ("cat", HOSTILE, "dog"))
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
