"""The losses against the reference implementation's numbers, against loops, and in half precision."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from vkd import losses
from vkd.io.errors import VKDError

GOLDEN = Path(__file__).parents[1] / "golden" / "losses.npz"
CASES = range(9)
# Name in the golden file → the loss of (embedding, logits, labels, teacher embedding, teacher logits).
LOSSES = {
    "triplet_soft": lambda e, x, y, te, tx: losses.triplet(e, y),
    "triplet_margin03": lambda e, x, y, te, tx: losses.triplet(e, y, margin=0.3),
    "kd_t10": lambda e, x, y, te, tx: losses.kd_loss(x, tx),
    "similarity_l2": lambda e, x, y, te, tx: losses.distance_preservation(e, te),
    "logits_mse": lambda e, x, y, te, tx: losses.logit_mse(x, tx),
    "cross_entropy": lambda e, x, y, te, tx: losses.cross_entropy(x, y),
    "total": lambda e, x, y, te, tx: (
        losses.triplet(e, y)
        + losses.cross_entropy(x, y)
        + 1e-4 * losses.distance_preservation(e, te)
        + 0.1 * losses.kd_loss(x, tx)
    ),
}


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as file:
        return dict(file)


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours - theirs).max() / max(np.abs(theirs).max(), 1e-300))


def test_golden_cases(golden):
    assert len(json.loads(str(golden["meta"]))["cases"]) == len(CASES)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 5e-5)])
def test_golden(golden, case, name, dtype, tolerance):
    def tensor(key: str) -> torch.Tensor:
        return torch.from_numpy(golden[f"case{case:02d}__in__{key}"])

    embedding, logits = (tensor(key).to(dtype).requires_grad_() for key in ("emb", "logits"))
    teacher = (tensor("teacher_emb").to(dtype), tensor("teacher_logits").to(dtype))
    value = LOSSES[name](embedding, logits, tensor("labels").long(), *teacher)
    value.backward()
    assert value.dtype == dtype
    compared = {"": value.detach()}
    compared |= {
        f"__grad_{key}": x.grad for key, x in (("emb", embedding), ("logits", logits)) if x.grad is not None
    }
    for key, ours in compared.items():
        theirs = golden[f"case{case:02d}__out__{name}{key}"]
        assert relative(ours.numpy(), theirs) <= tolerance, key


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 12),
    st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([None, 0.0, 0.3]),
    st.integers(0, 10**6),
)
def test_triplet_loop(batch, width, identities, margin, seed):
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(batch, width, generator=generator, dtype=torch.float64)
    labels = torch.randint(identities, (batch,), generator=generator)
    total = 0.0
    for anchor in range(batch):
        positives, negatives = [0.0], [math.inf]
        for other in range(batch):
            distance = math.sqrt(
                sum(
                    (float(a) - float(b)) ** 2
                    for a, b in zip(embedding[anchor], embedding[other], strict=True)
                )
                + 1e-12
            )
            if labels[anchor] != labels[other]:
                negatives.append(distance)
            elif anchor != other:
                positives.append(distance)
        gap = max(positives) - min(negatives)
        total += math.log1p(math.exp(gap)) if margin is None else max(0.0, gap + margin)
    assert float(losses.triplet(embedding, labels, margin)) == pytest.approx(
        total / batch, rel=1e-9, abs=1e-12
    )


def test_soft_margin_overflow():
    embedding = torch.tensor([[0.0], [1e6], [0.5], [1e6 + 1]], requires_grad=True)
    loss = losses.triplet(embedding, torch.tensor([0, 0, 1, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(1e6, rel=1e-5)
    assert embedding.grad.isfinite().all()


def test_equal_embeddings():
    embedding = torch.ones(4, 8, requires_grad=True)
    loss = losses.triplet(embedding, torch.tensor([0, 0, 1, 1])) + losses.distance_preservation(
        embedding, torch.ones(4, 3)
    )
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert embedding.grad.isfinite().all()


def test_one_identity():
    embedding = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = losses.triplet(embedding, torch.zeros(4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0.0
    assert embedding.grad.isfinite().all()


def test_far_from_origin():
    generator = torch.Generator().manual_seed(1)
    embedding = torch.randn(12, 64, generator=generator)
    shifted = (embedding + 512).to(torch.float32)
    labels = torch.arange(6).repeat_interleave(2)
    exact = losses.triplet(shifted.double(), labels)
    assert losses.triplet(shifted, labels).item() == pytest.approx(exact.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision(name, dtype):
    generator = torch.Generator().manual_seed(2)
    embedding, teacher_embedding = (20 * torch.randn(8, 512, generator=generator) for _ in range(2))
    logits, teacher_logits = (60 * torch.randn(8, 16, generator=generator) for _ in range(2))
    labels = torch.arange(4).repeat_interleave(2)
    half = [x.to(dtype) for x in (embedding, logits, teacher_embedding, teacher_logits)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LOSSES[name](half[0], half[1], labels, half[2], half[3])
    full = [x.float() for x in half]
    expected = LOSSES[name](full[0], full[1], labels, full[2], full[3])
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


def test_teacher_gradient():
    student, teacher = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    (
        losses.kd_loss(student, teacher)
        + losses.logit_mse(student, teacher)
        + losses.distance_preservation(student, teacher)
    ).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_perfect_student():
    logits, embedding = torch.randn(6, 5), torch.randn(6, 7)
    assert losses.kd_loss(logits, logits).item() == pytest.approx(0, abs=1e-6)
    assert losses.logit_mse(logits, logits).item() == 0
    assert losses.distance_preservation(embedding, embedding).item() == 0
    # A rotation and a shift keep all distances, and distances are all that is preserved.
    rotation = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64)).Q
    assert losses.distance_preservation(
        embedding.double() @ rotation + 3, embedding.double()
    ).item() == pytest.approx(0, abs=1e-20)


def test_kd_loss():
    student, teacher = torch.randn(2, 4, 9, dtype=torch.float64)
    for temperature in (1.0, 4.0, 10.0):
        target = (teacher / temperature).softmax(dim=1)
        cross = -(target * (student / temperature).log_softmax(dim=1)).sum(dim=1)
        entropy = -(target * target.log()).sum(dim=1)
        expected = ((cross - entropy) * temperature**2).mean()
        torch.testing.assert_close(losses.kd_loss(student, teacher, temperature), expected)


def test_distance_preservation():
    student, teacher = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 11, dtype=torch.float64)
    total = 0.0
    for i in range(5):
        for j in range(5):
            total += (
                float((student[i] - student[j]).square().sum() - (teacher[i] - teacher[j]).square().sum())
                ** 2
            )
    assert float(losses.distance_preservation(student, teacher)) == pytest.approx(0.5 * total / 25, rel=1e-12)


def test_gathered_shards():
    """Two processes that gather with gradients give each its rows of the gradient of the whole batch."""
    whole = torch.randn(8, 6, dtype=torch.float64)
    labels = torch.arange(4).repeat_interleave(2)
    reference = whole.clone().requires_grad_()
    (losses.triplet(reference, labels) + losses.distance_preservation(reference, whole[:, :2])).backward()
    shards = [part.clone().requires_grad_() for part in whole.chunk(2)]
    gathered = torch.cat(shards)
    (losses.triplet(gathered, labels) + losses.distance_preservation(gathered, whole[:, :2])).backward()
    torch.testing.assert_close(torch.cat([shard.grad for shard in shards]), reference.grad)
    alone = losses.triplet(whole[:4], labels[:4])
    assert not torch.isclose(alone, losses.triplet(whole, labels))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: losses.triplet(torch.ones(4, 2, 3), torch.zeros(4)), "one row"),
        (lambda: losses.triplet(torch.ones(4, 3), torch.zeros(5)), r"\(4, 3\) and \(5,\)"),
        (lambda: losses.cross_entropy(torch.ones(4, 3), torch.zeros(3)), "logits and the labels"),
        (lambda: losses.cross_entropy(torch.ones(0, 3), torch.zeros(0)), "one row"),
        (lambda: losses.kd_loss(torch.ones(4, 3), torch.ones(4, 5)), "same identities"),
        (
            lambda: losses.logit_mse(torch.ones(4, 3), torch.ones(2, 3)),
            "student logits and the teacher logits",
        ),
        (lambda: losses.distance_preservation(torch.ones(4, 3), torch.ones(2, 3)), "student embeddings"),
        (lambda: losses.kd_loss(torch.ones(4, 3), torch.ones(4, 3), temperature=0), "must be positive"),
    ],
)
def test_invalid_shapes(call, sentence):
    with pytest.raises(VKDError, match=sentence):
        call()


def test_cross_entropy():
    logits, labels = torch.randn(5, 7, dtype=torch.float64), torch.tensor([0, 6, 3, 3, 1])
    torch.testing.assert_close(losses.cross_entropy(logits, labels), F.cross_entropy(logits, labels))
