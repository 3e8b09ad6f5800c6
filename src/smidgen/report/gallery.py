"""A run's answers and images in, the gallery of its errors out."""

from collections import Counter
from dataclasses import dataclass

from smidgen.report.run_view import RunView

MOST_TILES = 400
"""A page holds so many pictures at most; of more errors the surest are shown."""
LABEL_ERROR = "label-error"


@dataclass(frozen=True, slots=True)
class Tile:
    """One image that was taken for something else.

    Args:
        position: In its split, from 0.
        true_name: What its label says.
        given_name: What the model says.
        confidence: How sure the model is, in [0, 1].
        truth: What probability it gives the label, in [0, 1].
        uri: The picture; "" where the images are not to be had.
        is_label_error: Whether the label itself is known to be wrong.
        keys: By what it can be picked, joined by blanks.
    """

    position: int
    true_name: str
    given_name: str
    confidence: float
    truth: float
    uri: str
    is_label_error: bool
    keys: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """A pair of classes that is mixed up: images of the first taken for the second."""

    key: str
    true_name: str
    given_name: str
    count: int


def pair_key(true: int, given: int) -> str:
    """Return by what the gallery picks the images of one class taken for another."""
    return f"pair-{true}-{given}"


def mistakes(view: RunView) -> list[Mistake]:
    """Return the pairs of classes that were mixed up, the most frequent first."""
    if view.answers is None:
        return []
    labels, given = view.answers.labels, view.answers.predicted
    found = Counter((int(labels[i]), int(given[i])) for i in view.answers.wrong)
    names = view.record.data.class_names
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    return [
        Mistake(pair_key(true, taken), names[true], names[taken], count)
        for (true, taken), count in ranked
    ]


def tiles(view: RunView) -> list[Tile]:
    """Return the images that are wrong, the surest errors first, at most 400."""
    answers = view.answers
    if answers is None:
        return []
    names, labels = view.record.data.class_names, answers.labels
    predicted, confidence = answers.predicted, answers.confidence
    found = []
    for position in answers.wrong[:MOST_TILES]:
        true, given = int(labels[position]), int(predicted[position])
        mislabelled = int(position) in view.label_errors
        keys = [pair_key(true, given), *([LABEL_ERROR] if mislabelled else [])]
        found.append(
            Tile(
                position=int(position),
                true_name=names[true],
                given_name=names[given],
                confidence=float(confidence[position]),
                truth=float(answers.probabilities[position, true]),
                uri=view.pictures.uri(int(position)),
                is_label_error=mislabelled,
                keys=" ".join(keys),
            )
        )
    return found
