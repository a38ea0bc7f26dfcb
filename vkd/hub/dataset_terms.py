"""Terms of use, licence and description of each dataset, for the model card."""

from dataclasses import dataclass

PAPER = "https://arxiv.org/abs/2007.04174"


@dataclass(frozen=True)
class DatasetTerms:
    """A dataset on a card. `kind` is its type in the metadata (none is a dataset of the Hub), `tags` are
    search terms, `licence` an identifier of the Hub: 'other' means the dataset's own terms.
    """

    title: str
    kind: str
    tags: tuple[str, ...]
    licence: str
    description: str
    terms: str
    subject: str = "person"
    synthetic: bool = False
    queries_in_gallery: bool | None = None


TERMS: dict[str, DatasetTerms] = {
    "mars": DatasetTerms(
        "MARS",
        "mars-video-reid",
        ("person-re-identification", "mars"),
        "other",
        "MARS, a video extension of Market-1501: pedestrians on a university campus under six cameras, in "
        "tracklets found by a detector and a tracker. The images show real people, and no record is known "
        "here of their having been asked about uses such as this one.",
        "MARS was given out for research. Its images are not part of this repository. The terms under "
        "which it was given out bind whoever uses these weights, whatever the licence of the code says.",
        queries_in_gallery=True,
    ),
    "duke": DatasetTerms(
        "Duke-Video-ReID",
        "dukemtmc-videoreid",
        ("person-re-identification", "dukemtmc-videoreid"),
        "other",
        "DukeMTMC-VideoReID, cut from DukeMTMC: people filmed by eight cameras on the campus of Duke "
        "University. **DukeMTMC was withdrawn by its authors in 2019**, after it had become known how the "
        "recordings of people who had not agreed to it were being used.",
        "DukeMTMC is withdrawn and must not be passed on. Weights learned from it should serve to reproduce "
        "published research and nothing else, and are better not published: keep this repository private, or "
        "train on another dataset.",
    ),
    "veri": DatasetTerms(
        "VeRi-776",
        "veri-776",
        ("vehicle-re-identification", "veri-776"),
        "other",
        "VeRi-776: 776 vehicles in the recordings of 20 traffic cameras of one city. Vehicles have owners "
        "and drivers, and some images show number plates.",
        "VeRi-776 is given out by its authors on request, for non-commercial use. Its images are not part "
        "of this repository; the same terms bind whoever uses these weights.",
        subject="vehicle",
    ),
    "street": DatasetTerms(
        "Synthetic street (VKD)",
        "vkd-synthetic-street",
        ("person-re-identification", "synthetic"),
        "mit",
        "**Synthetic data only**: the street that `vkd street` draws, people made of simple bodies who walk "
        "past a ring of cameras. No person in it exists.",
        "The images were drawn by the project's own program and are free of other people's rights.",
        synthetic=True,
        queries_in_gallery=True,
    ),
    "folder": DatasetTerms(
        "The publisher's own images",
        "own-images",
        (),
        "unknown",
        "A folder of images of whoever trained this model. What they show, where they come from and "
        "whether the people in them agreed is not recorded: **the publisher should say so in this place**.",
        "The licence of the images, and with it what these weights may be used for, is not known to the "
        "program that wrote this card: the publisher should state it.",
        subject="subject",
    ),
}

UNKNOWN = DatasetTerms(
    "Unknown dataset",
    "unknown",
    (),
    "unknown",
    "What this model was trained on is not recorded in its folder.",
    "As the dataset is unknown, so are its terms: do not use these weights before you know them.",
    subject="subject",
)
