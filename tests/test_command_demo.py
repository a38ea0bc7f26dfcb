"""`vkd demo` beyond its trainings, which `test_train.py` covers: what ships, and the page of scores."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from vkd import checkpoint, command_demo
from vkd.command_demo import CONTROL, RESAMPLES, STUDENT, TEACHER, DemoFlags
from vkd.intervals import bootstrap
from vkd.presets import PRESETS
from vkd.scores import Scores, score_features


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

    page = command_demo.report(out, runs, dict.fromkeys(command_demo.STREETS, networks))

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


def test_only_what_a_reader_of_the_checkpoint_needs_ships(tmp_path: Path, tiny_pair: tuple[Path, Path]):
    runs, out = tmp_path / "runs", tmp_path / "out"
    for folder, name in zip(tiny_pair, (TEACHER, STUDENT), strict=True):
        found = checkpoint.load(folder)
        checkpoint.save(runs / name, found.net, found.config)
        (runs / name / "training.pt").write_bytes(b"local")

    shipped = command_demo._ship(DemoFlags(out=out, runs=runs))

    for name, folder in shipped.items():
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
        before = checkpoint.load(runs / name).net.state_dict()
        after = checkpoint.load(folder).net.state_dict()
        assert all(np.allclose(before[key], after[key], rtol=1e-3, atol=1e-6) for key in before)
    assert checkpoint.read_config(shipped[STUDENT]).parent == TEACHER


def test_the_recipes_it_trains_are_presets():
    assert {TEACHER, STUDENT, CONTROL} <= set(PRESETS)
    taught, control = (PRESETS[name].settings().model_dump() for name in (STUDENT, CONTROL))
    assert {key for key in taught if taught[key] != control[key]} == {"preset", "kd_weight", "dp_weight"}
