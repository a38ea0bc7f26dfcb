"""The model card: metadata as the Hub reads it, text that says what is known and what is not."""

import json
import re
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

from tests.support import told_run
from tests.support.told_run import SECRETS
from vkd.data.datasets import DATASETS
from vkd.hub import card, card_text, dataset_terms
from vkd.hub.summary import Facts
from vkd.models import checkpoint
from vkd.models.backbones import BACKBONES
from vkd.models.config import Config, read_config
from vkd.training.presets import PUBLISHED

LICENCES = {"mit", "other", "unknown"}  # of the Hub's identifiers, those that are used here


@pytest.fixture
def student(tmp_path: Path, tiny_pair: tuple[Path, Path]) -> Path:
    return told_run.make(tmp_path, tiny_pair)


def rewrite(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def checked(text: str) -> dict[str, Any]:
    """The front matter, as the Hub validates it. Its specification: hub-docs, modelcard.md."""
    found = REGEX_YAML_BLOCK.search(text)
    assert found
    assert found.start() == 0
    data = yaml.safe_load(found[2])
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
    assert "datasets" not in data, "none of the data sets is on the Hub under its authors' name"
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
    found = ModelCard(text).data.eval_results
    return {(each.dataset_config, each.metric_name): each.metric_value for each in found or []}


# --- metadata ---


def test_the_client_reads_the_card_back_as_it_was_written(student: Path):
    text = card.card(student, "jane/street", teacher="jane/teacher")
    data = checked(text)
    read = ModelCard(text)
    assert str(read) == text
    assert read.data.tags == [
        "re-identification",
        "person-re-identification",
        "synthetic",
        "image-retrieval",
        "knowledge-distillation",
        "student",
        "tiny",
    ]
    assert (data["base_model"], data["base_model_relation"]) == ("jane/teacher", "finetune")
    name, again = model_index_to_eval_results(data["model-index"])
    assert name == "street"
    assert again == read.data.eval_results


def test_results_are_those_of_the_weights_that_load_by_themselves(student: Path):
    text = card.card(student)
    assert results(text)["i2v", "I2V mAP (trapezoid), %"] == 50.0
    assert results(text)["i2v", "I2V mAP (standard), %"] == 52.0
    assert results(text)["v2v", "V2V top-1, %"] == 61.0
    first, *_ = ModelCard(text).data.eval_results or []
    assert first.dataset_args == {"protocol": "i2v", "queries_in_gallery": True}
    assert first.metric_args == {"ap": "trapezoid"}
    assert (first.dataset_name, first.dataset_split) == ("Synthetic street (VKD)", "test")


def test_scores_that_are_no_fractions_are_not_results(student: Path):
    (student / "best.safetensors").unlink()
    known = checkpoint.load(student)
    odd = {"i2v": {"map": float("nan"), "top1": 7.0, "top5": 0.5}, "v2v": {}, "x\n---": {"map": 0.5}}
    checkpoint.save(student, known.net, told_run.replaced(known.config, scores=odd))
    assert results(card.card(student)) == {("i2v", "I2V top-5, %"): 50.0}


def test_a_mean_whose_convention_is_not_told_is_said_to_be_so(student: Path):
    (student / "best.safetensors").unlink()
    known = checkpoint.load(student)
    checkpoint.save(student, known.net, told_run.replaced(known.config, scores={"i2v": {"map": 0.5}}))
    text = card.card(student)
    assert results(text) == {("i2v", "I2V mAP, %"): 50.0}
    assert "Which convention of average precision the mAP follows is not recorded." in text


@pytest.mark.parametrize("name", ["a/b/c", "jane/..", "jane/a b", "jane/x\n---", "-jane/x", "jane/x.git"])
def test_names_that_are_no_repository_are_refused(student: Path, name: str):
    with pytest.raises(ValueError, match="is no name of a repository"):
        card.card(student, name)
    with pytest.raises(ValueError, match="is no name of a repository"):
        card.card(student, "jane/x", teacher=name)


def test_a_teacher_has_no_teacher(student: Path):
    with pytest.raises(ValueError, match="is a teacher and has no teacher"):
        card.card(student.parent / "tiny-teacher", teacher="jane/x")


@pytest.mark.parametrize("dataset", [*DATASETS, "", "something else"])
@pytest.mark.parametrize("stage", ["teacher", "student", "imported"])
def test_every_data_set_and_stage_has_a_valid_card(student: Path, dataset: str, stage: str):
    rewrite(student, dataset=dataset, stage=stage)
    checked(card.card(student, "jane/x", teacher=None if stage == "teacher" else "jane/y"))


def test_every_data_set_has_its_words_and_every_protocol_its_name():
    assert dataset_terms.SOURCES.keys() == DATASETS.keys()


# --- text ---


def test_the_text_says_how_to_use_it_in_two_lines_and_in_one(student: Path):
    text = card.card(student, "jane/street")
    assert 'from vkd.models.network import ReIDNet\nnet = ReIDNet.from_pretrained("jane/street")\n' in text
    assert "vkd hub pull jane/street\n" in text


def test_the_lines_after_it_work(student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from PIL import Image

    text = card.card(student)
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    for name in ("first.jpg", "second.jpg"):
        Image.new("RGB", (32, 64)).save(name)
    names: dict[str, Any] = {"net": checkpoint.load(student).net}
    exec(code, names)
    assert names["embedding"].shape == (1, 32)


def test_scores_stand_beside_the_last_weights_and_the_teacher(student: Path):
    text = card.card(student)
    rows = dict(re.findall(r"^\| ([a-z ]+) \| I2V \| ([\d.]+) ", text, re.MULTILINE))
    assert rows == {"this network": "50.00", "its last weights": "40.00", "its teacher": "30.00"}
    assert "`best.safetensors` (epoch 1, the best by mAP) is what loads by itself" in text
    assert "flatters them a little" in text
    assert "No published number exists for synthetic data" in text


def mars(stage: str) -> Facts:
    scores = {"i2v": {"map": 0.7, "map_trapezoid": 0.7, "top1": 0.8}}
    config = Config("resnet50", 625, (256, 128), stage=stage, dataset="mars", epoch=300, scores=scores)
    return Facts(Path("somewhere"), {"model.safetensors": config}, None, ())


def test_published_scores_stand_beside_those_of_the_same_data_set_backbone_and_stage():
    text = "\n".join(card_text.sections(mars("student"), None, None, set()))
    published = PUBLISHED["mars", "resnet50", "student"]
    cells = re.findall(r"^\| published student \| I2V \| ([\d.]+) \| ([\d.]+) ", text, re.MULTILINE)
    assert cells == [(f"{100 * published['i2v']['map']:.2f}", f"{100 * published['i2v']['top1']:.2f}")]
    assert "published teacher" not in text
    assert "with the trapezoid AP" in text


def test_an_imported_network_stands_beside_both_stages():
    text = "\n".join(card_text.sections(mars("imported"), None, None, set()))
    assert "published student" in text
    assert "published teacher" in text


def test_what_is_not_known_is_said_to_be_so(tiny_pair: tuple[Path, Path]):
    text = card.card(tiny_pair[1])
    assert "model-index" not in checked(text)
    for sentence in (
        "**Scores of this network are not known**",
        "How it was trained is not recorded",
        "Its teacher is `tiny-teacher`.",
        "from the config of a checkpoint's folder",
    ):
        assert sentence in text


def test_an_imported_network_of_an_unknown_data_set_says_so(student: Path):
    rewrite(student, dataset="", stage="imported", parent=None)
    (student / "settings.json").unlink()
    text = card.card(student)
    assert checked(text)["license"] == "unknown"
    assert "Whether it had a teacher is not recorded." in text
    assert "What this network learned from is not recorded" in text


def test_a_control_is_told_from_a_student_that_was_taught(student: Path):
    assert "**control**" not in card.card(student)
    path = student / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kd_weight": 0.0, "dp_weight": 0.0}))
    assert "**control**" in card.card(student)


def test_the_card_says_what_it_must_not_be_used_for_and_that_duke_is_withdrawn(student: Path):
    text = card.card(student)
    for words in ("consent and a legal basis", "covert monitoring", "law enforcement, border", "ethnicity"):
        assert words in text
    assert "Bias is not measured" in text
    assert "Synthetic training data" in text
    rewrite(student, dataset="duke")
    duke = card.card(student, "jane/x")
    assert "withdrawn by its authors in 2019" in duke
    assert "Synthetic training data" not in duke
    assert checked(duke)["license_link"] == "https://huggingface.co/jane/x#data-and-licences"


def test_the_paper_is_linked_and_cited_as_in_the_citation_file(student: Path):
    text = card.card(student)
    assert "https://arxiv.org/abs/2007.04174" in text, "the Hub makes a tag of this link"
    cited = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")
    assert dataset_terms.CITATION.strip() in cited


def test_pictures_are_shown_only_if_they_travel(student: Path):
    assert "](curves.png)" not in card.card(student)
    text = card.card(student, pictures=card.travelling(student))
    assert "](curves.png)" in text
    assert "](heatmaps.png)" in text
    assert "coarsened" not in text
    rewrite(student, dataset="mars")
    assert "coarsened" in card.card(student, pictures=["heatmaps.png"])


def test_settings_are_a_table_without_folders_and_machines(student: Path):
    text = card.card(student)
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| .+ \|$", text, re.MULTILINE))
    assert rows["kd_weight"] == "0.1"
    assert rows["protocols"] == "i2v, v2v"
    assert rows["margin"] == "none"
    assert not {"root", "teacher", "start", "device", "workers", "stage"} & rows.keys()
    assert "2 epochs of 3 steps on CPU, 80 pictures a second." in text


def test_nothing_of_the_machine_and_no_token_is_told(student: Path):
    rewrite(student, parent="/home/jane/runs/tiny-teacher")
    text = card.card(student, "someone/x")
    for secret in (*SECRETS, str(student.parent)):
        assert secret not in text
    assert "- ImageNet weights for tiny are missing: looked in …" in text


# --- text from outside ---

WICKED = (
    "x\n---\nlicense: other\n---\n# Mine",
    "<script>alert(1)</script>",
    "[a](javascript:alert(1))",
    "`code` | cell | *bold*",
    "```\nend",
    "&lt;img src=x&gt;",
    "\u202eevil\x00\x1b[31m",
    "{{ jinja }} ${x} $$y$$",
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
        assert len(re.findall(pattern, body, re.MULTILINE)) == len(
            re.findall(pattern, other_body, re.MULTILINE)
        )
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)


@pytest.mark.parametrize("wicked", WICKED)
def test_text_from_outside_breaks_neither_yaml_nor_markdown(student: Path, wicked: str):
    rewrite(student, dataset="other", parent="plain")
    path, told = student / "settings.json", json.loads((student / "settings.json").read_text())
    record = student / "events.jsonl"
    lines = record.read_text().split("\n")

    def write(words: str) -> str:
        rewrite(student, dataset=f"other {words}", parent=f"plain {words}", scores={words: {words: 1.0}})
        path.write_text(json.dumps(told | {"preset": f"a {words}", "teacher": f"t {words}"}))
        begun = json.loads(lines[1]) | {"notes": [f"note {words}"], "device": f"CPU {words}"}
        record.write_text("\n".join([lines[0], json.dumps(begun), *lines[2:]]))
        return card.card(student)

    assert_harmless(write(wicked), write("plain"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.text(max_size=120))
def test_any_name_of_a_data_set_and_of_a_folder_is_harmless(tiny_pair: tuple[Path, Path], name: str):
    def told(words: str) -> str:
        config = read_config(tiny_pair[1])
        config = told_run.replaced(config, dataset=f"x{words}", parent=f"x{words}")
        found = Facts(Path("/runs") / f"x{words}".replace("/", "").replace("\0", ""), {"m": config}, None, ())
        data = card.metadata(found).to_yaml()
        return f"---\n{data}\n---\n\n" + "\n\n".join(card_text.sections(found, None, None, set()))

    assert_harmless(told(name), told("y"))


def test_sentences_stay_one_line_and_end():
    assert card_text.prose("a\n\nb\t*c*") == r"a b \*c\*"
    assert len(card_text.prose("x" * 1000)) == 400


def test_every_backbone_has_a_card():
    for name in BACKBONES:
        config = Config(name, 3, (64, 32), dataset="street")
        found = Facts(Path("run"), {"model.safetensors": config}, None, ())
        assert BACKBONES[name].label in "\n".join(card_text.sections(found, "jane/x", None, set()))


def test_the_page_can_open_without_what_only_a_card_needs():
    import subprocess
    import sys

    heavy = {"matplotlib", "huggingface_hub", "torchvision", "cv2", "faiss", "scipy"}
    code = f"import sys, vkd.hub.card; print(sorted({heavy} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
