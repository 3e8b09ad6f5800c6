"""The parts of a recipe: optimizer, schedule, loss, normalization, weight averaging, protocol."""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from smidgen.errors import RecipeError
from smidgen.values import value

Share = Annotated[float, Field(ge=0.0, le=1.0)]
OpenShare = Annotated[float, Field(ge=0.0, lt=1.0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
OpenTarget = Annotated[float, Field(gt=0.0, lt=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]


@value(RecipeError)
class SGD:
    """Stochastic gradient descent; `weight_decay` is added to the gradient, as in PyTorch."""

    lr: PositiveFloat
    momentum: OpenShare = 0.0
    nesterov: bool = False
    weight_decay: NonNegativeFloat = 0.0
    kind: Literal["sgd"] = field(default="sgd", kw_only=True)

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0.0:
            raise RecipeError("`optimizer.nesterov` needs a `momentum` above 0.")


@value(RecipeError)
class Adam:
    """Adam; `weight_decay` is the classic L2 kind, added to the gradient.

    Source: Kingma and Ba, Adam, 2014.
    """

    lr: PositiveFloat
    beta1: OpenShare = 0.9
    beta2: OpenShare = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    kind: Literal["adam"] = field(default="adam", kw_only=True)


@value(RecipeError)
class AdamW:
    """Adam with decoupled weight decay: weights shrink by lr * weight_decay at each step.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, 2019.
    """

    lr: PositiveFloat
    beta1: OpenShare = 0.9
    beta2: OpenShare = 0.999
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-2
    kind: Literal["adamw"] = field(default="adamw", kw_only=True)


Optimizer = Annotated[SGD | Adam | AdamW, Field(discriminator="kind")]


@value(RecipeError)
class Constant:
    """The optimizer's `lr` throughout."""

    kind: Literal["constant"] = field(default="constant", kw_only=True)


@value(RecipeError)
class StepDecay:
    """`lr` times `gamma` after every `step_epochs` epochs, as PyTorch's StepLR."""

    step_epochs: PositiveInt
    gamma: PositiveFloat
    kind: Literal["step"] = field(default="step", kw_only=True)


@value(RecipeError)
class OneCycle:
    """Up to the optimizer's `lr` and down again, as PyTorch's OneCycleLR.

    The rate starts at `lr / start_divisor`, reaches `lr` after `warmup_fraction` of all steps
    and ends at the starting rate divided by `final_divisor`. `momentum` is (lowest, highest):
    SGD's momentum or Adam's beta1 runs against the rate; None leaves it alone.
    `every` says whether the rate changes with each batch or only with each epoch.

    Source: Smith, A Disciplined Approach to Neural Network Hyper-Parameters, 2018.
    """

    warmup_fraction: Share = 0.3
    start_divisor: PositiveFloat = 25.0
    final_divisor: PositiveFloat = 1e4
    anneal: Literal["cosine", "linear"] = "cosine"
    momentum: tuple[OpenShare, OpenShare] | None = (0.85, 0.95)
    every: Literal["step", "epoch"] = "step"
    kind: Literal["one_cycle"] = field(default="one_cycle", kw_only=True)


@value(RecipeError)
class Cosine:
    """From the optimizer's `lr` down to `final_lr` along half a cosine.

    Source: Loshchilov and Hutter, SGDR, 2017 (without restarts).
    """

    final_lr: NonNegativeFloat = 0.0
    warmup_fraction: Share = 0.0
    every: Literal["step", "epoch"] = "step"
    kind: Literal["cosine"] = field(default="cosine", kw_only=True)


@value(RecipeError)
class Linear:
    """Up from zero over `warmup_fraction` of all steps, then straight down to `final_lr`."""

    final_lr: NonNegativeFloat = 0.0
    warmup_fraction: Share = 0.0
    every: Literal["step", "epoch"] = "step"
    kind: Literal["linear"] = field(default="linear", kw_only=True)


@value(RecipeError)
class Plateau:
    """`lr` divided by `divisor` when accuracy has gained too little.

    After an epoch numbered `first_epoch` or later (from 1), if accuracy is less than
    `min_gain` above its value `window_epochs` earlier and more than `cooldown_epochs` have
    passed since the last reduction, the next epoch's rate is divided. It reads the
    validation accuracy where the protocol has one and the training accuracy elsewhere; never
    the test set.
    """

    divisor: Annotated[float, Field(ge=1.0)]
    window_epochs: PositiveInt = 2
    min_gain: NonNegativeFloat = 0.01
    cooldown_epochs: NonNegativeInt = 2
    first_epoch: PositiveInt = 4
    min_lr: NonNegativeFloat = 0.0
    kind: Literal["plateau"] = field(default="plateau", kw_only=True)


Schedule = Annotated[
    Constant | StepDecay | OneCycle | Cosine | Linear | Plateau, Field(discriminator="kind")
]


@value(RecipeError)
class Loss:
    """Mean cross-entropy of the class probabilities.

    `nll` (negative log-likelihood) is the same on a network whose output is `log_softmax`, and
    is said where an origin says it. `label_smoothing` moves that share of each label to all
    classes alike, as in PyTorch.
    """

    name: Literal["cross_entropy", "nll"] = "cross_entropy"
    label_smoothing: OpenShare = 0.0


@value(RecipeError)
class Normalization:
    """(pixel / 255 - mean) / std, with the numbers of each split.

    `train_*` serve the training images while training; `eval_*` every evaluation.
    """

    train_mean: float = 0.0
    train_std: PositiveFloat = 1.0
    eval_mean: float = 0.0
    eval_std: PositiveFloat = 1.0


@value(RecipeError)
class WeightAveraging:
    """An exponential moving average of weights and running statistics, updated every step.

    `warmup` lets the average follow faster at first: the decay of step t is
    min(decay, (1 + t) / (10 + t)).
    """

    decay: Annotated[float, Field(gt=0.0, lt=1.0)]
    warmup: bool = True


@value(RecipeError)
class OriginProtocol:
    """How the origin measured itself; followed by `--protocol origin` only.

    `num_train` images from the front are trained on and the rest is the validation set; None
    trains on all. `selection` says which epoch the origin reports: the best on the test set,
    or the last.
    """

    num_train: PositiveInt | None = None
    selection: Literal["best_on_test", "last"] = "best_on_test"


@value(RecipeError)
class Budget:
    """What the recipe promises to keep; `target_accuracy` is a share in (0, 1)."""

    max_params: PositiveInt | None = None
    max_epochs: PositiveInt | None = None
    target_accuracy: OpenTarget | None = None

    def broken(self, num_params: int, epochs: int) -> list[tuple[str, int, int]]:
        """Return what is above its limit: what it is, how many there are, how many may be."""
        held = (
            ("parameters", num_params, self.max_params),
            ("epochs", epochs, self.max_epochs),
        )
        return [
            (what, given, limit)
            for what, given, limit in held
            if limit is not None and not within(given, limit)
        ]


def within(given: int, limit: int) -> bool:
    """Return whether a size keeps its limit: at most so many."""
    return given <= limit


def reaches(accuracy: float, target: float) -> bool:
    """Return whether an accuracy keeps its limit: at least so much; both are shares.

    Equal up to rounding is kept: 1 - 7 / 10000 is below 99.93 / 100 in doubles.
    """
    return accuracy >= target - 1e-9
