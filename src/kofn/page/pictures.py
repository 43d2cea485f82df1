"""Pictures on the page: what is one, how numbers become one, and how large one may be."""

from __future__ import annotations

import io
import os
import struct
import zlib
from base64 import b64encode
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 48 << 10
"""Bytes of a picture that is shown as it is; a larger one is made smaller where Pillow is installed, else left out."""

HUGE = 32 << 20
"""Bytes of a picture that is looked at."""

SIDE = 192
"""Pixels of the longer side of a picture that was made smaller."""

ENDINGS = (".png", ".jpg", ".jpeg", ".gif", ".webp")

_STARTS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF87a": "gif", b"GIF89a": "gif"}


def kind_of(raw: bytes) -> str | None:
    """png, jpeg, gif or webp, by the first bytes; None where it is none of them."""
    for start, kind in _STARTS.items():
        if raw.startswith(start):
            return kind
    return "webp" if raw[:4] == b"RIFF" and raw[8:12] == b"WEBP" else None


def as_uri(raw: bytes) -> str | None:
    """The picture as a data: URI of at most `LARGE` bytes, made smaller where need be; None where that cannot be."""
    kind = kind_of(raw)
    if kind is not None and len(raw) > LARGE:
        raw, kind = _smaller(raw), "jpeg"
    if kind is None or not 0 < len(raw) <= LARGE:
        return None
    return f"data:image/{kind};base64,{b64encode(raw).decode()}"


def _smaller(raw: bytes) -> bytes:
    """A JPEG of at most `SIDE` pixels a side; nothing where Pillow is not installed or cannot read it."""
    if len(raw) > HUGE:
        return b""
    try:
        pillow: Any = import_module("PIL.Image")
        with pillow.open(io.BytesIO(raw)) as picture:
            picture.draft("RGB", (2 * SIDE, 2 * SIDE))
            small = picture.convert("RGB")
            small.thumbnail((SIDE, SIDE))
            out = io.BytesIO()
            small.save(out, "JPEG", quality=82)
    except (ImportError, OSError, ValueError, SyntaxError, ArithmeticError):
        return b""
    except Exception as error:  # Pillow's own: a bomb of pixels
        if type(error).__name__ == "DecompressionBombError":
            return b""
        raise
    return out.getvalue()


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A grey picture, uint8 (height, width), as PNG."""
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # every line begins with its filter: none
    lines[:, 1:] = pixels
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_part(name, content) for name, content in parts)


def _part(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def shade(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Numbers as grey, uint8: `low` black, `high` white, what is no number black."""
    scaled = (np.asarray(values, np.float64) - low) / ((high - low) or 1.0)
    return np.asarray(np.round(255 * np.clip(np.nan_to_num(scaled, nan=0.0), 0.0, 1.0)), np.uint8)


def is_path(value: Any) -> bool:
    """Whether a text names a picture on this machine; addresses are text, because the page loads nothing."""
    return isinstance(value, str) and "://" not in value and value.lower().endswith(ENDINGS)


def read_path(path: str, beside: str | None) -> bytes | None:
    """The file of this name, as it is or beside the data; None where there is none, or it is too large."""
    for place in (path, os.path.join(beside, path) if beside else None):
        if place is not None and os.path.isfile(place):
            if os.path.getsize(place) > HUGE:
                return None
            with open(place, "rb") as file:
                return file.read()
    return None
