"""Sets with landmarks: the numbers of the files come out as points, each layout refuses what is not it."""

import numpy as np
import pytest
import torch
import torchvision.datasets as oracle
from miniatures import celeba_landmarks, landmarks_csv, lsp, mafl, picture, pts, w300, write
from PIL import Image
from scipy.io import savemat

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.decode import Unreadable, upright_size
from whytransfer.images.published.landmarks import FIVE_POINTS, IBUG_68
from whytransfer.images.published.w300 import centred, published, read_points


def test_a_table_of_points(tmp_path):
    lines = ["b.png,8,6,1,2,4,2,3.5,3,1,5,6,5", "a.png,8,6,1,2,,2,3.5,nan,1,5,-6,50"]
    images = open_images(f"landmarks:{landmarks_csv(tmp_path, lines)}")
    assert list(images.names) == ["b.png", "a.png"] and images.name == "landmarks/train" and len(images) == 2
    assert images.annotations.eyes == FIVE_POINTS and images.labelled_with == ("keypoints",)
    marks = images[0].keypoints
    assert marks.shape == (1, 5, 2) and tuple(marks.canvas_size) == (6, 8)
    assert marks[0].tolist() == [[1, 2], [4, 2], [3.5, 3], [1, 5], [6, 5]]
    second = images[1].keypoints[0]
    assert torch.isnan(second[1:3]).all() and second[4].tolist() == [-6, 50]  # outside is kept
    assert images.nbytes < 400


def test_a_table_without_sizes_and_of_another_number_of_points(tmp_path):
    write(tmp_path / "test.csv", "image,x0,y0,x1,y1\nq.png,1,2,3,4\n")
    picture(tmp_path / "images" / "q.png")
    images = open_images(f"landmarks:{tmp_path}:test")
    assert images.annotations.eyes is None and images.annotations.read(0).size == (6, 8)
    assert images[0].keypoints.tolist() == [[[1, 2], [3, 4]]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,width,height,x0\na.png,8,6,1\n", "line 1 of .*train_keypoints.csv should be file.,width,height.,x0,y0"),
        ("", "line 1 of .* should be file"),
        ("file,x0,y0\n", "lists no image: one line per image"),
        ("file,x0,y0\na.png,1\n", "line 2 of .* should be FILE and x,y of every point.*, found 'a.png,1'"),
        ("file,x0,y0\n\na.png,1,two\n", "line 3 of .* found 'a.png,1,two'"),
        ("file,x0,y0\na.png,1,inf\n", "line 2 of .* found 'a.png,1,inf'"),
        ("file,width,height,x0,y0\na.png,0,6,1,1\n", "line 2 of .* a width and a height of 1 or more"),
        ("file,width,height,x0,y0\na.png,,6,1,1\n", "line 2 of .* a width and a height of 1 or more"),
        ("file,x0,y0\nnone.png,1,2\n", "1 of 1 images of train_keypoints.csv are missing in .*train, first none.png"),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path, text, message):
    landmarks_csv(tmp_path)
    write(tmp_path / "train_keypoints.csv", text)
    with pytest.raises(InputError, match=f"landmarks: .*{message}"):
        open_images(f"landmarks:{tmp_path}")


def test_a_picture_on_its_side_is_measured_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (9, 5)).save(tmp_path / "x.jpg", exif=exif)
    assert upright_size((tmp_path / "x.jpg").read_bytes(), "x") == (9, 5)
    with pytest.raises(Unreadable, match="cannot read image y: no header"):
        upright_size(b"nothing", "y")


@pytest.mark.parametrize("split", ["train", "all"])  # torchvision cannot read a split of one image
def test_celeba_landmarks_are_those_of_torchvision(tmp_path, monkeypatch, split):
    monkeypatch.setattr(oracle.CelebA, "_check_integrity", lambda _: True)
    celeba_landmarks(tmp_path / "celeba")
    lines = "".join(f"{k:06d}.jpg 1\n" for k in range(1, 7))
    write(tmp_path / "celeba" / "identity_CelebA.txt", lines)
    for name in ("list_bbox_celeba.txt", "list_attr_celeba.txt"):
        write(tmp_path / "celeba" / name, f"6\na\n{lines}")
    images = open_images(f"celeba-landmarks:{tmp_path}:{split}")
    reference = oracle.CelebA(str(tmp_path), split, target_type="landmarks")
    assert list(images.names) == list(reference.filename) and images.annotations.eyes == FIVE_POINTS
    for i in range(len(images)):
        assert images[i].keypoints.reshape(-1).tolist() == reference.landmarks_align[i].tolist()


def test_celeba_landmarks_as_the_authors_pack_them_need_no_identities(tmp_path):
    packed = celeba_landmarks(tmp_path, "Img", "Anno", "Eval")
    images = open_images(f"celeba-landmarks:{packed}")
    assert len(images) == 4 and images[2].keypoints[0, 0].tolist() == [2, 3]
    with pytest.raises(InputError, match="identity_CelebA.txt or Anno/identity_CelebA.txt is missing"):
        open_images(f"celeba:{packed}")


def test_mafl_is_a_list_over_celeba(tmp_path):
    root = mafl(tmp_path)
    train, test = open_images(f"mafl:{root}"), open_images(f"mafl:{root}:test")
    assert list(train.names) == ["000003.jpg", "000001.jpg", "000006.jpg"] and list(test.names) == ["000002.jpg"]
    assert [s[1] for s in train.annotations.points[:, 0].tolist()] == [3, 1, 6] and train.name == "mafl/train"
    write(root / "MAFL" / "testing.txt", "000002.jpg\n000077.jpg\n")
    with pytest.raises(InputError, match="mafl: 1 of 2 images of testing.txt are missing in .*, first 000077.jpg"):
        open_images(f"mafl:{root}:test")
    write(root / "MAFL" / "testing.txt", "")
    with pytest.raises(InputError, match="mafl: .*testing.txt is empty"):
        open_images(f"mafl:{root}:test")
    write(root / "MAFL" / "testing.txt", "000002.jpg 1\n")
    with pytest.raises(InputError, match="mafl: line 1 of .*testing.txt should be the name of an image"):
        open_images(f"mafl:{root}:test")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a_x a_y\n", "line 1 of .* should be the number of images"),
        ("6\na_x a_y\n", "line 2 of .* should be the names of 10 columns"),
        ("1\na b c d e f g h i j\n000001.jpg 1 2 3 4 5 6 7 8 9\n", "line 3 of .* should be FILE and 10 numbers"),
        ("1\na b c d e f g h i j\n000001.jpg 1 2 3 4 5 6 7 8 9 nan\n", "line 3 of .* should be FILE and 10 numbers"),
        ("1\na b c d e f g h i j\n000001.jpg 1 2 3 4 5 6 7 8 9 1\n", "lacks 3 of the images: 000002.jpg, 000003.jpg"),
    ],
)
def test_what_is_wrong_with_the_landmarks_of_celeba_is_said(tmp_path, text, message):
    root = celeba_landmarks(tmp_path)
    write(root / "list_landmarks_align_celeba.txt", text)
    with pytest.raises(InputError, match=f"celeba-landmarks: .*{message}"):
        open_images(f"celeba-landmarks:{root}")


def spots(root, kind):
    """300-W with a light at one landmark: its place in the cut image must be that of the landmark."""
    w300(root, 2)
    for path in sorted(root.rglob("*.pts")):
        x, y = np.rint(read_points(path)[30]).astype(int) - 1  # the pixel that the point is in: 1 is the first's centre
        picture = np.zeros((30, 40, 3), np.uint8)
        picture[y, x] = 255
        Image.fromarray(picture).save(path.with_suffix(".png"))
    return open_images(f"{kind}:{root}:all")


def test_300w_is_cut_around_the_face(tmp_path):
    images = spots(tmp_path, "300w")
    assert [name for name in images.names][1:3] == ["01_Indoor/indoor_002.png", "02_Outdoor/outdoor_001.png"]
    assert images.annotations.eyes == IBUG_68 and images.name == "300w/all"
    for i in range(4):
        sample = images[i]
        side, marks = sample.image.shape[1], sample.keypoints[0].numpy()
        assert sample.image.shape == (3, side, side)
        x, y = marks[30]
        assert sample.image[0, int(y), int(x)] == 255 and (sample.image[0] > 0).sum() == 1
        low, high = marks.min(0), marks.max(0)
        assert side == np.ceil(1.2 * (high - low).max()) and np.abs(low + high - side).max() <= 2  # in the middle
        assert low.min() > 0.05 * side and high.max() < 0.95 * side
    cache = PixelCache.open(images)
    assert cache.pixels(3).shape[:2] == images.annotations.read(3).size and cache.fingerprint == images.fingerprint()


def test_300w_as_published_begins_at_the_points(tmp_path):
    images = spots(tmp_path, "300w-published")
    ours = open_images(f"300w:{tmp_path}:all")
    assert images.fingerprint() != ours.fingerprint() and images.stamp() != ours.stamp()
    for i in range(4):
        raw = read_points(tmp_path / images.names[i].replace(".png", ".pts"))
        marks = images[i].keypoints[0].numpy()
        np.testing.assert_allclose(marks, raw - raw.min(0), atol=1e-4)
        side = np.ceil(np.ptp(raw, axis=0)).max()
        assert (
            abs(images[i].image.shape[1] - side) <= 1 and images.annotations.read(i).size == images[i].image.shape[1:]
        )
        assert marks.min() == 0  # on the edge


def test_crops_in_numbers():
    points = np.array([[11.0, 21.0], [31.0, 26.0]])
    box, moved = centred(points)  # 10.5..30.5 and 20.5..25.5 from the edge: 20 px and 10 % on each side are 24
    assert box == (8, 11, 32, 35) and moved.tolist() == [[2.5, 9.5], [22.5, 14.5]]
    box, moved = published(points)
    assert box == (11, 21, 31, 41) and moved.tolist() == [[0, 0], [20, 5]]


def test_the_splits_of_300w_are_a_shuffle_by_numpys_seed_0(tmp_path):
    root = w300(tmp_path)
    everything = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    np.random.seed(0)
    np.random.shuffle(everything)
    parts = [list(open_images(f"300w:{root}:{split}").names) for split in ("train", "valid", "test")]
    assert parts == [everything[:3], everything[3:6], everything[6:]]


def test_what_is_wrong_with_300w_is_said(tmp_path):
    root = w300(tmp_path)
    path = root / "02_Outdoor" / "outdoor_003.pts"
    good = read_points(path)
    for text in (pts(good[:67]), pts(good).replace("}", "nan nan }"), "1 2", pts(good * 0), pts(good * 1e9)):
        write(path, text)
        with pytest.raises(InputError, match=f"300w: {path} should hold 68 different points"):
            open_images(f"300w:{root}:all")
    path.unlink()
    with pytest.raises(InputError, match=r"02_Outdoor lacks outdoor_003.pts \(1 of 5 images have no points\)"):
        open_images(f"300w:{root}:all")
    (tmp_path / "b" / "01_Indoor").mkdir(parents=True)
    with pytest.raises(InputError, match=r"300w: any image \(\*.png\) is missing in .*01_Indoor, which is empty"):
        open_images(f"300w:{tmp_path / 'b'}")


def test_leeds_sports_pose(tmp_path):
    root = lsp(tmp_path / "LeedsSportsPose").parent
    train, test, all_ = (open_images(f"lsp:{root}:{split}") for split in ("train", "test", "all"))
    assert [*train.names, *test.names] == list(all_.names) and len(train) == 5 and all_.annotations.eyes is None
    assert all_[6].keypoints[0, 4].tolist() == [2, 3] and all_[6].name == "im0007.jpg"
    order = np.arange(10)
    np.random.seed(0)
    np.random.shuffle(order)
    parts = [list(open_images(f"lsp:{root}:{split}").names) for split in ("train-60pct", "test-40pct")]
    assert parts == [[f"im{k + 1:04d}.jpg" for k in part] for part in (order[:6], order[6:])]


def test_what_is_wrong_with_leeds_sports_pose_is_said(tmp_path):
    root = lsp(tmp_path)
    (root / "images" / "im0004.jpg").unlink()
    with pytest.raises(InputError, match="lsp: 1 of 10 images of joints.mat are missing in .*images, first im0004.jpg"):
        open_images(f"lsp:{root}")
    savemat(root / "joints.mat", {"joints": np.zeros((14, 3, 10))})
    with pytest.raises(
        InputError, match="lsp: joints in .* is 14 x 3 x 10, expected 3 x 14 x N .*not its extended set"
    ):
        open_images(f"lsp:{root}")
    write(root / "joints.mat", b"none")
    with pytest.raises(InputError, match="lsp: .*joints.mat is damaged"):
        open_images(f"lsp:{root}")


def test_faces_of_real_videos(real_data):
    images = open_images(f"landmarks:{real_data / 'faces68'}:test")
    assert len(images) == 350 and images.annotations.eyes == IBUG_68
    for i in range(0, 350, 70):
        sample = images[i]
        marks, (height, width) = sample.keypoints[0], sample.image.shape[1:]
        assert (marks > 0).all() and (marks[:, 0] < width).all() and (marks[:, 1] < height).all()
        left, right = marks[36:42].mean(0), marks[42:48].mean(0)
        assert left[0] < right[0] and left[1] < marks[57, 1]  # the eyes are above the mouth
