"""Scores published for the method (arXiv 2007.04174, Table 1). No torch here."""

ProtocolScores = dict[str, dict[str, float]]
"""Protocol → metric → fraction."""


def _scores(i2v: tuple[float, float], v2v: tuple[float, float]) -> ProtocolScores:
    return {
        protocol: {metric: round(x / 100, 6) for metric, x in zip(("top1", "map"), percents, strict=True)}
        for protocol, percents in {"i2v": i2v, "v2v": v2v}.items()
    }


PUBLISHED: dict[tuple[str, str, str], ProtocolScores] = {
    ("mars", backbone, stage): _scores(*scores)
    for backbone, rows in {
        "resnet34": [((80.81, 70.74), (86.67, 78.03)), ((82.17, 73.68), (87.83, 79.50))],
        "resnet50": [((82.22, 73.38), (87.88, 81.13)), ((83.89, 77.27), (88.74, 82.22))],
        "resnet101": [((82.78, 74.94), (88.59, 81.66)), ((85.91, 77.64), (89.60, 82.65))],
        "resnet50bam": [((82.58, 74.11), (88.54, 81.19)), ((84.34, 78.13), (89.39, 83.07))],
        "densenet121": [((82.68, 74.34), (89.75, 81.93)), ((84.04, 77.09), (89.80, 82.84))],
        "mobilenet": [((78.64, 67.94), (85.96, 77.10)), ((83.33, 73.95), (88.13, 79.62))],
    }.items()
    for stage, scores in zip(("teacher", "student"), rows, strict=True)
}
"""(Dataset, backbone, stage) → scores, with the queries in the gallery."""
PUBLISHED_CONVENTION = "trapezoid"
"""AP convention of these scores."""


def published_scores(dataset: str, backbone: str, stage: str) -> dict[str, ProtocolScores]:
    """Returns stage → scores published for such a network; of an imported one those of both stages."""
    stages = ("teacher", "student") if stage == "imported" else (stage,)
    rows = {each: PUBLISHED.get((dataset, backbone, each)) for each in stages}
    return {each: scores for each, scores in rows.items() if scores}
