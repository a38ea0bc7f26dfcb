"""Image formats: suffixes, decoders, bounds of size, opening without metadata. No torch here.

Metadata (EXIF, XMP, colour profiles, texts, thumbnails) is cut out before a decoder sees the file: of all
of it only the orientation matters, and a damaged block must not cost the image.
"""

import io
import re
from typing import Literal

from PIL import Image, features

from vkd.io.errors import VKDError

_COMMON = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif")
IMAGE_SUFFIXES = (*_COMMON, ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
"""Lowercase extensions of image files, in folders, zips and tables."""
TABLE_SUFFIXES = (".csv", ".tsv")

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Formats that Pillow may open. Others stay shut: its EPS decoder starts Ghostscript."""
if "avif" in features.modules and features.check("avif"):  # since Pillow 11.3
    FORMATS = (*FORMATS, "AVIF")

_SYSTEM_NAMES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "found.000"),
    *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "@sharebin", "#recycle", "#snapshot", "lost+found"),
    *("$recycle.bin", "recycler", "recycled", "system volume information", "network trash folder"),
    *("temporary items", "__pycache__"),
}
_SYSTEM_ENDS = ("@synoeastream", "@synoresource")


def is_ignored(name: str) -> bool:
    """True for a file or folder that is hidden or that a system makes for itself, never a user's content."""
    name = name.lower()
    return name.startswith((".", "~$")) or name in _SYSTEM_NAMES or name.endswith(_SYSTEM_ENDS)


MAX_PIXELS = 64_000_000
"""Larger images are refused before they are decoded: a file of 17 KB can declare 144 million pixels."""
_MAX_PIXELS_OF = {"WEBP": 32_000_000, "AVIF": 32_000_000, "GIF": 32_000_000, "video": 36_000_000}
"""Formats whose decoders hold several copies of the whole image; 8K is 33 million."""
MAX_SIDE = 30_000
MAX_ASPECT = 100
"""Long over short side of images with a side above 1000 pixels; resizing widens before it shortens."""
SHRINK_PIXELS = 2_000_000
"""Images above are shrunk while they are decoded; networks see 256 × 128."""

Order = Literal["little", "big"]
_ORDERS: dict[bytes, Order] = {b"II*\0": "little", b"MM\0*": "big"}
_ORIENTATION = 0x0112
# What a decoder needs of a TIFF: geometry, compression, colours, strips, tiles, JPEG tables.
_TIFF_TAGS = {
    *(254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 292, 293, 317, 320, 322, 323, 324, 325),
    *(332, 338, 339, 347, *range(512, 522), 529, 530, 531, 532),
}


def check_size(width: int, height: int, image_format: str = "") -> None:
    """Raises VKDError for an image with too many pixels, too long a side or too narrow a shape."""
    most = _MAX_PIXELS_OF.get(image_format, MAX_PIXELS)
    long, short = max(width, height), min(width, height)
    if width * height > most:
        limit = f"more than {most // 10**6} million"
    elif long > MAX_SIDE:
        limit = f"longer than {MAX_SIDE:,}"
    elif long > 1000 and long > MAX_ASPECT * short:
        limit = f"more than {MAX_ASPECT} times as long as wide"
    else:
        return
    raise VKDError(f"{width} × {height} pixels are {limit}: make it smaller")


def open_image(data: bytes) -> tuple[Image.Image, int]:
    """Opens an image without decoding it; returns it and its orientation, 1 to 8 as in EXIF.

    Raises VKDError as `check_size`, PIL.UnidentifiedImageError for another format, and whatever Pillow
    raises for damage.
    """
    orientation, data = strip_metadata(data)
    if size := _webp_size(data):
        check_size(*size, "WEBP")  # Pillow takes memory for all of it when it opens the file
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    check_size(*image.size, image.format or "")
    if image.format == "AVIF":  # Pillow states there what the container says
        orientation = exif_orientation(image.info.get("exif"))
    return image, orientation


def strip_metadata(data: bytes) -> tuple[int, bytes]:
    """Returns the orientation that a file states (1 if none or damaged), and the file without metadata."""
    if data[:3] == b"\xff\xd8\xff":
        return _strip_jpeg(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _strip_png(data)
    if order := _ORDERS.get(data[:4]):
        return _strip_tiff(data, order)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _strip_webp(data)
    if data[4:8] == b"ftyp":
        # An item of an unknown type is passed over; orientation is a property of the image itself there.
        head = re.sub(rb"(infe.{8,10})Exif", rb"\1skip", data[: 1 << 16], flags=re.DOTALL)
        return 1, head + data[1 << 16 :]
    return 1, data


def exif_orientation(block: object) -> int:
    """Reads the orientation, 1 to 8, in a block of EXIF; 1 if there is none or the block is damaged."""
    if not isinstance(block, bytes):
        return 1
    tiff = block.removeprefix(b"Exif\0\0")
    order = _ORDERS.get(tiff[:4])
    return _orientation_of(tiff, order) if order else 1


def _entries(tiff: bytes, order: Order) -> tuple[int, list[bytes]]:
    """Returns the offset of the first directory of a TIFF and its entries of 12 bytes."""
    at = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[at : at + 2], order)
    entries = [tiff[start : start + 12] for start in range(at + 2, at + 2 + 12 * count, 12)]
    return at, [entry for entry in entries if len(entry) == 12]


def _orientation_of(tiff: bytes, order: Order) -> int:
    for entry in _entries(tiff, order)[1]:
        if int.from_bytes(entry[:2], order) == _ORIENTATION:
            size = {1: 1, 3: 2, 4: 4}.get(int.from_bytes(entry[2:4], order), 0)  # byte, short, long
            value = int.from_bytes(entry[8 : 8 + size], order)
            return value if 1 <= value <= 8 else 1
    return 1


def _strip_jpeg(data: bytes) -> tuple[int, bytes]:
    parts, exif, at = [data[:2]], b"", 2
    while (start := data.find(b"\xff", at)) >= 0:  # as libjpeg does, bytes between segments are passed over
        name = start + 1
        while data[name : name + 1] == b"\xff":
            name += 1
        marker = data[name] if name < len(data) else 0xD9
        if marker in (0x00, 0x01, *range(0xD0, 0xD8)):
            at = name + 1
            continue
        if marker in (0xD9, 0xDA):
            return exif_orientation(exif), b"".join([*parts, data[start:]])
        at = name + 1 + max(2, int.from_bytes(data[name + 1 : name + 3], "big"))
        if marker == 0xE1 and not exif and data[name + 3 : name + 9] == b"Exif\0\0":
            exif = data[name + 3 : at]
        if marker in (0xE0, 0xEE) or not (0xE0 <= marker <= 0xEF or marker == 0xFE):  # JFIF, Adobe: colours
            parts.append(data[start:at])
    return exif_orientation(exif), data


def _strip_png(data: bytes) -> tuple[int, bytes]:
    parts, orientation, at = [data[:8]], 1, 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        kind = data[at + 4 : at + 8]
        if kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        # Decoding needs chunks with a capital and the transparency; of an animation the first frame is left.
        if kind[:1].isupper() or kind == b"tRNS":
            parts.append(data[at:end])
        at = end
    parts.append(data[at:])
    return orientation, b"".join(parts)


def _strip_tiff(data: bytes, order: Order) -> tuple[int, bytes]:
    at, entries = _entries(data, order)
    allowed = [entry for entry in entries if int.from_bytes(entry[:2], order) in _TIFF_TAGS]
    if not allowed:
        return 1, data
    directory = len(allowed).to_bytes(2, order) + b"".join(allowed) + bytes(4)  # no further page
    out = bytearray(data)
    if len(allowed) == len(entries):
        out[at + len(directory) - 4 : at + len(directory)] = bytes(4)
    else:
        out[at : at + len(directory)] = directory
    return _orientation_of(data, order), bytes(out)


def _strip_webp(data: bytes) -> tuple[int, bytes]:
    parts, orientation, at = [b""], 1, 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        end = at + 8 + size + size % 2
        if kind == b"EXIF":
            orientation = exif_orientation(data[at + 8 : end])
        elif kind == b"VP8X" and end <= len(data):  # of its flags, transparency and animation stay
            parts.append(data[at : at + 8] + bytes([data[at + 8] & 0x12]) + data[at + 9 : end])
        elif kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"):
            parts.append(data[at:end])
        at = end
    body = b"WEBP" + b"".join(parts)
    return orientation, b"RIFF" + len(body).to_bytes(4, "little") + body


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Returns width and height in the header of a WebP file, None for other files."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    if data[12:16] == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
