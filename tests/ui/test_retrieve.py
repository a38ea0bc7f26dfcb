"""The Retrieve tab as programs see it: ranked lists, verdicts, thresholds, explanations, files."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.images import ODD, image_value, queries, search, write_clip, write_noise, write_odd
from vkd.metrics.verification import PairScores
from vkd.retrieval.gallery import Hit
from vkd.ui import inputs, state
from vkd.ui.retrieve import actions, distribution
from vkd.ui.state import AppPaths

PARTS = ("teacher", "student")


@pytest.fixture(scope="module")
def rows(app_paths: AppPaths) -> list[dict[str, Any]]:
    return queries(app_paths.checkpoints)


def test_image_query(app_client: Client, rows: list[dict[str, Any]]) -> None:
    row = rows[0]
    page, data = search(app_client, image_value(row["path"]))
    assert [data[part]["network"] for part in PARTS] == ["tiny-teacher", "tiny-student"]
    for part in PARTS:
        hits = data[part]["hits"]
        similarities = [hit["similarity"] for hit in hits]
        assert similarities == sorted(similarities, reverse=True)
        assert [hit["rank"] for hit in hits if hit["verdict"] != "junk"] == [1, 2, 3, 4, 5]
        for hit in hits:
            same = (hit["identity"] == row["identity"], hit["camera"] == row["camera"])
            assert hit["verdict"] == ("incorrect" if not same[0] else "junk" if same[1] else "correct")
    assert f"Image query: identity {row['identity']} · camera {row['camera']}" in page


def test_tracklet_query(app_client: Client, rows: list[dict[str, Any]]) -> None:
    files = [row["path"] for row in rows if row["identity"] == rows[-1]["identity"]]
    page, together = search(app_client, image_value(*files))
    assert f"Tracklet query, {len(files)} frames" in page
    _, alone = search(app_client, image_value(files[0]))
    assert together["teacher"]["hits"] != alone["teacher"]["hits"]


def test_unlabelled_query_has_no_verdicts(app_client: Client, tmp_path: Path) -> None:
    page, data = search(app_client, image_value(write_noise(tmp_path / "noise.png")))
    assert {hit["verdict"] for hit in data["student"]["hits"]} == {"unknown"}
    assert "unlabelled query" in page
    assert "✓" not in page


def test_video_query(app_client: Client, tmp_path: Path) -> None:
    clip = image_value(write_clip(tmp_path / "walk.mp4", 20))
    page, data = search(app_client, [{"video": clip[0]["image"], "caption": None}])
    assert "Tracklet query, 8 frames" in page
    assert len(data["student"]["hits"]) == 5


def test_cameras_and_reranking(app_client: Client, rows: list[dict[str, Any]]) -> None:
    _, data = search(app_client, image_value(rows[0]["path"]), cameras=["1"], rerank=True)
    assert {hit["camera"] for hit in data["teacher"]["hits"]} == {1}


def test_example_by_name(app_client: Client, rows: list[dict[str, Any]]) -> None:
    row = rows[0]
    files = app_client.predict(f"identity-{row['identity']}-camera-{row['camera']}", api_name="/example")
    assert [Path(item["image"]).name for item in files] == [row["file"]]
    with pytest.raises(AppError, match="nobody"):
        app_client.predict("nobody", api_name="/example")


def test_example_of_images(app_paths: AppPaths, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    for name, example in inputs.examples(app_paths).items():
        assert inputs.example_of(app_paths, [str(file) for file in example.files]) == name
    copy = shutil.copy(rows[0]["path"], tmp_path / "renamed.jpg")
    assert inputs.example_of(app_paths, [(str(copy), None)]).startswith("identity-")
    noise = str(write_noise(tmp_path / "noise.png"))
    for other in (None, [], [noise], [str(copy), noise], [str(tmp_path / "gone.png")]):
        assert inputs.example_of(app_paths, other) == ""


@pytest.mark.parametrize(
    ("choices", "value"),
    [
        ({"gallery": "../../etc"}, "../../etc"),
        ({"teacher": "../street-gallery"}, "../street-gallery"),
        ({"student": "nobody"}, "nobody"),
        ({"teacher": "", "student": ""}, "No model"),
        ({"cameras": ["<b>left"]}, "left"),
        ({"images": []}, "upload one or click an example"),
    ],
    ids=["gallery", "path", "unknown", "none", "camera", "no image"],
)
def test_invalid_choices(
    app_client: Client, rows: list[dict[str, Any]], choices: dict[str, Any], value: str
) -> None:
    with pytest.raises(AppError) as refused:
        search(app_client, **{"images": image_value(rows[0]["path"]), **choices})
    assert value in str(refused.value)
    assert "<b>" not in str(refused.value)


@pytest.mark.parametrize("kind", ODD)
def test_odd_images(app_client: Client, tmp_path: Path, kind: str) -> None:
    _, data = search(app_client, image_value(write_odd(kind, tmp_path)))
    assert len(data["student"]["hits"]) == 5


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.png", b"not an image"),
        ("empty.jpg", b""),
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    ],
)
def test_unreadable_images(app_client: Client, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=name) as refused:
        search(app_client, image_value(tmp_path / name))
    assert "/" not in str(refused.value)  # no folder of the server
    assert "Internal error" not in str(refused.value)


def test_image_bomb(app_client: Client, tmp_path: Path) -> None:
    Image.new("1", (12000, 12000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 50_000
    with pytest.raises(AppError, match="million"):
        search(app_client, image_value(tmp_path / "bomb.png"))


# ---- thresholds


def test_threshold_and_fpr(app_client: Client, app_paths: AppPaths, rows: list[dict[str, Any]]) -> None:
    query = image_value(rows[0]["path"])
    page, data = search(app_client, query, fpr="10 %")
    gallery = state.load_gallery(app_paths.checkpoints / "street-gallery")
    features = gallery.embeddings("tiny-teacher")
    identities = np.array([gallery.item(number).identity for number in range(len(gallery))])
    impostor = (features @ features.T)[identities[:, None] != identities]
    threshold = data["teacher"]["threshold"]
    assert threshold["fpr"] == "10 %"
    assert (impostor >= threshold["similarity"] + 0.001).mean() <= threshold["measured_fpr"] + 1e-6
    assert threshold["measured_fpr"] <= 0.1 + 1e-6
    hit = data["teacher"]["hits"][0]
    assert hit["fpr"] == pytest.approx((impostor >= hit["similarity"]).mean(), abs=0.02)
    assert "FPR 10 %" in page
    with pytest.raises(AppError, match="all"):
        search(app_client, query, fpr="all")


@pytest.mark.parametrize(
    ("impostor_at_least", "text"),
    [(0, "FPR < 1e-4"), (1, "FPR 1e-4"), (5, "FPR 5e-4"), (13, "FPR 0.13 %"), (1200, "FPR 12 %"),
     (9900, "FPR 99 %"), (10_000, "FPR 100 %")],
)  # fmt: skip
def test_fpr_text(impostor_at_least: int, text: str) -> None:
    impostor = np.zeros(4000, np.int64)
    impostor[3000], impostor[0] = impostor_at_least, 10_000 - impostor_at_least
    pairs = distribution.distribution_at(PairScores(np.zeros(4000, np.int64), impostor), "1 %")
    assert distribution.fpr_text(pairs, 0.5) == text


def test_gallery_without_identities_has_no_threshold() -> None:
    none = PairScores(np.zeros(4000, np.int64), np.zeros(4000, np.int64))
    assert distribution.distribution_at(none, "1 %") is None
    assert distribution.fpr_text(None, 0.5) == ""
    assert "<svg" not in distribution.figure(None, [])


# ---- the page


def hit(verdict: Any, rank: int = 1, name: str = "") -> Hit:
    return Hit(rank, 0, 0.5, 3, 2, name, (), Path("/nowhere.jpg"), verdict)


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["junk", "incorrect", "correct"], "first correct match: rank 2 · 1/2 correct (P@2 50 %)"),
        (["incorrect"], "no correct match · 0/1 correct (P@1 0 %)"),
        (["unknown", "junk"], ""),
    ],
)
def test_summary(verdicts: list[str], text: str) -> None:
    assert actions.summary([hit(verdict) for verdict in verdicts]) == text


def test_names_cannot_become_markup(app_paths: AppPaths, rows: list[dict[str, Any]]) -> None:
    name = '<img src=x onerror="alert(1)">${alert(1)}{{alert}}'
    answer = actions.rank(app_paths, [rows[0]["path"]], "street-gallery", "tiny-teacher", "", 3, [], False)
    ranked = [one._replace(model=name, hits=[hit("incorrect", name=name)]) for one in answer.ranked]
    page = actions.as_html(answer._replace(ranked=ranked), name, 0.1)
    assert "alert" in page
    for markup in ("<img src=x", "${", "{{", 'onerror="'):
        assert markup not in page


def test_refresh_sees_new_checkpoints_and_galleries(app_paths: AppPaths, tmp_path: Path) -> None:
    paths = AppPaths.of(tmp_path)
    *updates, page = actions.refresh(paths, None, None, None, None, [])
    assert [update["choices"] for update in updates] == [[], [], [], []]
    assert "No model yet" in page
    for name in ("tiny-teacher", "tiny-student", "street-gallery"):
        (tmp_path / name).symlink_to(app_paths.checkpoints / name)
    gallery, teacher, student, cameras, page = actions.refresh(paths, None, None, None, None, [])
    values = [update["value"] for update in (gallery, teacher, student)]
    assert values == ["street-gallery", "tiny-teacher", "tiny-student"]
    assert page == actions.EMPTY
    assert [str(each[0] if isinstance(each, tuple) else each) for each in cameras["choices"]] == [
        "0",
        "1",
        "2",
    ]


def change(paths: AppPaths, before: str, *values: Any) -> list[tuple[Any, Any, Any]]:
    rest = ("street-gallery", "tiny-teacher", "tiny-student", 3, [], False, "1 %")
    return list(actions.TAB.answer_change(paths, before, *values, *rest))


def test_change_is_answered_once(app_paths: AppPaths, rows: list[dict[str, Any]]) -> None:
    [(page, data, key)] = change(app_paths, "", [(str(rows[0]["path"]), None)])
    assert "vkd-card" in page
    assert set(data) == set(PARTS)
    assert change(app_paths, key, [(str(rows[0]["path"]), None)]) == [(gr.skip(), gr.skip(), gr.skip())]
    [(page, data, _)] = change(app_paths, key, None)
    assert (page, data) == (actions.EMPTY, None)


def test_error_stands_where_the_answer_would_be(app_paths: AppPaths, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    [(page, data, _)] = change(app_paths, "", [str(tmp_path / "a.png")])
    assert 'role="alert"' in page
    assert "a.png" in page
    assert data is None


# ---- explanation and files


def test_explain_match(app_client: Client, rows: list[dict[str, Any]]) -> None:
    query = image_value(rows[0]["path"])
    found = search(app_client, query)[1]["teacher"]["hits"][2]
    names = ("street-gallery", found["item"], "tiny-teacher", "tiny-student")
    page, data = app_client.predict(query, *names, api_name="/explain_match")
    assert data["teacher"]["similarity"] == pytest.approx(found["similarity"], abs=1e-3)
    assert "teacher heatmap of query" in page
    assert "student heatmap of match 1" in page
    with pytest.raises(AppError, match="99999"):
        app_client.predict(query, "street-gallery", 99999, *names[2:], api_name="/explain_match")


def test_save_csv_and_png(app_client: Client, rows: list[dict[str, Any]]) -> None:
    query = image_value(rows[0]["path"])
    values = (query, "street-gallery", "tiny-teacher", "tiny-student", 3, [], False, "1 %")
    table = app_client.predict(*values, api_name="/search_table")
    assert Path(table).read_text(encoding="utf-8-sig").startswith("network,rank,item,similarity")
    with Image.open(app_client.predict(*values, api_name="/search_picture")) as sheet:
        assert sheet.format == "PNG"
