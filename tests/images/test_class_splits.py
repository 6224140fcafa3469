"""Classes divided by lists: mini-ImageNet, Omniglot, a table over any class folders; and Causal3DIdent's latents."""

import shutil
import zipfile

import numpy as np
import pytest
from miniatures import RAVI, causal3dident, mini_imagenet, omniglot, write
from PIL import Image

from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.images.class_splits import episodes_of, read_list, splits_of
from whytransfer.images.published.causal3dident import FACTORS
from whytransfer.images.published.mini_imagenet import read_split
from whytransfer.tasks.factors import GROUPS, factor_targets


@pytest.mark.parametrize("imagenet_names", [False, True])
def test_mini_imagenet_takes_the_listed_images(tmp_path, imagenet_names):
    root = mini_imagenet(tmp_path, imagenet_names)
    base, both = open_images(f"mini-imagenet:{root}"), open_images(f"mini-imagenet:{root}:train+val")
    assert base.classes == tuple(RAVI["train"]) and base.labels.tolist() == [0, 0, 1, 1, 2, 2]
    # the first and the third by number, whatever the names sort like: n_100 is before n_20 in a dictionary
    expected = "n00000001/n00000001_7.JPEG n00000001/n00000001_100.JPEG" if imagenet_names else ""
    assert list(base.names[i] for i in range(2)) == (
        expected.split() or ["n0000000100000001.jpg", "n0000000100000003.jpg"]
    )
    flat = open_images(f"mini-imagenet:{mini_imagenet(tmp_path / 'flat')}")
    assert np.array_equal(base[1].image, flat[1].image)  # the two layouts are the same pictures
    assert splits_of(both) == {**dict.fromkeys(RAVI["train"], "train"), **dict.fromkeys(RAVI["val"], "val")}
    assert splits_of(subset(PixelCache.open(both), [0, 7])) == splits_of(both)
    assert open_images(f"mini-imagenet:{root}:test").classes == tuple(RAVI["test"])


def test_mini_imagenets_lists_may_lie_elsewhere_in_a_zip_too(tmp_path):
    root = mini_imagenet(tmp_path / "images")
    names = list(open_images(f"mini-imagenet:{root}:val").names)
    (tmp_path / "lists").mkdir()
    with zipfile.ZipFile(tmp_path / "lists.zip", "w") as archive:
        for split in RAVI:
            archive.write(root / f"{split}.csv", f"{split}.csv")
            shutil.move(root / f"{split}.csv", tmp_path / "lists")
    for place in ("lists", "lists.zip"):
        assert list(open_images(f"mini-imagenet:{root}:val:{tmp_path / place}").names) == names
    with pytest.raises(InputError, match="mini-imagenet: train.csv is missing in"):
        open_images(f"mini-imagenet:{root}")
    with pytest.raises(InputError, match="mini-imagenet: cannot read .*lists.zip/train.csv"):
        write(tmp_path / "lists.zip", "no zip")
        open_images(f"mini-imagenet:{root}:train:{tmp_path / 'lists.zip'}")


def test_what_is_wrong_with_mini_imagenet_is_said(tmp_path):
    root = mini_imagenet(tmp_path, imagenet_names=True)
    listing = root / "val.csv"
    for text, message in (
        ("name,label\n", "line 1 of .*val.csv should be filename,label"),
        ("filename,label\nn0000000300000001.jpg,n00000001\n", "line 2 of .* should be n0153282900000005.jpg,n01532829"),
        ("filename,label\nn0000000300000004.jpg,n00000003\n", "is image 4 of n00000003, and .* has 3: the whole class"),
        ("filename,label\nn0000009900000004.jpg,n00000099\n", "the class folder n00000099 is missing in"),
    ):
        write(listing, text)
        with pytest.raises(InputError, match=f"mini-imagenet: .*{message}"):
            open_images(f"mini-imagenet:{root}:val")
    (root / "train" / "n00000004" / "n00000004_7.JPEG").rename(root / "train" / "n00000004" / "seven.JPEG")
    with pytest.raises(InputError, match="seven.JPEG has no number"):
        open_images(f"mini-imagenet:{root}:test")


def test_the_real_lists_of_ravi_and_larochelle(real_data):
    lists = real_data / "mini_imagenet_splits"
    of_class = read_list(lists / "classes.tsv")
    for split, count in (("train", 64), ("val", 16), ("test", 20)):
        listed = list(read_split(lists / "ravi_split_csv.zip", split))
        assert len(listed) == 600 * count == 600 * len({label for _, label in listed})
        assert {label for _, label in listed} == {name for name, s in of_class.items() if s == split}


def test_a_table_divides_the_classes_of_a_folder(tmp_path, photos):
    table = tmp_path / "classes.tsv"
    table.write_text("index\twnid\tmy_split\n0\tfox\tval\n1\tcat\ttrain\n2\tdog\ttrain\n3\tyak\tval\n")
    base, held = (open_images(f"classes:{photos}:{table}:{split}") for split in ("train", "val"))
    assert base.classes == ("cat", "dog") and base.labels.tolist() == [0] * 4 + [1] * 4 and base.name == "photos/train"
    assert held.classes == ("fox",) and held.notes == ("1 classes of val have no images here: yak",)
    assert held[0].label == 0 and held.names[0] == "fox/0.jpg"
    both = open_images(f"classes:{photos}:{table}:val+train")
    assert splits_of(both) == {"cat": "train", "dog": "train", "fox": "val"} and len(both) == 12
    # other labels of the same files are another set, for the cache too, which knows files by their stamp
    whole, part = PixelCache.open(open_images(str(photos))), PixelCache.open(base)
    assert len(part) == 8 and part.fingerprint == base.fingerprint() != whole.fingerprint
    flipped = tmp_path / "flipped.csv"
    flipped.write_text("class,split\ncat,a\ndog,a\n")
    again = open_images(f"classes:{photos}:{flipped}:a")
    assert again.fingerprint() == base.fingerprint() and again.stamp() == base.stamp()  # the same images and labels
    assert splits_of(open_images(str(photos))) == {} and episodes_of(whole) == ()


@pytest.mark.parametrize(
    ("text", "split", "message"),
    [
        ("wnid\tname\n", "val", "needs a first line with a column wnid, class or label and a column split"),
        ("", "val", "found nothing"),
        ("wnid\tsplit\ncat\n", "val", "has a line without class or split: 'cat'"),
        ("wnid\tsplit\ncat\tval\n", "vall", "unknown split of .*Did you mean 'val'"),
        (
            "wnid\tsplit\nyak\tval\n",
            "val",
            "none of the 1 classes of val in .* is among those of photos .cat, dog, fox",
        ),
    ],
)
def test_what_is_wrong_with_a_table_of_classes_is_said(tmp_path, photos, text, split, message):
    (tmp_path / "classes.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        open_images(f"classes:{photos}:{tmp_path / 'classes.tsv'}:{split}")


def test_a_wrong_form_is_refused(tmp_path, photos):
    with pytest.raises(InputError, match="is not classes:IMAGES:LIST:SPLIT"):
        open_images(f"classes:{photos}")
    with pytest.raises(InputError, match="classes: cannot read the list .*none.tsv"):
        open_images(f"classes:{photos}:{tmp_path / 'none.tsv'}:val")
    (tmp_path / "x.tsv").write_text("class\tsplit\ncat\tval\n")
    with pytest.raises(InputError, match="none of the 1 classes of val .* is among those of scenes:4"):
        open_images(f"classes:scenes:4:{tmp_path / 'x.tsv'}:val")
    Image.new("RGB", (8, 8)).save(tmp_path / "loose.png")
    with pytest.raises(InputError, match="has no classes to choose from"):
        open_images(f"classes:{tmp_path}:{tmp_path / 'x.tsv'}:val")


def test_the_split_of_the_real_tiny_images(real_data):
    folder = real_data / "tiny_imagenet_40"
    sizes = {}
    for split in ("train", "val", "test", "train+-"):
        images = open_images(f"classes:{folder / 'tiny_imagenet_40.zip'}/val:{folder / 'classes.tsv'}:{split}")
        sizes[split] = len(images.classes)
        assert len(images) == 50 * len(images.classes)
    assert sizes == {"train": 14, "val": 6, "test": 5, "train+-": 29}


@pytest.mark.parametrize("unpacked", [False, True])
def test_omniglot_has_characters_as_classes(tmp_path, unpacked):
    images = open_images(f"omniglot:{omniglot(tmp_path, unpacked)}")
    assert images.classes == (
        "Balinese/character01", "Balinese/character02", "Greek/character01", "Greek/character02",
    )  # fmt: skip
    assert (
        images.labels.tolist() == [k // 3 for k in range(12)] == [images[k].label for k in range(12)]
        and images.name == "omniglot/background"
    )
    assert all(images[i].name.startswith(images.classes[images.labels[i]]) for i in range(12))
    with pytest.raises(InputError, match="omniglot: images_evaluation.zip or images_evaluation is missing in"):
        open_images(f"omniglot:{tmp_path}:evaluation")


@pytest.mark.parametrize("unpacked", [False, True])
def test_omniglots_runs_pair_images_as_published(tmp_path, unpacked):
    images = open_images(f"omniglot:{omniglot(tmp_path, unpacked)}:runs")
    episodes = episodes_of(PixelCache.open(images))
    assert len(episodes) == 2 and len(images) == 12 and len(images.classes) == 6
    for run, (support, query) in enumerate(episodes, 1):
        assert [images.names[i] for i in support] == [f"run{run:02d}/training/class{k:02d}.png" for k in (1, 2, 3)]
        pairs = {
            images.names[q]: images.names[s] for q in query for s in support if images.labels[q] == images.labels[s]
        }
        assert pairs == {
            f"run{run:02d}/test/item{k:02d}.png": f"run{run:02d}/training/class{(k + run) % 3 + 1:02d}.png"
            for k in (1, 2, 3)
        }


def test_episodes_are_of_the_whole_set(tmp_path):
    cache = PixelCache.open(open_images(f"omniglot:{omniglot(tmp_path)}:runs"))
    with pytest.raises(InputError, match="omniglot/runs: its episodes are of all 12 images, in order: use all of it"):
        episodes_of(cache.subset(np.arange(6)))


def test_what_is_wrong_with_omniglots_runs_is_said(tmp_path):
    omniglot(tmp_path, unpacked=True)
    labels = tmp_path / "all_runs" / "run02" / "class_labels.txt"
    for text in ("run02/test/item01.png\n", "", "run02/test/item09.png run02/training/class01.png\n"):
        labels.write_text(text)
        with pytest.raises(InputError, match="omniglot: .*run02/class_labels.txt should pair images of the run"):
            open_images(f"omniglot:{tmp_path}:runs")
    labels.unlink()
    with pytest.raises(InputError, match="omniglot: run02/class_labels.txt is missing or no text in"):
        open_images(f"omniglot:{tmp_path}:runs")
    (tmp_path / "images_evaluation").mkdir()
    for character in ("a", "b"):
        (tmp_path / "images_evaluation" / character).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / "images_evaluation" / character / "1.png")
    with pytest.raises(InputError, match="should lie in <alphabet>/<character>/, found a/1.png"):
        open_images(f"omniglot:{tmp_path}:evaluation")


def test_the_published_baseline_on_omniglots_runs(real_data):
    """The modified Hausdorff distance between inked pixels errs in 38.8 % of the 400 trials [Lake 2015, their demo].

    Here inks are centred to whole pixels, so that distance transforms can be used; exactly centred they err in 38.75 %.
    """
    from scipy.ndimage import distance_transform_edt

    images = open_images(f"omniglot:{real_data / 'omniglot_small'}:runs")
    assert len(images) == 800 and len(images.classes) == 400
    inked, to_ink = [], []
    for i in range(800):
        points = np.argwhere(images[i].image[0].numpy() < 128)
        points = points - np.rint(points.mean(0)).astype(int) + 80
        canvas = np.ones((160, 160), bool)
        canvas[points[:, 0], points[:, 1]] = False
        inked.append(160 * points[:, 0] + points[:, 1])
        to_ink.append(distance_transform_edt(canvas).ravel())
    errors = []
    for support, query in episodes_of(images):
        for q in query:
            distances = [max(to_ink[s][inked[q]].mean(), to_ink[q][inked[s]].mean()) for s in support]
            errors.append(images.labels[support[int(np.argmin(distances))]] != images.labels[q])
    assert 100 * np.mean(errors) == pytest.approx(38.75, abs=1.5)


PUBLISHED = {"folder": "{}set", "name": "images_{}", "latents": "raw_latents_{}.npy"}


@pytest.mark.parametrize("layout", [{}, PUBLISHED])
def test_causal3dident_gives_each_image_its_latents(tmp_path, layout):
    images = open_images(f"causal3dident:{causal3dident(tmp_path, **layout)}")
    assert len(images) == 12 and len(images.classes) == 3 and images.labelled_with == ("class",)
    assert images.factor_table().shape == (12, 10) and images.factor_names == FACTORS
    for i in (0, 5, 11):
        c, k = divmod(i, 4)
        assert images.factor_table()[i].tolist() == [100 * c + 10 * k + j for j in range(10)]
        assert list(images[i].factors.items()) == list(zip(FACTORS, images.factor_table()[i], strict=True))
        assert images.names[i].endswith(f"/{k:06d}.png") and images[i].label == c
    test = open_images(f"causal3dident:{tmp_path}:test")
    assert len(test) == 6 and test.name == "causal3dident/test"


def test_the_task_of_factors_knows_causal3dident(tmp_path):
    cache = PixelCache.open(open_images(f"causal3dident:{causal3dident(tmp_path)}"))
    targets = factor_targets(cache)
    assert targets.names == FACTORS and targets.table.shape == (12, 10) and set(targets.groups) == set(GROUPS)
    assert all(set(members) <= set(FACTORS) for members in GROUPS.values())


def test_a_change_of_latents_is_seen(tmp_path):
    root = causal3dident(tmp_path)
    images = open_images(f"causal3dident:{root}")
    before, stamp = images.fingerprint(), images.stamp()
    path = root / "trainset" / "latents_1.npy"
    np.save(path, np.load(path) + 1)
    changed = open_images(f"causal3dident:{root}")
    assert changed.fingerprint() != before and changed.stamp() != stamp


def test_numbers_without_zeros_are_in_the_order_of_numbers(tmp_path):
    root = causal3dident(tmp_path)
    folder = root / "testset" / "cow"
    for path, name in zip(sorted(folder.glob("*.png")), ("10.png", "9.png"), strict=True):
        path.rename(folder / name)
    names = list(open_images(f"causal3dident:{root}:test").names)
    assert names[2:4] == ["cow/9.png", "cow/10.png"]


def test_what_is_wrong_with_causal3dident_is_said(tmp_path):
    root = causal3dident(tmp_path)
    path = root / "trainset" / "latents_2.npy"
    good = np.load(path)
    for table, message in (
        (good[:3], r"latents_2.npy is 3 x 10, and the folder dragon has 4 images: a row of 10 latents"),
        (good[:, :7], "latents_2.npy is 4 x 7"),
        (good * np.nan, "holds a number that is not finite"),
        (np.array([{}], dtype=object), "cannot be read as an array"),
    ):
        np.save(path, table, allow_pickle=True)
        with pytest.raises(InputError, match=f"causal3dident: .*{message}"):
            open_images(f"causal3dident:{root}")
    path.unlink()
    with pytest.raises(InputError, match="latents_2.npy or raw_latents_2.npy is missing in .*trainset"):
        open_images(f"causal3dident:{root}")
