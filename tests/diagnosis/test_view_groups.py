"""Groups of real views: miniatures of the published layouts, what their grouping must be, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from whytransfer.diagnosis import whiten
from whytransfer.diagnosis.real_invariance import RealInvariance, within
from whytransfer.diagnosis.view_groups import LAYOUTS, as_published, open_groups
from whytransfer.errors import InputError

EXPOSURES = ("0", "N1", "N1.5", "P1", "P1.5")
ROTATIONS = ("", "r60", "r120", "r180")
ALOT = [
    f"ALOT/{m}/{m}_c{c}l{light}{r}.png" for m in (1, 2, 250) for c in range(1, 5) for light in (1, 2, 3, 4, 5, 8)
    for r in ROTATIONS
] + [f"ALOT/{m}/{m}_c{c}i.png" for m in (1, 2, 250) for c in range(1, 5)]  # fmt: skip
REAL_BLUR = "RealBlur/RealBlur-J_ECC_IMCORR_centroid_itensity_ref"
TREES = {  # layout -> files, number of groups, views of one named group
    "coil100": (
        [f"COIL100/obj{o}__{a}.png" for o in (1, 2, 10) for a in (0, 5, 355)], 3,
        ("object 10", {"obj10__0.png", "obj10__5.png", "obj10__355.png"}),
    ),
    "coil20": (
        [f"coil-20-proc/obj{o}__{k}.png" for o in (1, 20) for k in range(4)], 2,
        ("object 20", {f"obj20__{k}.png" for k in range(4)}),
    ),
    "aloi-viewpoint": (
        [f"ALOI/viewpoint/{o}/{o}_r{a}.png" for o in (1, 1000) for a in (0, 5, 10)], 2,
        ("object 1000", {f"1000/1000_r{a}.png" for a in (0, 5, 10)}),
    ),
    "aloi-illumination": (
        [f"ALOI/illumination/{o}/{o}_l{li}c{c}.png" for o in (1, 2) for li in range(1, 9) for c in (1, 2, 3)], 6,
        ("camera 3 object 2", {f"2/2_l{li}c3.png" for li in range(1, 9)}),
    ),
    "aloi-temperature": (
        [f"ALOI/temperature/{o}/{o}_i{t}.png" for o in (1, 2) for t in (110, 120, 250)], 2,
        ("object 1", {"1/1_i110.png", "1/1_i120.png", "1/1_i250.png"}),
    ),
    "alot-viewpoint": (
        ALOT, 18, ("material 250 light 8", {f"250/250_c{c}l8{r}.png" for c in range(1, 5) for r in ROTATIONS}),
    ),
    "alot-viewpoint-published": (
        ALOT, 3, ("material 2 light 2", {f"2/2_c{c}l2{r}.png" for c in range(1, 5) for r in ROTATIONS}),
    ),
    "alot-illumination": (
        ALOT, 48, ("material 1 camera 2 rotation 60", {f"1/1_c2l{li}r60.png" for li in (1, 2, 3, 4, 5, 8)}),
    ),
    "alot-temperature": (ALOT, 12, ("material 250 camera 4", {"250/250_c4i.png", "250/250_c4l8.png"})),
    "dali": (
        [f"DaLI/input/png/{o:02d}/{k}.png" for o in (1, 12) for k in range(3)], 2,
        ("object 12", {f"12/{k}.png" for k in range(3)}),
    ),
    "flickr1024": (
        [f"Flickr1024/Test/{k:04d}_{s}.png" for k in (1, 2) for s in "LR"], 2,
        ("Test/0002", {"Test/0002_L.png", "Test/0002_R.png"}),
    ),
    "exposure-errors": (
        [f"ExposureErrors/GT_IMAGES/a{k:04d}-jm.jpg" for k in (1, 2)]
        + [f"ExposureErrors/INPUT_IMAGES/a{k:04d}-jm_{e}.JPG" for k in (1, 2) for e in EXPOSURES], 2,
        ("a0002", {"GT_IMAGES/a0002-jm.jpg", *(f"INPUT_IMAGES/a0002-jm_{e}.JPG" for e in EXPOSURES)}),
    ),
    "realblur": (
        [f"{REAL_BLUR}/scene00{s}/{side}/{side}_{k}.png" for s in (1, 2) for side in ("gt", "blur") for k in (1, 2)], 4,
        ("scene002 1", {"scene002/gt/gt_2.png", "scene002/blur/blur_2.png"}),
    ),
}  # fmt: skip


def planted(root, files):
    for k, name in enumerate(files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), k % 256, np.uint8)).save(root / name)
    return root


def test_every_layout_has_a_miniature():
    assert set(TREES) == set(LAYOUTS)


@pytest.mark.parametrize("name", TREES)
def test_a_published_layout(name, tmp_path):
    files, count, (group, views) = TREES[name]
    planted(tmp_path, files)
    (tmp_path / "readme.txt").write_text("not an image")
    found = open_groups(f"{name}:{tmp_path}")
    assert len(found.groups) == count and found.factor and found.name == name
    assert {found.images.names[i] for i in found.groups[group]} == views
    assert found.images[int(found.groups[group][0])].image.shape == (3, 4, 4)


def test_mode_paper_groups_alot_as_its_code_does():
    assert as_published("alot-viewpoint:data", "paper") == "alot-viewpoint-published:data"
    assert as_published("alot-viewpoint:data", "corrected") == "alot-viewpoint:data"
    assert as_published("coil100:data", "paper") == "coil100:data"


def test_any_folder_of_folders(tmp_path):
    planted(tmp_path, ["cup/1.png", "cup/2.jpg", "hat/1.png", "hat/2.png", "hat/3.png"])
    found = open_groups(str(tmp_path))
    assert {g: len(rows) for g, rows in found.groups.items()} == {"cup": 2, "hat": 3} and found.factor == "view"


@pytest.mark.parametrize(
    ("spec", "files", "message"),
    [
        ("ROOT", ["cup/1.png", "hat/1.png", "hat/2.png"], "1 of 2 groups have one view.*: cup"),
        ("flickr1024:ROOT", ["0001_L.png", "0002_L.png", "0002_R.png"], "have one view, which compares .*: 0001"),
        ("exposure-errors:ROOT", ["GT_IMAGES/a1-x.jpg", "INPUT_IMAGES/a2-x_0.JPG"], "1 of 1 groups have one view"),
        ("realblur:ROOT", ["s/gt/1.png", "s/gt/2.png", "s/blur/1.png"], "s has 2 sharp and 1 blurred"),
        ("coil100:ROOT", ["cup/1.png"], r"no group below .*obj1__0.png .* found cup/1.png"),
        ("ROOT", ["1.png"], "a folder of views for each group"),
        ("coil10:ROOT", ["cup/1.png"], "unknown layout of groups 'coil10'. Did you mean 'coil100'"),
        ("coil100:ROOT/nowhere", ["cup/1.png"], "no such file or folder"),
    ],
)  # fmt: skip
def test_refusals(spec, files, message, tmp_path):
    planted(tmp_path, files)
    with pytest.raises(InputError, match=message):
        open_groups(spec.replace("ROOT", str(tmp_path)))


def test_within_a_group_by_its_definition():
    z = torch.randn(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cosines = torch.nn.functional.cosine_similarity(z[:, None], z[None], dim=2)
    similarity, with_self, distance = within(z)
    assert with_self == pytest.approx(float(cosines.mean()))  # the published number: the diagonal counts
    assert similarity == pytest.approx((5 * with_self - 1) / 4)
    assert similarity == pytest.approx(float(cosines[~torch.eye(5, dtype=torch.bool)].mean()))
    pairs = [float((z[i] - z[j]).norm()) for i in range(5) for j in range(i)]
    assert distance == pytest.approx(np.mean(pairs))
    same = within(torch.ones(3, 4, dtype=torch.float64))
    assert same == (pytest.approx(1), pytest.approx(1), 0)
    with pytest.raises(InputError, match="no pair to compare"):
        within(z[:1])


class Colours:
    """Pictures of one colour each."""

    name, classes = "colours", ()

    def __init__(self, table):
        self.table, self.labels = table, np.full(len(table), -1)

    def __len__(self):
        return len(self.table)

    def pixels(self, i):
        return np.broadcast_to(self.table[i], (9, 9, 3)).astype(np.uint8)


class MeanColour(torch.nn.Module):
    """Features are the mean colour."""

    spec, arch = "mean", "mean"

    def __init__(self):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        from whytransfer.records import Features

        return Features(images.mean((2, 3)) * self.one, images, {"stem": images})


def test_a_backbone_on_groups():
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, (40, 3))
    table[1] = table[0]
    groups = {"same": np.array([0, 1]), "others": np.array([2, 3, 4])}
    made = {"vector": whiten(torch.from_numpy(table / 255).float())}
    results = {r.metric: r for r in RealInvariance(Colours(table), groups, "colour", 8).run(MeanColour(), made)}
    z = made["vector"](torch.from_numpy(table / 255).float())
    expected = [(1 + within(z[2:5])[0]) / 2, (1 + within(z[2:5])[1]) / 2, within(z[2:5])[2] / 2]
    got = [results[f"colour {m}"] for m in ("similarity", "similarity with self-pairs", "distance")]
    assert [r.value for r in got] == pytest.approx(expected, abs=1e-4)
    assert {(r.n, r.low is not None) for r in got} == {(2, True)} and got[0].provenance["interval_over"] == "groups"
    with pytest.raises(InputError, match="groups of two views at least"):
        RealInvariance(Colours(table), {"alone": np.array([0])}, "colour", 8)
