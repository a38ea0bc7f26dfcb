"""HTML of the page: one Jinja environment with autoescape, images as data URIs, shared texts.

Images travel inside the page as data URIs: the ranked lists of two models are one answer instead of a
hundred requests, no folder of the server has to be opened to the browser, and no path of it is shown.
"""

import base64
import html
import io
from functools import lru_cache
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from vkd.io.images import resize_to_height

STRIP_VIEWS = 4
"""Frames of a tracklet that a card or an example shows."""


def escape(text: object) -> str:
    """Escapes text for HTML, attributes too; also `$`, `{` and `}`, which page templates of Gradio read."""
    safe = html.escape(str(text), quote=True)
    return safe.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;")


def _finalize(value: object) -> object:
    return value if hasattr(value, "__html__") else Markup(escape(value))


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    finalize=_finalize,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(template: str, **values: object) -> Markup:
    """Renders `templates/<template>`. Values are escaped, except for what `render` returned (Markup)."""
    return Markup(_TEMPLATES.get_template(template).render(**values))


@lru_cache(maxsize=4096)
def _file_uri(path: str, changed: int) -> str:
    kind = "png" if path.lower().endswith(".png") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"


def file_uri(path: str | Path) -> str:
    """Encodes a small JPEG or PNG file as a data URI; cached until the file changes."""
    return _file_uri(str(path), Path(path).stat().st_mtime_ns)


def array_uri(image: np.ndarray, *, height: int | None = None, quality: int = 88) -> str:
    """Encodes uint8 (H, W, 3) as a JPEG data URI, scaled to `height` pixels where given."""
    resized = resize_to_height(image, height) if height else Image.fromarray(image)
    file = io.BytesIO()
    resized.save(file, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def empty_state(title: str, text: str) -> Markup:
    """Renders an empty state: what will be shown here and what to do next."""
    return render("empty.html.j2", title=title, text=text)


NO_MODEL = empty_state(
    "No model yet",
    "Train a teacher and a student in the Train tab, pull a pair in the Hub tab, or copy their folders into "
    "the checkpoints folder. They appear here without a restart.",
)


def error_box(title: str, message: str) -> Markup:
    """Renders an error in place of an answer. `message` is safe HTML, as `errors.message` makes it."""
    return render("error.html.j2", title=title, message=Markup(message))


def identity_label(identity: int, camera: int, name: str = "", file: str = "") -> str:
    """Returns 'identity 12 · camera 3'.

    A folder's own name of an identity replaces its number; where no identity is known, the file's name does.
    """
    label = f"identity {identity}" if identity >= 0 else file or "unlabelled"
    label = name if name and not name.isdecimal() else label
    return f"{label} · camera {camera}" if camera >= 0 else label
