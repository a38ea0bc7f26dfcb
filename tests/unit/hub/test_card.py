"""Model card: metadata as the Hub reads it, text that says what is known and what is not."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard import REGEX_YAML_BLOCK
from huggingface_hub.repocard_data import model_index_to_eval_results
from huggingface_hub.utils import validate_repo_id
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.student_run import SECRETS
from vkd.data.datasets import DATASETS, UNKNOWN
from vkd.evaluation.published import PUBLISHED
from vkd.hub.card import model_card
from vkd.hub.summary import Summary, read_summary
from vkd.io.errors import VKDError
from vkd.models import checkpoint
from vkd.models.backbones import BACKBONES
from vkd.models.config import Config, read_config

LICENCES = {"mit", "other", "unknown"}  # of the Hub's identifiers, those that are used here


def card(folder: Path, repo: str | None = None, **options: Any) -> str:
    return model_card(read_summary(folder), repo, **options)


def rewrite(folder: Path, file: str = "config.json", **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def checked(text: str) -> dict[str, Any]:
    """The front matter, as the Hub validates it. Its specification: hub-docs, modelcard.md."""
    match = REGEX_YAML_BLOCK.search(text)
    assert match
    assert match.start() == 0
    data = yaml.safe_load(match[2])
    assert data["library_name"] == "vkd"
    assert data["pipeline_tag"] == "image-feature-extraction"
    assert data["license"] in LICENCES
    assert ("license_name" in data) == (data["license"] == "other")
    assert all(isinstance(tag, str) and tag for tag in data["tags"])
    assert len(set(data["tags"])) == len(data["tags"])
    assert ("base_model" in data) == ("base_model_relation" in data)
    if "base_model" in data:
        validate_repo_id(data["base_model"])
        assert data["base_model_relation"] in ("finetune", "adapter", "merge", "quantized")
    assert "datasets" not in data, "none of the datasets is on the Hub under its authors' name"
    for row in data.get("model-index", []):
        assert isinstance(row["name"], str)
        for result in row["results"]:
            assert result["task"]["type"] == data["pipeline_tag"]
            assert {"name", "type", "config", "split"} <= result["dataset"].keys()
            for metric in result["metrics"]:
                assert isinstance(metric["type"], str)
                assert 0 <= metric["value"] <= 100
                assert metric["verified"] is False
    return data


def results(text: str) -> dict[tuple[str, str], float]:
    """(protocol, metric's name) → value, as the client reads them back."""
    return {
        (each.dataset_config, each.metric_name): each.metric_value
        for each in ModelCard(text).data.eval_results or []
    }


def with_scores(folder: Path, scores: dict[str, Any]) -> str:
    (folder / "best.safetensors").unlink()
    last = checkpoint.load(folder)
    checkpoint.save(folder, last.net, replace(last.config, scores=scores))
    return card(folder)


# ---- metadata


def test_client_reads_the_card_as_written(student_run: Path):
    text = card(student_run, "jane/street", teacher="jane/teacher")
    data, read = checked(text), ModelCard(text)
    assert str(read) == text
    assert {"re-identification", "person-re-identification", "student", "tiny"} <= {*read.data.tags}
    assert (data["base_model"], data["base_model_relation"]) == ("jane/teacher", "finetune")
    name, again = model_index_to_eval_results(data["model-index"])
    assert name == "street"
    assert again == read.data.eval_results


def test_results_are_those_of_the_default_weights(student_run: Path):
    text = card(student_run)
    assert results(text)["i2v", "I2V mAP (trapezoid), %"] == 50.0
    assert results(text)["i2v", "I2V mAP (standard), %"] == 52.0
    assert results(text)["v2v", "V2V top-1, %"] == 61.0
    first, *_ = ModelCard(text).data.eval_results or []
    assert first.dataset_args == {"protocol": "i2v", "queries_in_gallery": True}
    assert first.metric_args == {"ap": "trapezoid"}
    assert {each.metric_type for each in ModelCard(text).data.eval_results or []} >= {"mAP", "mINP", "rank-1"}


def test_scores_that_are_no_fractions_are_left_out(student_run: Path):
    odd = {"i2v": {"map": float("nan"), "top1": 7.0, "top5": 0.5}, "v2v": {}, "x\n---": {"map": 0.5}}
    assert results(with_scores(student_run, odd)) == {("i2v", "I2V top-5, %"): 50.0}


def test_unknown_interpolation_is_said(student_run: Path):
    text = with_scores(student_run, {"i2v": {"map": 0.5}})
    assert results(text) == {("i2v", "I2V mAP, %"): 50.0}
    assert "interpolation of the mAP is not recorded" in text


@pytest.mark.parametrize("name", ["a/b/c", "jane/..", "jane/a b", "jane/x\n---", "-jane/x", "jane/x.git"])
def test_invalid_names(student_run: Path, name: str):
    for options in ({"repo": name}, {"repo": "jane/x", "teacher": name}):
        with pytest.raises(VKDError):
            card(student_run, **options)


def test_teacher_has_no_teacher(student_run: Path):
    with pytest.raises(VKDError):
        card(student_run.parent / "tiny-teacher", teacher="jane/x")


@pytest.mark.parametrize("dataset", [*DATASETS, "", "something else"])
@pytest.mark.parametrize("stage", ["teacher", "student", "imported"])
def test_every_dataset_and_stage(student_run: Path, dataset: str, stage: str):
    rewrite(student_run, dataset=dataset, stage=stage)
    checked(card(student_run, "jane/x", teacher=None if stage == "teacher" else "jane/y"))


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_has_terms(name: str):
    row = DATASETS[name]
    assert row.terms != UNKNOWN.terms
    assert row.description != UNKNOWN.description
    assert row.hub_type != UNKNOWN.hub_type


# ---- text


def test_usage_runs(student_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    text = card(student_run, "jane/street")
    assert "vkd hub pull jane/street\n" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    for name in ("first.jpg", "second.jpg"):
        Image.new("RGB", (32, 64)).save(name)
    folder = student_run.rename(tmp_path / "jane-street")
    names: dict[str, Any] = {}
    exec(code.replace("jane/street", str(folder)), names)
    assert names["embedding"].shape == (1, 32)


def test_scores_beside_last_weights_and_teacher(student_run: Path):
    text = card(student_run)
    rows = dict(re.findall(r"^\| ([a-z ]+) \| I2V \| ([\d.]+) ", text, re.MULTILINE))
    assert rows == {"this model": "50.00", "its last weights": "40.00", "its teacher": "30.00"}
    assert "`best.safetensors` (epoch 1" in text
    assert "`model.safetensors` (epoch 2" in text


def mars(stage: str) -> str:
    scores = {"i2v": {"map": 0.7, "map_trapezoid": 0.7, "top1": 0.8}}
    config = Config("resnet50", 625, (256, 128), stage=stage, dataset="mars", epoch=300, scores=scores)
    return model_card(Summary(Path("somewhere"), {"model.safetensors": config}))


def test_published_scores_of_the_same_stage():
    text = mars("student")
    published = PUBLISHED["mars", "resnet50", "student"]
    cells = re.findall(r"^\| published student \| I2V \| ([\d.]+) \| ([\d.]+) ", text, re.MULTILINE)
    assert cells == [(f"{100 * published['i2v']['map']:.2f}", f"{100 * published['i2v']['top1']:.2f}")]
    assert "published teacher" not in text


def test_imported_model_stands_beside_both_stages():
    assert {"published student", "published teacher"} <= {
        *re.findall(r"published \w+er|published \w+nt", mars("imported"))
    }


def test_unknown_facts_are_called_unknown(tiny_pair: tuple[Path, Path], student_run: Path):
    text = card(tiny_pair[1])
    assert "model-index" not in checked(text)
    for words in ("are unknown", "is not recorded", "`tiny-teacher`", "from the config of"):
        assert words in text
    rewrite(student_run, dataset="", stage="imported", parent=None)
    (student_run / "settings.json").unlink()
    text = card(student_run)
    assert checked(text)["license"] == "unknown"
    assert UNKNOWN.description in text


def test_control_is_told_from_a_distilled_student(student_run: Path):
    assert "**control**" not in card(student_run)
    rewrite(student_run, "settings.json", kd_weight=0.0, dp_weight=0.0)
    assert "**control**" in card(student_run)


def test_out_of_scope_uses_and_terms(student_run: Path):
    text = card(student_run)
    for words in ("consent and a legal basis", "covert monitoring", "law enforcement, border", "ethnicity"):
        assert words in text
    assert "Bias is not measured" in text
    assert "Synthetic training data" in text
    rewrite(student_run, dataset="duke")
    duke = card(student_run, "jane/x")
    assert "withdrawn by its authors in 2019" in duke
    assert "Synthetic training data" not in duke
    assert checked(duke)["license_link"] == "https://huggingface.co/jane/x#data-and-licences"


def test_links_lead_to_headings_of_the_card(student_run: Path):
    text = card(student_run)
    headings = {line.strip("# ").lower().replace(" ", "-") for line in text.splitlines() if line[:1] == "#"}
    assert {*re.findall(r"\]\(#([\w-]+)\)", text), "data-and-licences"} <= headings


def test_citation_is_that_of_the_readme(student_run: Path):
    text = card(student_run)
    assert "https://arxiv.org/abs/2007.04174" in text, "the Hub makes a tag of this link"
    (citation,) = re.findall(r"```bibtex\n.*?```", text, re.DOTALL)
    assert citation in (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def test_images_only_if_uploaded(student_run: Path):
    assert ".png" not in card(student_run)
    text = card(student_run, images=["curves.png", "heatmaps.png"])
    assert "](curves.png)" in text
    assert "](heatmaps.png)" in text


def test_settings_table_without_folders_and_machines(student_run: Path):
    text = card(student_run)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", text, re.MULTILINE))
    assert rows["kd_weight"] == "0.1"
    assert rows["protocols"] == "i2v, v2v"
    assert rows["margin"] == "none"
    assert not {"root", "teacher", "start", "device", "workers", "stage"} & rows.keys()
    assert "2 epochs, 3 steps each, 80 images per second." in text


def test_no_text_of_the_machine_and_no_token(student_run: Path):
    rewrite(student_run, parent="/home/jane/runs/tiny-teacher")
    text = card(student_run, "someone/x")
    for secret in (*SECRETS, str(student_run.parent)):
        assert secret not in text


def test_every_backbone():
    for name, row in BACKBONES.items():
        config = Config(name, 3, (64, 32), dataset="street")
        assert row.label in model_card(Summary(Path("run"), {"model.safetensors": config}), "jane/x")


def test_import_is_light():
    heavy = {"matplotlib", "huggingface_hub", "torchvision", "cv2", "faiss", "scipy"}
    code = f"import sys, vkd.hub.card; print(sorted({heavy} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# ---- text from outside

WICKED = (
    "x\n---\nlicense: other\n---\n# Mine",
    "<script>alert(1)</script>",
    "[a](javascript:alert(1))",
    "`code` | cell | *bold*",
    "```\nend",
    "&lt;img src=x&gt;",
    "\u202eevil\x00\x1b[31m",
    "{{ jinja }} {% raw %} ${x} $$y$$",
    "- a: [b, {c: d}]",
    "!!python/object/apply:os.system [x]",
    "@everyone #1 <!-- comment -->",
    "null",
)


def assert_harmless(text: str, plain: str) -> None:
    """Same structure as a card with plain names: front matter, headings, code blocks, cells, no HTML."""
    one, other = checked(text), checked(plain)
    assert one.keys() == other.keys()
    assert one["license"] == other["license"]
    body, other_body = (REGEX_YAML_BLOCK.sub("", each, count=1) for each in (text, plain))
    for pattern in (r"^#+ ", r"^```", r"(?<!\\)\|", r"(?<!\\)<", r"(?<!\\)\]\(", r"^---"):
        counts = [len(re.findall(pattern, each, re.MULTILINE)) for each in (body, other_body)]
        assert counts[0] == counts[1], pattern
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)


@pytest.mark.parametrize("wicked", WICKED)
def test_names_from_outside_break_neither_yaml_nor_markdown(student_run: Path, wicked: str):
    rewrite(student_run, dataset="other", parent="plain")
    lines = (student_run / "events.jsonl").read_text().split("\n")

    def write(words: str) -> str:
        scores = {words: {words: 1.0}}
        rewrite(student_run, dataset=f"other {words}", parent=f"plain {words}", scores=scores)
        rewrite(student_run, "settings.json", preset=f"a {words}", teacher=f"t {words}")
        begun = json.loads(lines[1]) | {"notes": [f"note {words}"], "device": f"CPU {words}"}
        (student_run / "events.jsonl").write_text("\n".join([lines[0], json.dumps(begun), *lines[2:]]))
        return card(student_run)

    assert_harmless(write(wicked), write("plain"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.text(max_size=120))
def test_any_name_of_a_dataset_and_of_a_folder(tiny_pair: tuple[Path, Path], name: str):
    def write(words: str) -> str:
        config = replace(read_config(tiny_pair[1]), dataset=f"x{words}", parent=f"x{words}")
        folder = Path("/runs") / f"x{words}".replace("/", "").replace("\0", "")
        return model_card(Summary(folder, {"m": config}))

    assert_harmless(write(name), write("y"))
