"""A split explained: sheets, a row for each tracklet and network, means, and the share on the subject."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vkd.data import datasets
from vkd.data.datasets import Tracklet, mask_path
from vkd.data.transforms import prepare
from vkd.explain.dataset import explain_split
from vkd.explain.gradcam import heatmaps
from vkd.explain.overlay import on_subject
from vkd.io.errors import MissingFileError, VKDError
from vkd.models import checkpoint


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return {folder.name: checkpoint.load(folder) for folder in tiny_pair}


@pytest.fixture(scope="module")
def street(small_street):
    return datasets.read_dataset("street", small_street)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "heatmaps.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_teacher_and_student(pair, street, tmp_path):
    chosen = street.query[:4]
    reports = []
    summary = explain_split(
        pair, chosen, tmp_path, views=4, masks=street.root, progress=lambda *report: reports.append(report)
    )
    assert [report[:2] for report in reports] == [(done, 4) for done in range(5)]
    table = rows(tmp_path)
    assert [row["network"] for row in table] == ["tiny-teacher", "tiny-student"] * 4
    for row in table:
        with Image.open(tmp_path / "sheets" / row["sheet"]) as image:
            assert image.height > 3 * 192  # pictures, teacher, student
        assert re.fullmatch(r"\d{4}-c\d-\d{5}\.jpg", row["sheet"])
        assert 0 <= float(row["on_subject"]) <= 1
        assert 0.05 < float(row["mask_area"]) < 0.9
    assert json.loads((tmp_path / "heatmaps.json").read_text()) == summary
    for name, means in summary["networks"].items():
        own = [float(row["on_subject"]) for row in table if row["network"] == name]
        assert means["on_subject"] == pytest.approx(np.mean(own))
    teacher, student = (means["on_subject"] for means in summary["networks"].values())
    assert summary["on_subject_difference"] == pytest.approx(student - teacher)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heatmaps.csv", "heatmaps.json", "sheets"]


def test_share_by_hand(pair, street, tmp_path):
    tracklet = street.query[0]
    explain_split({"t": pair["tiny-teacher"]}, [tracklet], tmp_path, views=2, masks=street.root)
    net, config = pair["tiny-teacher"].net, pair["tiny-teacher"].config
    frames = [tracklet.frames[0], tracklet.frames[(len(tracklet.frames) + 1) // 2]]
    heat = heatmaps(net, prepare(frames, config.image_size)[None])
    masks = [np.asarray(Image.open(mask_path(street.root, frame)).convert("L")) for frame in frames]
    shares = [on_subject(view, mask) for view, mask in zip(heat.maps[0], masks, strict=True)]
    row = rows(tmp_path)[0]
    assert float(row["on_subject"]) == pytest.approx(np.mean(shares))
    assert float(row["value"]) == pytest.approx(heat.values[0])
    assert row["explained"] == f"logit of identity {heat.classes[0]}"


def test_similarity(pair, street, tmp_path):
    identity = street.query[0].identity
    mates = [item for item in street.query if item.identity == identity]
    alone = next(item for item in street.query if item.identity != identity)
    summary = explain_split(pair, [*mates, alone], tmp_path, target="similarity")
    assert (summary["tracklets"], summary["left_out"]) == (len(mates), 1)
    assert {row["explained"] for row in rows(tmp_path)} == {"similarity"}
    assert all(-1 <= float(row["value"]) <= 1 for row in rows(tmp_path))
    assert "on_subject" not in rows(tmp_path)[0]
    with pytest.raises(VKDError, match="two tracklets"):
        explain_split(pair, [alone], tmp_path, target="similarity")


def test_limit(pair, street, tmp_path):
    summary = explain_split({"t": pair["tiny-teacher"]}, street.query_images[:9], tmp_path, limit=3)
    assert summary["tracklets"] == 3
    assert [row["sheet"][-9:-4] for row in rows(tmp_path)] == ["00000", "00003", "00006"]


def test_raw_identity(pair, street, tmp_path):
    loaded = pair["tiny-teacher"]
    labelled = replace(loaded, config=replace(loaded.config, labels=list(range(100, 112))))
    explain_split({"t": labelled}, street.query_images[:1], tmp_path)
    assert re.fullmatch(r"logit of identity 1\d\d", rows(tmp_path)[0]["explained"])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"networks": {}}, "nothing to explain"),
        ({"tracklets": []}, "nothing to explain"),
        ({"target": "colour"}, "logit, similarity"),
        ({"method": "scorecam"}, "gradcam"),
        ({"frames": "first"}, "chunk"),
        ({"layer": "layer9"}, "stem, layer1, layer2"),
        ({"views": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
    ],
)
def test_wrong_requests(pair, street, tmp_path, wrong, sentence):
    request = {"networks": pair, "tracklets": street.query[:1], "folder": tmp_path, **wrong}
    with pytest.raises(VKDError, match=sentence):
        explain_split(**request)


def test_missing_image_or_mask(pair, street, tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.jpg"):
        explain_split(pair, [Tracklet((str(tmp_path / "gone.jpg"),), 1, 0)], tmp_path / "out")
    assert not (tmp_path / "out").exists()  # nothing half-written
    frame = street.query[0].frames[0]
    shutil.copy(frame, tmp_path / "lone.jpg")
    with pytest.raises(MissingFileError, match=r"lone\.png is missing"):
        explain_split(pair, [Tracklet((str(tmp_path / "lone.jpg"),), 1, 0)], tmp_path / "out", masks=tmp_path)


def test_failure_keeps_older_files(pair, street, tmp_path):
    one = {"t": pair["tiny-teacher"]}
    explain_split(one, street.query_images[:1], tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    gone = Tracklet((str(tmp_path / "gone.jpg"),), 1, 0)
    with pytest.raises(MissingFileError, match=r"gone\.jpg"):
        explain_split(one, [*street.query_images[1:3], gone], tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before


def test_unknown_identities(pair, street, tmp_path):
    nameless = [item._replace(identity=-1) for item in street.query[:2]]
    with pytest.raises(VKDError, match="two tracklets"):
        explain_split(pair, nameless, tmp_path, target="similarity")
