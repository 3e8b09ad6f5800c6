"""What a model must keep: the limits as they are asked for, and the model as they see it."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from smidgen.errors import RecipeError, UnknownNameError
from smidgen.evidence.changes import known_as
from smidgen.network.layers import LAYERS, Layer, kind_of
from smidgen.network.network import Network
from smidgen.network.shapes import MAP, Shape
from smidgen.network.trace import trace
from smidgen.reading.watched import Watched, WatchedFunction
from smidgen.recipes.parts import OpenTarget, PositiveInt
from smidgen.recipes.recipe import Recipe
from smidgen.values import value

LAYER_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        word: tuple(kind_of(layer) for layer in LAYERS if word in layer.words)
        for word in dict.fromkeys(word for layer in LAYERS for word in layer.words)
    }
)
"""What `--require` and `--forbid` understand, and the layer kinds it stands for.

An average pool that leaves one position counts as `gap`, however it is written.
"""

_OTHER_SPELLINGS = {"dense": "linear", "bn": "batchnorm", "globalavgpool": "gap", "fc": "linear"}


@value(RecipeError)
class Limits:
    """What a model must keep; the form of `budget.json`, which extends a recipe's `Budget`.

    Args:
        max_params: Most parameters, by the counting rule: trainable, reached, shared once.
        max_macs: Most multiply-accumulates for one image.
        max_epochs: Most passes over the training images.
        target_accuracy: Least mean of the last epochs' accuracy over the seeds, a share.
        stay_epochs: So many last epochs must be at `target_accuracy`, for every seed.
        require: Kinds of layers that must run, words of `LAYER_WORDS`.
        forbid: Kinds of layers that must not run.
        max_flash: Most bytes of flash on a Cortex-M0 when exported, code and tables.
        max_ram: Most bytes of RAM there, stack included, the image not.

    Raises:
        RecipeError: A field that makes no sense, or limits that contradict each other.
        UnknownNameError: A kind of layer that there is not.
    """

    max_params: PositiveInt | None = None
    max_macs: PositiveInt | None = None
    max_epochs: PositiveInt | None = None
    target_accuracy: OpenTarget | None = None
    stay_epochs: PositiveInt | None = None
    require: tuple[str, ...] = ()
    forbid: tuple[str, ...] = ()
    max_flash: PositiveInt | None = None
    max_ram: PositiveInt | None = None

    def __post_init__(self) -> None:
        if self.stay_epochs is not None and self.target_accuracy is None:
            raise RecipeError("`stay_epochs` needs a `target_accuracy` to stay at.")
        required = {layer_word(word) for word in self.require}
        for word in self.forbid:
            if layer_word(word) in required:
                raise RecipeError(f"`{word}` is both required and forbidden.")

    @property
    def is_empty(self) -> bool:
        """Whether nothing is asked for."""
        return self == Limits()

    @property
    def needs_export(self) -> bool:
        """Whether only what an exported network takes can tell."""
        return self.max_flash is not None or self.max_ram is not None

    @property
    def needs_runs(self) -> bool:
        """Whether only trained models can tell."""
        return self.target_accuracy is not None


def limits_of(recipe: Recipe) -> Limits:
    """Return what a recipe promises, as limits."""
    return Limits(
        max_params=recipe.budget.max_params,
        max_epochs=recipe.budget.max_epochs,
        target_accuracy=promised_target(recipe),
    )


def promised_target(recipe: Recipe) -> float | None:
    """Return the accuracy that a recipe promises of the data set it is on, a share, if any."""
    return None if _dataset_of_target(recipe) else recipe.budget.target_accuracy


def void_target(recipe: Recipe) -> str:
    """Say that a recipe's target is meant for another data set; "" where it is not."""
    dataset, target = _dataset_of_target(recipe), recipe.budget.target_accuracy
    if not dataset or target is None:
        return ""
    return f"Its target of {100 * target:g} % is meant for {dataset} and left out."


def _dataset_of_target(recipe: Recipe) -> str:
    """Return for which other data set a target was meant that a recipe took over; "" for none."""
    known = known_as(recipe)
    if known is None or known.dataset == recipe.dataset:
        return ""
    is_taken_over = known.budget.target_accuracy == recipe.budget.target_accuracy
    return known.dataset if is_taken_over else ""


def layer_word(text: str) -> str:
    """Return the word of `LAYER_WORDS` that a spelling such as `BatchNorm2d` means.

    Raises:
        UnknownNameError: None does.
    """
    word = text.lower().replace("_", "").replace("-", "").strip()
    word = word.removesuffix("2d").removesuffix("1d")
    word = _OTHER_SPELLINGS.get(word, word)
    if word not in LAYER_WORDS:
        raise UnknownNameError("kind of layer", text, LAYER_WORDS)
    return word


def _plain(name: str) -> str:
    """Return a class or function of torch without its case, underscores and dimensions."""
    return name.lower().replace("_", "").removesuffix("2d").removesuffix("1d")


_TORCH_KINDS = {_plain(name): kind_of(layer) for layer in LAYERS for name in layer.torch_names}
"""Of a module that was only watched, the classes of its layers and functions are known."""

_PERHAPS = {
    "global_avg_pool": {"sum", "mean", "nanmean", "einsum", "matmul", "bmm", "logsumexp", "lppool"},
    "batch_norm": {"var", "std", "varmean", "stdmean", "rsqrt", "instancenorm"},
    "dropout": {"bernoulli", "rand", "randlike", "alphadropout", "featurealphadropout"},
}
"""What a kind of layer can be written with, and other things, too: seeing one tells nothing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model as limits see it.

    Args:
        name: What it is called.
        num_params: Trainable numbers reached, shared ones once.
        num_registered: The same with those that are never reached.
        num_buffers: Running statistics.
        num_macs: Multiply-accumulates for one image.
        kinds: How often each kind of layer runs; unreached ones do not count.
        epochs: Passes over the training images; None where nothing says.
        notes: What a person should know about these numbers.
        flash_bytes: Flash of the exported network on a Cortex-M0; None where nobody asked.
        ram_bytes: RAM there, stack included.
        doubtful: Kinds of layers that may run as well, in a form that cannot be told.
        uncounted: Layers whose arithmetic `num_macs` lacks.
    """

    name: str
    num_params: int
    num_registered: int
    num_buffers: int
    num_macs: int
    kinds: Mapping[str, int]
    epochs: int | None = None
    notes: tuple[str, ...] = ()
    flash_bytes: int | None = None
    ram_bytes: int | None = None
    doubtful: frozenset[str] = frozenset()
    uncounted: tuple[str, ...] = ()

    def may_have(self, word: str) -> bool:
        """Return whether layers of a kind may run beside those that are counted."""
        return not self.doubtful.isdisjoint(LAYER_WORDS[word])

    def count(self, word: str) -> int:
        """Return how many layers run of a kind named as in `LAYER_WORDS`."""
        return sum(self.kinds.get(kind, 0) for kind in LAYER_WORDS[word])


def subject_of_network(
    name: str, network: Network, epochs: int | None = None, notes: tuple[str, ...] = ()
) -> Subject:
    """Return what limits are on, of a network."""
    traced = trace(network)
    kinds = Counter(_kind(row.kind, row.output_shape) for row in traced.rows)
    kinds.update(_wrappers(network.layers))
    totals = traced.totals
    return Subject(
        name,
        totals.num_params,
        totals.num_params + totals.num_dead,
        totals.num_buffers,
        totals.num_macs,
        kinds,
        epochs,
        notes,
    )


def subject_of_watched(
    name: str, watched: Watched, epochs: int | None = None, notes: tuple[str, ...] = ()
) -> Subject:
    """Return what limits are on, of a module that could only be watched."""
    kinds = Counter(_watched_kinds(watched))
    called = {_plain(function.name) for function in watched.functions if not _is_pool(function)}
    told = [*notes]
    if watched.num_frozen:
        told.append(
            f"Not counted: {watched.num_frozen:,} frozen numbers (`requires_grad` is False)."
        )
    if watched.num_loose:
        told.append(
            f"Not counted: {watched.num_loose:,} numbers that belong to no layer, as in a plain "
            "list of layers or a tensor that is no `nn.Parameter`."
        )
    told += [
        f"Watched, not read: {watched.obstacle}",
    ]
    return Subject(
        name,
        watched.num_params,
        watched.num_params + watched.num_dead,
        watched.num_buffers,
        watched.num_macs,
        kinds,
        epochs,
        tuple(told),
        doubtful=frozenset(kind for kind, forms in _PERHAPS.items() if forms & called),
        uncounted=watched.uncounted,
    )


def _watched_kinds(watched: Watched) -> Iterator[str]:
    """Yield the kinds of the layers and functions that ran, of those that are known."""
    calls = [(row.kind, row.output_shape) for row in watched.rows]
    calls += [(function.name, function.output_shape) for function in watched.functions]
    for name, shape in calls:
        if _plain(name) in _TORCH_KINDS:
            yield _kind(_TORCH_KINDS[_plain(name)], shape)
    for function in watched.functions:
        if _is_pool(function):
            yield "global_avg_pool" if function.name == "mean" else "global_max_pool"


def _is_pool(function: WatchedFunction) -> bool:
    """Whether a reduction leaves one value of each channel of a map."""
    if function.name not in ("mean", "amax") or len(function.input_shape) != MAP:
        return False
    channels = function.input_shape[:1]
    return function.output_shape in (channels, (*channels, 1, 1))


def _kind(kind: str, output_shape: Shape) -> str:
    one_position = len(output_shape) == MAP and output_shape[1:] == (1, 1)
    if kind == "avg_pool" and one_position:
        return "global_avg_pool"
    return kind


def _wrappers(layers: tuple[Layer, ...]) -> Iterator[str]:
    """Yield the kinds of the layers that hold layers, at any depth."""
    for layer in layers:
        if layer.paths:
            yield layer.kind
        for part in layer.paths:
            yield from _wrappers(part)
