"""What holds for every published layout: an image set; others refused; changes seen; costs bounded."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from miniatures import ALL, coco, picture, voc

from whytransfer.errors import InputError
from whytransfer.images import PUBLISHED, labelled_with, open_images, published, require_labels, subset
from whytransfer.images.cache import PixelCache
from whytransfer.images.content import Annotated, Encoded
from whytransfer.images.published import SETS
from whytransfer.images.published.layout import root_and_parts
from whytransfer.images.scenes import Scenes
from whytransfer.records import ImageSet, Sample

FAMILIES = {"imagenet", "imagenet-10pct", "imagenet-100"}, {"300w", "300w-published"}  # that read the same folders
ANNOTATED = [kind for kind, (_, labels) in ALL.items() if labels[0] in ("boxes", "semantic", "depth", "keypoints")]
SIZED = [kind for kind in ANNOTATED if ALL[kind][1] != ("keypoints",) or kind == "landmarks"]  # told by the source


def test_the_names_are_those_of_the_openers():
    assert set(PUBLISHED) == set(SETS) == set(ALL)


@pytest.mark.parametrize("kind", ALL)
def test_it_is_an_encoded_image_set_that_says_what_it_is_labelled_with(kind, tmp_path):
    make, labels = ALL[kind]
    images = open_images(f"{kind}:{make(tmp_path)}")
    assert isinstance(images, ImageSet) and isinstance(images, Encoded)
    assert images.labels.dtype == np.int64 and images.labels.shape == (len(images),) == (len(images.names),)
    assert images.labelled_with == labelled_with(images) == labels
    told = kind in ANNOTATED or kind in ("causal3dident", "omniglot")  # latents; a part of a set, which may have any
    assert isinstance(images, Annotated) == told
    assert (images.classes == ()) == (kind in ANNOTATED) == (images.labels < 0).all()
    sample = images[0]
    assert sample.name == images.names[0] and images.name.startswith(kind)
    for part in ("boxes", "masks", "semantic", "depth", "keypoints"):
        assert (getattr(sample, part) is not None) == (part in labels)
    cache = PixelCache.open(images, None, tmp_path / "cache")
    assert labelled_with(cache) == labels and cache.fingerprint == images.fingerprint()
    assert labelled_with(subset(images, [0])) == labels


@pytest.mark.parametrize("kind", ALL)
def test_an_empty_folder_is_refused_with_what_is_missing_and_expected(kind, tmp_path):
    with pytest.raises(InputError, match=rf"missing in {tmp_path}, which is empty. Expected: .*ROOT/.* Nothing is dow"):
        open_images(f"{kind}:{tmp_path}")
    with pytest.raises(InputError, match="no such file or folder: .*nowhere"):
        open_images(f"{kind}:{tmp_path}/nowhere")
    with pytest.raises(InputError, match="has 3 parts|has 4 parts|has 2 parts|has 1 parts"):
        open_images(f"{kind}:{tmp_path}" + ":a" * (1 if kind == "synthia" else 4 if kind == "voc" else 3))


@pytest.mark.parametrize("kind", ALL)
def test_a_folder_of_photos_is_refused(kind, photos):
    with pytest.raises(InputError, match=f"missing in {photos}, which holds cat, dog, fox"):
        open_images(f"{kind}:{photos}")


def test_every_layout_refuses_every_other(tmp_path):
    for kind, (make, _) in ALL.items():
        make(tmp_path / kind)
    for kind in ALL:
        for other in ALL:
            if kind == other or any({kind, other} <= family for family in FAMILIES):
                continue
            with pytest.raises(InputError, match="missing in|no wnids|class folders|should be file"):
                open_images(f"{kind}:{tmp_path / other}")


def test_a_misspelt_split_and_a_misspelt_name(tmp_path):
    for kind, split, meant in (
        ("imagenet", "vall", "val"),
        ("celeba", "validd", "valid"),
        ("coco", "train17", "train2017"),
    ):
        with pytest.raises(InputError, match=f"unknown {kind} split '{split}'. Did you mean '{meant}'"):
            open_images(f"{kind}:{ALL[kind][0](tmp_path / kind)}:{split}")
    with pytest.raises(InputError, match="unknown image source 'imagenet-10'. Did you mean .*'imagenet-100'"):
        open_images("imagenet-10:somewhere")


def test_a_colon_in_the_path_belongs_to_the_path(tmp_path):
    assert len(open_images(f"coco:{coco(tmp_path / 'a:b')}:val2017")) == 3
    assert root_and_parts("voc", f"{tmp_path}/a:b:2012:train", ("YEAR", "SPLIT")) == (
        tmp_path / "a:b",
        ["2012", "train"],
    )
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is a file: the folder of the unpacked data set is needed"):
        root_and_parts("voc", f"{tmp_path}/file", ())


@pytest.mark.parametrize("kind", [kind for kind in ANNOTATED if kind != "lsp"])  # a .mat with a stray byte is refused
def test_fingerprint_and_stamp_cover_the_annotations_and_not_the_place(kind, tmp_path):
    make, _ = ALL[kind]
    images = open_images(f"{kind}:{make(tmp_path / 'a')}")
    before, stamp = images.fingerprint(), images.stamp()
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    copied = open_images(f"{kind}:{tmp_path / 'elsewhere'}")
    assert copied.fingerprint() == before and copied.stamp().sizes == stamp.sizes
    name, path = next(iter(images.annotations.files()))
    assert name.rpartition("/")[2] == os.path.basename(path)
    with open(path, "ab") as file:
        file.write(b"\n")
    changed = open_images(f"{kind}:{tmp_path / 'a'}")
    assert changed.fingerprint() != before and changed.stamp() != stamp
    assert changed.stamp().sizes != stamp.sizes
    half, whole = subset(copied, [0]), subset(changed, [0])
    assert half.fingerprint() != whole.fingerprint() and half.stamp() != whole.stamp()


def test_the_cache_knows_unchanged_files_without_reading_and_sees_a_changed_annotation(tmp_path, monkeypatch):
    root, cache = voc(tmp_path / "voc"), tmp_path / "cache"
    for path in (p for p in root.rglob("*") if p.is_file()):
        os.utime(path, (1e9, 1e9))
    first = PixelCache.open(open_images(f"voc:{root}"), None, cache)
    with monkeypatch.context() as patch:
        patch.setattr("whytransfer.images.folder.open", None, raising=False)
        patch.setattr("whytransfer.images.published.annotated.open", None, raising=False)
        again = PixelCache.open(open_images(f"voc:{root}"), None, cache)
    assert again.fingerprint == first.fingerprint and np.array_equal(again.pixels(1), first.pixels(1))
    xml = root / "VOCdevkit/VOC2012/Annotations/2008_000002.xml"
    xml.write_text(xml.read_text().replace("<xmax>8</xmax>", "<xmax>7</xmax>"))
    assert PixelCache.open(open_images(f"voc:{root}"), None, cache).fingerprint != first.fingerprint


@pytest.mark.parametrize("kind", ANNOTATED)
def test_reading_annotations_decodes_no_image_and_a_missing_file_is_named(kind, tmp_path):
    images = open_images(f"{kind}:{ALL[kind][0](tmp_path)}")
    size = tuple(images[len(images) - 1].image.shape[1:])
    images.encoded = None
    known = images.annotations.read(len(images) - 1, ())
    assert known.size == size and known.masks is None
    _, path = next(iter(images.annotations.files()))
    os.unlink(path)
    with pytest.raises(InputError, match=f"cannot read annotation file {path}: No such file"):
        images.annotations_digest()


@pytest.mark.parametrize("kind", SIZED)
def test_an_annotation_of_another_size_is_refused_with_both(kind, tmp_path):
    images = open_images(f"{kind}:{ALL[kind][0](tmp_path)}")
    picture(images.root / images.names[0], 5, size=(5, 9))
    with pytest.raises(InputError, match=f"annotation of {images.names[0]} is for 8 x 6 px, the image has 9 x 5 px"):
        images[0]


def test_labels_are_asked_of_a_set_that_has_boxes(tmp_path):
    images = open_images(f"coco:{coco(tmp_path)}")
    with pytest.raises(
        InputError, match="supervised needs one label per image, and coco/train2017 is labelled with boxes and masks"
    ):
        require_labels(images, "supervised")


def test_what_other_sets_are_labelled_with(photos):
    assert open_images(str(photos)).labelled_with == ("class",)
    assert labelled_with(open_images(str(photos / "cat"))) == ()
    assert labelled_with(Scenes(3)) == ("class", "boxes", "masks")


def test_a_semantic_map_must_fit_its_image(tmp_path):
    sample = open_images(f"camvid:{ALL['camvid'][0](tmp_path)}")[0]
    assert sample.semantic.shape == (6, 8)
    for wrong in (sample.semantic[:3], sample.semantic.int()):
        with pytest.raises(ValueError, match=r"semantic must be uint8 of the image's \(H, W\) \(6, 8\), got"):
            Sample(sample.image, "x", semantic=wrong)


@pytest.mark.parametrize("kind", ["coco", "voc", "camvid"])
def test_opening_is_linear_and_state_is_small(kind, tmp_path):
    """Processor time per image when opened at two sizes; state in bytes per image."""
    from miniatures import coco_json

    def grown(root, count):
        ALL[kind][0](root)
        images = open_images(f"{kind}:{root}")
        source = images.root / images.names[0]
        if kind == "coco":
            content = coco_json()
            content["images"] = [{**content["images"][0], "id": k, "file_name": f"{k:012d}.jpg"} for k in range(count)]
            one = content["annotations"][0]
            content["annotations"] = [{**one, "id": k, "image_id": k % count} for k in range(3 * count)]
            coco(root, content=content)
        for k in range(count):
            stem = f"{k:012d}"
            if not (target := images.root / f"{stem}{source.suffix}").exists():
                os.link(source, target)
            if kind == "camvid":
                os.link(next(images.annotations.files())[1], root / "trainannot" / f"{stem}.png")
            if kind == "voc":
                os.link(next(images.annotations.files())[1], images.root.parent / "Annotations" / f"{stem}.xml")
        if kind == "voc":
            (images.root.parent / "ImageSets/Main/train.txt").write_text("".join(f"{k:012d}\n" for k in range(count)))
        return root

    seconds = {}
    for count in (500, 4000):
        root = grown(tmp_path / str(count), count)
        open_images(f"{kind}:{root}")
        began = time.thread_time()
        images = open_images(f"{kind}:{root}")
        seconds[count] = time.thread_time() - began
        assert len(images) in (count, count + 1)
        assert images.nbytes / len(images) < 40 + (16 + 8 + 3 * 12 if kind == "coco" else 25)
    assert seconds[4000] < 8 * seconds[500] * 2 + 0.02


def test_the_page_of_image_sets_shows_every_one():
    page = (Path(__file__).parents[2] / "docs" / "images.md").read_text()
    for kind in PUBLISHED:
        assert f"`{kind}:ROOT" in page or f" {kind}:/data/" in page
    assert "from whytransfer.images import open_images, published" in page and hasattr(published, "write_list")
