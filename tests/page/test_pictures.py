import struct
import zlib

import numpy as np
import pytest

from kofn.page import pictures
from kofn.page.pictures import as_uri, is_path, kind_of, png, read_path, shade


def parts_of(raw):
    """Names and contents of a PNG's parts, their sums checked."""
    at, found = 8, []
    while at < len(raw):
        (size,) = struct.unpack(">I", raw[at : at + 4])
        name, content = raw[at + 4 : at + 8], raw[at + 8 : at + 8 + size]
        assert struct.unpack(">I", raw[at + 8 + size : at + 12 + size]) == (zlib.crc32(name + content),)
        found.append((name, content))
        at += 12 + size
    return found


def test_a_png_holds_the_pixels_line_by_line():
    pixels = np.array([[0, 128, 255], [7, 8, 9]], np.uint8)
    raw = png(pixels)
    (head, size), (body, packed), (end, nothing) = parts_of(raw)
    assert (head, body, end, nothing) == (b"IHDR", b"IDAT", b"IEND", b"")
    assert struct.unpack(">IIBBBBB", size) == (3, 2, 8, 0, 0, 0, 0)  # width, height, 8 bits, grey
    assert zlib.decompress(packed) == bytes([0, 0, 128, 255, 0, 7, 8, 9])
    assert kind_of(raw) == "png"


def test_low_is_black_high_is_white_and_no_number_is_black():
    assert shade(np.array([2.0, 3.0, 6.0, 9.0, -1.0, np.nan]), 2.0, 6.0).tolist() == [0, 64, 255, 255, 0, 0]
    assert shade(np.array([5.0, 5.0]), 5.0, 5.0).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("start", "kind"),
    [(b"\xff\xd8\xff\xe0", "jpeg"), (b"GIF89a", "gif"), (b"RIFF\0\0\0\0WEBP", "webp"), (b"RIFF\0\0\0\0WAVE", None)],
)
def test_pictures_are_known_by_their_first_bytes(start, kind):
    assert kind_of(start + bytes(20)) == kind


def test_what_is_no_picture_never_becomes_one():
    assert as_uri(b"<svg onload='alert(1)'>") is None
    assert as_uri(b"") is None


def test_a_large_picture_is_left_out_where_pillow_is_not_installed(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(pictures, "import_module", missing)
    raw = png(np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8))
    assert len(raw) > pictures.LARGE
    assert as_uri(raw) is None
    small = png(np.zeros((300, 300), np.uint8))
    assert as_uri(small).startswith("data:image/png;base64,iVBORw0KGgo")


def test_a_large_picture_that_pillow_cannot_read_is_left_out():
    assert as_uri(b"\x89PNG\r\n\x1a\n" + bytes(60_000)) is None


def test_an_address_is_no_path():
    assert is_path("photos/a.PNG")
    assert not is_path("https://example.org/a.png")
    assert not is_path("a.parquet")
    assert not is_path(None)


def test_a_path_is_looked_for_as_it_is_and_beside_the_data(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").write_bytes(b"beside")
    monkeypatch.chdir(tmp_path)
    assert read_path("a.png", "data") == b"beside"
    assert read_path("data/a.png", None) == b"beside"
    assert read_path("b.png", "data") is None
