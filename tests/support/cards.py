"""An untrusted model card, and checkpoint folders as files of a repository."""

from pathlib import Path

UNTRUSTED = """---
license: mit
library_name: vkd
base_model: user/first
---
# A card <script>alert(1)</script>
![spy](http://tracker.example/pixel.png) [more](javascript:alert(1))
"""


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
