"""Explaining: every method, layers, targets, the share on the subject, and a picture to keep."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from vkd.explain.dataset import METHODS
from vkd.ui import inputs
from vkd.ui.explain import explained, tab
from vkd.ui.state import AppPaths


@pytest.fixture
def paths(tiny_pair: tuple[Path, Path], tmp_path: Path) -> AppPaths:
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
    return AppPaths.of(tmp_path)


def ask(paths: AppPaths, target: str = "top identity", method: str = "gradcam", **choices: str) -> dict:
    picture = [str(paths.queries / "a.png")]
    return tab.explain(paths, picture, picture, target, method, "tiny-teacher", "tiny-student", **choices)[1]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_answers_for_both_networks(paths: AppPaths, method: str) -> None:
    assert set(ask(paths, method=method)) == {"teacher", "student"}


def test_the_share_on_the_subject_is_told_where_its_mask_is_known(paths: AppPaths) -> None:
    data = ask(paths)["teacher"]
    wanted = explained.Wanted("top identity", "gradcam", "tiny-teacher", "")
    (found,) = explained.explain(paths, [str(paths.queries / "a.png")], None, wanted)
    heat = found.answers[0].maps[0]
    assert data["on_subject"] == pytest.approx(heat[:32].sum() / heat.sum(), abs=1e-3)
    assert "of the heat on the subject" in explained.as_html(found)
    (paths.queries / "masks" / "a.png").unlink()
    assert ask(paths)["teacher"]["on_subject"] is None


def test_a_training_identity_can_be_chosen(paths: AppPaths) -> None:
    data = ask(paths, "chosen identity", identity="5")["student"]
    assert data["meaning"] == "logit of training identity 5"
    with pytest.raises(Exception, match="it knows 12, from 0 to 11"):
        ask(paths, "chosen identity", identity="99")


@pytest.mark.parametrize("layer", ["last", "-2", "0"])
def test_layers_are_numbers_from_either_end(paths: AppPaths, layer: str) -> None:
    assert ask(paths, layer=layer)["teacher"]["value"] == ask(paths)["teacher"]["value"]


def test_an_unknown_layer_is_refused_with_the_known_ones(paths: AppPaths) -> None:
    with pytest.raises(Exception, match="There is no layer"):
        ask(paths, layer="attic")


def test_the_heatmaps_are_kept_as_a_picture(paths: AppPaths) -> None:
    picture = [str(paths.queries / "a.png")]
    path = tab.save_heat(
        paths, picture, picture, "second picture", "gradcam", "tiny-teacher", "tiny-student", "last", ""
    )
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 3 * 256


def test_masks_belong_to_known_pictures_only(paths: AppPaths, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert inputs.read_query(paths, [str(tmp_path / "a.png")]).masks == (None,)


# ---- what the page shows


def again(paths: AppPaths, before: str = "", **given: Any) -> list[tuple[Any, Any, Any]]:
    """What `explain_again` shows, step by step."""
    picture = [str(paths.queries / "a.png")]
    pictures, second = given.pop("pictures", picture), given.pop("second", None)
    choices = {
        "target": "top identity", "method": "gradcam", "teacher": "tiny-teacher", "student": "tiny-student",
        "layer": "last", "identity": "",
    }  # fmt: skip
    return list(tab.explain_again(paths, before, pictures, second, *{**choices, **given}.values()))


def test_the_teachers_maps_are_shown_while_the_students_are_made(paths: AppPaths) -> None:
    (first, _, _), (last, data, _) = again(paths)
    assert "teacher heatmap" in first
    assert "student heatmap" not in first
    assert "Its heatmaps are being made" in first
    assert "student heatmap" in last
    assert set(data) == {"teacher", "student"}


def test_a_change_that_is_told_twice_is_answered_once(paths: AppPaths) -> None:
    *_, (_, _, asked) = again(paths)
    assert again(paths, asked) == [(gr.skip(), gr.skip(), gr.skip())]
    assert len(again(paths, asked, method="layercam")) == 2


@pytest.mark.parametrize(
    ("given", "todo"),
    [
        ({"pictures": None}, "Where does it look?"),
        ({"target": "second picture"}, "Which second picture?"),
        ({"target": "chosen identity", "identity": " "}, "Which training identity?"),
        ({"target": "chosen identity", "identity": "99"}, "it knows 12, from 0 to 11"),
        ({"layer": "<b>attic"}, "There is no layer"),
    ],
)
def test_what_is_missing_or_wrong_stands_where_the_answer_would_be(
    paths: AppPaths, given: dict[str, Any], todo: str
) -> None:
    ((page, data, _),) = again(paths, **given)
    assert todo in page
    assert data is None
    assert "<b>" not in page


def test_an_example_goes_where_a_picture_is_missing(paths: AppPaths) -> None:
    files = [str(paths.queries / "a.png")]
    show = tab.show_example
    assert show(paths, "identity-3-camera-1", "top identity", None) == (files, gr.skip())
    assert show(paths, "identity-3-camera-1", "second picture", None) == (files, gr.skip())
    assert show(paths, "identity-3-camera-1", "second picture", [("x.png", None)]) == (gr.skip(), files)


def test_an_app_without_networks_says_how_to_get_them(tmp_path: Path) -> None:
    assert "Train a teacher and a student" in tab.welcome(AppPaths.of(tmp_path))
