"""The Explain tab: methods, layers, targets, the share on the mask, steps, and a PNG."""

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.app import error_of
from tests.support.images import image_value, queries, write_noise
from vkd.explain.methods import METHODS
from vkd.ui import inputs
from vkd.ui.explain import actions
from vkd.ui.explain.actions import CHOSEN, SECOND, TOP
from vkd.ui.state import AppPaths

PAIR = ("tiny-teacher", "tiny-student")


@pytest.fixture(scope="module")
def paths(tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> AppPaths:
    """A pair and one example whose mask is the upper half of the image."""
    root = tmp_path_factory.mktemp("explain")
    for folder in tiny_pair:
        (root / folder.name).symlink_to(folder)
    (root / "street-queries" / "masks").mkdir(parents=True)
    write_noise(root / "street-queries" / "a.png")
    mask = np.zeros((64, 32), np.uint8)
    mask[:32] = 255
    Image.fromarray(mask).save(root / "street-queries" / "masks" / "a.png")
    row = {"file": "a.png", "identity": 3, "camera": 1, "group": 0}
    (root / "street-queries" / "queries.json").write_text(json.dumps([row]), encoding="utf-8")
    return AppPaths.of(root)


def images(paths: AppPaths) -> list[str]:
    return [str(paths.queries / "a.png")]


def explain(paths: AppPaths, target: str = TOP, method: str = "gradcam", **choices: str) -> dict[str, Any]:
    return actions.explain(paths, images(paths), images(paths), target, method, *PAIR, **choices)[1]


@pytest.mark.parametrize("method", METHODS)
def test_methods(paths: AppPaths, method: str) -> None:
    assert set(explain(paths, method=method)) == {"teacher", "student"}


def test_share_on_mask(paths: AppPaths, tmp_path: Path) -> None:
    request = actions.Request(TOP, "gradcam", "tiny-teacher", "")
    (explained,) = actions.steps(paths, images(paths), None, request)
    heat = explained.explanations[0].maps[0]
    assert actions.as_data(explained)["teacher"]["on_subject"] == pytest.approx(
        heat[:32].sum() / heat.sum(), abs=1e-3
    )
    assert "of the CAM mass on the person mask" in actions.as_html(explained)
    other = [str(write_noise(tmp_path / "a.png", seed=1))]  # the same name, another image
    assert inputs.read_query(paths, other).masks == (None,)
    (explained,) = actions.steps(paths, other, None, request)
    assert explained.explanations[0].on_mask is None


def test_chosen_identity(paths: AppPaths) -> None:
    data = explain(paths, CHOSEN, identity="5")["student"]
    assert data["meaning"] == "logit of training identity 5"
    for identity in ("99", "", "five"):
        assert "12 training identities, from 0 to 11" in error_of(explain, paths, CHOSEN, identity=identity)


@pytest.mark.parametrize("layer", ["last", "-2", "0"])
def test_layers(paths: AppPaths, layer: str) -> None:
    assert explain(paths, layer=layer)["teacher"]["value"] == explain(paths)["teacher"]["value"]


@pytest.mark.parametrize(
    ("choices", "value"), [({"layer": "attic"}, "attic"), ({"method": "palmistry"}, "palmistry")]
)
def test_unknown_layer_or_method(paths: AppPaths, choices: dict[str, str], value: str) -> None:
    assert value in error_of(explain, paths, **choices)


def test_save_png_wraps_captions(paths: AppPaths) -> None:
    path = actions.save_png(paths, images(paths), images(paths), SECOND, "gradcam", *PAIR, "last", "")
    with Image.open(path) as sheet:
        assert sheet.format == "PNG"
        assert sheet.height > 3 * 256
        edge = np.asarray(sheet.convert("L"))[:, -4:]
    assert edge.min() == 255, "a caption is cut at the right edge"


def test_endpoint(app_client: Client, app_paths: AppPaths) -> None:
    query = image_value(queries(app_paths.checkpoints)[0]["path"])
    page, data = app_client.predict(query, [], TOP, "gradcam", *PAIR, api_name="/explain")
    assert page.count("<figure>") == 2
    for part in ("teacher", "student"):
        assert data[part]["meaning"].startswith("logit of top-1 class")
        assert f"<b>{data[part]['value']:.2f}</b>" in page
    _, data = app_client.predict(query, query, SECOND, "gradcam", *PAIR, api_name="/explain")
    assert data["teacher"]["value"] == pytest.approx(1, abs=1e-3)
    with pytest.raises(AppError, match="second image"):
        app_client.predict(query, [], SECOND, "gradcam", *PAIR, api_name="/explain")


# ---- the page


def change(paths: AppPaths, before: str = "", **choices: Any) -> list[tuple[Any, Any, Any]]:
    values = {
        "images": images(paths), "second": None, "target": TOP, "method": "gradcam", "teacher": PAIR[0],
        "student": PAIR[1], "layer": "last", "identity": "",
    }  # fmt: skip
    return list(actions.TAB.answer_change(paths, before, *{**values, **choices}.values()))


def test_teacher_is_shown_while_the_student_is_computed(paths: AppPaths) -> None:
    (first, _, _), (last, data, _) = change(paths)
    assert "teacher heatmap" in first
    assert "student heatmap" not in first
    assert "vkd-waiting" in first
    assert "student heatmap" in last
    assert set(data) == {"teacher", "student"}


def test_change_is_answered_once(paths: AppPaths) -> None:
    *_, (_, _, key) = change(paths)
    assert change(paths, key) == [(gr.skip(), gr.skip(), gr.skip())]
    assert len(change(paths, key, method="layercam")) == 2


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"images": None}, "Class activation maps"),
        ({"target": SECOND}, "Second image"),
        ({"target": CHOSEN, "identity": " "}, "Identity ID"),
        ({"target": CHOSEN, "identity": "99"}, "from 0 to 11"),
        ({"layer": "<b>attic"}, "attic"),
    ],
    ids=["image", "second", "identity", "unknown identity", "layer"],
)
def test_missing_or_invalid_input(paths: AppPaths, choices: dict[str, Any], text: str) -> None:
    ((page, data, _),) = change(paths, **choices)
    assert text in page
    assert data is None
    assert "<b>" not in page


def test_example_goes_where_an_image_is_missing(paths: AppPaths) -> None:
    files = images(paths)
    for target, first, expected in (
        (TOP, None, (files, gr.skip())),
        (SECOND, None, (files, gr.skip())),
        (SECOND, [("x.png", None)], (gr.skip(), files)),
    ):
        assert actions.show_example(paths, "identity-3-camera-1", target, first) == expected


def test_welcome_without_models(tmp_path: Path) -> None:
    assert "No model yet" in actions.welcome(AppPaths.of(tmp_path))
