"""config.json: everything needed to use a network, every value checked when it is read."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vkd.io.errors import MissingFileError, VKDError
from vkd.models.config import Config, apply_weights_metadata, read_config, to_json, weights_metadata

FULL = Config(
    backbone="resnet50",
    identities=3,
    image_size=(256, 128),
    stage="student",
    dataset="mars",
    epoch=42,
    scores={"i2v": {"map": 0.7727, "top1": 0.8389}},
    parent="mars-resnet50-teacher",
    labels=[1, 3, 8],
)


def write(folder: Path, **changes: object) -> Path:
    """A folder whose config.json is the full one with some values changed (… removes one)."""
    raw = {**json.loads(to_json(FULL)), **changes}
    raw = {name: value for name, value in raw.items() if value is not ...}
    (folder / "config.json").write_text(json.dumps(raw))
    return folder


def test_round_trip(tmp_path: Path):
    (tmp_path / "config.json").write_text(to_json(FULL))
    assert read_config(tmp_path) == FULL


def test_defaults(tmp_path: Path):
    (tmp_path / "config.json").write_text(
        '{"version": 1, "backbone": "tiny", "identities": 2, "image_size": [32, 16]}'
    )
    assert read_config(tmp_path) == Config("tiny", 2, (32, 16))


def test_unknown_field(tmp_path: Path):
    assert read_config(write(tmp_path, colour="blue")) == FULL


def test_nan_scores(tmp_path: Path):
    config = replace(FULL, scores={"i2v": {"map": np.float64("nan"), "top1": np.float32(0.5)}})
    text = to_json(config)
    assert "NaN" not in text
    (tmp_path / "config.json").write_text(text)
    read = read_config(tmp_path).scores["i2v"]
    assert math.isnan(read["map"])
    assert read["top1"] == 0.5


WRONG = {
    "a version of tomorrow": (
        {"version": 2},
        "format version 2, and this vkd reads versions up to 1: update",
    ),
    "no version": ({"version": ...}, "format version None"),
    "version true": ({"version": True}, "format version True"),
    "no backbone": ({"backbone": ...}, "'backbone' is missing"),
    "an unknown backbone": ({"backbone": "vgg"}, "no backbone 'vgg'"),
    "a backbone that is no name": ({"backbone": ["tiny"]}, "backbone is"),
    "no identities": ({"identities": 0}, "identities is 0"),
    "too many identities": ({"identities": 10**12}, "identities is 1000000000000"),
    "half an identity": ({"identities": 2.5}, r"identities is 2\.5"),
    "a stage of another play": ({"stage": "pupil"}, "stage is 'pupil'.*teacher, student, imported"),
    "a size of three": ({"image_size": [1, 2, 3]}, "image_size"),
    "a size that is no list": ({"image_size": "256x128"}, "image_size is"),
    "a size that is enormous": ({"image_size": [100000, 100000]}, "image_size is.*4096"),
    "a mean of two": ({"mean": [0.5, 0.5]}, "mean is"),
    "a mean that is a number": ({"mean": 0.5}, "does not describe a model"),
    "a std of zero": ({"std": [0, 1, 1]}, "std is.*greater than 0"),
    "an epoch before the first": ({"epoch": -1}, "epoch is -1"),
    "labels for others": ({"labels": [1, 2]}, "2 entries for 3 identities"),
    "labels that are no numbers": ({"labels": "abc"}, "labels is"),
    "scores that are a list": ({"scores": [1]}, "scores is"),
    "a score that is enormous": ({"scores": {"i2v": {"map": 10**400}}}, "does not describe"),
    "a parent that is a number": ({"parent": 7}, "parent is"),
}


@pytest.mark.parametrize(("changes", "sentence"), WRONG.values(), ids=WRONG)
def test_wrong_config(tmp_path: Path, changes: dict, sentence: str):
    with pytest.raises(VKDError, match=sentence) as error:
        read_config(write(tmp_path, **changes))
    assert str(tmp_path / "config.json") in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"config"', "\xff", "[" * 100_000, "1" * 10_000])
def test_not_json(tmp_path: Path, text: str):
    (tmp_path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(VKDError, match=r"config\.json"):
        read_config(tmp_path)


def test_no_config(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"not a checkpoint: it has no config\.json"):
        read_config(tmp_path)


def test_enormous_config(tmp_path: Path):
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(VKDError, match="too large"):
        read_config(tmp_path)


def test_weights_metadata():
    later = replace(FULL, epoch=99, scores={})
    assert apply_weights_metadata(later, weights_metadata(FULL)) == FULL


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"epoch": "x", "scores": {}}', '{"epoch": 1, "scores": 3}']
)
def test_foreign_weights_metadata(text: str):
    assert apply_weights_metadata(FULL, text) == FULL
