"""Whatever a tar holds: its index equals tarfile's reading of it, or it is refused in words. Nothing else is raised."""

import io
import tarfile
import tempfile
from pathlib import Path

import pytest

from whytransfer.errors import InputError
from whytransfer.images.shards.index import build, from_bytes
from whytransfer.images.shards.members import Tar
from whytransfer.images.shards.sources import Local

pytest.importorskip("hypothesis", reason="fuzzing needs hypothesis: pip install hypothesis")
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
PARTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\."), min_size=1, max_size=120)
NAMES = st.builds(
    lambda folders, key, kind: "/".join([*folders, f"{key}.{kind}"]),
    st.lists(PARTS, max_size=3),
    PARTS,
    st.sampled_from(["jpg", "png", "cls", "json", "tif"]),
)
QUICK = settings(database=None, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


class Bytes:
    """A shard in memory."""

    place = identity = name = "x.tar"
    block, state, modified_ns = 1024, "", 0

    def __init__(self, content: bytes):
        self._content, self.size = content, len(content)

    def read(self, begin: int, length: int) -> bytes:
        assert begin >= 0 and 0 <= length <= max(self.size, 1 << 20), "no more is asked for than there can be"
        return self._content[begin : begin + length]

    def index(self) -> None:
        return None


def packed(members: list[tuple[str, bytes]], form: int) -> bytes:
    file = io.BytesIO()
    try:
        with tarfile.open(fileobj=file, mode="w", format=form) as tar:
            for name, content in members:
                about = tarfile.TarInfo(name)
                about.size = len(content)
                tar.addfile(about, io.BytesIO(content))
    except ValueError:  # ustar cannot hold every name
        assume(False)
    return file.getvalue()


@QUICK
@given(st.lists(st.tuples(NAMES, st.binary(max_size=1500)), min_size=1, max_size=6), st.sampled_from(FORMATS))
def test_any_tar_is_read_as_tarfile_reads_it(members, form):
    content = packed(members, form)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        theirs = [(m.name, m.offset_data, m.size, tar.extractfile(m).read()) for m in tar]
    try:
        ours = list(Tar(Bytes(content)))
    except InputError as refusal:
        assert any(name[1:2] == ":" for name, _ in members), refusal  # "C:..." is a place on Windows
        return
    assert [(m.name, m.begin, m.size, content[m.begin : m.begin + m.size]) for m in ours] == theirs


SEED = packed(
    [("a/0.jpg", b"\xff\xd8" * 40), ("a/0.cls", b"3"), ("a/" + "n" * 130 + ".png", b"x" * 600), ("z.json", b"{}")],
    tarfile.PAX_FORMAT,
)
SEED_GNU = packed(
    [("a/0.jpg", b"\xff\xd8" * 40), ("a/0.cls", b"3"), ("a/" + "n" * 130 + ".png", b"x")], tarfile.GNU_FORMAT
)


@settings(database=None, deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from([SEED, SEED_GNU]),
    st.lists(st.tuples(st.integers(0, 8000), st.binary(min_size=1, max_size=12)), max_size=4),
    st.integers(0, 12000),
    st.booleans(),
)
def test_a_damaged_tar_is_read_or_refused(content, changes, length, mended):
    """Changed bytes, a cut; with mended checksums, as a hostile writer would leave them."""
    changed = bytearray(content)
    for place, new in changes:
        changed[place : place + len(new)] = new
    if mended:
        for offset in range(0, len(changed) - 511, 512):
            if changed[offset + 257 : offset + 262] == b"ustar":
                changed[offset + 148 : offset + 156] = b" " * 8
                changed[offset + 148 : offset + 156] = b"%06o\0 " % sum(changed[offset : offset + 512])
    source = Bytes(bytes(changed[:length]))
    try:
        index = build(source)
    except InputError as refusal:
        assert "x.tar" in str(refusal)
        return
    for name, (begin, size) in zip(index.names, index.where.tolist(), strict=True):
        assert begin >= 512 and begin + size <= source.size and not name.startswith("/") and ".." not in name.split("/")


@QUICK
@given(st.binary(max_size=3000))
def test_any_bytes_are_refused_as_a_tar(content):
    with pytest.raises(InputError):
        build(Bytes(content))


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4), st.booleans()
)
def test_a_damaged_index_is_a_value_error(changes, signed):
    """With a right digest too: an index that came with foreign shards may have been made to do harm."""
    from whytransfer.images.shards.index import _digest

    good = build(Bytes(SEED)).to_bytes("then")
    changed = bytearray(good)
    for place, new in changes:
        changed[place : place + len(new)] = new
    if signed:
        changed[-16:] = _digest(bytes(changed[:-16]))
    try:
        index, _ = from_bytes(bytes(changed))
    except ValueError:
        return
    assert (index.where >= 0).all() and (index.where.sum(axis=1) <= index.size).all()
    assert all(isinstance(name, str) for name in index.names) and len(index.names) == len(index.labels)


def test_a_shard_on_the_disk_is_read_as_one_in_memory():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.tar"
        path.write_bytes(SEED)
        assert [m.begin for m in Tar(Local(str(path)))] == [m.begin for m in Tar(Bytes(SEED))]
