"""Image files that no library writes: PNG of 16 bits, TIFF of any type of number."""

from __future__ import annotations

import struct
import zlib

import numpy as np

GREY, COLOUR, PALETTE, GREY_ALPHA, COLOUR_ALPHA = 0, 2, 3, 4, 6


def raw_png(
    pixels: np.ndarray, colour_type: int, depth: int = 16, chunks: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A PNG file of pixels [H, W] or [H, W, C]; `chunks` are (type, content) before the pixels."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    kind, content = part
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def raw_tiff(pixels: np.ndarray, photometric: int = 1) -> bytes:
    """An uncompressed TIFF file of pixels [H, W] or [H, W, C], of the type that the array has."""
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    content = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    content += b"\0" * (len(content) % 2)
    start = 8 + len(content)
    bits = [8 * pixels.dtype.itemsize] * samples
    numbers = struct.pack(f"<{samples}H", *bits)
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags: list[tuple[int, int, int, int]] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, samples, bits[0] if samples == 1 else start),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, samples),
        (278, 4, 1, height),
        (279, 4, 1, len(content)),
        (339, 3, 1, kind),
    ]
    if samples > 1:
        content, place = content + numbers + b"\0" * (len(numbers) % 2), start
        start = place + len(numbers) + len(numbers) % 2
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", start) + content + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"
