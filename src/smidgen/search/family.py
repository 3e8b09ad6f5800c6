"""The family of networks that a search draws from: a few decisions in, a `Network` out.

A network of the family is a stem, perhaps a second early stage, perhaps a pool, then late stages
that may pad, pool once more, look through two kernels side by side or share their weights, and a
head. Small networks that are known to be good look like this (docs/search.md); what else there
may be, mutations find.
"""

import math
from dataclasses import dataclass, replace

from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    Repeat,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.search.edits import HEAD_FACTOR, SizeLimits
from smidgen.search.settings import Suggests

_POOLS = {"mean": AvgPool(2), "max": MaxPool(2)}
_ACTIVATIONS = {"prelu": PReLU(), "leaky": LeakyReLU(0.1), "relu": ReLU()}
_MOST_LATE = 6
_FEWEST_CHANNELS = 3
_MOST_SCALING = 4.0
"""Of all widths, as a power of two: by 16."""
_SCALING_STEPS = 9
"""Halvings of that, until one is a factor of 1.005."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One convolution with its norm and activation.

    Args:
        width: Output channels.
        kernel: Side of the kernel.
        separable: Depthwise and pointwise, or full.
        padded: Whether the map keeps its size.
        stride: Of the convolution.
        pool: Which 2x2 pool follows: "mean", "max" or "none".
        branched: Half of the channels look through a kernel that is larger by two.
    """

    width: int
    kernel: int = 3
    separable: bool = False
    padded: bool = False
    stride: int = 1
    pool: str = "none"
    branched: bool = False


@dataclass(frozen=True, slots=True)
class Design:
    """A network of the family.

    Args:
        early: Stages at full size.
        late: The others; with a head of maps the last of them gives the classes.
        num_shared: How many of the last late stages (before those maps) are one, repeated; they
            have the width of the stage before them. Below 2, none.
        activation: "prelu" (a slope per channel), "leaky" (0.1) or "relu".
        learned_scale: Whether batch norms learn their scale.
        maps_head: Average the last stage's maps, one per class, or put a dense layer behind.
    """

    early: tuple[Stage, ...]
    late: tuple[Stage, ...]
    num_shared: int = 1
    activation: str = "prelu"
    learned_scale: bool = False
    maps_head: bool = True

    def scaled(self, factor: float) -> "Design":
        """Return the design with all widths times a factor, at least 1."""

        def widened(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
            return tuple(replace(s, width=max(1, round(s.width * factor))) for s in stages)

        return replace(self, early=widened(self.early), late=widened(self.late))

    def network(
        self, input_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int = 10
    ) -> Network:
        """Build it; raises NetworkError where its windows do not fit into its maps."""
        late, ending = self.late, ()
        if self.maps_head:
            late, ending = late[:-1], (replace(late[-1], width=num_classes, pool="none"),)
        num_shared = min(self.num_shared, len(late))
        own = (*self.early, *(late if num_shared < 2 else late[:-num_shared]))
        layers: list[Layer] = [layer for stage in own for layer in self._layers(stage)]
        if num_shared > 1:
            shared = replace(late[-1], width=own[-1].width, pool="none", branched=False)
            layers.append(Repeat(self._layers(shared), num_shared))
        for stage in ending:  # no layer behind it could absorb a scale, so it learns one
            layers += replace(self, learned_scale=True)._layers(stage)
        layers += [GlobalAvgPool(), Flatten()]
        layers.append(Multiply(HEAD_FACTOR) if self.maps_head else Dense(num_classes))
        return Network(tuple(layers), input_shape=input_shape, num_classes=num_classes)

    def _layers(self, stage: Stage) -> tuple[Layer, ...]:
        convolution = self._convolution(stage)
        if stage.branched and stage.width > 1:
            half = stage.width // 2
            wide = replace(stage, width=half, kernel=stage.kernel + 2)
            paths = (replace(stage, width=stage.width - half), wide)
            # so that both maps are of one size
            beyond = 1 + (stage.kernel // 2 if stage.padded else 0)
            convolutions = [self._convolution(path) for path in paths]
            convolutions[1] = replace(convolutions[1], padding=beyond)
            made: tuple[Layer, ...] = (
                Branches(tuple((layer, *self._norm_and_activation()) for layer in convolutions)),
            )
        else:
            made = (convolution, *self._norm_and_activation())
        return made if stage.pool == "none" else (*made, _POOLS[stage.pool])

    def _convolution(self, stage: Stage) -> Conv | SeparableConv:
        kind = SeparableConv if stage.separable else Conv
        padding = stage.kernel // 2 if stage.padded else 0
        return kind(stage.width, stage.kernel, stage.stride, padding, bias=False)

    def _norm_and_activation(self) -> tuple[Layer, ...]:
        return (BatchNorm(scale=self.learned_scale), _ACTIVATIONS[self.activation])


FIRST_DESIGN = Design(
    early=(Stage(40, pool="mean"),),
    late=(
        Stage(84, separable=True),
        Stage(84, separable=True, padded=True),
        *(Stage(84, separable=True),) * 3,
    ),
)
"""What does best at 3,000 parameters, four times as wide."""


def suggest_design(trial: Suggests, max_params: int, side: int = 28) -> Design:
    """Ask for one network of the family.

    Args:
        trial: What is asked.
        max_params: Widths go up to what so many parameters allow.
        side: The shorter side of the images in pixels. What does not fit into its map is changed:
            a late stage pads, a pool is left out.
    """
    early, side = _fitting(_early(trial, max_params), side)
    late, _ = _fitting(_late(trial, max_params), side)
    return Design(
        early=early,
        late=late,
        num_shared=trial.suggest_int("num_shared", -1, 3),
        activation=trial.suggest_categorical("activation", ["prelu", "leaky", "relu"]),
        learned_scale=trial.suggest_categorical("learned_scale", [False, True]),
        maps_head=trial.suggest_categorical("maps_head", [True, False]),
    )


def sized(
    design: Design, limits: SizeLimits, input_shape: tuple[int, int, int], num_classes: int
) -> Network:
    """Return the network of a design, all widths scaled alike where it is not within limits.

    Where no factor from 1/16 to 16
    gets there, the network is still outside of them.

    Raises:
        NetworkError: The design gives no network.
    """
    network = design.network(input_shape, num_classes)
    if network in limits:
        return network
    # the logarithm of the factor, between one that is too small or fits and one that is too large
    low, high = (-_MOST_SCALING, 0.0) if _is_over(network, limits) else (0.0, _MOST_SCALING)
    best = network
    for _ in range(_SCALING_STEPS):
        middle = (low + high) / 2
        network = design.scaled(2.0**middle).network(input_shape, num_classes)
        if network in limits:
            best = network
        if _is_over(network, limits):
            high = middle
        else:
            low = middle
    return best


def _is_over(network: Network, limits: SizeLimits) -> bool:
    return network not in replace(limits, min_params=0)


def _fitting(stages: tuple[Stage, ...], side: int) -> tuple[tuple[Stage, ...], int]:
    """Return stages whose windows fit into maps of this side, and the side of the last map."""
    fitting = []
    for stage in stages:
        reach = stage.kernel + (2 if stage.branched and not stage.padded else 0)
        stage = replace(stage, padded=stage.padded or reach > side)
        if not stage.padded:
            side -= stage.kernel - 1
        side = -(-side // stage.stride)
        stage = replace(stage, pool=stage.pool if side > 1 else "none")
        side = side if stage.pool == "none" else side // 2
        fitting.append(stage)
    return tuple(fitting), side


def _early(trial: Suggests, max_params: int) -> tuple[Stage, ...]:
    widest = min(24, max(8, math.isqrt(max_params) // 2))
    stem = Stage(
        width=trial.suggest_int("stem_width", _FEWEST_CHANNELS, widest),
        kernel=trial.suggest_categorical("stem_kernel", [3, 4, 5]),
        stride=trial.suggest_categorical("stem_stride", [1, 2]),
        padded=trial.suggest_categorical("stem_padded", [False, True]),
    )
    second = trial.suggest_categorical("second", ["none", "full", "separable"])
    early = [stem]
    if second != "none":
        width = trial.suggest_int("second_width", _FEWEST_CHANNELS, widest)
        early.append(Stage(width, separable=second == "separable"))
    pool = trial.suggest_categorical("early_pool", ["mean", "max", "none"])
    early[-1] = replace(early[-1], pool=pool)
    return tuple(early)


def _late(trial: Suggests, max_params: int) -> tuple[Stage, ...]:
    """Ask for the late stages; what seldom helps begins below zero, where it means: not at all."""
    separable = trial.suggest_categorical("separable", [True, False])
    num_late = trial.suggest_int("num_late", 2, _MOST_LATE)
    widths = _widths(trial, num_late, separable, max_params)
    num_wide = trial.suggest_int("num_wide_kernels", -3, 2)
    first_padded = trial.suggest_int("first_padded", 0, 2)
    num_padded = trial.suggest_int("num_padded", 0, 2)
    pool_after = trial.suggest_int("pool_after", -2, 3)
    pool = trial.suggest_categorical("late_pool", ["mean", "max"])
    branched = trial.suggest_int("branched", -3, 2)
    return tuple(
        Stage(
            width=width,
            kernel=5 if place < num_wide else 3,
            separable=separable,
            padded=first_padded <= place < first_padded + num_padded,
            pool=pool if place + 1 == pool_after else "none",
            branched=place + 1 == branched,
        )
        for place, width in enumerate(widths)
    )


def _widths(trial: Suggests, num_late: int, separable: bool, max_params: int) -> list[int]:
    """Ask for one width for all late stages, or for one each.

    The widest that is asked for would have, twice in a row, all parameters there are, or three
    fifths of them if separable. The names differ because a good width of the one kind is none of
    the other.
    """
    name, widest = "full_width", math.isqrt(max_params // 9)
    if separable:
        name, widest = "width", math.isqrt(25 + max_params * 3 // 5) - 5
    widest = max(widest, _FEWEST_CHANNELS + 1)
    if trial.suggest_categorical("even", [True, False]):
        return [trial.suggest_int(name, _FEWEST_CHANNELS, widest)] * num_late
    return [
        trial.suggest_int(f"{name}_{place}", _FEWEST_CHANNELS, widest) for place in range(num_late)
    ]
