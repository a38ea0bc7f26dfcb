"""What a model card says of each data set and its terms, and what a network must not be used for."""

from dataclasses import dataclass

PAPER = "https://arxiv.org/abs/2007.04174"


@dataclass(frozen=True)
class Source:
    """A data set on a card. `kind` is its type in the metadata (none is a data set of the Hub), `tags` are
    words to be found by, `licence` an identifier of the Hub: 'other' means the data set's own terms.
    """

    title: str
    kind: str
    tags: tuple[str, ...]
    licence: str
    seen: str
    terms: str
    subject: str = "person"
    synthetic: bool = False
    queries_in_gallery: bool | None = None


SOURCES: dict[str, Source] = {
    "mars": Source(
        "MARS",
        "mars-video-reid",
        ("person-re-identification", "mars"),
        "other",
        "MARS, a video extension of Market-1501: pedestrians on a university campus under six cameras, in "
        "tracklets found by a detector and a tracker. The pictures show real people, and no record is known "
        "here of their having been asked about uses such as this one.",
        "MARS was given out for research. Its pictures are not part of this repository. The terms under "
        "which it was given out bind whoever uses these weights, whatever the licence of the code says.",
        queries_in_gallery=True,
    ),
    "duke": Source(
        "Duke-Video-ReID",
        "dukemtmc-videoreid",
        ("person-re-identification", "dukemtmc-videoreid"),
        "other",
        "DukeMTMC-VideoReID, cut from DukeMTMC: people filmed by eight cameras on the campus of Duke "
        "University. **DukeMTMC was withdrawn by its authors in 2019**, after it had become known how the "
        "recordings of people who had not agreed to it were being used.",
        "DukeMTMC is withdrawn and must not be passed on. Weights learned from it should serve to reproduce "
        "published research and nothing else, and are better not published: keep this repository private, or "
        "train on another data set.",
    ),
    "veri": Source(
        "VeRi-776",
        "veri-776",
        ("vehicle-re-identification", "veri-776"),
        "other",
        "VeRi-776: 776 vehicles in the recordings of 20 traffic cameras of one city. Vehicles have owners "
        "and drivers, and some pictures show number plates.",
        "VeRi-776 is given out by its authors on request, for non-commercial use. Its pictures are not part "
        "of this repository; the same terms bind whoever uses these weights.",
        subject="vehicle",
    ),
    "street": Source(
        "Synthetic street (VKD)",
        "vkd-synthetic-street",
        ("person-re-identification", "synthetic"),
        "mit",
        "**Synthetic data only**: the street that `vkd street` draws, people made of simple bodies who walk "
        "past a ring of cameras. No person in it exists.",
        "The pictures were drawn by the project's own program and are free of other people's rights.",
        synthetic=True,
        queries_in_gallery=True,
    ),
    "folder": Source(
        "Pictures of the publisher's own",
        "own-pictures",
        (),
        "unknown",
        "A folder of pictures of whoever trained this network. What they show, where they come from and "
        "whether the people in them agreed is not recorded: **the publisher should say so in this place**.",
        "The licence of the pictures, and with it what these weights may be used for, is not known to the "
        "program that wrote this card: the publisher should state it.",
        subject="subject",
    ),
}

UNKNOWN = Source(
    "Unknown data set",
    "unknown",
    (),
    "unknown",
    "What this network learned from is not recorded in its folder.",
    "As the data set is not known, neither are its terms: do not use these weights before you know them.",
    subject="subject",
)

INTENDED = """\
- Research and teaching: studying views knowledge distillation, comparing methods under the protocols named
  above, looking at what such a network attends to.
- Searching collections whose subjects are no private persons or have agreed: synthetic scenes, actors of a
  study, one's own recordings, animals in a survey, vehicles of one's own fleet.
- What comes out is a ranked list to be looked at by a person. Two embeddings that are close are a likeness of
  clothes, colours and shapes in two pictures. They are no proof that two pictures show the same person.
"""

FORBIDDEN = """\
Re-identification is surveillance technology: it makes separate cameras into one that follows people. This
network must not be used for

- **identifying, following or profiling people without their informed consent and a legal basis**, in public
  or private places, in real time or in recordings; this holds for shops, workplaces, schools, housing and
  demonstrations as well;
- **covert monitoring** of anyone: partners, employees, tenants, journalists, activists, or one's neighbours;
- **law enforcement, border, migration, asylum and military purposes**, or as evidence: a ranked list says
  nothing about guilt or identity, and its errors fall on people who cannot see or contest them;
- **decisions about people**: access, employment, insurance, credit, attendance, punishment, watch lists;
- **inferring what people are**: ethnicity, gender, age, religion, health, disability, sexual orientation,
  political opinion, mood or character. It was not made for that, and nothing it outputs supports it;
- **finding or counting children**, or linking their pictures, for whatever purpose;
- undoing anonymity: linking blurred, masked or otherwise protected recordings to people.

In many places some of these uses are forbidden by law (in the European Union by the GDPR and the AI Act).
That a use is legal somewhere does not make it one that this network is fit for.
"""

LIMITS = """\
- **Closed conditions.** It was trained and tested on one data set: a handful of cameras, a short time, the
  same clothes. Another day, other cameras, light, weather, resolution or croppings lower the scores, often
  by a lot; nothing here measures by how much.
- **Appearance, not identity.** It goes by clothes, bags and colours. People dressed alike are confused, and
  one person in other clothes is another person to it.
- **Bias is not measured.** Errors may differ by skin colour, body, dress, age or aids to walking. No test for
  that was made, and the data sets of the field are not made for one.
- **Every query gets an answer.** A list is returned also when the one searched for is not in the gallery. A
  threshold has to be found on one's own data, with its rate of false matches stated.
- **Heatmaps are hints.** They show what a similarity reacts to, not why a decision was right.
"""

SYNTHETIC_LIMIT = """\
- **Synthetic training data.** It has seen no photograph of a person while it learned to tell people apart.
  Its scores say nothing about photographs, and on them it should be taken for a demonstration.
"""

CITATION = """\
```bibtex
@inproceedings{porrello2020robust,
  title     = {Robust Re-Identification by Multiple Views Knowledge Distillation},
  author    = {Porrello, Angelo and Bergamini, Luca and Calderara, Simone},
  booktitle = {European Conference on Computer Vision},
  year      = {2020}
}
```
"""
