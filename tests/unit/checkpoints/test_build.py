"""checkpoints/build.py beyond its trainings: what ships of runs, evaluations and queries; the scores page."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.support.demo import CHECKPOINTS, build
from vkd.data import datasets
from vkd.data.tracklets import Tracklet
from vkd.evaluation.comparison import Comparison, evaluate_models
from vkd.io.errors import MissingFileError, VKDError
from vkd.jobs import evaluations, events, runs
from vkd.jobs.evaluations import SHIPPED, EvaluationRequest
from vkd.metrics.scores import score_features
from vkd.models import checkpoint
from vkd.retrieval.gallery import Gallery
from vkd.training import settings
from vkd.training.presets import PRESETS

TEACHER, STUDENT, CONTROL = build.TEACHER, build.STUDENT, build.CONTROL
TINY = PRESETS["street-tiny-teacher"]


def noisy_scores(noise: float, seed: int) -> dict[str, Any]:
    """Scores of 20 identities' noisy embeddings: the less noise, the better."""
    identities = np.random.default_rng(5).normal(size=(20, 16))
    rng = np.random.default_rng(seed)
    gallery = np.repeat(identities, 3, 0) + noise * rng.normal(size=(60, 16))
    query = identities + noise * rng.normal(size=(20, 16))
    ids, cameras = np.arange(20), np.full(20, 9)
    labels = (ids, np.repeat(ids, 3), cameras, np.tile([0, 1, 2], 20))
    return {p: score_features(query, gallery, *labels, protocol=p) for p in ("i2v", "v2v")}


def event(kind: str, epoch: int = 0, time: float = 0.0, **values: object) -> dict[str, object]:
    return {"kind": kind, "epoch": epoch, "time": time, **values}


def write_events(folder: Path, rows: list[dict[str, object]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_page_of_scores(tmp_path: Path):
    for name, minutes in ((TEACHER, 3), (STUDENT, 2), (CONTROL, 1)):  # a minute, a pause, and the rest
        times = (100.0, 160.0, 9000.0, 9000.0 + 60 * (minutes - 1))
        rows = [event(("started", "saved")[n % 2], time=time) for n, time in enumerate(times)]
        write_events(tmp_path / name, rows)
    noises = {TEACHER: 2.5, STUDENT: 1.0, CONTROL: 1.6}
    networks = {name: noisy_scores(noise, seed) for seed, (name, noise) in enumerate(noises.items())}

    text = build.report(tmp_path, tmp_path, dict.fromkeys(build.STREETS, networks)).read_text("utf-8")

    content = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert content["minutes"] == {TEACHER: 3, STUDENT: 2, CONTROL: 1}
    for name, scores in networks.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        cells = [float(cell) for cell in re.findall(r"\d+\.\d\d", row)]
        expected = [x for p in ("i2v", "v2v") for x in (scores[p].top(1), scores[p].map)]
        assert cells == pytest.approx([100 * x for x in expected], abs=0.005)
    gain = content["streets"][build.UNSEEN]["gains"][f"{STUDENT} − {TEACHER}"]["i2v"]
    assert gain["low"] < gain["mean"] < gain["high"]
    assert "{mean:+.2f} ({low:+.2f} … {high:+.2f})".format(**{k: 100 * v for k, v in gain.items()}) in text


@pytest.fixture
def finished(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    """Three finished runs of the tiny network, under the names of the demo's."""
    for folder, name in zip((*tiny_pair, tiny_pair[1]), (TEACHER, STUDENT, CONTROL), strict=True):
        trained, run = checkpoint.load(folder), tmp_path / "runs" / name
        checkpoint.save(run, trained.net, trained.config)
        (run / "training.pt").write_bytes(b"local")
        paths = {"root": tmp_path / "street"} | ({} if name == TEACHER else {"teacher": tmp_path / TEACHER})
        settings.save(PRESETS[name].settings(**paths), run / "settings.json")
        write_events(run, [event("finished", 1, scores={})])
    return tmp_path / "runs"


def test_runs_that_ship(tmp_path: Path, finished: Path):
    shipped = build.ship_runs(tmp_path / "data", finished, tmp_path / "out")

    weights, record = {"config.json", "model.safetensors"}, {"events.jsonl", "settings.json", "record.json"}
    for name, folder in shipped.items():
        assert {path.name for path in folder.iterdir()} == weights | record
        assert str(tmp_path) not in (folder / "settings.json").read_text("utf-8")
        before = checkpoint.load(finished / name).net.state_dict()
        after = checkpoint.load(folder).net.state_dict()
        assert all(np.allclose(before[key], after[key], rtol=1e-3, atol=1e-6) for key in before)
    assert checkpoint.read_config(shipped[STUDENT]).parent == TEACHER


def test_finished_run_untouched(tmp_path: Path, finished: Path):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert build.train_all(tmp_path, finished) == 0
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run: 30 snapshots, a note with a path, and a sitting in which there was nothing to do."""
    folder = tmp_path / "runs" / "mine"
    rows = [event("started", notes=[f"Images of {tmp_path / 'data'}/street are small."])]
    rows += [event("epoch", epoch) for epoch in range(1, 31)]
    write_events(folder, [*rows, event("finished", 30), event("started", 30), event("finished", 30)])
    settings.save(TINY.settings(root=tmp_path / "data/street"), folder / "settings.json")
    for epoch in range(1, 31):
        (folder / build.SNAPSHOTS / f"{epoch:05d}").mkdir(parents=True)
        (folder / build.SNAPSHOTS / f"{epoch:05d}" / "look.json").write_text("{}")
    (folder / build.SNAPSHOTS / "probes.json").write_text("{}")
    for name in ("training.pt", "log.txt", "lock"):
        (folder / name).write_text(str(tmp_path))
    return folder


def test_record(run: Path, tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    build.ship_record(run, folder, TINY.settings(), {f"{tmp_path / 'data'}/": "data/"})
    assert runs.is_record(folder)
    assert not runs.is_record(run)
    files = {"events.jsonl", "settings.json", build.SNAPSHOTS, "record.json"}
    assert {path.name for path in folder.iterdir()} == files
    assert not any(str(tmp_path) in path.read_text() for path in folder.rglob("*") if path.is_file())
    rows, _ = events.read(folder)
    assert rows[0]["notes"] == ["Images of data/street are small."]
    assert [row["kind"] for row in rows] == ["started", *["epoch"] * 30, "finished"]
    snapshots = sorted(int(path.name) for path in (folder / build.SNAPSHOTS).glob("[0-9]*"))
    assert (len(snapshots), snapshots[-1]) == (build.MAX_SNAPSHOTS, 30)
    assert settings.load(folder / "settings.json").root == Path("data/street")


def test_unfinished_run_is_refused(run: Path, tmp_path: Path):
    (run / "events.jsonl").write_text(json.dumps(event("epoch", 1)) + "\n")
    with pytest.raises(VKDError, match="mine"):
        build.ship_record(run, tmp_path, TINY.settings(), {})


@pytest.fixture(scope="module")
def comparison(small_street: Path, tiny_pair: tuple[Path, Path]) -> Comparison:
    networks = {folder.name: checkpoint.load(folder) for folder in tiny_pair}
    return evaluate_models(networks, datasets.read_dataset("street", small_street), resamples=200)


def test_evaluation_without_its_data(comparison: Comparison, small_street: Path, tmp_path: Path):
    street = shutil.copytree(small_street, tmp_path / "elsewhere" / small_street.name)
    moved = [
        item._replace(frames=tuple(frame.replace(str(small_street), str(street)) for frame in item.frames))
        for item in comparison.items
    ]
    object.__setattr__(comparison, "items", moved)
    request = EvaluationRequest(tuple(comparison.networks), "street", f"data/{street.name}", ("i2v", "v2v"))
    folder = build.write_evaluation(comparison, tmp_path / SHIPPED, request, street.parent)
    shutil.rmtree(street)

    assert evaluations.names(tmp_path) == [SHIPPED]
    assert evaluations.folder_of(tmp_path, SHIPPED) == folder
    assert evaluations.status(folder).state == "finished"
    assert evaluations.read_request(folder) == request
    opened = evaluations.load(folder)
    for name, scores in comparison.scores.items():
        for protocol, each in scores.items():
            assert opened.scores[name][protocol].numbers() == each.numbers()
    assert opened.differences == comparison.differences
    frames = [frame for item in opened.items for frame in item.frames]
    assert all(evaluations.thumbnail(folder, frame).is_file() for frame in frames)
    assert not any(Path(frame).is_absolute() for frame in frames)


def test_folder_of_something_else(comparison: Comparison, tmp_path: Path):
    (tmp_path / "precious").write_text("keep")
    with pytest.raises(VKDError, match=re.escape(str(tmp_path))):
        build.write_evaluation(comparison, tmp_path, EvaluationRequest((), "street", "data", ()), tmp_path)
    with pytest.raises(VKDError, match=re.escape(str(tmp_path))):
        build.write_queries(tmp_path, [])
    assert (tmp_path / "precious").read_text() == "keep"


def test_relative_frame_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What ships names frames relative to its data, which means nothing where the app was started."""
    Image.new("RGB", (8, 16)).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    assert not evaluations.thumbnail(tmp_path / "evaluation", "picture.jpg").exists()
    (tmp_path / "evaluation").mkdir()
    assert evaluations.thumbnail(tmp_path / "evaluation", str(tmp_path / "picture.jpg")).is_file()


def test_evaluation_that_ships(
    tmp_path: Path, finished: Path, small_street: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / build.UNSEEN).symlink_to(small_street)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(build, "RESAMPLES", 200)
    opened = evaluations.load(build.ship_evaluation(tmp_path / "data", finished, tmp_path / "out"))
    assert list(opened.networks) == [TEACHER, STUDENT]
    assert {frame.split("/")[0] for item in opened.items for frame in item.frames} == {build.UNSEEN}


def walkers(identities: int, cameras: int) -> list[Tracklet]:
    return [
        Tracklet(tuple(f"/street/{identity}-{camera}-{frame}.jpg" for frame in range(8)), identity, camera)
        for identity in range(1, identities + 1)
        for camera in range(cameras)
    ]


def test_queries_are_spread():
    queries = build.choose_queries(walkers(12, 3), dict.fromkeys(range(1, 13), 7), 6)
    assert [query.tracklet.identity for query in queries] == [1, 3, 5, 7, 9, 11]
    assert [query.tracklet.camera for query in queries] == [0, 1, 2, 0, 1, 2]
    assert [query.images for query in queries] == [1, build.VIEWS] * 3
    assert {query.group for query in queries} == {7}
    assert len(build.choose_queries(walkers(2, 2), {}, 8)) == 2
    with pytest.raises(VKDError):
        build.choose_queries([], {}, 8)


def test_queries_are_not_the_gallery_frames(tmp_path: Path):
    frames = tuple(str(tmp_path / f"{frame}.jpg") for frame in range(8))
    for frame in frames:
        Path(frame).write_bytes(b"image")
    queries = build.choose_queries([Tracklet(frames, 5, 2)], {5: 1}, 1)
    for _ in range(2):  # the second time they replace the first
        folder = build.write_queries(tmp_path / "out" / "queries", queries)
    rows = json.loads((folder / "queries.json").read_text())
    assert rows == [{"file": "1.jpg", "identity": 5, "camera": 2, "group": 1}]
    assert sorted(path.name for path in folder.iterdir()) == ["1.jpg", "queries.json"]
    assert list(folder.parent.iterdir()) == [folder]


def test_demo_gallery(tmp_path: Path, small_street: Path, tiny_pair: tuple[Path, Path]):
    gallery, queries = build.build_demo(small_street, *tiny_pair, tmp_path, identities=4, queries=2)
    assert str(small_street.parent) not in (gallery / "gallery.json").read_text("utf-8")
    rows = json.loads((queries / "queries.json").read_text("utf-8"))
    assert {row["file"] for row in rows} == {path.name for path in queries.glob("*.jpg")}
    assert {path.stem for path in (queries / "masks").iterdir()} == {Path(row["file"]).stem for row in rows}
    opened = Gallery.load(gallery)
    assert set(opened.networks) == {folder.name for folder in tiny_pair}
    frames = opened.search(opened.networks[0], np.ones(32))[0].frames
    assert all(frame.startswith(f"{small_street.name}/") for frame in frames)
    with pytest.raises(MissingFileError, match="nowhere"):
        build.build_demo(tmp_path / "nowhere", *tiny_pair, tmp_path)


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_repository_record(name: str):
    """It has its preset's settings, curves, at least three snapshots, and no absolute path."""
    folder = CHECKPOINTS / name
    assert settings.load(folder / "settings.json") == PRESETS[name].settings()
    assert runs.status(folder).state == "finished"
    assert len(list(folder.glob(f"{build.SNAPSHOTS}/[0-9]*/look.json"))) >= 3
    for path in folder.rglob("*.json*"):
        assert not re.search(r'"/\w', path.read_text("utf-8")), path


def test_repository_page():
    content = json.loads((CHECKPOINTS / "scores.json").read_text("utf-8"))
    assert (CHECKPOINTS / "README.md").read_text("utf-8") == build.render(content)


def test_repository_evaluation():
    """It has the scores of the page, and every image that its lists show."""
    content = json.loads((CHECKPOINTS / "scores.json").read_text("utf-8"))["streets"][build.UNSEEN]
    folder = evaluations.folder_of(CHECKPOINTS, SHIPPED)
    opened = evaluations.load(folder)
    for name, scores in opened.scores.items():
        for protocol, each in scores.items():
            for metric in ("map", "top1"):
                expected = content["networks"][name][protocol][metric]
                assert each.numbers()[metric] == pytest.approx(expected, abs=5e-5)
    for protocol, expected in content["gains"][f"{STUDENT} − {TEACHER}"].items():
        gain = opened.differences[STUDENT][protocol]["map"]._asdict()
        assert gain == pytest.approx(expected, abs=5e-5)
    frames = {frame for item in opened.items for frame in item.frames}
    assert all(evaluations.thumbnail(folder, frame).is_file() for frame in frames)
    assert len(list((folder / "thumbnails").iterdir())) == len(frames)


def test_repository_queries_have_masks():
    folder = CHECKPOINTS / "street-queries"
    images = {path.stem for path in folder.glob("*.jpg")}
    assert {path.stem for path in (folder / "masks").glob("*.png")} == images


def test_control_differs_by_its_weights():
    student, control = (PRESETS[name].settings().model_dump() for name in (STUDENT, CONTROL))
    assert {key for key in student if student[key] != control[key]} == {"preset", "kd_weight", "dp_weight"}
