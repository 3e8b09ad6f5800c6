"""The frontier: recipes proven at their size, all of one family of networks.

How each was chosen stands in `docs/results/frontier_choice.md`, what was tried and learned in
`docs/findings.md`, the proofs in `docs/results/frontier.md`.
"""

from smidgen.network.blocks import Layer
from smidgen.network.layers import (
    BatchNorm,
    Conv,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Multiply,
    PReLU,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.recipes.augmentation import Augmentation, Rotation, Scaling, Translation
from smidgen.recipes.parts import AdamW, Budget, Linear
from smidgen.recipes.recipe import About, Recipe
from smidgen.recipes.shared import MNIST_NORMALIZATION


def tower(stem: tuple[int, ...], body: tuple[int, ...], num_padded: int = 1) -> Network:
    """Return full convolutions, one pool, separable convolutions, and ten maps averaged.

    Every convolution is 3x3 and followed by batch norm and a PReLU. There is no dense layer: the
    last convolution gives one map for each class, and the mean of a map times four is its score.
    The norms learn no scale, because the next convolution can take it over; the last has none
    behind it and learns its own.

    Args:
        stem: Output channels of the full convolutions.
        body: Output channels of the separable convolutions before the last.
        num_padded: How many of these, from the second on, are padded by one pixel, which buys
            depth without shrinking the map.
    """
    layers: list[Layer] = []
    for width in stem:
        layers += [Conv(width, 3), BatchNorm(scale=False), PReLU()]
    layers.append(MaxPool(2))
    for position, width in enumerate(body):
        padding = 1 if 1 <= position <= num_padded else 0
        layers += [
            SeparableConv(width, 3, padding=padding, bias=False),
            BatchNorm(scale=False),
            PReLU(),
        ]
    layers += [SeparableConv(10, 3, bias=False), BatchNorm(), PReLU()]
    return Network((*layers, GlobalAvgPool(), Flatten(), Multiply(4.0)))


def _recipe(size: str, network: Network, max_params: int, target: float, analysis: str) -> Recipe:
    return Recipe(
        name=f"smidgen/{size}",
        network=network,
        optimizer=AdamW(lr=0.03, beta2=0.99, weight_decay=1e-4),
        schedule=Linear(warmup_fraction=0.2),
        normalization=MNIST_NORMALIZATION,
        augmentation=Augmentation((Rotation(10.0), Scaling(0.85, 1.15), Translation(2.5))),
        clean_epochs=2,
        epochs=15,
        batch_size=256,
        budget=Budget(max_params=max_params, max_epochs=15, target_accuracy=target),
        about=About(
            summary=f"The frontier within {max_params:,} parameters and 15 epochs.",
            source="smidgen; chosen on `valid` by `benchmarks/choose_frontier.py`",
            target=f"A mean of {100 * target:.2f} % over 20 random seeds, after the last epoch.",
            analysis=analysis,
        ),
    )


RECIPES = (
    _recipe(
        "3k",
        tower((8, 8), (18, 18, 18, 20)),
        max_params=3_000,
        target=0.9945,
        analysis=(
            "A slope learned for each channel costs 100 of the 2,948 parameters and lowers the "
            "loss on `valid` from 0.022 to 0.019; more augmentation, more or fewer clean epochs "
            "and a higher rate did less."
        ),
    ),
    _recipe(
        "2.5k-15",
        tower((8, 8), (16, 15, 16, 16)),
        max_params=2_500,
        target=0.9940,
        analysis="The settings of `smidgen/3k`; only the widths differ.",
    ),
)
