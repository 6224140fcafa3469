"""The pixel cache: the same pixels, found by content, whole or absent, within its bounds, whoever else is at it."""

import builtins
import errno
import functools
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

from whytransfer.errors import InputError, RunError
from whytransfer.images import Folder, open_images, subset
from whytransfer.images import build as build_module
from whytransfer.images import cache as cache_module
from whytransfer.images import folder as folder_module
from whytransfer.images.build import pixels_of
from whytransfer.images.cache import PixelCache, default_folder


@pytest.fixture
def aged(photos):
    """Photos changed an hour ago: younger ones are always read again, for they may change within the clock's grain."""
    for path in photos.rglob("*.*"):
        os.utime(path, (time.time() - 3600,) * 2)
    return photos


@pytest.fixture
def calls(monkeypatch):
    """How often images were decoded and hashed since the start of the test."""
    counts = {"decoded": 0, "read": 0}
    decode, encoded = build_module.decode, Folder.encoded

    def counted_decode(*arguments):
        counts["decoded"] += 1
        return decode(*arguments)

    def counted_read(self, i):
        counts["read"] += 1
        return encoded(self, i)

    monkeypatch.setattr(build_module, "decode", counted_decode)
    monkeypatch.setattr(Folder, "encoded", counted_read)
    return counts


def entries(folder):
    return sorted(path.name for path in (folder / "entries").iterdir())


def assert_nothing_half_written(folder):
    assert (
        entries(folder) == []
        and list((folder / "building").iterdir()) == []
        and list((folder / "stamps").iterdir()) == []
    )


@pytest.mark.parametrize("max_side_px", [None, 16, 1])
def test_pixels_are_those_of_the_files(photos, tmp_path, max_side_px):
    images = Folder(photos)
    cache = PixelCache.open(images, max_side_px, tmp_path / "cache")
    assert len(cache) == 12 and cache.cached == 12 and cache.labels.tolist() == images.labels.tolist()
    for i in range(12):
        pixels = cache.pixels(i)
        assert np.array_equal(pixels, pixels_of(images, i, max_side_px))
        assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and not pixels.flags.writeable
        assert min(pixels.shape[:2]) == min(max_side_px or 999, *images[i].image.shape[1:])
    assert (cache.name, cache.classes, cache.fingerprint) == (images.name, images.classes, images.fingerprint())


def test_unchanged_files_are_not_even_read_again(aged, tmp_path, calls):
    first = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    assert calls == {"decoded": 12, "read": 12}
    second = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    assert calls == {"decoded": 12, "read": 12} and second.fingerprint == first.fingerprint


def test_a_copy_is_recognised_without_decoding(aged, tmp_path, calls):
    first = PixelCache.open(Folder(aged), None, tmp_path / "cache")
    copy = shutil.copytree(aged, tmp_path / "copy")
    second = PixelCache.open(Folder(copy), None, tmp_path / "cache")
    assert calls == {"decoded": 12, "read": 24} and second.path == first.path
    PixelCache.open(Folder(copy), None, tmp_path / "cache")
    assert calls["read"] == 24


def test_a_zip_of_the_same_files_shares_their_cache(aged, tmp_path, calls):
    first = PixelCache.open(Folder(aged), None, tmp_path / "cache")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in aged.rglob("*.*"):
            archive.write(path, path.relative_to(aged).as_posix())
    assert PixelCache.open(open_images(str(tmp_path / "photos.zip")), None, tmp_path / "cache").path == first.path
    assert calls["decoded"] == 12


def test_an_edited_file_of_equal_size_is_noticed(photos, tmp_path):
    for i in range(2):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(photos / "cat" / f"{i}.bmp")
    for path in photos.rglob("*.*"):
        os.utime(path, (time.time() - 3600,) * 2)
    before = PixelCache.open(Folder(photos), None, tmp_path / "cache")
    size = (photos / "cat" / "0.bmp").stat().st_size
    Image.new("RGB", (8, 8), (77, 0, 0)).save(photos / "cat" / "0.bmp")
    assert (photos / "cat" / "0.bmp").stat().st_size == size
    after = PixelCache.open(Folder(photos), None, tmp_path / "cache")
    assert after.fingerprint != before.fingerprint
    assert before.pixels(0)[0, 0].tolist() == [0, 0, 0] and after.pixels(0)[0, 0].tolist() == [77, 0, 0]


def test_a_file_edited_just_now_is_noticed_even_with_the_same_time(photos, tmp_path):
    path = photos / "cat" / "0.bmp"
    Image.new("RGB", (8, 8), "red").save(path)
    before, stat = PixelCache.open(Folder(photos), None, tmp_path / "cache"), path.stat()
    Image.new("RGB", (8, 8), "blue").save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert PixelCache.open(Folder(photos), None, tmp_path / "cache").fingerprint != before.fingerprint


def test_a_file_that_may_be_read_again_comes_back(aged, tmp_path, monkeypatch, calls):
    """chmod changes neither size nor time of change, so a set with unread files is not known by its stamp."""

    def locked(path, *arguments, **options):
        if str(path) == str(aged / "cat" / "0.jpg"):
            raise PermissionError(13, "Permission denied")
        return open(path, *arguments, **options)

    def opened():
        return PixelCache.open(Folder(aged), None, tmp_path / "cache", skip_unreadable=True)

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "open", locked, raising=False)
        assert opened().dropped == (str(aged / "cat" / "0.jpg"),)
        calls["decoded"] = 0
        assert len(opened()) == 11 and calls["decoded"] == 0
    assert opened().dropped == () and len(opened()) == 12


def test_an_unreadable_file_of_an_undecodable_name_is_kept_in_the_entry(aged, tmp_path, calls, monkeypatch):
    # what is logged is sent between the processes of pytest-xdist, which cannot encode such a name
    monkeypatch.setattr(logging.getLogger("whytransfer.images.cache"), "disabled", True)
    name = os.fsencode(aged / "cat") + b"/\xff.png"
    try:
        with open(name, "wb") as file:
            file.write(b"no picture")
    except OSError:
        pytest.skip("this file system takes only names in UTF-8")
    for _ in range(2):
        cache = PixelCache.open(Folder(aged), 16, tmp_path / "cache", skip_unreadable=True)
        assert len(cache) == 12 and len(cache.dropped) == 1 and calls["decoded"] == 13


def test_policies_have_their_own_entries(photos, tmp_path):
    shapes = {
        side: PixelCache.open(Folder(photos), side, tmp_path / "cache").pixels(11).shape for side in (None, 16, 8)
    }
    assert len(entries(tmp_path / "cache")) == 3 and min(shapes[16][:2]) == 16 and min(shapes[8][:2]) == 8


def test_beyond_the_bound_images_are_decoded_at_each_use_and_it_says_so(photos, tmp_path, calls, caplog):
    images = Folder(photos)
    cache = PixelCache.open(images, None, tmp_path / "cache", max_bytes=20_000)
    assert 0 < cache.cached < 12 and (cache.path / "pixels.bin").stat().st_size <= 20_000
    assert all(np.array_equal(cache.pixels(i), pixels_of(images, i, None)) for i in range(12))
    assert not cache.pixels(11).flags.writeable
    said = [record.message for record in caplog.records]
    assert len(said) == 1 and f"{cache.cached} of 12 images (0.02 MB of 0.04 MB) are in the pixel cache" in said[0]
    before = calls["decoded"]
    cache.pixels(11)
    assert calls["decoded"] == before + 1


def test_a_larger_bound_builds_again_and_then_serves_every_smaller_one(photos, tmp_path):
    folder, images = tmp_path / "cache", Folder(photos)
    assert PixelCache.open(images, None, folder, max_bytes=0).cached == 0
    assert PixelCache.open(images, None, folder).cached == 12
    assert PixelCache.open(images, None, folder, max_bytes=0).cached == 12
    assert PixelCache.open(images, None, folder, max_bytes=0).pixels(3).shape == images[3].image.permute(1, 2, 0).shape


def test_a_set_without_files_is_cached_by_its_fingerprint(photos, tmp_path):
    class Made:
        name, classes, labels = "made", ("a",), np.zeros(5, dtype=np.int64)

        def __len__(self):
            return 5

        def __getitem__(self, i):
            return Folder(photos)[i]

        def fingerprint(self):
            return "made-1"

    cache = PixelCache.open(Made(), 10, tmp_path / "cache")
    assert cache.fingerprint == "made-1" and min(cache.pixels(0).shape[:2]) == 10
    assert np.array_equal(
        PixelCache.open(Made(), None, tmp_path / "cache").pixels(4), pixels_of(Folder(photos), 4, None)
    )


def test_progress_tells_images_done_and_ends_with_all(photos, tmp_path):
    told = []
    PixelCache.open(Folder(photos), None, tmp_path / "cache", progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (12, 12) and told == sorted(told)


def test_state_per_image_is_small(photos, tmp_path):
    cache = PixelCache.open(Folder(photos), None, tmp_path / "cache")
    assert cache.state_bytes_per_image < 8 + 8 + 8 + Folder(photos).nbytes / 12 + 1


def test_building_holds_a_few_bytes_per_image(tmp_path):
    """Offsets, sides and one running digest, no object for each: a million images are not 300 MB of them."""
    count = 20_000
    images = np.zeros((count, 1, 1, 3), np.uint8)
    writer = build_module._Writer(tmp_path / "pixels.bin", 10**9, count)
    tracemalloc.start()
    with open(os.devnull, "wb") as file:
        for pixels in images:
            writer.add(file, pixels)
        held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert writer.seen == count and held / count < 16


def test_a_subset_shares_the_file(photos, tmp_path):
    cache = PixelCache.open(Folder(photos), None, tmp_path / "cache", max_bytes=20_000)
    part = subset(subset(cache, [11, 3, 4, 0]), [0, 3])
    assert len(part) == 2 and part.labels.tolist() == [2, 0] and part.fingerprint != cache.fingerprint
    assert np.array_equal(part.pixels(0), cache.pixels(11)) and np.array_equal(part.pixels(1), cache.pixels(0))
    assert len(entries(tmp_path / "cache")) == 1


def test_a_damaged_entry_is_built_again(aged, tmp_path):
    first = PixelCache.open(Folder(aged), None, tmp_path / "cache")
    whole = first.pixels(0).copy()
    (first.path / "pixels.bin").unlink()
    (first.path / "pixels.bin").write_bytes(b"short")
    again = PixelCache.open(Folder(aged), None, tmp_path / "cache")
    assert np.array_equal(again.pixels(0), whole)
    (again.path / "entry.json").write_text("{")
    assert np.array_equal(PixelCache.open(Folder(aged), None, tmp_path / "cache").pixels(0), whole)


GARBLED = b"\xff\xfe{"  # no UTF-8


@pytest.mark.parametrize("name", ["pixels.bin", "offsets.npy", "sides.npy", "entry.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "garbled", "zeros"])
def test_an_entry_with_a_damaged_file_is_built_again(aged, tmp_path, name, damage):
    first = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    whole, path = [first.pixels(i).copy() for i in range(12)], first.path / name
    content = path.read_bytes()
    damaged = {"empty": b"", "cut": content[:-7], "garbled": GARBLED, "zeros": bytes(len(content) + 1)}
    path.unlink()  # the open cache keeps what it has mapped
    if damage != "missing":
        path.write_bytes(damaged[damage])
    again = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    assert path.read_bytes() == content and again.fingerprint == first.fingerprint
    assert all(np.array_equal(again.pixels(i), whole[i]) for i in range(12))


@pytest.mark.parametrize("values", ["{}", "[]", "null", '{"count": 12}', "less", "more", "text"])
def test_an_entry_that_does_not_say_what_it_holds_is_built_again(aged, tmp_path, values):
    path = PixelCache.open(Folder(aged), 16, tmp_path / "cache").path / "entry.json"
    told = json.loads(path.read_text())
    changed = {"less": {"count": 11, "cached": 11}, "more": {"cached": 13}, "text": {"bytes": "many"}}
    path.write_text(json.dumps(told | changed[values]) if values in changed else values)
    PixelCache.open(Folder(aged / "cat"), 16, tmp_path / "cache")  # another set looks through all entries
    assert len(PixelCache.open(Folder(aged), 16, tmp_path / "cache")) == 12 and json.loads(path.read_text()) == told


@pytest.mark.parametrize("noted", [b"", GARBLED, bytes(32), b"0" * 31, b"0" * 32 + b"\n"])
def test_a_damaged_stamp_is_forgotten(aged, tmp_path, calls, noted):
    first = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    [stamp] = (tmp_path / "cache" / "stamps").iterdir()
    stamp.write_bytes(noted)
    again = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    assert again.fingerprint == first.fingerprint == Folder(aged).fingerprint() and calls["decoded"] == 12
    assert stamp.read_text() == first.fingerprint and len(entries(tmp_path / "cache")) == 1


def test_of_two_at_once_one_builds_and_one_waits(aged, tmp_path, caplog):
    began, waiting, told, opened = threading.Event(), threading.Event(), [], {}

    class Watch(logging.Handler):
        def emit(self, record):
            if "another process is decoding the same images; waiting" in record.getMessage():
                waiting.set()

    def slow(done, total):
        began.set()
        assert waiting.wait(20)

    def first():
        opened["first"] = PixelCache.open(Folder(aged), None, tmp_path / "cache", progress=slow)

    watch = Watch()
    logging.getLogger("whytransfer.images.store").addHandler(watch)
    thread = threading.Thread(target=first)
    thread.start()
    assert began.wait(20)
    second = PixelCache.open(Folder(aged), None, tmp_path / "cache", progress=lambda *done: told.append(done))
    thread.join()
    logging.getLogger("whytransfer.images.store").removeHandler(watch)
    assert told == [] and second.path == opened["first"].path and len(entries(tmp_path / "cache")) == 1


def test_two_copies_built_at_once_end_in_one_entry(aged, tmp_path):
    copy = shutil.copytree(aged, tmp_path / "copy")
    inner = []

    def meanwhile(done, total):
        if not inner:
            inner.append(PixelCache.open(Folder(copy), None, tmp_path / "cache"))

    outer = PixelCache.open(Folder(aged), None, tmp_path / "cache", progress=meanwhile)
    assert outer.path == inner[0].path and len(entries(tmp_path / "cache")) == 1
    assert np.array_equal(outer.pixels(5), inner[0].pixels(5))


KILLED = """
import os, signal, sys
from pathlib import Path
from whytransfer.images import Folder
from whytransfer.images.cache import PixelCache
PixelCache.open(Folder(sys.argv[1]), None, Path(sys.argv[2]), progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_builder_left_is_cleaned_up(photos, tmp_path):
    folder = tmp_path / "cache"
    ended = subprocess.run([sys.executable, "-c", KILLED, photos, folder], timeout=120)
    assert (
        ended.returncode == -signal.SIGKILL
        and entries(folder) == []
        and len(list((folder / "building").iterdir())) == 1
    )
    PixelCache.open(Folder(photos / "cat"), None, folder)  # another set: it sweeps
    assert list((folder / "building").iterdir()) == [] and len(entries(folder)) == 1
    assert len(PixelCache.open(Folder(photos), None, folder)) == 12


@pytest.fixture
def interruptible():
    """What runs behind a shell's & ignores SIGINT; here it is Ctrl-C again."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_leaves_nothing_half_written(photos, tmp_path, interruptible):
    with pytest.raises(KeyboardInterrupt):
        PixelCache.open(
            Folder(photos), None, tmp_path / "cache", progress=lambda *_: os.kill(os.getpid(), signal.SIGINT)
        )
    assert_nothing_half_written(tmp_path / "cache")


def test_a_full_disk_names_path_need_and_remedy_and_leaves_nothing(photos, tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full to stand for a full disk")
    full = functools.partial(builtins.open, "/dev/full")
    monkeypatch.setattr(build_module, "open", lambda path, mode: full(mode), raising=False)
    with pytest.raises(
        RunError, match=r"disk full while caching pixels in .*cache: about 0.03 MB are needed for 12 images.*--cache-gb"
    ):
        PixelCache.open(Folder(photos), None, tmp_path / "cache")
    assert_nothing_half_written(tmp_path / "cache")


def full_for(monkeypatch, owner, method, part, code):
    """From now on this method fails for paths that have this part, as on a full disk."""
    real = getattr(owner, method)

    def fails(path, *arguments, **options):
        if part in path.parts:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr(owner, method, fails)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize(("method", "part"), [("write_text", "entry.json"), ("mkdir", "building"), ("mkdir", "stamps")])
def test_a_disk_that_is_full_before_or_after_decoding_says_the_same(aged, tmp_path, monkeypatch, method, part, code):
    full_for(monkeypatch, cache_module.Path, method, part, code)
    said = rf"disk full while caching pixels in {tmp_path}/cache: .* are free \({os.strerror(code)}\).*--cache-gb"
    with pytest.raises(RunError, match=said):
        PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    monkeypatch.undo()
    assert len(PixelCache.open(Folder(aged), 16, tmp_path / "cache")) == 12
    assert list((tmp_path / "cache" / "building").iterdir()) == []


def test_a_stamp_that_finds_no_room_costs_only_reading_again(aged, tmp_path, monkeypatch, calls, caplog):
    full_for(monkeypatch, cache_module.Path, "write_text", "stamps", errno.ENOSPC)
    first = PixelCache.open(Folder(aged), 16, tmp_path / "cache")
    assert "could not note these files" in caplog.text and list((tmp_path / "cache" / "stamps").iterdir()) == []
    assert PixelCache.open(Folder(aged), 16, tmp_path / "cache").path == first.path and calls["decoded"] == 12


def test_the_folder_is_bounded_and_the_longest_unused_goes_first(photos, tmp_path, caplog):
    folder, paths = tmp_path / "cache", {}
    for age, name in ((30, "cat"), (20, "dog")):
        paths[name] = PixelCache.open(Folder(photos / name), None, folder).path
        os.utime(paths[name] / "entry.json", (time.time() - age,) * 2)
    PixelCache.open(Folder(photos / "cat"), None, folder)  # used again: now the dogs are the older
    sizes = {name: json.loads((path / "entry.json").read_text())["bytes"] for name, path in paths.items()}
    PixelCache.open(Folder(photos / "fox"), None, folder, max_folder_bytes=sizes["cat"] + 2 * sizes["dog"])
    assert paths["cat"].exists() and not paths["dog"].exists()
    assert "removed" in caplog.text and "the one unused for longest" in caplog.text


def test_a_cache_in_use_survives_its_removal(photos, tmp_path):
    cache = PixelCache.open(Folder(photos), None, tmp_path / "cache")
    shutil.rmtree(cache.path)
    assert np.array_equal(cache.pixels(7), pixels_of(Folder(photos), 7, None))


def test_a_folder_that_cannot_be_made(photos, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match="cannot write the pixel cache .* set WHYTRANSFER_CACHE to a folder that can be written"
    ):
        PixelCache.open(Folder(photos), None, tmp_path / "file" / "cache")


def test_a_bound_above_the_folders_raises_that_too(photos, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(cache_module, "MAX_FOLDER_BYTES", 1000)
    assert not PixelCache.open(Folder(photos), 16, tmp_path / "a", max_bytes=10**6).decodes
    cut = PixelCache.open(Folder(photos), 16, tmp_path / "b", max_bytes=10**6, max_folder_bytes=1000)
    assert cut.decodes and "max_folder_bytes= where it was set" in caplog.text


def refused_below(monkeypatch, folder, code):
    """Let every change below a folder fail as another user's or a read-only one does (tests may run as root)."""

    real_open = builtins.open

    def guard(function):
        def guarded(path, *arguments, **keywords):
            writes = function is not real_open or "w" in str(arguments[:1]) + str(keywords.get("mode"))
            if folder in cache_module.Path(path).parents and writes:
                raise OSError(code, os.strerror(code), str(path))
            return function(path, *arguments, **keywords)

        return guarded

    for where, name in ((os, "utime"), (builtins, "open"), (cache_module.Path, "write_text")):
        monkeypatch.setattr(where, name, guard(getattr(where, name)))


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_another_users_cache_is_used_where_it_is_whole_and_named_where_it_is_not(photos, tmp_path, monkeypatch, code):
    folder = tmp_path / "cache"
    built = PixelCache.open(Folder(photos), 16, folder)
    refused_below(monkeypatch, folder, code)
    assert np.array_equal(PixelCache.open(Folder(photos), 16, folder).pixels(3), built.pixels(3))
    with pytest.raises(InputError, match="cannot write the pixel cache .*set WHYTRANSFER_CACHE to a folder"):
        PixelCache.open(Folder(photos), 8, folder)


def test_an_entry_that_is_removed_while_it_is_opened_is_said(photos, tmp_path, monkeypatch):
    find = cache_module._find_or_build

    def removed(*arguments):
        entry, path = find(*arguments)
        shutil.rmtree(path)
        return entry, path

    monkeypatch.setattr(cache_module, "_find_or_build", removed)
    with pytest.raises(RunError, match="was removed by another process that made room; run again"):
        PixelCache.open(Folder(photos), 16, tmp_path / "cache")


def test_the_default_folder_is_the_environments(monkeypatch):
    assert default_folder().parent == cache_module.Path(os.environ["WHYTRANSFER_CACHE"])
    monkeypatch.delenv("WHYTRANSFER_CACHE")
    assert default_folder() == cache_module.Path.home() / ".cache" / "whytransfer" / "pixels"


def test_a_side_below_one_is_refused(photos, tmp_path):
    with pytest.raises(InputError, match="max_side_px is 0: give the longest shorter side allowed"):
        PixelCache.open(Folder(photos), 0, tmp_path / "cache")


def test_real_pictures_at_64_px(real_data, tmp_path):
    images = open_images(str(real_data / "tiny_imagenet_40" / "tiny_imagenet_40.zip") + "/val")
    cache = PixelCache.open(images, 64, tmp_path / "cache")
    assert (cache.path / "pixels.bin").stat().st_size == 2000 * 64 * 64 * 3
    began = time.thread_time()
    for i in range(2000):
        cache.pixels(i)
    assert (time.thread_time() - began) / 2000 < 20e-6  # 1 us when measured alone
