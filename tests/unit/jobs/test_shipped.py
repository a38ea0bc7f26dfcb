"""What travels of finished work: a run's record tells nothing of its machine, an evaluation needs no data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vkd.data import datasets
from vkd.evaluation import results_io
from vkd.evaluation.comparison import Comparison, compare
from vkd.evaluation.digest import DEPTH, Digest, digest
from vkd.jobs import evaluations, events, shipped
from vkd.jobs.evaluations import SHIPPED, EvaluationRequest
from vkd.models import checkpoint
from vkd.training import settings
from vkd.training.presets import PRESETS


def event(kind: str, epoch: int = 0, **values: object) -> dict[str, object]:
    return {"kind": kind, "epoch": epoch, "time": 100.0 + epoch, **values}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with 30 looks, a note that names its folders, and a sitting with nothing to do."""
    folder = tmp_path / "runs" / "mine"
    (folder / "probes").mkdir(parents=True)
    note = f"Pictures of {tmp_path / 'data'}/street are small."
    happened = [event("started", notes=[note]), *(event("epoch", epoch) for epoch in range(1, 31))]
    happened += [event("finished", 30), event("started", 30), event("finished", 30)]
    list(events.record(folder, happened))
    settings.save(
        PRESETS["street-tiny-teacher"].settings(root=tmp_path / "data/street"), folder / "settings.json"
    )
    (folder / "probes" / "probes.json").write_text("{}")
    for epoch in range(1, 31):
        (folder / "probes" / f"{epoch:05d}").mkdir()
        (folder / "probes" / f"{epoch:05d}" / "look.json").write_text("{}")
    for name in ("training.pt", "log.txt", "lock"):
        (folder / name).write_text(str(tmp_path))
    return folder


def test_a_record_tells_what_happened_and_not_where(run: Path, tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    shipped.keep_run(
        run, folder, PRESETS["street-tiny-teacher"].settings(), {f"{tmp_path / 'data'}/": "data/"}
    )
    assert shipped.is_record(folder)
    assert not shipped.is_record(run)
    assert {path.name for path in folder.iterdir()} == {
        "events.jsonl",
        "settings.json",
        "probes",
        "record.json",
    }
    assert not any(str(tmp_path) in path.read_text() for path in folder.rglob("*") if path.is_file())
    kept, _ = events.read(folder)
    assert kept[0]["notes"] == ["Pictures of data/street are small."]
    assert [each["kind"] for each in kept] == ["started", *["epoch"] * 30, "finished"]
    looks = sorted(int(path.name) for path in (folder / "probes").glob("[0-9]*"))
    assert (len(looks), looks[0], looks[-1]) == (shipped.LOOKS, 1, 30)
    assert settings.load(folder / "settings.json").root == Path("data/street")


def test_a_run_that_goes_on_has_no_record_yet(run: Path, tmp_path: Path):
    (run / "events.jsonl").write_text(json.dumps(event("epoch", 1)) + "\n")
    with pytest.raises(ValueError, match="is not finished"):
        shipped.keep_run(run, tmp_path, PRESETS["street-tiny-teacher"].settings(), {})


@pytest.fixture(scope="module")
def found(small_street: Path, tiny_pair: tuple[Path, Path]) -> Comparison:
    networks = {folder.name: checkpoint.load(folder) for folder in tiny_pair}
    return compare(networks, datasets.read("street", small_street), resamples=200)


def test_an_evaluation_opens_where_its_data_are_not(found: Comparison, small_street: Path, tmp_path: Path):
    street = shutil.copytree(small_street, tmp_path / "elsewhere" / small_street.name)
    moved = [
        item._replace(frames=tuple(frame.replace(str(small_street), str(street)) for frame in item.frames))
        for item in found.items
    ]
    object.__setattr__(found, "items", moved)
    asked = EvaluationRequest(tuple(found.networks), "street", f"data/{street.name}", ("i2v", "v2v"))
    folder = shipped.keep_evaluation(found, tmp_path / SHIPPED, asked, street.parent)
    shutil.rmtree(street)

    assert evaluations.names(tmp_path) == [SHIPPED]
    assert evaluations.folder_of(tmp_path, SHIPPED) == folder
    assert evaluations.status(folder).state == "finished"
    assert evaluations.asked_of(folder) == asked
    opened = evaluations.load(folder)
    for name, scores in found.scores.items():
        for protocol, each in scores.items():
            assert opened.scores[name][protocol].numbers() == each.numbers()
    assert opened.differences == found.differences
    assert all(
        evaluations.thumbnail(folder, frame).is_file() for item in opened.items for frame in item.frames
    )
    assert not any(Path(frame).is_absolute() for item in opened.items for frame in item.frames)
    assert not list(folder.glob("features-*"))


def test_the_beginnings_of_lists_are_those_of_the_embeddings(found: Comparison, tmp_path: Path):
    small = digest(found, Path(found.items[0].frames[0]).parents[3])
    results_io.save(small, tmp_path)
    opened = results_io.load(tmp_path)
    assert isinstance(opened, Digest)
    for name in found.networks:
        for protocol in found.query_gallery:
            for query in (0, 5):
                full, kept = (each.ranked(name, protocol, query, DEPTH) for each in (found, opened))
                assert [hit.item for hit in kept] == [hit.item for hit in full]
                assert [hit.verdict for hit in kept] == [hit.verdict for hit in full]
                assert np.allclose(
                    [hit.similarity for hit in kept], [hit.similarity for hit in full], atol=6e-5
                )
    with pytest.raises(ValueError, match=f"{DEPTH} matches of a query are kept here, not {DEPTH + 1}"):
        opened.ranked(next(iter(found.networks)), "i2v", 0, DEPTH + 1)


def test_a_folder_of_something_else_is_not_replaced(found: Comparison, tmp_path: Path):
    (tmp_path / "precious").write_text("keep")
    with pytest.raises(ValueError, match="holds something that is no evaluation"):
        shipped.keep_evaluation(found, tmp_path, EvaluationRequest((), "street", "data", ()), tmp_path)
    assert (tmp_path / "precious").read_text() == "keep"


def test_only_the_place_of_a_frame_below_its_data_set_is_never_opened(tmp_path: Path, monkeypatch):
    """What ships tells frames by such places: they mean nothing where the app was started."""
    from PIL import Image

    Image.new("RGB", (8, 16)).save(tmp_path / "picture.jpg")
    monkeypatch.chdir(tmp_path)
    assert not evaluations.thumbnail(tmp_path / "evaluation", "picture.jpg").exists()
    (tmp_path / "evaluation").mkdir()
    assert evaluations.thumbnail(tmp_path / "evaluation", str(tmp_path / "picture.jpg")).is_file()
