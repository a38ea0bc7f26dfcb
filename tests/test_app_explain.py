"""Explaining: every method, layers, targets, the share on the subject, and a picture to keep."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vkd.explain import METHODS
from vkd.ui import explain, explained, queries
from vkd.ui.parts import Places


@pytest.fixture
def places(tiny_pair: tuple[Path, Path], tmp_path: Path) -> Places:
    """A pair and one query whose subject's mask is known: the upper half of the picture."""
    for folder in tiny_pair:
        (tmp_path / folder.name).symlink_to(folder)
    shown = tmp_path / "street-queries"
    (shown / "masks").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 32, 3), np.uint8)
    Image.fromarray(pixels).save(shown / "a.png")
    mask = np.zeros((64, 32), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(shown / "masks" / "a.png")
    (shown / "queries.json").write_text(
        json.dumps([{"file": "a.png", "identity": 3, "camera": 1, "group": 0}]), encoding="utf-8"
    )
    return Places.of(tmp_path)


def ask(places: Places, target: str = "top identity", method: str = "gradcam", **choices: str) -> dict:
    picture = [str(places.queries / "a.png")]
    return explain.explain(
        places, picture, picture, target, method, "tiny-teacher", "tiny-student", **choices
    )[1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_for_both_networks(places: Places, method: str) -> None:
    assert set(ask(places, method=method)) == {"teacher", "student"}


def test_the_share_on_the_subject_is_told_where_its_mask_is_known(places: Places) -> None:
    data = ask(places)["teacher"]
    found = explained.explain(
        places, [str(places.queries / "a.png")], None, "top identity", "gradcam", "tiny-teacher", ""
    )
    heat = found.answers[0].maps[0]
    assert data["on_subject"] == pytest.approx(heat[:32].sum() / heat.sum(), abs=1e-3)
    assert "of the heat on the subject" in explained.as_html(found)
    (places.queries / "masks" / "a.png").unlink()
    assert ask(places)["teacher"]["on_subject"] is None


def test_a_training_identity_can_be_chosen(places: Places) -> None:
    data = ask(places, "chosen identity", identity="5")["student"]
    assert data["meaning"] == "logit of training identity 5"
    with pytest.raises(Exception, match="it knows 12, from 0 to 11"):
        ask(places, "chosen identity", identity="99")


@pytest.mark.parametrize("layer", ["last", "-2", "0"])
def test_layers_are_numbers_from_either_end(places: Places, layer: str) -> None:
    assert ask(places, layer=layer)["teacher"]["value"] == ask(places)["teacher"]["value"]


def test_an_unknown_layer_is_refused_with_the_known_ones(places: Places) -> None:
    with pytest.raises(Exception, match="There is no layer"):
        ask(places, layer="attic")


def test_the_heatmaps_are_kept_as_a_picture(places: Places) -> None:
    picture = [str(places.queries / "a.png")]
    path = explain.save_heat(
        places, picture, picture, "second picture", "gradcam", "tiny-teacher", "tiny-student", "last", ""
    )
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 3 * 256


def test_masks_belong_to_known_pictures_only(places: Places, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert queries.read_query(places, [str(tmp_path / "a.png")]).masks == (None,)
