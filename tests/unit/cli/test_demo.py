"""`vkd demo` beyond its trainings, which `test_train.py` covers: what ships, and the page of scores."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vkd.cli import demo
from vkd.cli.demo import CONTROL, RESAMPLES, STUDENT, TEACHER, DemoFlags
from vkd.jobs import evaluations
from vkd.jobs import runs as runs_of
from vkd.metrics.bootstrap import bootstrap
from vkd.metrics.scores import Scores, score_features
from vkd.models import checkpoint
from vkd.training import settings
from vkd.training.presets import PRESETS


def scores_of(noise: float, seed: int) -> dict[str, Scores]:
    """Scores of 20 people's noisy embeddings: the less noise, the better."""
    rng = np.random.default_rng(5)
    people = rng.normal(size=(20, 16))
    own = np.random.default_rng(seed)
    gallery = np.repeat(people, 3, 0) + noise * own.normal(size=(60, 16))
    query = people + noise * own.normal(size=(20, 16))
    ids, cameras = np.arange(20), np.full(20, 9)
    return {
        protocol: score_features(
            query, gallery, ids, np.repeat(ids, 3), cameras, np.tile([0, 1, 2], 20), protocol=protocol
        )
        for protocol in ("i2v", "v2v")
    }


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, minutes in ((TEACHER, 3), (STUDENT, 2), (CONTROL, 1)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        sittings = [(100.0, 160.0), (9000.0, 9000.0 + 60 * (minutes - 1))]  # a minute, a pause, and the rest
        rows = [
            {"kind": kind, "epoch": 0, "time": time}
            for sitting in sittings
            for kind, time in zip(("started", "saved"), sitting, strict=True)
        ]
        (folder / "events.jsonl").write_text(
            "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
        )
    return tmp_path / "runs"


def test_the_page_says_the_scores_and_their_differences(tmp_path: Path, runs: Path):
    noises = {TEACHER: 2.5, STUDENT: 1.0, CONTROL: 1.6}
    networks = {name: scores_of(noise, seed) for seed, (name, noise) in enumerate(noises.items())}
    out = tmp_path / "out"
    out.mkdir()

    page = demo.report(out, runs, dict.fromkeys(demo.STREETS, networks))

    text = page.read_text(encoding="utf-8")
    for name, found in networks.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| {name} |"))
        cells = [float(cell) for cell in re.findall(r"\d+\.\d\d", row)]
        wanted = [x for p in ("i2v", "v2v") for x in (found[p].top(1), found[p].map_trapezoid)]
        assert cells == pytest.approx([100 * x for x in wanted], abs=0.005)
    gain = bootstrap(
        networks[STUDENT]["i2v"].ap_trapezoid,
        networks[TEACHER]["i2v"].ap_trapezoid,
        resamples=RESAMPLES,
        generator=np.random.default_rng(0),
    )
    assert f"{100 * gain.mean:+.2f} ({100 * gain.low:+.2f} … {100 * gain.high:+.2f})" in text
    assert f"{TEACHER} 3, {STUDENT} 2, {CONTROL} 1" in text
    kept = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    unseen = kept["streets"]["street-unseen"]
    assert unseen["networks"][STUDENT]["v2v"]["map"] == networks[STUDENT]["v2v"].map
    assert unseen["gains"][f"{STUDENT} − {TEACHER}"]["i2v"]["mean"] == pytest.approx(gain.mean)


@pytest.fixture
def finished(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    """Three finished runs of the tiny network, under the names of the demo's."""
    for folder, name in zip((*tiny_pair, tiny_pair[1]), (TEACHER, STUDENT, CONTROL), strict=True):
        found, run = checkpoint.load(folder), tmp_path / "runs" / name
        checkpoint.save(run, found.net, found.config)
        (run / "training.pt").write_bytes(b"local")
        stage = "teacher" if name == TEACHER else "student"
        asked = {"root": tmp_path / "street"} | (
            {"teacher": tmp_path / TEACHER} if stage == "student" else {}
        )
        settings.save(PRESETS[name].settings(**asked), run / "settings.json")
        last = {"kind": "finished", "epoch": 1, "time": 2.0, "scores": {}}
        (run / "events.jsonl").write_text(json.dumps(last) + "\n", encoding="utf-8")
    return tmp_path / "runs"


def test_only_what_a_reader_of_the_checkpoint_needs_ships(tmp_path: Path, finished: Path):
    runs, out = finished, tmp_path / "out"

    shipped = demo._ship(DemoFlags(out=out, runs=runs))

    weights, record = {"config.json", "model.safetensors"}, {"events.jsonl", "settings.json", "record.json"}
    for name, folder in shipped.items():
        assert {path.name for path in folder.iterdir()} == weights | record
        assert str(tmp_path) not in (folder / "settings.json").read_text(encoding="utf-8")
        before = checkpoint.load(runs / name).net.state_dict()
        after = checkpoint.load(folder).net.state_dict()
        assert all(np.allclose(before[key], after[key], rtol=1e-3, atol=1e-6) for key in before)
    assert checkpoint.read_config(shipped[STUDENT]).parent == TEACHER


def test_a_finished_run_is_not_touched(tmp_path: Path, finished: Path):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    assert demo._train(DemoFlags(out=tmp_path / "out", runs=finished)) == 0
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_an_evaluation_of_teacher_and_student_ships(
    tmp_path: Path, finished: Path, small_street: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / demo.UNSEEN).symlink_to(small_street)
    monkeypatch.setattr(demo, "RESAMPLES", 200)
    flags = DemoFlags(out=tmp_path / "out", runs=finished, data=tmp_path / "data")
    flags.out.mkdir()

    found = evaluations.load(demo._evaluation(flags))

    assert list(found.networks) == [TEACHER, STUDENT]
    assert {frame.split("/")[0] for item in found.items for frame in item.frames} == {demo.UNSEEN}


@pytest.mark.parametrize("name", [TEACHER, STUDENT])
def test_what_is_in_the_repository_is_the_record_of_its_preset(name: str):
    """Its settings, its curves and at least three looks, and nothing of the machine that made it."""
    folder = Path(__file__).parents[3] / "checkpoints" / name
    assert settings.load(folder / "settings.json") == PRESETS[name].settings()
    assert runs_of.status(folder).state == "finished"
    assert len(list(folder.glob("probes/[0-9]*/look.json"))) >= 3
    for path in folder.rglob("*.json*"):
        assert not re.search(r'"/\w', path.read_text(encoding="utf-8")), path


def test_the_evaluation_in_the_repository_has_the_scores_of_its_page():
    """And every picture that its lists show."""
    root = Path(__file__).parents[3] / "checkpoints"
    kept = json.loads((root / "scores.json").read_text(encoding="utf-8"))["streets"][demo.UNSEEN]
    folder = evaluations.folder_of(root, evaluations.SHIPPED)
    found = evaluations.load(folder)
    for name, scores in found.scores.items():
        for protocol, each in scores.items():
            for metric in ("map", "top1"):
                wanted = kept["networks"][name][protocol][metric]
                assert each.numbers()[metric] == pytest.approx(wanted, abs=5e-5)
    for protocol, wanted in kept["gains"][f"{STUDENT} − {TEACHER}"].items():
        gain = found.differences[STUDENT][protocol]["map"]._asdict()
        assert gain == pytest.approx(wanted, abs=5e-5)
    frames = {frame for item in found.items for frame in item.frames}
    assert all(evaluations.thumbnail(folder, frame).is_file() for frame in frames)
    assert len(list((folder / "thumbnails").iterdir())) == len(frames)


def test_every_query_in_the_repository_has_its_mask():
    folder = Path(__file__).parents[3] / "checkpoints" / "street-queries"
    pictures = {path.stem for path in folder.glob("*.jpg")}
    assert {path.stem for path in (folder / "masks").glob("*.png")} == pictures


def test_the_recipes_it_trains_are_presets():
    assert {TEACHER, STUDENT, CONTROL} <= set(PRESETS)
    taught, control = (PRESETS[name].settings().model_dump() for name in (STUDENT, CONTROL))
    assert {key for key in taught if taught[key] != control[key]} == {"preset", "kd_weight", "dp_weight"}
