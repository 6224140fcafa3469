"""Shards: equal to the files that were packed, laid out as WebDataset's, found after a change, refused in words."""

import io
import json
import os
import tarfile
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from whytransfer.errors import InputError, RunError
from whytransfer.files import locked
from whytransfer.images import Folder, open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.images.content import fingerprint_of, stamp_of
from whytransfer.images.shards import expanded, pack
from whytransfer.images.shards import sources as sources_module
from whytransfer.images.shards.annotations import runs
from whytransfer.images.shards.index import build, from_bytes
from whytransfer.images.shards.members import Tar
from whytransfer.images.shards.sources import Local


def jpeg(shade: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), (shade, 0, 0)).save(file, "JPEG")
    return file.getvalue()


def tar(path: Path, members: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as file:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            file.addfile(about, io.BytesIO(content))
    return path


@pytest.fixture
def packed(photos: Path) -> Path:
    folder = photos.parent / "packed"
    pack(Folder(photos), folder, 5)
    return folder


# ---- equal to the files


def test_shards_are_the_folder_that_was_packed(photos, packed):
    folder, shards = Folder(photos), open_images(str(packed))
    assert sorted(path.name for path in packed.glob("*.tar")) == [f"00000{k}.tar" for k in range(3)]
    assert list(shards.names) == list(folder.names) and shards.classes == folder.classes
    assert shards.labels.tolist() == folder.labels.tolist() and shards.name == folder.name
    assert [shards.encoded(i) for i in range(12)] == [folder.encoded(i) for i in range(12)]
    assert shards.fingerprint() == folder.fingerprint()
    assert shards.stamp().sizes == folder.stamp().sizes  # so a pixel cache of the one is looked up for the other
    assert (shards[7].image == folder[7].image).all() and shards[7].label == folder[7].label
    assert shards.notes == () and not (packed / "packing.json").exists()


def test_the_pixel_cache_of_the_files_serves_the_shards(photos, packed, tmp_path):
    first = PixelCache.open(Folder(photos), 16, tmp_path / "cache")
    again = PixelCache.open(open_images(str(packed)), 16, tmp_path / "cache")
    assert again.path == first.path and again.fingerprint == first.fingerprint


def test_some_shards_of_a_packed_set_keep_its_classes(photos, packed):
    part = open_images(f"{packed}/{{000001..000002}}.tar")
    assert part.classes == ("cat", "dog", "fox") and part.labels.tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert part.encoded(0) == Folder(photos).encoded(5)
    assert list(subset(part, [6, 0]).names) == ["fox/3.png", "dog/1.png"]


def test_other_programs_find_samples_as_webdataset_groups_them(photos, packed):
    found = []
    for shard in sorted(packed.glob("*.tar")):
        with tarfile.open(shard) as file:
            for member in file:  # the rule of the format, written out: the key ends at the first dot of the last part
                folder, _, base = member.name.rpartition("/")
                key, kind = base.split(".", 1)
                found.append((f"{folder}/{key}", kind, file.extractfile(member).read()))
    keys = list(dict.fromkeys(key for key, _, _ in found))
    assert keys == [name.rsplit(".", 1)[0] for name in Folder(photos).names]
    labels = [int(content) for _, kind, content in found if kind == "cls"]
    assert labels == Folder(photos).labels.tolist()


def test_names_that_are_no_keys_come_back(tmp_path):
    names = [
        "a.jpg",
        "a.png",
        "b.c.jpg",
        "__d.jpg",
        "dir.x/e.JPG",
        "é/\N{SNOWMAN}.jpeg",
        f"{'n' * 120}/{'m' * 140}.jpg",
    ]
    for k, name in enumerate(names):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(jpeg(k))
    folder = Folder(tmp_path / "in")
    pack(folder, tmp_path / "out", 100)
    shards = open_images(str(tmp_path / "out"))
    assert list(shards.names) == list(folder.names) and len(shards) == len(names)
    assert shards.fingerprint() == folder.fingerprint()


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_a_name_that_is_not_utf8_comes_back(tmp_path):
    (tmp_path / "in").mkdir()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/\xff.jpg")).write_bytes(jpeg())
    except OSError:
        pytest.skip("this file system takes no such name")
    folder = Folder(tmp_path / "in")
    pack(folder, tmp_path / "out", 9)
    assert list(open_images(str(tmp_path / "out")).names) == list(folder.names)


def test_the_same_images_make_the_same_bytes(photos, packed):
    os.utime(photos / "cat" / "0.jpg")
    pack(Folder(photos), photos.parent / "again", 5)
    for shard in packed.glob("*.tar"):
        assert shard.read_bytes() == (photos.parent / "again" / shard.name).read_bytes()


def test_scenes_keep_their_annotations(tmp_path):
    scenes = open_images("scenes:7:3:32")
    pack(scenes, tmp_path / "out", 3)
    shards = open_images(str(tmp_path / "out"))
    assert shards.labelled_with == scenes.labelled_with and shards.box_classes == scenes.box_classes
    assert shards.depth_unit == "radii" and "latent factors were not packed" in shards.notes[0]
    for i in (0, 3, 6):
        for name in ("image", "boxes", "box_labels", "masks", "depth", "keypoints"):
            ours, theirs = getattr(shards[i], name), getattr(scenes[i], name)
            assert type(ours) is type(theirs) and ours.dtype == theirs.dtype and (ours == theirs).all(), name
    assert (shards.annotations.read(2, ("boxes",)).masks, shards.annotations.read(2, ("boxes",)).depth) == (None, None)


def test_annotations_are_part_of_the_fingerprint(tmp_path):
    pack(open_images("scenes:4:0:32"), tmp_path / "out", 4)
    shards = open_images(str(tmp_path / "out"))
    before = shards.fingerprint(), shards.annotations_digest()
    content = (tmp_path / "out" / "000000.tar").read_bytes()
    place = content.index(b'"box_labels":[') + len(b'"box_labels":[')
    changed = bytes([content[place] ^ 1])  # another digit
    (tmp_path / "out" / "000000.tar").write_bytes(content[:place] + changed + content[place + 1 :])
    shards = open_images(str(tmp_path / "out"))
    assert shards.annotations_digest() != before[1] and shards.fingerprint() != before[0]


def test_runs_are_cocos_counts():
    mask = np.array([[0, 1, 1], [0, 1, 0]], dtype=bool)
    assert runs(mask) == [2, 3, 1]  # down the columns: 0 0 | 1 1 | 1 0
    assert runs(~mask) == [0, 2, 3, 1] and runs(np.zeros((2, 3), bool)) == [6]


# ---- the index, against tarfile


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_where_tarfile_finds_them(tmp_path, form):
    names = ["a.jpg", f"{'d' * 90}/{'e' * 60}.jpg", "./x/b.txt"]
    names += [] if form == tarfile.USTAR_FORMAT else [f"{'long/' * 60}c.jpg", "\N{SNOWMAN}/é.jpg"]
    path = tar(tmp_path / "x.tar", {name: jpeg(k) * (k + 1) for k, name in enumerate(names)}, form)
    with tarfile.open(path, "a", format=form) as file:
        file.add(tmp_path, "a-folder", recursive=False)
    with tarfile.open(path) as file:
        known = [(m.name.removeprefix("./"), m.offset_data, m.size) for m in file if m.isfile()]
    found = [(m.name, m.begin, m.size) for m in Tar(Local(str(path)))]
    assert found == known and len(found) == len(names)
    content = path.read_bytes()
    assert [m.crc for m in Tar(Local(str(path)))] == [zlib.crc32(content[b - 512 : b]) for _, b, _ in known]


def test_a_size_in_base_256_is_read(tmp_path):
    path = tar(tmp_path / "x.tar", {"a.jpg": jpeg()}, tarfile.GNU_FORMAT)
    content = bytearray(path.read_bytes())
    content[124:136] = b"\x80" + len(jpeg()).to_bytes(11, "big")
    path.write_bytes(with_checksum(content))
    assert open_images(str(path)).encoded(0) == jpeg()


def with_checksum(content: bytes | bytearray, offset: int = 0) -> bytes:
    content = bytearray(content)
    content[offset + 148 : offset + 156] = b" " * 8
    content[offset + 148 : offset + 156] = b"%06o\0 " % sum(content[offset : offset + 512])
    return bytes(content)


def test_shards_of_others_are_read(tmp_path):
    for k in range(2):
        members = {"._junk.jpg": b"x", "__about__.json": b"{}"}
        for i in range(3):
            members |= {f"{i:04d}.jpg": jpeg(i), f"{i:04d}.cls": b"%d\n" % (7 + 2 * k), f"{i:04d}.json": b"{}"}
        tar(tmp_path / f"train-{k:03d}.tar", {**members, "readme.txt": b"x"})
    images = open_images(f"{tmp_path}/train-{{000..001}}.tar")
    assert images.name == "train" and images.classes == ("7", "9") and images.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.names[4] == "0001.jpg" and images.encoded(4) == jpeg(1)
    assert images.notes == (
        "2 samples without an image left out",
        "8 other members left out (6 .json, 2 .txt)",
    )
    assert images.member(4) == f"{tmp_path}/train-001.tar/0001.jpg"


def test_shards_without_classes_are_unlabelled_and_say_so(tmp_path):
    images = open_images(str(tar(tmp_path / "x.tar", {"cat/a.jpg": jpeg()})))
    assert images.classes == () and images.labels.tolist() == [-1]
    assert "no sample has a .cls member" in images.notes[0]


def test_an_open_set_keeps_fewer_bytes_than_it_says(photos, packed):
    images = open_images(str(packed))
    assert images.nbytes / 12 < 45 + max(map(len, images.names)) + 1


# ---- found again after a change


def cached_indexes() -> list[Path]:
    return sorted((Path(os.environ["WHYTRANSFER_CACHE"]) / "shards").glob("*.index"))


def test_the_index_beside_a_shard_is_used(packed, monkeypatch):
    monkeypatch.setattr("whytransfer.images.shards.index.build", lambda source: pytest.fail("made anew"))
    assert len(open_images(str(packed))) == 12


def test_an_index_in_the_cache_is_made_once(tmp_path, monkeypatch):
    path = tar(tmp_path / "x.tar", {"a.jpg": jpeg()})
    before = cached_indexes()
    open_images(str(path))
    assert len(cached_indexes()) == len(before) + 1 and not list(tmp_path.glob("*.index"))
    monkeypatch.setattr("whytransfer.images.shards.index.build", lambda source: pytest.fail("made anew"))
    assert len(open_images(str(path))) == 1


def test_a_stale_index_is_not_used(photos, packed, tmp_path):
    open_images(str(packed))
    shard = packed / "000000.tar"
    tar(shard, {"new.jpg": jpeg()})
    os.utime(shard, ns=(2**62, 2**62))  # newer than the index beside it, whatever the clock's grain
    assert list(open_images(str(shard)).names) == ["new.jpg"]
    tar(shard, {"newer.jpg": jpeg()})  # of equal size: only the time tells
    os.utime(shard, ns=(2**62 + 1, 2**62 + 1))
    assert list(open_images(str(shard)).names) == ["newer.jpg"]


def test_a_damaged_index_is_made_anew_and_said(packed, caplog):
    index = packed / "000000.tar.index"
    for content in (b"", b"WTSHARD1", index.read_bytes()[:-3], index.read_bytes()[:40] + b"\7" * 99):
        caplog.clear()
        index.write_bytes(content)
        assert len(open_images(str(packed / "000000.tar"))) == 5
        assert "000000.tar.index is damaged" in caplog.text


def test_a_shard_that_changes_while_it_is_open_is_refused(photos, packed):
    images = open_images(str(packed))
    tar(packed / "000001.tar", {f"{k}.jpg": jpeg(k) for k in range(20)})
    assert images.encoded(0) == Folder(photos).encoded(0)
    with pytest.raises(InputError, match="000001.tar has changed since it was opened: start again"):
        images.encoded(5)
    (packed / "000002.tar").unlink()
    with pytest.raises(RunError, match="cannot read shard .*000002.tar: No such file"):
        images.encoded(11)


def test_indexes_survive_their_own_file(packed):
    index = build(Local(str(packed / "000000.tar")))
    again, state = from_bytes(index.to_bytes("then"))
    assert state == "then" and list(again.names) == list(index.names) and again.size == index.size
    for name in ("where", "crcs", "labels"):
        ours, theirs = getattr(again, name), getattr(index, name)
        assert ours.dtype == theirs.dtype and (ours == theirs).all()


# ---- refused


def header(kind: bytes = b"0", size: int = 0, name: bytes = b"a.jpg") -> bytes:
    about = tarfile.TarInfo(os.fsdecode(name))
    about.type, about.size, about.linkname = kind, size, "/etc/passwd" if kind in b"12" else ""
    return about.tobuf(tarfile.USTAR_FORMAT)


END = bytes(1024)
HOSTILE = {
    "outside": (header(name=b"../../etc/x.jpg") + END, "points outside the archive"),
    "absolute": (header(name=b"/etc/x.jpg") + END, "points outside the archive"),
    "a drive": (header(name=b"C:/x.jpg") + END, "points outside the archive"),
    "a hard link": (header(b"1") + END, "member 'a.jpg' is a hard link: a shard holds plain files only"),
    "a symbolic link": (header(b"2") + END, "is a symbolic link"),
    "a device": (header(b"3") + END, "is a character device"),
    "a pipe": (header(b"6") + END, "is a pipe"),
    "a sparse file": (header(b"S") + END, "is a sparse file"),
    "an unknown kind": (header(b"Z") + END, "is of the unknown kind b'Z'"),
    "a huge size": (header(size=8**11 - 1) + END, "is to have 8,589,934,591 bytes and 1,024 are left"),
    "twice": (header() + header() + END, "'a.jpg' was there before"),
    "apart": (header() + header(name=b"b.jpg") + header(name=b"a.cls") + END, "sample 'a' was there before"),
    "no checksum": (header().replace(b"ustar", b"uster") + END, "byte 0: there is no tar header here"),
    "no number": (with_checksum(header()[:124] + b"12x45678901\0" + header()[136:]) + END, "where a number is needed"),
    "no end": (header(), "byte 512: the file is cut short here"),
    "cut in a header": (header()[:300], "byte 0: the file is cut short here"),
    "nothing": (b"", "byte 0: the file is cut short here"),
    "only the end": (END, "no image in shard .*, found nothing"),
    "joined": (header() + END + header(name=b"b.jpg") + END, "bytes follow the end mark: tar files that were joined"),
    "gzip": (b"\x1f\x8b\x08" + END, "is compressed \\(gzip\\)"),
    "long names": (header(b"L", 8**8) + END, "an extended header of 16,777,216 bytes"),
    "pax damaged": (header(b"x", 512) + b"99999 path=x\n".ljust(512, b"\0") + header() + END, "that cannot be read"),
    "pax everywhere": (header(b"g", 13) + b"13 path=x.jpg"[:12].ljust(512, b"\n") + END, "cannot be read|path record"),
    "no images": (header(name=b"a.tif") + END, "no image in shard .*: looked for .jpg.*, found"),
    "two images": (header() + header(name=b"a.png") + END, "sample 'a' has several images \\(a.jpg and a.png\\)"),
    "no class": (header() + header(size=3, name=b"a.cls") + b"cat".ljust(512, b"\0") + END, "holds b'cat'"),
    "a class of words": (header() + header(size=600, name=b"a.cls") + bytes(1024) + END, "600 bytes, 64 at most"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_and_damaged_tars_are_refused(case, tmp_path):
    content, message = HOSTILE[case]
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_images(str(tmp_path / "x.tar"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar"]


def test_a_tar_cut_short_anywhere_is_refused(packed):
    whole = (packed / "000000.tar").read_bytes()
    (packed / "000000.tar.index").unlink()
    data = len(whole.rstrip(b"\0"))
    for length in range(0, data, 311):
        (packed / "000000.tar").write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"cut short|are left"):
            open_images(str(packed / "000000.tar"))


def test_an_image_in_a_shard_that_is_none_is_named(tmp_path):
    path = tar(tmp_path / "x.tar", {"a.jpg": jpeg(), "b.jpg": b"no image"})
    with pytest.raises(InputError, match="cannot read image b.jpg: not a JPEG"):
        PixelCache.open(open_images(str(path)), None, tmp_path / "cache")


def test_missing_shards_and_cards_are_named(packed):
    with pytest.raises(InputError, match=r"2 of 4 shards are missing: .*000003.tar, .*000004.tar"):
        open_images(f"{packed}/00000{{1..4}}.tar")
    with pytest.raises(InputError, match="x.tar.gz is compressed"):
        (packed / "x.tar.gz").write_bytes(b"\x1f\x8b")
        open_images(str(packed / "x.tar.gz"))
    card = json.loads((packed / "shards.json").read_text())
    for change, message in (
        ({"format": 2}, "is of format 2, this version reads 1"),
        ({"shards": ["../x.tar"]}, "names of shards or classes that cannot be"),
        ({"classes": 3}, "is damaged, or no card of shards"),
        ({"classes": ["cat"]}, "an image is of class 2, and shards.json names 1 classes"),
    ):
        (packed / "shards.json").write_text(json.dumps(card | change))
        with pytest.raises(InputError, match=message):
            open_images(str(packed))


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size": [10**6, 10**6]}, "a size of"),
        ({"size": [32, 32.0]}, "a size of"),
        ({"box_labels": [99]}, "with the classes"),
        ({"masks": [[5]]}, "are not the 1024 pixels|masks or difficult objects"),
        ({"boxes_xyxy": [[0, 0, 1]]}, "cannot be read"),
        ({"keypoints": 3}, "cannot be read"),
        ({"size": [16, 64]}, "a depth map|annotations are for|are not the"),
    ],
)
def test_damaged_annotations_are_refused(change, message, tmp_path):
    pack(open_images("scenes:1:0:32"), tmp_path / "out", 1)
    shards = open_images(str(tmp_path / "out"))
    told = json.loads(shards._annotation(0, "objects.json"))
    shards.annotations._member = lambda i, kind: (
        json.dumps(told | change).encode() if kind == "objects.json" else shards._annotation(i, kind)
    )
    with pytest.raises(InputError, match=message):
        shards[0]


def test_a_depth_map_cannot_ask_for_memory(tmp_path):
    pack(open_images("scenes:1:0:32"), tmp_path / "out", 1)
    shards = open_images(str(tmp_path / "out"))
    real = shards._annotation(0, "depth.npy")
    huge = real.replace(b"(32, 32)", b"(9999999, 9999999)").replace(b" " * 14 + b"\n", b"\n", 1)
    for content in (huge, real[:-4], b"\x93NUMPY", real.replace(b"<f4", b"|O8")):
        shards.annotations._member = lambda i, kind, c=content: (
            c if kind == "depth.npy" else shards._annotation(i, kind)
        )
        with pytest.raises(InputError, match="its annotations cannot be read"):
            shards.annotations.read(0, ("depth",))


def test_patterns():
    assert expanded("a-{08..11}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
    assert expanded("{x,y}-{0..1}.tar") == ["x-0.tar", "x-1.tar", "y-0.tar", "y-1.tar"]
    for pattern, message in (
        ("a-{3..1}.tar", "{3..1} runs backwards"),
        ("a-{1..3.tar", "braces that do not match"),
        ("{0..99999}{0..99999}.tar", "names more than 100,000 shards"),
        ("{0..99999999999}.tar", "names more than 100,000 shards"),
    ):
        with pytest.raises(InputError, match=message):
            expanded(pattern)


# ---- packing


def test_a_killed_packing_goes_on(photos, tmp_path, monkeypatch):
    done = []

    def die(number: int) -> None:
        done.append(number)
        if len(done) == 2:
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        pack(Folder(photos), out, 4, die)
    assert not (out / "shards.json").exists()
    for name in ("000002.tar", "packing.json"):  # what kills leave
        (out / f".{name}.abcdefgh.tmp").touch()
    first = (out / "000000.tar").stat().st_mtime_ns
    with pytest.raises(InputError, match="holds an unfinished packing of other images, or of another --shard-size"):
        pack(Folder(photos), out, 5)
    assert pack(Folder(photos), out, 4).shards == 3 and not list(out.glob(".*.tmp"))
    assert (out / "000000.tar").stat().st_mtime_ns == first
    assert open_images(str(out)).fingerprint() == Folder(photos).fingerprint()
    assert pack(Folder(photos), out, 4).images == 12  # a kill may come after the very last file
    assert (out / "000000.tar").stat().st_mtime_ns == first
    (photos / "cat" / "0.jpg").unlink()
    with pytest.raises(InputError, match="holds shards of other images, or of another --shard-size"):
        pack(Folder(photos), out, 4)


def test_packing_leaves_other_things_alone(photos, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    with pytest.raises(InputError, match="out is not empty: it holds thesis.tex"):
        pack(Folder(photos), tmp_path / "out", 4)


class Rows:
    """One encoded image without a name of its own, as rows of a table are."""

    name, classes, labels, names = "rows", (), np.array([-1]), ["row 0"]

    def __init__(self, content: bytes):
        self._content = content

    def __len__(self):
        return 1

    def __getitem__(self, i):
        raise AssertionError("it is not decoded")

    def encoded(self, i):
        return self._content

    def stamp(self):
        return stamp_of("rows", [("row 0", len(self._content), 0)])

    def fingerprint(self):
        return fingerprint_of(self)


def test_what_is_no_picture_is_not_packed(tmp_path):
    rows = Rows(b"GIF89a")
    with pytest.raises(InputError, match="row 0 is no JPEG, PNG, WebP or BMP"):
        pack(rows, tmp_path / "out", 4)
    assert not list((tmp_path / "out").glob("*.tar"))
    (tmp_path / "out" / "packing.json").unlink()
    pack(Rows(jpeg()), tmp_path / "out", 4)
    assert list(open_images(str(tmp_path / "out")).names) == ["row 0"]


# ---- from afar


@pytest.fixture
def memory(packed):
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for path in packed.iterdir():
        if path.is_file() and not path.name.startswith("."):
            files.pipe_file(f"/bucket/set/{path.name}", path.read_bytes())
    yield files
    files.rm("/bucket", recursive=True)


def test_shards_in_an_object_store(photos, memory):
    images = open_images("memory://bucket/set")
    assert images.fingerprint() == Folder(photos).fingerprint() and images.classes == ("cat", "dog", "fox")
    part = open_images("memory://bucket/set/{000000..000001}.tar")
    assert len(part) == 10 and part.encoded(9) == Folder(photos).encoded(9)
    with pytest.raises(InputError, match="there is no memory://bucket/nothing/shards.json"):
        open_images("memory://bucket/nothing")
    with pytest.raises(InputError, match="there is no memory://bucket/set/9.tar"):
        open_images("memory://bucket/set/9.tar")


def test_reading_in_order_fetches_ahead(memory, monkeypatch):
    images = open_images("memory://bucket/set/000000.tar")
    asked, ask = [], memory.cat_file
    monkeypatch.setattr(
        type(memory), "cat_file", lambda self, path, start=None, end=None: asked.append(path) or ask(path, start, end)
    )
    content = [images.encoded(i) for i in range(5)]
    assert len(asked) <= 2
    asked.clear()
    assert [images.encoded(i) for i in (4, 0, 3)] == [content[4], content[0], content[3]]


def test_a_broken_connection_is_tried_again(memory, monkeypatch):
    images = open_images("memory://bucket/set/000000.tar")
    monkeypatch.setattr(sources_module, "_PAUSE_S", 0.001)
    tries, ask = [], memory.cat_file

    def flaky(self, path, start=None, end=None):
        tries.append(path)
        if len(tries) % 3:
            raise ConnectionResetError("peer went away")
        return ask(path, start, end)

    monkeypatch.setattr(type(memory), "cat_file", flaky)
    assert images.encoded(0)[:2] == b"\xff\xd8" and len(tries) == 3
    monkeypatch.setattr(type(memory), "cat_file", lambda *a, **k: (_ for _ in ()).throw(TimeoutError("slow")))
    with pytest.raises(RunError, match="could not be read, 3 times \\(TimeoutError: slow\\)"):
        open_images("memory://bucket/set/000000.tar")


class _Files(BaseHTTPRequestHandler):
    folder, ranges = Path(), True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content, status = path.read_bytes(), 200
        asked = self.headers.get("Range")
        whole = len(content)
        if asked and self.ranges:
            first, last = asked.removeprefix("bytes=").split("-")
            content, status = content[int(first) : int(last) + 1 if last else None], 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if self.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(content) - 1}/{whole}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@pytest.mark.parametrize("ranges", [True, False])
def test_shards_over_http(photos, packed, ranges):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp", reason="http needs aiohttp: pip install 'whytransfer[remote]'")
    handler = type("Handler", (_Files,), {"folder": packed, "ranges": ranges})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        place = f"http://127.0.0.1:{server.server_port}"
        images = open_images(place)
        if ranges:
            assert [images.encoded(i) for i in (11, 0, 6)] == [Folder(photos).encoded(i) for i in (11, 0, 6)]
        else:
            with pytest.raises(InputError, match="this server does not answer range requests"):
                images.encoded(11)
    finally:
        server.shutdown()
        server.server_close()


def test_a_package_that_is_missing_is_named(monkeypatch):
    pytest.importorskip("fsspec")

    def missing(place):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(InputError, match=r"Install s3fs to access S3. .*pip install 'whytransfer\[remote\]'"):
        open_images("s3://bucket/{000..001}.tar")


def test_the_index_of_a_whole_disk_is_not_needed(packed, monkeypatch, caplog):
    """A cache that cannot be written costs time, nothing else."""
    (packed / "000000.tar.index").unlink()

    def full(path, write, advice=""):
        raise RunError("the disk is full")

    monkeypatch.setattr("whytransfer.images.shards.index.atomic_write", full)
    assert len(open_images(str(packed / "000000.tar"))) == 5
    assert "could not be kept (the disk is full)" in caplog.text


def test_two_packings_of_one_folder(photos, tmp_path):
    (tmp_path / "out").mkdir()
    with locked(tmp_path / "out" / ".lock"), pytest.raises(InputError, match="another process is packing into"):
        pack(Folder(photos), tmp_path / "out", 4)
    assert pack(Folder(photos), tmp_path / "out", 4).images == 12


def test_shards_of_equal_names_in_two_folders_are_told_apart(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        tar(tmp_path / folder / "x.tar", {f"{folder}.jpg": jpeg()})
        os.utime(tmp_path / folder / "x.tar", ns=(10**18, 10**18))
    found = []
    for folder in ("one", "two"):
        monkeypatch.chdir(tmp_path / folder)
        images = open_images("x.tar")
        found.append((list(images.names), images.stamp().files))
    assert [names for names, _ in found] == [["one.jpg"], ["two.jpg"]] and found[0][1] != found[1][1]
