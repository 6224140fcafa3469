"""Every kind of pixel that a file can hold becomes 8-bit RGB by the rules that decode.py states."""

import contextlib
import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from whytransfer.images.decode import Unreadable, decode, shrunk_size


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture
def colours() -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((70, 50), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_plain_colour_files_are_what_pil_reads(colours, kind):
    content = encoded(Image.fromarray(colours), kind)
    assert np.array_equal(decode(content, "x"), np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


def test_16_bit_grey_is_scaled_and_not_clipped():
    deep = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    assert decode(encoded(Image.fromarray(deep)), "x")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_grey_of_a_depth_map_keeps_its_shape():
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    pixels = decode(encoded(Image.fromarray(depth)), "x")
    assert pixels.shape == (3, 4, 3) and np.abs(pixels[..., 1] - depth / 65535 * 255).max() <= 0.5


def test_cmyk_is_converted(colours):
    image = Image.fromarray(colours).convert("CMYK")
    content = encoded(image, "JPEG", quality=100)
    assert np.abs(decode(content, "x").astype(int) - colours).mean() < 3


def test_greyscale_palette_and_bilevel_become_rgb(colours):
    grey = Image.fromarray(colours).convert("L")
    assert np.array_equal(decode(encoded(grey), "x"), np.repeat(np.asarray(grey)[..., None], 3, axis=2))
    palette = Image.fromarray(colours).quantize(16)
    assert np.array_equal(decode(encoded(palette), "x"), np.asarray(palette.convert("RGB")))
    assert set(np.unique(decode(encoded(grey.convert("1")), "x"))) <= {0, 255}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "colour key"])
def test_transparent_pixels_lie_on_white(mode):
    if mode == "RGBA":
        content = encoded(Image.fromarray(np.array([[[9, 9, 9, 0], [200, 0, 0, 255], [0, 0, 0, 128]]], dtype=np.uint8)))
        assert decode(content, "x")[0].tolist() == [[255] * 3, [200, 0, 0], [127] * 3]
        return
    if mode == "LA":
        content = encoded(Image.fromarray(np.array([[[9, 0], [200, 255]]], dtype=np.uint8)))
    elif mode == "palette":
        indexed = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
        indexed.putpalette([9, 9, 9, 200, 200, 200])
        content = encoded(indexed, transparency=0)
    else:
        content = encoded(
            Image.fromarray(np.array([[[9, 9, 9], [200, 200, 200]]], dtype=np.uint8)), transparency=(9, 9, 9)
        )
    assert decode(content, "x")[0].tolist() == [[255] * 3, [200] * 3]


def png(values: list[int], bits: int, key: list[int]) -> bytes:
    """A PNG of one row, grey or (with a key of three values) colour, whose tRNS chunk names the key as transparent."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = "".join(format(value, f"0{bits}b") for value in values)
    row = b"\0" + int(packed, 2).to_bytes(len(packed) // 8, "big")
    head = struct.pack(">IIBBBBB", len(values) // len(key), 1, bits, 0 if len(key) == 1 else 2, 0, 0, 0)
    clear = struct.pack(f">{len(key)}H", *key)
    chunks = chunk(b"IHDR", head) + chunk(b"tRNS", clear) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(
    ("bits", "values", "clear", "expected"),
    [
        (1, [0, 1, 1, 0, 1, 0, 0, 0], 0, [255] * 8),
        (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
        (4, [3, 9], 3, [255, 153]),
        (8, [3, 9], 3, [255, 9]),
        (16, [257, 258, 0, 65535], 257, [255, 1, 0, 255]),  # 258 is the same byte, but not the transparent value
        (16, [0, 514], 0, [255, 2]),
    ],
)
def test_a_transparent_grey_value_lies_on_white_at_every_depth(bits, values, clear, expected):
    pixels = decode(png(values, bits, [clear]), "x")
    assert pixels[0].tolist() == [[grey] * 3 for grey in expected]


def test_a_transparent_16_bit_colour_lies_on_white_by_its_high_bytes():
    colours = [0x1234, 0x5678, 0x9ABC, 0x3434, 0x7878, 0xBCBC]  # the second is the low bytes of the first
    pixels = decode(png(colours, 16, colours[:3]), "x")
    assert pixels[0].tolist() == [[255] * 3, [0x34, 0x78, 0xBC]]


def test_exif_orientation_is_applied(colours):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated clockwise
    content = encoded(Image.fromarray(colours), "PNG", exif=exif)
    assert np.array_equal(decode(content, "x"), np.rot90(colours, k=-1))


def test_a_broken_exif_block_breaks_no_picture(colours):
    content = encoded(Image.fromarray(colours), "PNG", exif=b"Exif\0\0nonsense")
    assert np.array_equal(decode(content, "x"), colours)


@pytest.mark.parametrize(
    ("size", "bound", "expected"), [((640, 480), 240, (320, 240)), ((30, 20), 40, (30, 20)), ((1000, 3), 1, (333, 1))]
)
def test_the_shorter_side_is_bounded_and_nothing_is_enlarged(size, bound, expected):
    assert shrunk_size(size, bound) == expected
    assert decode(encoded(Image.new("RGB", size)), "x", bound).shape == (expected[1], expected[0], 3)


def test_shrinking_is_antialiased():
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: without a filter all black or all white
    shrunk = decode(encoded(Image.fromarray(stripes)), "x", 8)
    assert np.abs(shrunk.astype(int) - 127).max() <= 16


def test_reducing_a_jpeg_while_decoding_changes_little(colours):
    large = Image.fromarray(colours).resize((1120, 800), Image.Resampling.BICUBIC)
    content = encoded(large, "JPEG", quality=95)
    exact = np.asarray(Image.open(io.BytesIO(content)).resize((98, 70), Image.Resampling.BILINEAR))
    assert np.abs(decode(content, "x", 70).astype(int) - exact).mean() < 1.0


def test_one_pixel_works():
    assert decode(encoded(Image.new("RGB", (1, 1), "red")), "x", 64).tolist() == [[[255, 0, 0]]]


def test_pixels_are_contiguous_and_read_only(colours):
    pixels = decode(encoded(Image.fromarray(colours)), "x")
    assert pixels.flags.c_contiguous and not pixels.flags.writeable


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "the file is empty"), (b"hello, I am text", r"not a JPEG, PNG, WebP or BMP image \(it begins with b'hello")],
)
def test_what_is_no_image_is_named(content, reason):
    with pytest.raises(Unreadable, match=f"cannot read image cat/x.jpg: {reason}"):
        decode(content, "cat/x.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.98])
def test_a_file_cut_short_is_named(colours, kind, share):
    content = encoded(Image.fromarray(colours), kind)
    with pytest.raises(Unreadable, match="cannot read image cut: (damaged or cut short|not a JPEG)"):
        decode(content[: int(share * len(content))], "cut")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_any_damage_ends_in_the_one_error(colours):
    """Bytes flipped at random: either an image comes out or Unreadable, never another exception."""
    rng = np.random.default_rng(2)
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        whole = encoded(Image.fromarray(colours), kind)
        for _ in range(60):
            damaged = np.frombuffer(whole, dtype=np.uint8).copy()
            damaged[rng.integers(0, min(len(damaged), 200), 3)] = rng.integers(0, 256, 3)
            with contextlib.suppress(Unreadable):
                assert decode(damaged.tobytes(), "x").shape[2] == 3


def test_an_unreadable_image_can_be_told_to_another_process():
    told = pickle.loads(pickle.dumps(Unreadable("cat/0.jpg", "cut short")))
    assert isinstance(told, Unreadable) and (told.name, told.reason) == ("cat/0.jpg", "cut short")
    assert str(told) == "cannot read image cat/0.jpg: cut short"
