"""The app as programs see it: every action a named endpoint with plain-text ids, every refusal a sentence."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.support.demo import build_demo
from vkd.retrieval.gallery import Hit
from vkd.ui import html, inputs, state
from vkd.ui.errors import show_errors

ROOT = Path(__file__).resolve().parents[2]


def load_app() -> Any:
    from vkd.ui import app

    return app


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def checkpoints(
    small_street: Path, tiny_pair: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder as it ships: a pair, a gallery that both embedded, and query pictures."""
    root = tmp_path_factory.mktemp("shipped")
    for folder in tiny_pair:
        (root / folder.name).symlink_to(folder)
    build_demo(small_street, root / "tiny-teacher", root / "tiny-student", root, identities=8, queries=4)
    return root


@pytest.fixture(scope="module")
def address(checkpoints: Path) -> Iterator[str]:
    app = load_app()
    page = app.build(checkpoints)
    yield app.launch(page, checkpoints, "127.0.0.1", free_port())
    page.close()


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client(address, verbose=False)


def picture(*paths: Path) -> list[dict[str, Any]]:
    return [{"image": handle_file(path), "caption": None} for path in paths]


def ask(client: Client, pictures: list[dict[str, Any]], **choices: Any) -> tuple[str, dict[str, Any]]:
    """Search with the gallery and pair that ship, unless `choices` say otherwise."""
    given = {
        "pictures": pictures,
        "gallery": "street-gallery",
        "teacher": "tiny-teacher",
        "student": "tiny-student",
        "top_k": 5,
        "cameras": [],
        "rerank": False,
        "strangers": "1 in 100",
    }
    return client.predict(*({**given, **choices}).values(), api_name="/search")


@pytest.fixture(scope="module")
def shipped(checkpoints: Path) -> list[dict[str, Any]]:
    return json.loads((checkpoints / "street-queries" / "queries.json").read_text())


def query_files(checkpoints: Path, shipped: list[dict[str, Any]], identity: int) -> list[Path]:
    return [checkpoints / "street-queries" / row["file"] for row in shipped if row["identity"] == identity]


# ---- what ships


def test_the_demo_holds_a_gallery_and_queries_of_held_out_people(
    checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    assert {tuple(row) for row in shipped} == {("file", "identity", "camera", "group")}
    counts = [
        len(query_files(checkpoints, shipped, person)) for person in {row["identity"] for row in shipped}
    ]
    assert sorted(counts) == [1, 1, 4, 4]  # single pictures and tracklets
    assert state.load_gallery(checkpoints / "street-gallery").networks == ["tiny-teacher", "tiny-student"]


# ---- retrieve


def test_one_picture_gives_two_ranked_lists(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    row = shipped[0]
    page, data = ask(client, picture(checkpoints / "street-queries" / row["file"]))
    assert [data[part]["network"] for part in ("teacher", "student")] == ["tiny-teacher", "tiny-student"]
    for part in ("teacher", "student"):
        hits = data[part]["hits"]
        similarities = [hit["similarity"] for hit in hits]
        assert similarities == sorted(similarities, reverse=True)
        assert [hit["rank"] for hit in hits if hit["verdict"] != "junk"] == [1, 2, 3, 4, 5]
        for hit in hits:
            same = (hit["identity"] == row["identity"], hit["camera"] == row["camera"])
            assert hit["verdict"] == ("incorrect" if not same[0] else "junk" if same[1] else "correct")
    assert f"Image query: identity {row['identity']} · camera {row['camera']}" in page


def test_several_pictures_are_one_tracklet(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    files = query_files(checkpoints, shipped, shipped[-1]["identity"])
    page, together = ask(client, picture(*files))
    assert f"Tracklet query of {len(files)} pictures" in page
    _, alone = ask(client, picture(files[0]))
    assert together["teacher"]["hits"] != alone["teacher"]["hits"]


def test_a_picture_nobody_knows_has_no_verdicts(client: Client, tmp_path: Path) -> None:
    stranger = np.random.default_rng(0).integers(0, 255, (64, 32, 3), np.uint8)
    Image.fromarray(stranger).save(tmp_path / "stranger.png")
    page, data = ask(client, picture(tmp_path / "stranger.png"))
    assert {hit["verdict"] for hit in data["student"]["hits"]} == {"unknown"}
    assert "✓" not in page


def test_the_camera_filter_and_reranking_reach_the_library(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    query = picture(checkpoints / "street-queries" / shipped[0]["file"])
    _, data = ask(client, query, cameras=["1"], rerank=True)
    assert {hit["camera"] for hit in data["teacher"]["hits"]} == {1}


def test_examples_are_known_by_a_plain_name(client: Client, shipped: list[dict[str, Any]]) -> None:
    row = shipped[0]
    files = client.predict(f"identity-{row['identity']}-camera-{row['camera']}", api_name="/example")
    assert [Path(item["image"]).name for item in files] == [row["file"]]
    with pytest.raises(AppError, match="There is no example called 'nobody'"):
        client.predict("nobody", api_name="/example")


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ({"gallery": "../../etc"}, "There is no gallery named"),
        ({"teacher": "../street-gallery"}, "is not the name of a checkpoint"),
        ({"student": "nobody"}, "There is no checkpoint named 'nobody'"),
        ({"teacher": "", "student": ""}, "No model is selected"),
        ({"cameras": ["<b>left"]}, "is not a camera"),
    ],
)
def test_wrong_choices_are_answered_with_a_sentence(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]], choices: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence) as refused:
        ask(client, picture(checkpoints / "street-queries" / shipped[0]["file"]), **choices)
    assert "<b>" not in str(refused.value)


def test_no_picture_is_answered_with_what_to_do(client: Client) -> None:
    with pytest.raises(AppError, match="upload one or click an example"):
        ask(client, [])


def test_a_clip_counts_as_a_tracklet(client: Client, tmp_path: Path) -> None:
    from tests.unit.io.test_video import write_clip

    clip = {"video": handle_file(write_clip(tmp_path / "walk.mp4", 20)), "caption": None}
    page, data = ask(client, [clip])
    assert "Tracklet query of 8 pictures" in page
    assert len(data["student"]["hits"]) == 5


def test_a_similarity_has_its_place_among_the_gallerys_own_pairs(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    query = picture(checkpoints / "street-queries" / shipped[0]["file"])
    page, data = ask(client, query, strangers="1 in 10")
    rows = state.load_gallery(checkpoints / "street-gallery")
    features = rows.embeddings("tiny-teacher")
    items = [rows.item(number) for number in range(len(rows))]
    false = np.array(
        [
            float(features[a] @ features[b])
            for a in range(len(items))
            for b in range(len(items))
            if items[a].identity != items[b].identity
        ]
    )
    told = data["teacher"]["threshold"]
    assert told["strangers"] == "1 in 10"
    assert (false >= told["similarity"] + 0.001).mean() <= told["fpr"] + 1e-6 <= 0.1 + 1e-6
    hit = data["teacher"]["hits"][0]
    assert hit["strangers"] == pytest.approx((false >= hit["similarity"]).mean(), abs=0.02)
    assert "1 in 10 strangers would pass" in page
    with pytest.raises(AppError, match="not in the list of choices"):
        ask(client, query, strangers="all")


def test_a_match_is_explained_by_what_both_share(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    query = picture(checkpoints / "street-queries" / shipped[0]["file"])
    hits = {part: answer["hits"] for part, answer in ask(client, query)[1].items()}
    hit = hits["teacher"][2]
    names = ("street-gallery", hit["item"], "tiny-teacher", "tiny-student")
    page, data = client.predict(query, *names, api_name="/explain_match")
    assert data["teacher"]["similarity"] == pytest.approx(hit["similarity"], abs=1e-3)
    assert "teacher heatmap of query" in page
    assert "student heatmap of match 1" in page
    with pytest.raises(AppError, match="no item 99999"):
        client.predict(query, "street-gallery", 99999, *names[2:], api_name="/explain_match")


def test_ranked_lists_are_kept_as_files(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    query = picture(checkpoints / "street-queries" / shipped[0]["file"])
    given = (query, "street-gallery", "tiny-teacher", "tiny-student", 3, [], False, "1 in 100")
    table = client.predict(*given, api_name="/search_table")
    assert Path(table).read_text(encoding="utf-8-sig").startswith("network,rank,item,similarity")
    with Image.open(client.predict(*given, api_name="/search_picture")) as sheet:
        assert sheet.format == "PNG"


def test_new_checkpoints_and_galleries_are_seen_without_a_restart(checkpoints: Path, tmp_path: Path) -> None:
    from vkd.ui.retrieve import tab

    paths = state.AppPaths.of(tmp_path)
    *updates, page = tab.look_again(paths, None, None, None, None, [])
    assert [update["choices"] for update in updates] == [[], [], [], []]
    assert "No model yet" in page
    for name in ("tiny-teacher", "tiny-student", "street-gallery"):
        (tmp_path / name).symlink_to(checkpoints / name)
    gallery, teacher, student, cameras, page = tab.look_again(paths, None, None, None, None, [])
    assert (gallery["value"], teacher["value"], student["value"]) == (
        "street-gallery", "tiny-teacher", "tiny-student",
    )  # fmt: skip
    assert "Who is this?" in page
    assert cameras["choices"] == [("0", "0"), ("1", "1"), ("2", "2")] or cameras["choices"] == ["0", "1", "2"]


# ---- pictures of every kind


def write_odd(kind: str, path: Path) -> Path:
    """A picture that people really upload."""
    pixels = np.random.default_rng(1).integers(0, 255, (40, 20, 3), np.uint8)
    image = Image.fromarray(pixels)
    if kind == "rotated.jpg":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path / kind, exif=exif)
    elif kind == "cmyk.jpg":
        image.convert("CMYK").save(path / kind)
    elif kind == "sixteen-bit.png":
        Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path / kind)
    elif kind == "transparent.png":
        image.convert("RGBA").save(path / kind)
    elif kind == "moving.gif":
        image.save(path / kind, save_all=True, append_images=[image.rotate(180)])
    elif kind == "one-pixel.png":
        image.resize((1, 1)).save(path / kind)
    return path / kind


@pytest.mark.parametrize(
    "kind",
    ["rotated.jpg", "cmyk.jpg", "sixteen-bit.png", "transparent.png", "moving.gif", "one-pixel.png"],
)
def test_odd_pictures_are_searched(client: Client, tmp_path: Path, kind: str) -> None:
    _, data = ask(client, picture(write_odd(kind, tmp_path)))
    assert len(data["student"]["hits"]) == 5


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("notes.png", b"this is not a picture", "is not a picture"),
        ("empty.jpg", b"", "is an empty file"),
        ("cut.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "(cannot be decoded|is not a picture)"),
    ],
)
def test_what_is_no_picture_is_refused_and_the_app_stays_up(
    client: Client, tmp_path: Path, name: str, content: bytes, sentence: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=sentence) as refused:
        ask(client, picture(tmp_path / name))
    assert "/" not in str(refused.value)  # no folder of the server
    assert "Traceback" not in str(refused.value)
    ask(client, picture(write_odd("transparent.png", tmp_path)))


def test_a_bomb_is_refused_before_it_is_decoded(client: Client, tmp_path: Path) -> None:
    Image.new("1", (12000, 12000)).save(tmp_path / "bomb.png")
    assert (tmp_path / "bomb.png").stat().st_size < 50_000
    with pytest.raises(AppError, match="million"):
        ask(client, picture(tmp_path / "bomb.png"))


# ---- explain


def explained(
    client: Client, first: list[Any], second: list[Any], target: str, method: str = "gradcam"
) -> Any:
    return client.predict(first, second, target, method, "tiny-teacher", "tiny-student", api_name="/explain")


def test_explaining_an_identity_tells_its_logit(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    page, data = explained(
        client, picture(checkpoints / "street-queries" / shipped[0]["file"]), [], "top identity"
    )
    assert page.count("<figure>") == 2
    for part in ("teacher", "student"):
        assert data[part]["meaning"].startswith("logit of its top identity")
        assert f"<b>{data[part]['value']:.2f}</b>" in page


def test_explaining_a_likeness_tells_the_cosine(
    client: Client, checkpoints: Path, shipped: list[dict[str, Any]]
) -> None:
    same = picture(checkpoints / "street-queries" / shipped[0]["file"])
    _, data = explained(client, same, same, "second picture")
    assert data["teacher"]["value"] == pytest.approx(1, abs=1e-3)
    with pytest.raises(AppError, match="no second picture yet"):
        explained(client, same, [], "second picture")
    with pytest.raises(AppError, match="There is no heatmap method"):
        explained(client, same, [], "top identity", "palmistry")


# ---- safety


def test_every_public_endpoint_is_named_and_says_what_it_does(client: Client) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert {"/search", "/example", "/explain"} <= set(endpoints)
    assert [name for name, endpoint in endpoints.items() if not endpoint["description"]] == []
    unnamed = {
        (name, argument["parameter_name"])
        for name, endpoint in endpoints.items()
        for argument in endpoint["parameters"]
        if argument["parameter_name"].startswith("param_")
    }
    assert unnamed == set()


def test_files_of_the_server_are_not_served(address: str, checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    config = checkpoints.resolve() / "tiny-teacher" / "config.json"
    for path in (config, Path("/etc/passwd")):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{address}gradio_api/file={path}")
        assert refused.value.code == 403


def test_names_from_outside_cannot_become_markup() -> None:
    name = '<img src=x onerror="alert(1)">${alert(1)}{{alert}}'
    hit = Hit(1, 0, 0.5, 3, 2, name, (), Path("/nowhere.jpg"), "incorrect")
    page = html.matches(name, name, [], [html.Column("teacher", name, [hit])])
    assert "<img src=x" not in page
    assert "${" not in page
    assert "{{" not in page


def test_unknown_errors_are_told_calmly(caplog: pytest.LogCaptureFixture) -> None:
    @show_errors
    def broken() -> None:
        raise ValueError("operands could not be broadcast together")  # not a sentence of ours

    with pytest.raises(gr.Error, match="Internal error"):
        broken()
    assert "operands" in caplog.text  # the server's log has it


@pytest.mark.parametrize(
    ("host", "only_here"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("example.org", False)],
)
def test_loopback_is_told_from_the_world(host: str, only_here: bool) -> None:
    assert load_app().is_loopback(host) is only_here


def test_an_open_door_needs_a_lock(
    checkpoints: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("VKD_AUTH", "SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as stopped:
        load_app().main(["--host", "0.0.0.0", "--checkpoints", str(checkpoints)])
    assert stopped.value.code == 2
    assert "no password is set" in capsys.readouterr().err


def test_no_component_outlives_its_page() -> None:
    from vkd.ui import theme
    from vkd.ui.explain import tab as explain
    from vkd.ui.retrieve import tab as retrieve

    for module in (html, explain, theme, state, inputs, retrieve):
        kept = [name for name, value in vars(module).items() if isinstance(value, gr.blocks.Block)]
        assert not kept, f"{module.__name__} keeps {kept}"


def test_files_of_the_server_cannot_be_asked_about(client: Client, checkpoints: Path) -> None:
    config = checkpoints.resolve() / "tiny-teacher" / "config.json"
    stolen = {"path": str(config), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(AppError) as refused:
        ask(client, [{"image": stolen, "caption": None}])
    assert "is not a picture" not in str(refused.value)  # it was not even opened


def test_the_app_opens_without_anything_to_show(tmp_path: Path) -> None:
    from vkd.ui.retrieve import tab

    page = load_app().build(tmp_path)
    assert "No model yet" in json.dumps(page.get_config_file(), default=str)
    picture_file = write_odd("transparent.png", tmp_path)
    with pytest.raises(gr.Error, match="There is no gallery yet"):
        tab.search(state.AppPaths.of(tmp_path), [picture_file], "", "", "", 5, [], False)


def test_a_damaged_gallery_is_named_at_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "street-gallery").mkdir()
    (tmp_path / "street-gallery" / "gallery.json").write_text("{")
    with pytest.raises(SystemExit) as stopped:
        load_app().main(["--checkpoints", str(tmp_path)])
    assert stopped.value.code == 2
    assert "gallery.json is damaged" in capsys.readouterr().err


# ---- the pair that ships with the repository


@pytest.mark.skipif(
    not (ROOT / "checkpoints" / "street-gallery" / "gallery.json").is_file(),
    reason="the demo is not built yet",
)
def test_the_shipped_demo_answers_its_own_examples() -> None:
    paths = state.AppPaths.of(ROOT / "checkpoints")
    from vkd.ui.retrieve import tab

    names = state.default_pair(paths)
    assert all(names)
    for example in inputs.examples(paths):
        files = inputs.example_pictures(paths, example)
        _, data = tab.search(paths, files, "street-gallery", names[0], names[1], 5, [], False)
        assert len(data["student"]["hits"]) >= 5
