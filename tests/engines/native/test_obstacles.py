"""What the native engine leaves to torch."""

import pytest

from smidgen.engines.native import obstacles
from smidgen.engines.native.obstacles import obstacle_to, supports
from smidgen.errors import CompilerError
from smidgen.network.layers import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    Layer,
    MaxPool,
    SeparableConv,
)
from smidgen.network.network import Network
from smidgen.recipes.catalogue import RECIPES

END = (GlobalAvgPool(), Flatten(), Dense(10))


@pytest.mark.parametrize(
    ("layers", "shape", "obstacle"),
    [
        ((Conv(4, (3, 24), stride=12),), (1, 30, 30), None),
        (
            (MaxPool(2), Conv(4, (3, 25))),
            (1, 60, 60),
            "layer 1, `Conv(4, (3, 25))`: its kernel may have 24 columns and its stride 12",
        ),
        (
            (SeparableConv(4, 3, 13),),
            (1, 30, 30),
            "layer 0, `SeparableConv(4, 3, stride=13)`: its kernel may have 24 columns and its "
            "stride 12",
        ),
        ((AvgPool(30),), (1, 30, 30), None),
        ((MaxPool(8),), (2, 512, 512), None),
        ((MaxPool(8),), (2, 512, 513), "images of 2x512x513: they may have 524,288 values"),
        ((Conv(256, 1), Conv(4, 1)), (1, 4, 128), None),
        (
            (Conv(256, 1), Conv(4, 1)),
            (1, 4, 129),
            "layer 1, `Conv(4, 1)`: a row of its input may have 32,768 values in all channels",
        ),
    ],
)
def test_sizes(
    layers: tuple[Layer, ...], shape: tuple[int, int, int], obstacle: str | None
) -> None:
    """What registers and stacks hold is run, and of more the layer is named."""
    assert supports(Network((*layers, *END), shape)) == obstacle


def test_without_a_compiler_it_is_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue's recipes need nothing but a compiler."""

    def find_none() -> None:
        raise CompilerError("There is none.")

    assert all(supports(recipe.network) is None for recipe in RECIPES.values())
    monkeypatch.setattr(obstacles, "find_compiler", find_none)
    assert obstacle_to(RECIPES["smidgen/quick"]) == "There is none."
