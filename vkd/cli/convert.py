"""`vkd import` and `vkd export`: reads models of the reference code, writes ONNX and torch.export."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pydantic

from vkd.cli.hub import ENDPOINT, quiet_client
from vkd.cli.options import ModelOptions, argument, flag, parse, progress_bar, refuse
from vkd.io.errors import VKDError
from vkd.models.export import FORMATS
from vkd.training.fields import Choice

if TYPE_CHECKING:
    from vkd.models.reference_archive import AuthorsNetwork, Converted


class ImportFlags(pydantic.BaseModel):
    folder: Path = argument(
        "Folder of the reference implementation (params/, chk/); or a zip or a folder of many of them."
    )
    out: Path | None = argument(
        "Folder of the new checkpoint; must not hold one. For many: the folder of the new folders.",
        None,
    )
    only: str = flag("*", "For many: the models whose name or path matches this pattern, such as *mars*.")
    list_only: bool = flag(False, "Only list the models of a zip or a folder.", name="list")
    name: str | None = flag(None, "File in chk/; none: the last one.")
    image_size: tuple[int, int] | None = flag(None, "Height and width; none: those of its dataset.")
    half: bool = flag(False, "Store 16-bit weights: half the size.")
    push: str | None = flag(None, "Upload each new checkpoint to this user or organisation, as USER/name.")
    public: bool = flag(False, "With --push: create public repositories, or allow a push to one.")
    endpoint: str | None = flag(None, ENDPOINT)


def import_(argv: Sequence[str]) -> int:
    about = (
        "Convert models of the reference implementation into checkpoints; nothing in them is executed. "
        "For many models a table reports on each; exit code 0: all converted (and uploaded, with "
        "--push, which needs `hf auth login` or HF_TOKEN), 1: not all."
    )
    (flags,) = parse("vkd import", about, argv, [ImportFlags])
    if flags.image_size is not None and not all(8 <= side <= 4096 for side in flags.image_size):
        refuse("vkd import", "--image-size: height and width must be from 8 to 4096 pixels")
    if flags.out is None and not flags.list_only:
        refuse("vkd import", "OUT: give the folder of the checkpoint")
    from vkd.models import reference_archive

    if flags.list_only:
        return _list(reference_archive.list_networks(flags.folder, flags.only, flags.name))
    assert flags.out is not None
    if flags.push is not None:
        from vkd.hub.client import check_repo

        check_repo(f"{flags.push}/network")
    if reference_archive.is_authors_folder(flags.folder):
        return _import_one(flags, flags.out)
    report = reference_archive.convert(
        flags.folder,
        flags.out,
        flags.only,
        flags.name,
        image_size=flags.image_size,
        half=flags.half,
        progress=progress_bar("model"),
    )
    sent = _send(flags, [(line.network.name, line.folder) for line in report if line.folder])
    return _report(report, sent)


def _send(flags: ImportFlags, folders: "Sequence[tuple[str, Path]]") -> dict[str, str]:
    """Uploads each folder, with --push; returns name → result, as the end of a sentence."""
    out: dict[str, str] = {}
    if flags.push is None:
        return out
    from vkd.hub.client import AccessDeniedError, UnreachableError
    from vkd.hub.push import PushRequest, push

    for name, folder in folders:
        try:
            with quiet_client():
                repo = f"{flags.push}/{name}"
                url = push(PushRequest(folder, repo, private=not flags.public, endpoint=flags.endpoint))
            out[name] = f"uploaded to {url}"
        except (ValueError, OSError) as error:
            out[name] = f"not uploaded because {' '.join(str(error).split())}"
            if isinstance(error, AccessDeniedError | UnreachableError):  # it would be so with the others too
                out |= {other: f"not uploaded, as {name} was not" for other, _ in folders if other not in out}
                break
    return out


def _import_one(flags: ImportFlags, out: Path) -> int:
    from vkd.models import checkpoint, reference

    if (out / "config.json").exists():
        raise VKDError(f"{out} already holds a checkpoint: choose another folder.")
    reference.convert_authors(flags.folder, out, flags.name, image_size=flags.image_size, half=flags.half)
    config = checkpoint.read_config(out)
    dataset = config.dataset or "dataset unknown"
    sent = _send(flags, [(out.resolve().name, out)]).get(out.resolve().name, "")
    print(f"{out}: {config.backbone}, {config.identities} identities, {dataset}{sent and ', '}{sent}")
    return int(sent.startswith("not"))


def _table(rows: "Sequence[tuple[AuthorsNetwork, str]]", last: str) -> str:
    head = f"| model | backbone | identities | dataset | {last} |\n|---|---|--:|---|---|"
    lines = [
        f"| {network.name} | {network.backbone or '?'} | {network.identities or '?'} "
        f"| {network.dataset or '?'} | {words.replace('|', '/')} |"
        for network, words in rows
    ]
    return "\n".join([head, *lines])


def _list(networks: "Sequence[AuthorsNetwork]") -> int:
    from vkd.io import archives

    rows = [
        (network, f"refused because {network.reason}" if network.reason else
         f"{archives.printable(network.weights)}, {network.size / 2**20:.1f} MiB")
        for network in networks
    ]  # fmt: skip
    print(_table(rows, "weights"))
    return 0


def _report(report: "Sequence[Converted]", sent: dict[str, str]) -> int:
    rows = []
    for line in report:
        words = f"converted to {line.folder}" if line.folder else f"refused because {line.reason}"
        pushed = sent.get(line.network.name)
        rows.append((line.network, f"{words}, {pushed}" if pushed else words))
    print(_table(rows, "result"))
    done = sum(line.folder is not None for line in report)
    left = sum(words.startswith("not") for words in sent.values())
    print(f"{done} of {len(report)} converted{f', {left} not uploaded' if left else ''}.")
    return 0 if done == len(report) and not left else 1


class ExportFlags(ModelOptions):
    checkpoint: Path = argument("Checkpoint folder.")
    out: Path = argument("File (.onnx, .pt2) to write; must not exist.")
    to: Annotated[str, Choice(FORMATS)] = flag("onnx", "ONNX, or a program of torch.export.")


def export(argv: Sequence[str]) -> int:
    about = (
        "Write a model for other programs; the file is run and compared before it takes its name. "
        "ONNX and torch.export take images (tracklets, views, 3, height, width) and give embeddings."
    )
    (flags,) = parse("vkd export", about, argv, [ExportFlags])
    from vkd.models.export import export

    (model,) = flags.load([flags.checkpoint]).values()
    print(f"{export(model, flags.out, flags.to)}: {model.config.backbone}, compared with {model.name}")
    return 0
