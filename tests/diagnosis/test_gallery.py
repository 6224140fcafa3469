"""The gallery shows every picture and model, empty where nothing is made yet, and trusts no name."""

import re

import torch
from PIL import Image

from whytransfer.diagnosis.gallery import bytes_of, captions, faded, page, sheet
from whytransfer.diagnosis.inversion import Inversions
from whytransfer.records import Result

EVIL = '<script>alert("1")</script>'


def case():
    chance = torch.Generator().manual_seed(0)
    truth = torch.rand((2, 3, 48, 48), generator=chance)
    made = torch.rand((2, 2, 3, 48, 48), generator=chance)
    made[1, 1] = float("nan")
    return Inversions(
        (EVIL, "b" * 90), ("x&y.png", EVIL), truth, (None, None), made, torch.ones(2, 2, 3), torch.ones(2, 2)
    )


def results(all_):
    make = lambda model, metric, unit: Result(  # noqa: E731
        model, "d", "inversion", metric, 41.5, unit, "lower", 2, 0, 40.0, 43.0, {"each": [0.25, float("nan")]}
    )
    metrics = (("1 - MS-SSIM (2 scales)", "distance"), ("coverage", "%"), ("hue error", "degrees"))
    return [make(model, *metric) for model in all_.models for metric in metrics]


def test_the_sheet_has_a_cell_for_each_and_outlines_what_is_missing():
    all_ = case()
    picture = sheet(all_, "on the way", [["one\ntwo", "three"], ["", "four"]])
    assert picture.width == 2 * 20 + 3 * 178 - 10
    shown = torch.from_numpy(bytes_of(all_.made[0, 0])).reshape(-1, 3)
    colours = {c for _, c in picture.getcolors(10**7)}
    assert {tuple(c) for c in shown[:50].tolist()} <= colours  # small pictures are enlarged without new colours
    full = sheet(Inversions(all_.models, all_.names, all_.truth, all_.objects, all_.truth[None].repeat(2, 1, 1, 1, 1),
                            all_.losses, all_.scales), "t")  # fmt: skip
    assert isinstance(full, Image.Image) and full.height < picture.height  # no lines under the pictures


def test_captions_name_the_distance_that_was_taken():
    all_ = case()
    assert captions(results(all_), all_) == [["1 - MS-SSIM 0.25\ncoverage 0 %\nhue 0°", ""]] * 2


def test_the_page_needs_no_other_file_and_escapes_names():
    all_ = case()
    text = page(all_, f"Inversions of {EVIL}", ["3 steps", EVIL], results(all_))
    assert "<script" not in text and "&lt;script&gt;" in text and "x&amp;y.png" in text
    assert set(re.findall(r'(?:src|href)="([^:"]*:[^,"]*)', text)) == {"data:image/png;base64"}
    assert text.count("<img") == 2 + 4 * 2 and "41.5 [40.0, 43.0]" in text and "41.500 [40.000, 43.000]" in text


def test_what_is_not_recovered_is_white_and_even_places_are_grey():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64).clone()
    assert torch.equal(faded(ramp, ramp), ramp)
    assert faded(ramp, 1 - ramp).min() == 1
    assert (faded(torch.full_like(ramp, 0.3), ramp) == torch.tensor(0.8)).all()
