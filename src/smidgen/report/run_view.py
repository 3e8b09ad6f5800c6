"""A run's folder in, everything its page shows out, without torch and without any network.

What a run does not have (it is unfinished, a file is damaged, its images are elsewhere) is left
out and said in `notes`: a page of what is left is worth more than none.
"""

from collections import Counter
from dataclasses import dataclass, replace

from smidgen.errors import RunError
from smidgen.evidence.answers import Answers, answers_of, known_label_errors
from smidgen.evidence.changes import changes, is_of_catalogue, known_as
from smidgen.evidence.limits import promised_target, void_target
from smidgen.evidence.statistics import Interval, wilson
from smidgen.network.trace import Trace, trace
from smidgen.recipes.parts import reaches, within
from smidgen.recipes.recipe import About, Recipe
from smidgen.report.pictures import ImageSource, Pictures, pictures_of
from smidgen.runs.record import ON_TEST, RunRecord
from smidgen.runs.store import RunFolder
from smidgen.runs.tensors import Tensors
from smidgen.training.checkpoints import epochs_so_far


@dataclass(frozen=True, slots=True)
class Promise:
    """One limit of a budget: what was promised, what it came to, whether that keeps it."""

    what: str
    limit: str
    given: str
    is_kept: bool


@dataclass(frozen=True, slots=True, eq=False)
class RunView:
    """One run as its page shows it.

    Args:
        name: Of the run.
        record: Its record; of an unfinished run with the epochs of its newest checkpoint.
        trace: The layer table of its network.
        answers: What it said of every image; None where it said nothing yet.
        weights: Its trained tensors; empty where there are none.
        pictures: The images it was measured on.
        label_errors: Those of them that are known to be labelled wrongly.
        notes: What is missing, and why, one sentence each.
        asked_target: An accuracy to show it against, a share, if somebody named one.
    """

    name: str
    record: RunRecord
    trace: Trace
    answers: Answers | None
    weights: Tensors
    pictures: Pictures
    label_errors: frozenset[int]
    notes: tuple[str, ...]
    asked_target: float | None = None

    @property
    def interval(self) -> Interval | None:
        """Wilson's 95 % interval of the accuracy on images of this kind; None if unfinished."""
        result = self.record.result
        if result is None:
            return None
        return wilson(result.num_images - result.num_errors, result.num_images)

    @property
    def is_selected(self) -> bool:
        """Whether its epoch was selected on the test set."""
        return self.record.result is not None and self.record.result.selection == ON_TEST

    @property
    def target(self) -> float | None:
        """The accuracy to show it against, a share: the one asked for, else the promised one."""
        if self.asked_target is not None:
            return self.asked_target
        return promised_target(self.record.recipe)

    @property
    def about(self) -> About:
        """What is told of its recipe; nothing of a changed one, of which it was not said."""
        recipe = self.record.recipe
        return About() if _changes(recipe) else recipe.about

    @property
    def is_of_catalogue(self) -> bool:
        """Whether its recipe is the catalogue's of that name, unchanged."""
        return is_of_catalogue(self.record.recipe)

    def promises(self) -> list[Promise]:
        """Return the limits of its budget, the accuracy by the last epoch."""
        record, budget = self.record, self.record.recipe.budget
        found = []
        if budget.max_params is not None:
            kept = within(record.num_params, budget.max_params)
            limit, given = f"at most {budget.max_params:,}", f"{record.num_params:,}"
            found.append(Promise("parameters", limit, given, kept))
        if budget.max_epochs is not None:
            epochs = record.recipe.epochs
            limit = f"at most {budget.max_epochs:,}"
            kept = within(epochs, budget.max_epochs)
            found.append(Promise("epochs", limit, f"{epochs:,}", kept))
        promised = promised_target(record.recipe)
        if promised is not None and record.result is not None:
            last = record.result.last_accuracy
            limit, given = f"at least {100 * promised:g} %", f"{100 * last:.2f} %"
            found.append(Promise("accuracy", limit, given, reaches(last, promised)))
        return found


def view_run(
    folder: RunFolder, source: ImageSource | None = None, target: float | None = None
) -> RunView:
    """Gather what the page of a run shows.

    Args:
        folder: The run's.
        source: Where its images are; None for the usual places.
        target: A share in (0, 1]; None for what its recipe promises, if anything.

    Raises:
        RunError: Its record is missing or damaged.
    """
    record, notes = folder.record(), []
    _check(folder.name, record)
    notes += _about_recipe(record.recipe)
    if record.result is None:
        record = replace(record, epochs=epochs_so_far(folder, record))
        notes.append(
            f"This run is not finished: {len(record.epochs)} of {record.recipe.epochs} epochs are "
            f"done. `smidgen train --resume {folder.name}` goes on with it."
        )
    answers, weights = None, {}
    pictures = Pictures(None)
    if record.result is not None:
        answers, weights = _answers(folder, record, notes), _weights(folder, notes)
        pictures = pictures_of(record, source or ImageSource())
        notes += [pictures.reason] if pictures.reason else []
    images = pictures.images
    if answers is not None and images is not None and len(images) != len(answers.labels):
        pictures = Pictures(None, "The images found are not as many as the run was measured on.")
        notes.append(pictures.reason)
    on_test = record.result is not None and record.result.split == "test"
    return RunView(
        name=folder.name,
        record=record,
        trace=trace(record.recipe.network),
        answers=answers,
        weights=weights,
        pictures=pictures,
        label_errors=known_label_errors(record.data.sha256) if on_test else frozenset(),
        notes=tuple(notes),
        asked_target=target,
    )


def _about_recipe(recipe: Recipe) -> list[str]:
    """Say in what a recipe differs from the catalogue's of its name, and what is void by that."""
    known, found, notes = known_as(recipe), _changes(recipe), []
    if known is not None and found:
        notes.append(f"Changed from `{known.name}`: {'; '.join(found)}.")
    void = void_target(recipe)
    return [*notes, void] if void else notes


def _changes(recipe: Recipe) -> tuple[str, ...]:
    known = known_as(recipe)
    return () if known is None else changes(known, recipe)


def _check(name: str, record: RunRecord) -> None:
    """Refuse a record that nobody's training can have written, as far as it was read at all."""
    wrong = {
        "no images": record.data.num_train < 1,
        "class names that are not as many as the network's": len(record.data.class_names)
        != record.recipe.network.num_classes,
    }
    for what, is_wrong in wrong.items():
        if is_wrong:
            raise RunError(f"The record of `{name}` contradicts itself: {what}. Restore it.")


def _answers(folder: RunFolder, record: RunRecord, notes: list[str]) -> Answers | None:
    try:
        stored = folder.predictions()
        if not {"logits", "labels"} <= stored.keys():
            raise RunError("The stored predictions hold no scores and labels.")
        answers = answers_of(stored["logits"], stored["labels"])
        if answers.probabilities.shape[1] != len(record.data.class_names):
            raise RunError(
                f"The stored predictions have {answers.probabilities.shape[1]} classes, the "
                f"record {len(record.data.class_names)}."
            )
    except RunError as error:
        notes.append(f"No errors, no calibration: {error}")
        return None
    return answers


def _weights(folder: RunFolder, notes: list[str]) -> Tensors:
    try:
        return folder.model()
    except RunError as error:
        notes.append(f"No filters: {error}")
        return {}


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
