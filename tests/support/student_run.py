"""The folder of a student's run beside its teacher's, with all that such folders hold, secrets too."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from vkd.models import checkpoint
from vkd.training import settings as run_settings
from vkd.training.presets import PRESETS

SECRETS = ("jane", "hf_abcDEF123456", "/home", "/mnt", "C:\\Users", "gpu-box.example", "10.0.0.7")


def scores(i2v: float, v2v: float) -> dict[str, dict[str, float]]:
    return {
        protocol: {
            "map": value,
            "map_trapezoid": value,
            "map_standard": value + 0.02,
            "minp": value / 2,
            **{f"top{k}": min(1.0, value + k / 100) for k in (1, 5, 10, 20)},
        }
        for protocol, value in (("i2v", i2v), ("v2v", v2v))
    }


def events() -> list[dict[str, Any]]:
    """Two epochs, one of them run twice; texts that tell of the machine."""
    notes = [
        "ImageNet weights for tiny are missing: looked in /home/jane/My Pictures/hub, so layers start anew"
    ]
    epoch = {"learning_rate": 1e-3, "images_per_second": 80.0, "memory_mb": 500.0}
    return [
        {"kind": "waiting", "epoch": 0, "time": 0.5, "ahead": ["secret-run-of-jane"], "device": "CPU"},
        {"kind": "started", "epoch": 0, "time": 1.0, "epochs": 2, "steps": 3, "step": 0, "identities": 12}
        | {"device": "CPU", "processes": 1, "resumed": False, "notes": notes},
        {"kind": "epoch", "epoch": 1, "time": 2.0, "losses": {"class": 9.0, "total": 9.0}, **epoch},
        {"kind": "failed", "time": 2.5, "error": "OSError"}
        | {"why": "jane@gpu-box.example: C:\\Users\\jane\\x.jpg at https://10.0.0.7/?token=hf_abcDEF123456"},
        {"kind": "epoch", "epoch": 1, "time": 3.0}
        | {"losses": {"class": 4.0, "triplet": 0.5, "kd": 1.0, "dp": 900.0, "total": 5.0}, **epoch},
        {"kind": "scores", "epoch": 1, "time": 3.5, "scores": scores(0.5, 0.6)},
        {"kind": "saved", "epoch": 1, "time": 3.6, "step": 0},
        {"kind": "probes", "epoch": 1, "time": 3.7, "why": "cannot open /mnt/data/probe.jpg"},
        {"kind": "epoch", "epoch": 2, "time": 4.0}
        | {"losses": {"class": 2.0, "triplet": 0.1, "kd": 0.5, "dp": 700.0, "total": 2.2}, **epoch},
        {"kind": "scores", "epoch": 2, "time": 4.5, "scores": scores(0.4, 0.55)},
        {"kind": "finished", "epoch": 2, "time": 5.0, "scores": scores(0.4, 0.55)},
    ]


def make(root: Path, pair: tuple[Path, Path]) -> Path:
    """`root/tiny-student` beside `root/tiny-teacher`; the student's best weights are those of epoch 1."""
    for folder in pair:
        shutil.copytree(folder, root / folder.name)
    teacher, student = root / pair[0].name, root / pair[1].name
    trained = checkpoint.load(teacher)
    checkpoint.save(teacher, trained.net, replace(trained.config, epoch=4, scores=scores(0.3, 0.45)))
    best, last = checkpoint.load(student), checkpoint.load(teacher)  # two files that differ
    values = {"epoch": 1, "scores": scores(0.5, 0.6), "parent": teacher.name}
    checkpoint.save(student, best.net, replace(best.config, **values), weights="best")
    values |= {"epoch": 2, "scores": scores(0.4, 0.55)}
    checkpoint.save(student, last.net, replace(best.config, **values))
    settings = PRESETS["street-tiny-student"].settings(
        root="/mnt/gpu-box.example/street", teacher=teacher, image_size=(64, 32)
    )
    run_settings.save(settings, student / "settings.json")
    lines = [json.dumps(event) for event in events()]
    (student / "events.jsonl").write_text("\n".join([*lines, '{"kind": "ep']))
    for name in ("training.pt", "lock", "log.txt", "README.md", "hub.json"):
        (student / name).write_text("hf_abcDEF123456 of jane")
    write_snapshots(student / "probes")
    return student


def write_snapshots(folder: Path, count: int = 3) -> None:
    """Probes with looks after epochs 1 and 2, and the teacher's."""
    folder.mkdir()
    table = [{"identity": n, "camera": 0, "picture": f"probe-{n}.jpg"} for n in range(count)]
    (folder / "probes.json").write_text(json.dumps({"probes": table, "gallery": []}))
    for n in range(count):
        _stripes(90 * n).save(folder / f"probe-{n}.jpg")
    for shade, name in enumerate(("teacher", "00001", "00002")):
        (folder / name).mkdir()
        looks = [{"heat": f"heat-{n}.jpg", "similarity": 0.5 + shade / 10, "top": []} for n in range(count)]
        (folder / name / "look.json").write_text(json.dumps({"epoch": shade, "looks": looks}))
        for n in range(count):
            _stripes(60 * shade).save(folder / name / f"heat-{n}.jpg")


def _stripes(shade: int) -> Image.Image:
    """Finer than the blocks of a coarsened picture."""
    picture = Image.new("RGB", (80, 160), (shade, 255 - shade, 128))
    for left in range(0, 80, 4):
        picture.paste((255, 255, 255), (left, 0, left + 2, 160))
    return picture
