"""ADE-style label maps, and the sets with depth: metres, NaN where there is none, every sensor's own coding."""

import numpy as np
import pytest
import torch
from miniatures import SIZE, ade, depth_values, label_map, nyu, picture, rgbd, sunrgbd, write
from scipy.io import savemat

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.published.depth_maps import metres
from whytransfer.images.published.nyu import NYUDepth


def in_metres(values, invalid=(0, 65535)):
    """By a loop over pixels."""
    out = np.full(values.shape, np.nan)
    for at, value in np.ndenumerate(values):
        if value not in invalid:
            out[at] = value / 1000
    return out


def same(depth, expected):
    assert depth.dtype == torch.float32
    np.testing.assert_allclose(depth.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("inside", ["", "ADEChallengeData2016"])
def test_ade_numbers_classes_from_one_and_zero_is_none(inside, tmp_path):
    ade(tmp_path / inside)
    images, val = open_images(f"ade:{tmp_path}"), open_images(f"ade:{tmp_path}:validation")
    values = np.arange(48).reshape(SIZE) % 4
    assert np.array_equal(images[1].semantic, np.where(values == 0, 255, values - 1))
    assert images.semantic_classes == ("wall", "building", "sky") and images.labelled_with == ("semantic",)
    assert (images.name, val.name, len(val)) == ("ade/training", "ade/validation", 2)


def test_a_set_of_ones_own_in_ades_layout(tmp_path):
    ade(tmp_path)
    (tmp_path / "objectInfo150.txt").unlink()
    with pytest.raises(InputError, match="objectInfo150.txt or classes.txt is missing in .*, which holds annotations"):
        open_images(f"ade:{tmp_path}")
    write(tmp_path / "classes.txt", "wall\nliving room\n")
    images = open_images(f"ade:{tmp_path}")
    assert images.semantic_classes == ("wall", "living room")
    with pytest.raises(InputError, match=r"annotations/training/ADE_train_00000001.png has pixels of value 3, which"):
        images[0]
    write(tmp_path / "classes.txt", "a\n" * 255)
    with pytest.raises(InputError, match="should be one of 1 to 254 classes, found '255 classes'"):
        open_images(f"ade:{tmp_path}")
    write(tmp_path / "objectInfo150.txt", "Idx\tRatio\n1\t0.1\t9\t1\t1\twall\n3\t0.1\t9\t1\t1\tsky\n")
    with pytest.raises(InputError, match="line 3 of .*objectInfo150.txt should be 2<TAB>...<TAB>NAME"):
        open_images(f"ade:{tmp_path}")


def test_ade_without_a_label_map_is_refused(tmp_path):
    (ade(tmp_path) / "annotations/training/ADE_train_00000002.png").unlink()
    with pytest.raises(InputError, match="1 of 2 label maps are missing in .*training, first ADE_train_00000002.png"):
        open_images(f"ade:{tmp_path}")


def test_values_become_metres():
    values = np.array([[0, 1500], [65535, 4]], np.uint16)
    np.testing.assert_array_equal(metres(values, 1000, (0, 65535)), np.array([[np.nan, 1.5], [np.nan, 0.004]], "f4"))
    np.testing.assert_array_equal(metres(values, 5000, ()), (values / 5000).astype("f4"))


def test_folders_of_pictures_with_depth_in_7_scenes_layout(tmp_path):
    images = open_images(f"rgbd:{rgbd(tmp_path / 'kitchen')}")
    assert list(images.names) == [f"seq-01/frame-{k:06d}.color.png" for k in range(2)] and images.name == "rgbd/kitchen"
    for k in range(2):
        same(images[k].depth, in_metres(depth_values(k)))
    other = open_images(f"rgbd:{tmp_path / 'kitchen'}:2000:65535")
    same(other[0].depth, in_metres(depth_values(0), (65535,)) / 2)
    assert other.name == "rgbd/kitchen:2000:65535"  # the fingerprint is of files; how they are read, the name says


def test_folders_of_pictures_beside_a_folder_of_depth(tmp_path):
    for k in range(3):
        picture(tmp_path / "rgb" / f"{k}.jpg", k)
        label_map(tmp_path / "depth" / f"{k}.png", depth_values(k))
    images = open_images(f"rgbd:{tmp_path}")
    assert len(images) == 3
    same(images[2].depth, in_metres(depth_values(2)))
    (tmp_path / "depth" / "1.png").unlink()
    with pytest.raises(InputError, match="1.png, the depth map of rgb/1.jpg, is missing in .*depth, which holds 0.png"):
        open_images(f"rgbd:{tmp_path}")


def test_what_is_wrong_with_depth_is_said(tmp_path):
    rgbd(tmp_path)
    for spec in ("0", "x", "-3", "inf", "1000:70000", "1000:a"):
        with pytest.raises(InputError, match=r"is not rgbd:ROOT\[:PER_METRE\[:INVALID\]\] with a positive number"):
            open_images(f"rgbd:{tmp_path}:{spec}")
    path = tmp_path / "seq-01" / "frame-000001.depth.png"
    label_map(path, np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match=f"{path} has 8 bits per pixel: a depth map has 16"):
        open_images(f"rgbd:{tmp_path}")[1]
    picture(path)
    with pytest.raises(InputError, match=f"{path} has colours"):
        open_images(f"rgbd:{tmp_path}")[1]
    path.unlink()
    with pytest.raises(InputError, match="frame-000001.depth.png, the depth map of frame-000001.color.png, is missing"):
        open_images(f"rgbd:{tmp_path}")


@pytest.mark.parametrize("inside", ["", "official_splits"])
def test_nyu_in_folders(inside, tmp_path):
    nyu(tmp_path / inside)
    images, test = open_images(f"nyu:{tmp_path}"), open_images(f"nyu:{tmp_path}:test")
    assert list(images.names) == ["kitchen_0001/rgb_00001.jpg", "kitchen_0001/rgb_00002.jpg"]
    assert (images.name, test.name) == ("nyu/train", "nyu/test")
    same(images[1].depth, in_metres(depth_values(2), (0,)))


def mat(root, count=4, splits=((1, 3), (2, 4))):
    """The MATLAB files in small: as h5py shows them, columns come first."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    images, depths = rng.integers(0, 256, (count, 3, 640, 480), dtype=np.uint8), rng.random((count, 640, 480), "f4")
    depths[:, 5, 7] = 0
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"], file["depths"] = images, depths
    savemat(root / "splits.mat", {"trainNdxs": np.array([splits[0]]).T, "testNdxs": np.array([splits[1]]).T})
    return images, depths


def test_nyu_as_its_authors_publish_it(tmp_path):
    pixels, depths = mat(tmp_path)
    images = open_images(f"nyu:{tmp_path}:test")
    assert isinstance(images, NYUDepth) and len(images) == 2 and images.labelled_with == ("depth",)
    sample = images[1]
    assert sample.name == "00004" and sample.image.shape == (3, 480, 640) and sample.depth.shape == (480, 640)
    for y, x in ((0, 0), (7, 6), (479, 639), (100, 300)):
        assert sample.image[:, y, x].tolist() == pixels[3, :, x, y].tolist() and sample.depth[y, x] == depths[3, x, y]
    assert torch.isnan(sample.depth[7, 5]) and int(torch.isnan(sample.depth).sum()) == (depths[3] == 0).sum()
    train = open_images(f"nyu:{tmp_path}")
    assert train[0].name == "00001" and train.fingerprint() != images.fingerprint()
    assert train.fingerprint() == open_images(f"nyu:{tmp_path}").fingerprint()


def test_what_is_wrong_with_nyus_files_is_said(tmp_path, monkeypatch):
    mat(tmp_path, 3)
    with pytest.raises(InputError, match="the test split in .*splits.mat is not of the 3 images there"):
        open_images(f"nyu:{tmp_path}:test")
    savemat(tmp_path / "splits.mat", {"other": 1})
    with pytest.raises(InputError, match="splits.mat is not the file of the official split"):
        open_images(f"nyu:{tmp_path}")
    (tmp_path / "splits.mat").unlink()
    with pytest.raises(InputError, match="nyu: splits.mat is missing in"):
        open_images(f"nyu:{tmp_path}")
    savemat(tmp_path / "splits.mat", {"trainNdxs": [1]})
    import h5py

    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.zeros((1, 2))
    with pytest.raises(InputError, match=r"holds \{'images': \(1, 2\)\}, not the labelled set"):
        open_images(f"nyu:{tmp_path}")
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"half")
    with pytest.raises(InputError, match="cannot be read as a MATLAB 7.3 .HDF5. file"):
        open_images(f"nyu:{tmp_path}")


def test_h5py_is_asked_for_by_its_extra(tmp_path, monkeypatch):
    write(tmp_path / "nyu_depth_v2_labeled.mat", "any")
    savemat(tmp_path / "splits.mat", {"trainNdxs": [1]})
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(InputError, match=r"is an HDF5 file and needs h5py: pip install 'whytransfer\[depth\]'"):
        open_images(f"nyu:{tmp_path}")


def test_sun_rgbd_turns_the_bits_of_its_sensors(tmp_path):
    sunrgbd(tmp_path)
    images, train, test = (open_images(f"sunrgbd:{tmp_path}{split}") for split in ("", ":train", ":test"))
    assert (len(images), len(train), len(test), test.name) == (4, 3, 1, "sunrgbd/test")
    for k, i in ((0, 0), (2, 2)):
        same(train[i].depth, in_metres(depth_values(k), (0,)))  # 65535 is no special value here
    assert test.names[0] == "SUNRGBD/xtion/sun3ddata/brown/frame_1/image/0000003.jpg"


def test_what_is_wrong_with_sun_rgbd_is_said(tmp_path):
    sunrgbd(tmp_path, splits=False)
    with pytest.raises(InputError, match="allsplit.mat is missing in"):
        open_images(f"sunrgbd:{tmp_path}:train")
    savemat(tmp_path / "allsplit.mat", {"alltest": 1})
    with pytest.raises(InputError, match="allsplit.mat is no list of the splits"):
        open_images(f"sunrgbd:{tmp_path}:train")
    picture(tmp_path / "SUNRGBD/kv2/kinect2data/000000/image/another.jpg")
    with pytest.raises(InputError, match="kv2/kinect2data/000000 has 2 pictures and 1 depth maps, not one of each"):
        open_images(f"sunrgbd:{tmp_path}")


def test_real_rooms(real_data):
    scenes = open_images(f"rgbd:{real_data / 'rgbd_depth/7scenes/train'}")
    assert len(scenes) == 128
    depth = scenes[0].depth
    assert depth.shape == (240, 320) and 0.05 < torch.isnan(depth).float().mean() < 0.4
    assert np.nanmin(depth) > 0.4 and np.nanmax(depth) < 10
    rooms = open_images(f"sunrgbd:{real_data / 'rgbd_depth/sunrgbd'}")
    for i in range(2):
        depth = rooms[i].depth.numpy()
        assert depth.shape == rooms[i].image.shape[1:] and 0.3 < np.nanmedian(depth) < 6
