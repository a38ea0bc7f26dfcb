"""Images and videos as people upload them, and values of the app's image fields."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

ODD = ("rotated.jpg", "cmyk.jpg", "sixteen-bit.png", "transparent.png", "moving.gif", "one-pixel.png")
"""Names of unusual images that can be read."""


def write_odd(kind: str, folder: Path) -> Path:
    """Writes one of ODD."""
    pixels = np.random.default_rng(1).integers(0, 255, (40, 20, 3), np.uint8)
    image, path, options = Image.fromarray(pixels), folder / kind, {}
    if kind == "rotated.jpg":
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = 6
    elif kind == "cmyk.jpg":
        image = image.convert("CMYK")
    elif kind == "sixteen-bit.png":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif kind == "transparent.png":
        image = image.convert("RGBA")
    elif kind == "moving.gif":
        options = {"save_all": True, "append_images": [image.rotate(180)]}
    elif kind == "one-pixel.png":
        image = image.resize((1, 1))
    image.save(path, **options)
    return path


def write_noise(path: Path, seed: int = 0) -> Path:
    """Writes an image that no gallery has."""
    pixels = np.random.default_rng(seed).integers(0, 255, (64, 32, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_clip(path: Path, frames: int, size: tuple[int, int] = (48, 96)) -> Path:
    """Writes a video whose frames grow brighter; `size` is (width, height)."""
    code = {".avi": "MJPG", ".mp4": "mp4v"}[path.suffix]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10, size)
    for place in range(frames):
        writer.write(np.full((size[1], size[0], 3), round(255 * place / max(1, frames - 1)), np.uint8))
    writer.release()
    return path


def image_value(*paths: Path) -> list[dict[str, Any]]:
    """Returns the value of an image field for a client."""
    return [{"image": handle_file(path), "caption": None} for path in paths]


def queries(checkpoints: Path) -> list[dict[str, Any]]:
    """Returns the rows of the bundled examples, each with its `path`."""
    folder = checkpoints / "street-queries"
    rows = json.loads((folder / "queries.json").read_text())
    return [{**row, "path": folder / row["file"]} for row in rows]


def search(client: Client, images: list[Any], **choices: Any) -> tuple[str, dict[str, Any]]:
    """Searches the bundled gallery with the tiny pair, unless `choices` say otherwise."""
    values = {
        "images": images,
        "gallery": "street-gallery",
        "teacher": "tiny-teacher",
        "student": "tiny-student",
        "top_k": 5,
        "cameras": [],
        "rerank": False,
        "fpr": "1 %",
    }
    return client.predict(*({**values, **choices}).values(), api_name="/search")
