"""The published layouts in small: the same folders and files, a few tiny pictures. Each returns ROOT."""

import json
import os
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

SIZE = (6, 8)  # (H, W) of every picture
WNIDS = [f"n{1440764 + 7 * k:08d}" for k in range(12)]
VOC_SEGMENTED = np.array(  # SegmentationObject: 1 is an aeroplane, 2 a person; 255 is void
    [[0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0], [0, 1, 1, 255, 2, 2, 2, 0]] + [[0] * 4 + [2] * 4] * 3, np.uint8
)
VOC_CLASSES = np.array([0, 1, 15], np.uint8)  # of objects 0, 1, 2 in SegmentationClass


def picture(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG" if path.suffix == ".png" else "JPEG")


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def label_map(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image.putpalette([(7 * k) % 256 for k in range(768)])
    image.save(path)


def deep_png(values: np.ndarray) -> bytes:
    """A 16-bit colour PNG (H, W, 3), which PIL cannot write."""
    height, width, _ = values.shape
    stored = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(stored))
    chunks = [
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in (*parts, (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def imagenet(root: Path, wnids: list[str] = WNIDS, per_class: int = 3, flat_val: bool = False) -> Path:
    """Class folders; hard links to one picture, so that a thousand cost little. A flat val has one image per class."""
    picture(root / "one.JPEG")
    for k, wnid in enumerate(wnids):
        names = [f"train/{wnid}/{wnid}_{i}.JPEG" for i in range(per_class)]
        names.append(
            f"val/ILSVRC2012_val_{k + 1:08d}.JPEG" if flat_val else f"val/{wnid}/ILSVRC2012_val_{k + 1:08d}.JPEG"
        )
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            os.link(root / "one.JPEG", root / name)
    (root / "one.JPEG").unlink()
    return root


def devkit(root: Path, wnids: list[str] = WNIDS) -> list[str]:
    """The devkit's ground truth, which numbers the classes in an order of its own; returns the wnid of every image."""
    shuffled = [wnids[k] for k in np.random.default_rng(1).permutation(len(wnids))]
    synsets = np.array(
        [(k + 1, w, "words") for k, w in enumerate(shuffled)], [(n, object) for n in ("ILSVRC2012_ID", "WNID", "words")]
    )
    data = root / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    savemat(data / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    numbers = np.random.default_rng(2).permutation(len(wnids)) + 1
    write(data / "ILSVRC2012_validation_ground_truth.txt", "".join(f"{number}\n" for number in numbers))
    return [shuffled[number - 1] for number in numbers]


def places205(root: Path) -> Path:
    scenes = ["a/abbey", "a/apartment_building/outdoor", "b/bar"]
    for split, count in (("train", 2), ("val", 1)):
        listed = [f"{scene}/gsun_{split}{i}.jpg {k}" for k, scene in enumerate(scenes) for i in range(count)]
        write(root / "trainvalsplit_places205" / f"{split}_places205.csv", "\n".join(listed) + "\n")
        for line in listed:
            picture(root / "data/vision/torralba/deeplearning/images256" / line.split()[0])
    return root


def places365(root: Path) -> Path:
    """Listings and folders as torchvision unpacks them; three of the categories."""
    write(root / "categories_places365.txt", "/a/airfield 0\n/a/apartment_building/outdoor 1\n/b/bar 2\n")
    write(root / "places365_train_standard.txt", "/a/airfield/00000001.jpg 0\n/b/bar/00000001.jpg 2\n")
    write(root / "places365_val.txt", "Places365_val_00000001.jpg 2\nPlaces365_val_00000002.jpg 0\n")
    for name in ("a/airfield/00000001.jpg", "b/bar/00000001.jpg"):
        picture(root / "data_256_standard" / name)
    for k in (1, 2):
        picture(root / "val_256" / f"Places365_val_{k:08d}.jpg", k)
    return root


def places_folders(root: Path, categories: int = 365) -> Path:
    picture(root / "one.jpg")
    for split in ("train", "val"):
        for k in range(categories):
            (root / split / f"scene-{k:03d}").mkdir(parents=True)
            os.link(root / "one.jpg", root / split / f"scene-{k:03d}" / "00000001.jpg")
    return root


def celeba(root: Path, folder: str = "", anno: str = "", evaluation: str = "") -> Path:
    people = {1: 2880, 2: 17, 3: 2880, 4: 9000, 5: 17, 6: 44}
    parts = {1: 0, 2: 0, 3: 0, 4: 1, 5: 0, 6: 2}
    for k in people:
        picture(root / folder / "img_align_celeba" / f"{k:06d}.jpg", k)
    write(root / anno / "identity_CelebA.txt", "".join(f"{k:06d}.jpg {who}\n" for k, who in people.items()))
    write(root / evaluation / "list_eval_partition.txt", "".join(f"{k:06d}.jpg {part}\n" for k, part in parts.items()))
    return root


def coco_json() -> dict:
    """Three images, the first without objects; masks of one polygon, of two, of both run-length kinds; a crowd."""
    height, width = SIZE
    square = [1.0, 1.0, 5.0, 1.0, 5.0, 4.0, 1.0, 4.0]
    objects = [
        {"id": 31, "image_id": 9, "category_id": 18, "bbox": [1, 1, 4, 3], "area": 12, "iscrowd": 0,
         "segmentation": [square]},
        {"id": 32, "image_id": 7, "category_id": 1, "bbox": [0.5, 0, 7.25, 6], "area": 20, "iscrowd": 0,
         "segmentation": [square, [6, 0, 8, 0, 8, 6, 6, 6]]},
        {"id": 33, "image_id": 9, "category_id": 90, "bbox": [2, 0, 2, 6], "area": 12, "iscrowd": 0,
         "segmentation": {"size": [height, width], "counts": "<<h0"}},
        {"id": 34, "image_id": 9, "category_id": 1, "bbox": [0, 0, 8, 6], "area": 48, "iscrowd": 1,
         "segmentation": {"size": [height, width], "counts": [0, 48]}},
        {"id": 35, "image_id": 7, "category_id": 18, "bbox": [0, 0, 2, 6], "area": 12, "iscrowd": 0,
         "segmentation": {"size": [height, width], "counts": [0, 12, 36]}},
    ]  # fmt: skip
    images = [{"id": k, "file_name": f"{k:012d}.jpg", "height": height, "width": width} for k in (9, 5, 7)]
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": "d\u00f6g"}]
    return {"info": {"year": 2017}, "images": images, "annotations": objects, "licenses": [], "categories": categories}


def coco(root: Path, inside: str = "", content: dict | str | None = None) -> Path:
    for split in ("train2017", "val2017"):
        for k in (5, 7, 9):
            picture(root / inside / split / f"{k:012d}.jpg", k)
        text = content if isinstance(content, str) else json.dumps(content or coco_json(), ensure_ascii=False)
        write(root / "annotations" / f"instances_{split}.json", text)
    return root


def voc(root: Path, year: str = "2012") -> Path:
    folder = root / "VOCdevkit" / f"VOC{year}"
    stems = ["2007_000032", "2008_000001", "2008_000002"]
    for k, stem in enumerate(stems):
        picture(folder / "JPEGImages" / f"{stem}.jpg", k)
        write(folder / "Annotations" / f"{stem}.xml", voc_xml(stem, k))
    write(folder / "ImageSets" / "Main" / "train.txt", f"{stems[0]}\n{stems[2]}\n")
    write(folder / "ImageSets" / "Main" / "val.txt", f"{stems[1]}\n")
    write(folder / "ImageSets" / "Main" / "aeroplane_train.txt", f"{stems[0]}  1\n{stems[2]} -1\n")
    write(folder / "ImageSets" / "Segmentation" / "train.txt", f"{stems[0]}\n")
    label_map(folder / "SegmentationObject" / f"{stems[0]}.png", VOC_SEGMENTED, palette=True)
    classes = np.where(VOC_SEGMENTED == 255, 255, VOC_CLASSES[np.minimum(VOC_SEGMENTED, 2)]).astype(np.uint8)
    label_map(folder / "SegmentationClass" / f"{stems[0]}.png", classes, palette=True)
    return root


def voc_xml(stem: str, people: int) -> str:
    """A plane and some people, one of them difficult, each with a head (which is no object)."""
    person = (
        "<object><name>person</name><difficult>1</difficult><bndbox><xmax>8</xmax><xmin>4.6</xmin><ymin>3</ymin>"
        "<ymax>6</ymax></bndbox><part><name>head</name><bndbox><xmin>5</xmin><ymin>3</ymin><xmax>6</xmax>"
        "<ymax>4</ymax></bndbox></part></object>"
    )
    return (
        f"<annotation>\n\t<filename>{stem}.jpg</filename>\n\t<size><width>{SIZE[1]}</width><height>{SIZE[0]}</height>"
        "<depth>3</depth></size>\n\t<object><name>aeroplane</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax>"
        f"<ymax>3</ymax></bndbox></object>{person * people}</annotation>\n"
    )


def cityscapes(root: Path) -> Path:
    ids = np.full(SIZE, 7)  # road
    ids[0], ids[1], ids[2] = 23, 1, 11  # sky, ego vehicle (void), building
    instances = ids.copy()
    for value, columns in ((26001, slice(0, 2)), (26000, slice(3, 5)), (24003, slice(6, 7)), (29000, slice(7, 8))):
        instances[4:, columns], ids[4:, columns] = value, value // 1000  # two cars, a person, a caravan (void)
    ids[3, :3] = instances[3, :3] = 24  # a group of people: no instances
    for split, city, count in (
        ("train", "aachen", 1),
        ("train", "bochum", 2),
        ("val", "lindau", 1),
        ("test", "bonn", 1),
    ):
        for k in range(count):
            stem = f"{city}/{city}_{k:06d}_000019"
            picture(root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png", k)
            truth = root / "gtFine" / split
            label_map(truth / f"{stem}_gtFine_labelIds.png", (ids if split != "test" else ids * 0).astype(np.uint8))
            label_map(truth / f"{stem}_gtFine_instanceIds.png", instances.astype(np.uint16))
            write(truth / f"{stem}_gtFine_polygons.json", "{}")
    return root


def synthia(root: Path) -> Path:
    for k in range(2):
        values = np.zeros((*SIZE, 3), np.uint16)
        values[..., 0] = np.arange(48).reshape(SIZE) % 23
        values[..., 1] = 700 + k  # numbers of moving objects
        picture(root / "RGB" / f"{k:07d}.png", k)
        write(root / "GT" / "LABELS" / f"{k:07d}.png", deep_png(values))
        picture(root / "GT" / "COLOR" / f"{k:07d}.png", k)
    return root


def camvid(root: Path) -> Path:
    for split in ("train", "val", "test"):
        picture(root / split / "0001TP_006690.png", 1)
        label_map(root / f"{split}annot" / "0001TP_006690.png", (np.arange(48).reshape(SIZE) % 12).astype(np.uint8))
        write(
            root / f"{split}.txt",
            f"/SegNet/CamVid/{split}/0001TP_006690.png /SegNet/CamVid/{split}annot/0001TP_006690.png\n",
        )
    return root


def ade(root: Path) -> Path:
    names = ["wall", "building, edifice", "sky"]
    table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n"
    write(root / "objectInfo150.txt", table + "".join(f"{k}\t0.1\t9\t1\t1\t{n}\n" for k, n in enumerate(names, 1)))
    for split in ("training", "validation"):
        for stem in (f"ADE_{split[:5]}_{k:08d}" for k in (1, 2)):
            picture(root / "images" / split / f"{stem}.jpg")
            label_map(root / "annotations" / split / f"{stem}.png", (np.arange(48).reshape(SIZE) % 4).astype(np.uint8))
    return root


def depth_values(seed: int = 0) -> np.ndarray:
    """Millimetres (6, 8); the corners know none."""
    values = np.random.default_rng(seed).integers(500, 9000, SIZE).astype(np.uint16)
    values[0, 0], values[-1, -1] = 0, 65535
    return values


def nyu(root: Path) -> Path:
    for split in ("train", "test"):
        for k in (1, 2):
            picture(root / split / "kitchen_0001" / f"rgb_{k:05d}.jpg", k)
            label_map(root / split / "kitchen_0001" / f"sync_depth_{k:05d}.png", depth_values(k))
    return root


def sunrgbd(root: Path, splits: bool = True) -> Path:
    places = [f"kv2/kinect2data/00{k:04d}" for k in range(3)] + ["xtion/sun3ddata/brown/frame_1"]
    for k, place in enumerate(places):
        folder = root / "SUNRGBD" / place
        picture(folder / "image" / f"{k:07d}.jpg", k)
        values = depth_values(k)
        label_map(folder / "depth" / f"{k:07d}.png", values << 3 | values >> 13)
        label_map(folder / "depth_bfx" / f"{k:07d}.png", np.full(SIZE, 8 * 1234, np.uint16))
        write(folder / "intrinsics.txt", "1 0 0 0 1 0 0 0 1")
    if splits:
        paths = [f"/n/fs/sun3d/data/SUNRGBD/{place}/" for place in places]
        cells = {"alltrain": np.array(paths[:3], object), "alltest": np.array(paths[3:], object)}
        (root / "SUNRGBDtoolbox" / "traintestSUNRGBD").mkdir(parents=True)
        savemat(root / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat", cells)
    return root


def rgbd(root: Path) -> Path:
    for k in range(2):
        picture(root / "seq-01" / f"frame-{k:06d}.color.png", k)
        label_map(root / "seq-01" / f"frame-{k:06d}.depth.png", depth_values(k))
        write(root / "seq-01" / f"frame-{k:06d}.pose.txt", "1 0 0 0")
    return root


def landmarks_csv(root: Path, lines: list[str] | None = None, split: str = "train") -> Path:
    """A table of points, by default five of each of three images, and its pictures."""
    lines = lines or [f"{k}.png,8,6,1,2,{4 + k},2,3.5,3,1,5,6,5" for k in range(3)]
    points = (len(lines[0].split(",")) - 3) // 2
    header = ["file", "width", "height", *(f"{axis}{k}" for k in range(points) for axis in "xy")]
    write(root / f"{split}_keypoints.csv", "\n".join([",".join(header), *lines]) + "\n")
    for k, line in enumerate(lines):
        picture(root / split / line.split(",")[0], k)
    return root


def celeba_landmarks(root: Path, folder: str = "", anno: str = "", evaluation: str = "") -> Path:
    celeba(root, folder, anno, evaluation)
    (root / anno / "identity_CelebA.txt").unlink()
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    lines = [f"{k:06d}.jpg  2 {k} 6 {k} 4 3 2 5 6 5\n" for k in range(1, 7)]
    write(root / anno / "list_landmarks_align_celeba.txt", f"6\n{columns}\n" + "".join(lines))
    return root


def mafl(root: Path) -> Path:
    celeba_landmarks(root)
    (root / "list_eval_partition.txt").unlink()
    write(root / "MAFL" / "training.txt", "000003.jpg\n000001.jpg\n000006.jpg\n")
    write(root / "MAFL" / "testing.txt", "000002.jpg\n")
    return root


def pts(points: np.ndarray) -> str:
    rows = "".join(f"{x:.6f} {y:.6f}\n" for x, y in points)
    return f"version: 1\nn_points: {len(points)}\n{{\n{rows}}}\n"


def w300(root: Path, count: int = 5) -> Path:
    """`count` faces in doors and as many out, 30 x 40 px each, the points of each in a box of its own."""
    for number, (folder, stem) in enumerate((("01_Indoor", "indoor"), ("02_Outdoor", "outdoor"))):
        for k in range(1, count + 1):
            picture(root / folder / f"{stem}_{k:03d}.png", 10 * number + k, size=(30, 40))
            points = np.random.default_rng([number, k]).uniform([8, 6], [25.5, 20.25], (68, 2))
            write(root / folder / f"{stem}_{k:03d}.pts", pts(points))
    return root


def lsp(root: Path, count: int = 10) -> Path:
    joints = np.zeros((3, 14, count))
    joints[0], joints[1] = np.arange(14)[:, None] / 2, np.arange(count) / 2
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / "joints.mat", {"joints": joints})
    for k in range(count):
        picture(root / "images" / f"im{k + 1:04d}.jpg", k)
    return root


def causal3dident(root: Path, folder: str = "{}set", name: str = "{}", latents: str = "latents_{}.npy") -> Path:
    """Three of the seven objects, four images to learn from and two to test on each."""
    for split, count in (("train", 4), ("test", 2)):
        for c, thing in enumerate(("armadillo", "cow", "dragon")):
            inside = root / folder.format(split)
            for k in range(count):
                picture(inside / name.format(thing if name == "{}" else c) / f"{k:06d}.png", 10 * c + k)
            np.save(inside / latents.format(c), np.arange(count * 10.0).reshape(count, 10) + 100 * c)
    return root


RAVI = {"train": ["n00000001", "n00000002", "n00000005"], "val": ["n00000003"], "test": ["n00000004", "n00000006"]}


def mini_imagenet(root: Path, imagenet_names: bool = False) -> Path:
    """The lists and the pictures; ImageNet's names have numbers of their own, in another order than names sort in."""
    for split, wnids in RAVI.items():
        names = [f"{wnid}{k:08d}.jpg,{wnid}" for wnid in wnids for k in (1, 3)]
        write(root / f"{split}.csv", "filename,label\n" + "\n".join(names) + "\n")
        for wnid in wnids:
            for k, number in enumerate((7, 20, 100), 1):
                place = f"train/{wnid}/{wnid}_{number}.JPEG" if imagenet_names else f"images/{wnid}{k:08d}.jpg"
                picture(root / place, int(wnid[1:]) * 10 + k)
    return root


def omniglot(root: Path, unpacked: bool = False) -> Path:
    """Two alphabets of two characters drawn three times, and two runs of three characters."""
    folder = root / "unpacked"
    for a, alphabet in enumerate(("Greek", "Balinese")):
        for c in (1, 2):
            for k in (1, 2, 3):
                path = f"images_background/{alphabet}/character{c:02d}/0{a}{c}0_{k:02d}.png"
                picture(folder / path, 100 * a + 10 * c + k)
    for run in (1, 2):
        for k in (1, 2, 3):
            picture(folder / f"all_runs/run{run:02d}/training/class{k:02d}.png", 20 * run + k)
            picture(folder / f"all_runs/run{run:02d}/test/item{k:02d}.png", 20 * run + 10 + k)
        pairs = [
            f"run{run:02d}/test/item{k:02d}.png run{run:02d}/training/class{(k + run) % 3 + 1:02d}.png"
            for k in (1, 2, 3)
        ]
        write(folder / f"all_runs/run{run:02d}/class_labels.txt", "\n".join(pairs) + "\n")
    for top in ("images_background", "all_runs"):
        if unpacked:
            (folder / top).rename(root / top)
            continue
        with zipfile.ZipFile(root / f"{top}.zip", "w") as archive:
            for path in sorted((folder / top).rglob("*.*")):
                archive.write(path, path.relative_to(folder if top == "images_background" else folder / top))
    shutil.rmtree(folder)
    return root


def hundred_classes(root: Path) -> Path:
    return imagenet(root, [f"n{k:08d}" for k in range(1, 105)], per_class=1)


ALL = {  # spec kind -> (maker, what the set is labelled with)
    "imagenet": (imagenet, ("class",)),
    "imagenet-10pct": (imagenet, ("class",)),
    "imagenet-100": (hundred_classes, ("class",)),
    "places": (places205, ("scene",)),
    "celeba": (celeba, ("identity",)),
    "coco": (coco, ("boxes", "masks")),
    "synthia": (synthia, ("semantic",)),
    "voc": (voc, ("boxes",)),
    "cityscapes": (cityscapes, ("boxes", "masks", "semantic")),
    "camvid": (camvid, ("semantic",)),
    "ade": (ade, ("semantic",)),
    "nyu": (nyu, ("depth",)),
    "sunrgbd": (sunrgbd, ("depth",)),
    "rgbd": (rgbd, ("depth",)),
    "mini-imagenet": (mini_imagenet, ("class",)),
    "omniglot": (omniglot, ("class",)),
    "landmarks": (landmarks_csv, ("keypoints",)),
    "celeba-landmarks": (celeba_landmarks, ("keypoints",)),
    "mafl": (mafl, ("keypoints",)),
    "300w": (w300, ("keypoints",)),
    "300w-published": (w300, ("keypoints",)),
    "lsp": (lsp, ("keypoints",)),
    "causal3dident": (causal3dident, ("class",)),
}
