"""Deploys the app to a Hugging Face Space: python spaces/deploy.py user/name [--dry-run] [--stage FOLDER] …

What a Space needs is staged in a clean folder: the package, app.py, the demo pair, card and requirements.
Nothing else is uploaded: no tests, no runs of one's own, and never this folder, whose name would hide the
package `spaces` from Gradio.
"""

import argparse
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
UPLOADED = ("app.py", "LICENSE", "vkd", "checkpoints")
NOT_UPLOADED = ("checkpoints/build.py", "checkpoints/README.md.j2")
NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
INDEX = "--extra-index-url"


class File(NamedTuple):
    """A file of the Space, and its bytes."""

    path: str
    size: int


# ---- what the Space holds


def uploaded_files(root: Path) -> list[Path]:
    """Lists the files below `root` that a Space gets, of those that git tracks.

    Raises FileNotFoundError where git cannot list them, or no weights are among them.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "--", *UPLOADED]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        raise FileNotFoundError(f"Git cannot list the files of {root}: deploy from a clone.") from None
    paths = [root / name for name in listed if name and name not in NOT_UPLOADED]
    if not any(path.suffix == ".safetensors" for path in paths):
        raise FileNotFoundError(
            f"There are no weights under {root / 'checkpoints'}: the demo pair is missing."
        )
    return [path for path in paths if path.is_file()]


def requirements(hardware: str | None) -> str:
    """Returns the Space's requirements.txt: what the app needs, and what only a Space does.

    On CPU hardware (the default) torch comes as its CPU builds; a GPU needs those of the usual index.
    """
    cpu = hardware is None or hardware.startswith("cpu")
    lines = []
    for line in (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            named = (HERE / line.removeprefix("-r ").strip()).read_text(encoding="utf-8").splitlines()
            lines += [each for each in named if each and not each.startswith("#")]
        elif line and not line.startswith("#") and (cpu or not line.startswith(INDEX)):
            lines.append(line)
    return "\n".join(lines) + "\n"


def card(hardware: str | None, models: Sequence[str]) -> str:
    """Returns the Space's README.md for this Gradio, this hardware and these models."""
    text = (HERE / "README.md").read_text(encoding="utf-8")
    version = importlib.metadata.version("gradio")
    said = re.search(r"^sdk_version: (.*)$", text, re.MULTILINE)
    if said is None or said[1] != version:
        raise ValueError(
            f"The card names Gradio {said[1] if said else '(nothing)'} and {version} is installed: the Space "
            f"would run what was not tested. Install the card's, or change {HERE / 'README.md'} and run the "
            "tests."
        )
    if hardware:
        text = re.sub(r"^(suggested_hardware:).*$", rf"\1 {hardware}", text, count=1, flags=re.MULTILINE)
    if models:
        listed = "".join(f"  - {model}\n" for model in models)
        text = re.sub(r"^(tags:)$", rf"models:\n{listed}\1", text, count=1, flags=re.MULTILINE)
    return text


def stage(
    folder: Path, *, hardware: str | None = None, models: Sequence[str] = (), root: Path = ROOT
) -> None:
    """Copies all that the Space holds into `folder`, which must be empty or new."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is not an empty folder: name one that is empty or does not exist yet.")
    texts = {"README.md": card(hardware, models), "requirements.txt": requirements(hardware)}
    for path in uploaded_files(root):
        target = folder / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def listing(folder: Path) -> list[File]:
    """Lists every file that would be sent."""
    return [
        File(path.relative_to(folder).as_posix(), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]


def table(files: Sequence[File]) -> str:
    """Formats files and sizes; the images of a folder make one line."""
    groups: dict[str, list[int]] = {}
    for file in files:
        path = Path(file.path)
        alike = path.suffix in (".jpg", ".png")
        groups.setdefault((path.parent / f"*{path.suffix}").as_posix() if alike else file.path, []).append(
            file.size
        )
    lines = [
        f"{sum(sizes) / 1024:10.1f} KB  {name}{f'  ({len(sizes)} files)' if len(sizes) > 1 else ''}"
        for name, sizes in groups.items()
    ]
    lines.append(f"{sum(file.size for file in files) / 2**20:10.1f} MB  in {len(files)} files")
    return "\n".join(lines)


# ---- sending it


def send(
    folder: Path,
    repo: str,
    *,
    private: bool = False,
    hardware: str | None = None,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Makes the Space if it is missing and uploads `folder`; returns its address.

    Unchanged files are not sent again; files that are no longer ours are removed. Raises VKDError.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    sys.path.insert(0, str(ROOT))  # run as a script, the package need not be installed
    from vkd.hub.client import translate_errors

    api = HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT") or None, token=token)
    disable_progress_bars()
    with translate_errors(repo, token=token):
        url = api.create_repo(
            repo, repo_type="space", space_sdk="gradio", private=private, exist_ok=True,
            space_hardware=hardware,  # type: ignore[arg-type]
        )  # fmt: skip
        if hardware:
            api.request_space_hardware(repo, hardware)  # type: ignore[arg-type]
        api.upload_folder(
            repo_id=repo, folder_path=folder, repo_type="space", delete_patterns="*",
            commit_message="VKD: app and demo",
        )  # fmt: skip
    return str(url)


def main(arguments: Sequence[str] | None = None) -> None:
    """Stages, shows and sends."""
    parser = argparse.ArgumentParser(description="Put the app with its demo pair on a Hugging Face Space.")
    parser.add_argument("repo", metavar="user/name", help="the Space; created if it does not exist")
    parser.add_argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    parser.add_argument("--private", action="store_true", help="make the Space a private one")
    parser.add_argument(
        "--hardware", help="cpu-basic, t4-small, zero-a10g …: requested hardware; a GPU gets torch for CUDA"
    )
    parser.add_argument(
        "--models", nargs="+", default=[], metavar="user/name", help="models the card links to"
    )
    parser.add_argument(
        "--stage", type=Path, metavar="FOLDER", help="stage the files in this folder, which stays"
    )
    words = sys.argv[1:] if arguments is None else arguments
    # Looked for by hand, because argparse repeats what it does not know.
    if any(re.search(r"hf_[A-Za-z0-9]{16,}", word) for word in words):
        parser.error("a token is no argument: log in with `hf auth login`, or set HF_TOKEN.")
    chosen = parser.parse_args(words)
    for name in (chosen.repo, *chosen.models):
        if not NAME.fullmatch(name):
            parser.error(f"'{name}' is no name on the Hub: write user/name.")
    with tempfile.TemporaryDirectory(prefix="vkd-space-") as temporary:
        folder = chosen.stage or Path(temporary) / "space"
        try:
            stage(folder, hardware=chosen.hardware, models=chosen.models)
            print(table(listing(folder)))
            if chosen.dry_run:
                print(f"Nothing was sent to {chosen.repo}.")
                return
            print(send(folder, chosen.repo, private=chosen.private, hardware=chosen.hardware))
        except (ValueError, OSError) as error:
            parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
