"""Annotated masks: the layouts in which they are published, made small; real ones where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import whytransfer
from whytransfer.commands.regions import open_regions
from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.masks import open_engine
from whytransfer.masks.annotated import Annotated, of_values, stem
from whytransfer.masks.pictures import Drawings, LabelMaps, MaskFolders
from whytransfer.masks.quality import measure
from whytransfer.masks.regions import NO_REGION
from whytransfer.records import Sample

SIZE = (6, 8)


def sample(name: str = "a.jpg", size: tuple[int, int] = SIZE) -> Sample:
    return Sample(torch.zeros((3, *size), dtype=torch.uint8), name)


def coco(folder: Path) -> Path:
    """Three images: polygons and two kinds of run lengths on a.jpg, a crowd alone on b.jpg, nothing on c.jpg."""
    square = [2, 1, 5, 1, 5, 4, 2, 4]  # x 2-4, y 1-3
    bar = np.zeros(SIZE, np.uint8)
    bar[:, 6] = 1  # 36 pixels before it, column by column
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed (extra masks)")
    packed = mask.encode(np.asfortranarray(bar))
    segmentations = [[square], {"size": list(SIZE), "counts": [36, 6, 6]}]
    segmentations.append({"size": list(SIZE), "counts": packed["counts"].decode()})
    objects = [
        {"id": k, "image_id": 1, "category_id": 7 - k, "bbox": [0, 0, 1, 1], "iscrowd": 0, "segmentation": s}
        for k, s in enumerate(segmentations)
    ]
    crowd = {"size": list(SIZE), "counts": [0, 48]}
    objects.append(objects[0] | {"id": 9, "image_id": 2, "iscrowd": 1, "segmentation": crowd})
    images = [{"id": i, "file_name": f"{n}.jpg", "height": SIZE[0], "width": SIZE[1]} for i, n in enumerate("abc", 1)]
    categories = [{"id": i, "name": f"thing {i}"} for i in (5, 6, 7)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": objects, "categories": categories}))
    return path


def test_coco_polygons_and_run_lengths_and_no_crowds(tmp_path):
    engine = open_engine(f"annotated:{coco(tmp_path)}")
    regions = engine(sample("below/a.png"))
    assert regions.overlapping and regions.labels.tolist() == [2, 1, 0] and engine.class_name(2) == "thing 7"
    square = np.zeros(SIZE, bool)
    square[1:4, 2:5] = True
    assert np.array_equal(regions.maps[0], square)
    assert np.array_equal(regions.maps[1], regions.maps[2]) and regions.maps[1][:, 6].all() and regions.areas()[1] == 6
    for name in "bc":  # known, and nothing in it: no region
        assert engine(sample(f"{name}.jpg")).maps.shape == (0, *SIZE)


def test_an_image_without_masks_is_named_or_has_no_region(tmp_path):
    engine = open_engine(f"annotated:{coco(tmp_path)}")
    with pytest.raises(InputError, match=r"image d.jpg has no masks in .*instances.json .there are some for a, b, c."):
        engine(sample("d.jpg"))
    with pytest.raises(InputError, match="make the regions with whytransfer masks --allow-missing"):  # others lack it
        engine(sample("d.jpg"))
    engine.missing_ok = True
    assert engine(sample("d.jpg")).maps.shape == (0, *SIZE)
    with pytest.raises(InputError, match="image a.jpg carries no masks: give them as annotated:PATH, or open"):
        open_engine("annotated")(sample())


def test_masks_of_another_size_than_their_image_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a.jpg: .*instances.json: the masks are 8 x 6 px and the image is 9 x 6 px"):
        open_engine(f"annotated:{coco(tmp_path)}")(sample("a.jpg", (6, 9)))
    (tmp_path / "maps").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "maps" / "a.png")
    with pytest.raises(InputError, match=r"a.png: the masks are 8 x 6 px and the image is 4 x 4 px: take both from"):
        open_engine(f"annotated:{tmp_path / 'maps'}")(sample("a.jpg", (4, 4)))


def palette(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values, mode="P")
    image.putpalette([v for i in range(256) for v in (i, 255 - i, i // 2)])
    image.save(path)


def test_voc_objects_without_background_and_border_and_with_their_classes(tmp_path):
    objects, classes = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    objects[:2], objects[4:] = 1, 2
    classes[:2], classes[4:], classes[4, 0] = 15, 7, 12  # most pixels of the second are of class 7
    objects[2], classes[2], classes[0, 0] = 255, 255, 255
    palette(tmp_path / "SegmentationObject" / "2007_01.png", objects)
    palette(tmp_path / "SegmentationClass" / "2007_01.png", classes)
    engine = open_engine(f"annotated:{tmp_path / 'SegmentationObject'}")
    regions = engine(sample("2007_01.jpg"))
    assert regions.labels.tolist() == [15, 7] and engine.class_name(15) == "person" and engine.class_name(7) == "car"
    assert np.array_equal(regions.maps, np.choose(objects.clip(max=3), [NO_REGION, 0, 1, NO_REGION]))
    by_class = open_engine(f"annotated:{tmp_path / 'SegmentationClass'}")(sample("2007_01.jpg"))
    assert by_class.labels.tolist() == [7, 12, 15]
    palette(tmp_path / "SegmentationObject" / "2007_02.png", objects)
    with pytest.raises(InputError, match="SegmentationClass lacks 1 of the 2 files of .*, first 2007_02.png"):
        open_engine(f"annotated:{tmp_path / 'SegmentationObject'}")


def test_camvid_colours_are_classes_and_black_is_void(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "label_colors.txt").write_text("64 128 64\tAnimal\n128 0 0\tBuilding\n0 0 0\tVoid\n")
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[:2], colours[4:] = (64, 128, 64), (128, 0, 0)
    Image.fromarray(colours).save(tmp_path / "labels" / "0001.png")
    engine = open_engine(f"annotated:{tmp_path / 'labels'}")
    regions = engine(sample("0001.png"))
    assert [engine.class_name(label) for label in regions.labels] == ["Animal", "Building"]
    assert regions.areas().tolist() == [16, 16] and (regions.maps[2:4] == NO_REGION).all()


def test_grey_maps_and_values_declared_void(tmp_path):
    (tmp_path / "maps").mkdir()
    values = np.repeat(np.array([0, 3, 11, 255], np.uint8), 12).reshape(SIZE)
    Image.fromarray(values).save(tmp_path / "maps" / "a.png")
    usual = open_engine(f"annotated:{tmp_path / 'maps'}")(sample())
    assert usual.labels.tolist() == [0, 3, 11]
    engine = open_engine(f"annotated:{tmp_path / 'maps'}:void=11,255")
    assert engine(sample()).labels.tolist() == [0, 3] and "label-maps void=11,255 content=" in engine.recipe
    with pytest.raises(InputError, match="void=none: give the values"):
        open_engine(f"annotated:{tmp_path / 'maps'}:void=none")
    deep = (np.arange(48, dtype=np.uint16) * 1000).reshape(SIZE)
    Image.fromarray(deep).save(tmp_path / "maps" / "b.png")
    assert open_engine(f"annotated:{tmp_path / 'maps'}")(sample("b.jpg")).labels.tolist() == deep.ravel().tolist()
    Image.fromarray(values).save(tmp_path / "maps" / "a.bmp")
    with pytest.raises(InputError, match="are masks of one image: remove one"):
        open_engine(f"annotated:{tmp_path / 'maps'}")


def test_a_folder_per_image_is_a_stack(tmp_path):
    (tmp_path / "masks" / "a").mkdir(parents=True)
    one, two = np.zeros(SIZE, np.uint8), np.zeros(SIZE, bool)
    one[:3], two[2:] = 255, True
    Image.fromarray(one).save(tmp_path / "masks" / "a" / "0.png")
    Image.fromarray(two).save(tmp_path / "masks" / "a" / "1.png")
    engine = open_engine(f"annotated:{tmp_path / 'masks'}")
    assert isinstance(engine.masks, MaskFolders)
    assert np.array_equal(engine(sample()).maps, np.stack([one > 0, two]))
    before = engine.recipe
    Image.fromarray(~two).save(tmp_path / "masks" / "a" / "1.png")
    assert open_engine(f"annotated:{tmp_path / 'masks'}").recipe != before


def test_bsds_has_a_label_map_per_person(tmp_path):
    from scipy.io import savemat

    (tmp_path / "truth").mkdir()
    people = np.empty((1, 2), object)
    drawn = [np.ones(SIZE, np.uint16), np.repeat([1, 2, 5], 16).reshape(SIZE).astype(np.uint16)]
    for k, segmentation in enumerate(drawn):
        people[0, k] = {"Segmentation": segmentation, "Boundaries": np.zeros(SIZE, np.uint8)}
    savemat(tmp_path / "truth" / "a.mat", {"groundTruth": people})
    engine = open_engine(f"annotated:{tmp_path / 'truth'}")
    assert isinstance(engine.masks, Drawings)
    first, second = engine.segmentations(sample())
    assert len(first) == 1 and second.areas().tolist() == [16, 16, 16] and second.labels is None
    assert np.array_equal(engine(sample()).maps, first.maps)
    whole = (tmp_path / "truth" / "a.mat").read_bytes()
    for part in range(8):
        (tmp_path / "truth" / "a.mat").write_bytes(whole[: len(whole) * part // 8])
        with pytest.raises(InputError, match="a.mat is no ground truth of BSDS500 .*cannot be read as a MATLAB file"):
            engine(sample())
    savemat(tmp_path / "truth" / "a.mat", {"other": 1})
    with pytest.raises(InputError, match="a.mat is no ground truth of BSDS500"):
        engine(sample())


def test_more_than_255_regions_are_refused():
    with pytest.raises(InputError, match="300 regions in one image: 255 at most"):
        of_values(np.arange(300).reshape(15, 20), ())
    assert len(of_values(np.arange(300).reshape(15, 20), range(45))) == 255


def test_folders_and_files_that_are_no_masks(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty holds no masks: looked for PNG or .mat"):
        open_engine(f"annotated:{tmp_path / 'empty'}")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match="give a COCO instances file .*or a folder of masks"):
        open_engine(f"annotated:{tmp_path / 'notes.txt'}")
    (tmp_path / "maps").mkdir()
    (tmp_path / "maps" / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a.jpg: .*a.png cannot be read as a mask"):
        open_engine(f"annotated:{tmp_path / 'maps'}")(sample())
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "maps" / "b.jpg")
    with pytest.raises(InputError, match="must be a PNG of values or plain colours, this is JPEG RGB"):
        open_engine(f"annotated:{tmp_path / 'maps'}")(sample("b.jpg"))


def test_names_meet_without_folder_and_suffix():
    assert stem("train2017/000000000009.jpg") == stem("000000000009.png") == "000000000009" and stem("a.b.png") == "a.b"


def test_images_that_would_share_their_masks_are_refused(photos, tmp_path):
    """cat/0.jpg, dog/0.jpg: found by the name alone, both would have the masks of "0"."""
    images = open_images(str(photos))
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "masks" / "alone.png")
    spec = f"annotated:{tmp_path / 'masks'}"
    open_engine(spec).require_own(images)  # masks of none of them: refused one by one, by name
    open_engine("annotated").require_own(images)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "masks" / "0.png")
    for refused in (
        lambda: open_engine(spec).require_own(images),
        lambda: next(iter(measure(images, lambda i, s: open_engine("grid:2")(s), open_engine(spec)))),
        lambda: whytransfer.make_masks(images=str(photos), engine=spec, out=tmp_path / "store", workers=1),
        lambda: whytransfer.rank_masks(images=str(photos), truth=spec, out=tmp_path / "ranking"),
        lambda: open_regions(spec, PixelCache.open(images)),
    ):
        with pytest.raises(InputError, match=r"cat/0.jpg and dog/0.jpg would both have the masks of '0' in"):
            refused()
    assert not (tmp_path / "store").exists()
    with pytest.raises(InputError, match="--truth grid:3: what people drew is needed"):
        whytransfer.rank_masks(images=str(photos), truth="grid:3", out=tmp_path / "ranking")


def test_a_file_of_coco_whose_images_differ_in_their_suffix_alone_is_refused(tmp_path):
    path = coco(tmp_path)
    path.write_text(path.read_text().replace("b.jpg", "a.png"))
    with pytest.raises(InputError, match="a.jpg and a.png differ in their suffix alone"):
        open_engine(f"annotated:{path}")


def test_real_layouts(real_data):
    images = open_images(str(real_data / "coco128" / "images" / "val2017"))
    engine = open_engine(f"annotated:{real_data}/coco128/annotations/instances_val2017.json")
    found = [engine.segmentations(images[i]) for i in range(20)]
    assert sum(bool(f) for f in found) >= 10 and max(len(f[0]) for f in found if f) > 3
    camvid = Annotated.from_spec(f"{real_data}/camvid/valannot:void=11")
    assert isinstance(camvid.masks, LabelMaps)
    regions = camvid(open_images(str(real_data / "camvid" / "val"))[0])
    assert 5 <= len(regions) <= 11 and 11 not in regions.labels
    bsds = open_engine(f"annotated:{real_data}/bsds500_subset/groundTruth/val")
    drawn = bsds.segmentations(open_images(str(real_data / "bsds500_subset" / "images" / "val"))[0])
    assert 4 <= len(drawn) <= 9 and all(d.areas().sum() == 481 * 321 for d in drawn)
