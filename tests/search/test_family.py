from typing import Any

import pytest

from smidgen.errors import NetworkError
from smidgen.network.network import Network
from smidgen.network.trace import trace
from smidgen.recipes.catalogue import get_recipe
from smidgen.search.edits import SizeLimits
from smidgen.search.family import sized, suggest_design
from smidgen.search.journal import import_optuna

SHAPE = (1, 28, 28)
PLAIN: dict[str, Any] = {
    "stem_kernel": 3,
    "stem_stride": 1,
    "stem_padded": False,
    "second": "none",
    "early_pool": "max",
    "separable": True,
    "num_wide_kernels": 0,
    "first_padded": 0,
    "num_padded": 0,
    "pool_after": 0,
    "late_pool": "max",
    "branched": 0,
    "num_shared": 1,
    "activation": "leaky",
    "learned_scale": False,
    "maps_head": True,
}
PADDED = {"first_padded": 1, "num_padded": 1}
MEANS = {"early_pool": "mean", "late_pool": "mean", "activation": "prelu"}
DENSE = {"maps_head": False, "activation": "relu"}


def own(*widths: int, name: str = "width") -> dict[str, Any]:
    """Return the parameters of late stages with a width each."""
    each = {f"{name}_{place}": width for place, width in enumerate(widths)}
    return {"even": False, "num_late": len(widths), **each}


def even(width: int, num_late: int) -> dict[str, Any]:
    """Return the parameters of late stages of one width."""
    return {"even": True, "num_late": num_late, "width": width}


def stem(width: int, second: int | None = None, kind: str = "full") -> dict[str, Any]:
    """Return the parameters of one early stage, or two."""
    return {"stem_width": width} | (
        {} if second is None else {"second": kind, "second_width": second}
    )


FULL = {"separable": False, "learned_scale": True, **DENSE}
KNOWN = [
    (2_848, stem(8, 8) | PADDED | own(18, 18, 18, 20, 10)),
    (2_452, stem(8, 8) | PADDED | even(16, 5) | {"activation": "relu"}),
    (1_836, stem(6, 6) | PADDED | even(14, 5)),
    (1_714, stem(8) | DENSE | even(16, 4)),
    (1_433, stem(8) | PADDED | even(13, 5)),
    (994, stem(6) | PADDED | even(10, 5)),
    (673, stem(6) | PADDED | even(7, 5)),
    (554, stem(6) | even(7, 4)),
    (12_138, stem(8) | {"stem_kernel": 4, "pool_after": 1} | FULL
     | own(16, 24, 32, name="full_width")),
    (2_714, stem(8, 8) | DENSE | own(16, 16, 20, 24)),
    (2_274, stem(8, 8, "separable") | DENSE | own(16, 16, 20, 24)),
    (914, stem(8) | DENSE | even(16, 4) | {"num_shared": 3}),
    (1_772, stem(8) | DENSE | even(14, 5) | {"num_padded": 1}),
    (1_266, stem(8) | DENSE | even(16, 2) | {"num_wide_kernels": 2}),
    (697, stem(6) | DENSE | own(5, 9, 10, 8) | {"stem_padded": True}),
    (7_550, stem(12) | {"stem_kernel": 5, "stem_stride": 2, "early_pool": "none"} | FULL
     | own(16, 16, 20, name="full_width")),
]  # fmt: skip


def drawn(params: dict[str, Any], max_params: int) -> Network:
    """Return the network of the family that these parameters stand for."""
    optuna = import_optuna()
    trial = optuna.trial.FixedTrial(PLAIN | params)
    return suggest_design(trial, max_params).network(SHAPE, 10)


@pytest.mark.parametrize(("num_params", "params"), KNOWN, ids=[str(count) for count, _ in KNOWN])
def test_good_small_networks_are_in_the_family(num_params: int, params: dict[str, Any]) -> None:
    """Each of those that are known can be drawn where the budget is 1.05 times its size."""
    network = drawn(params, round(1.05 * num_params))

    assert trace(network).totals.num_params == num_params


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("500", stem(5) | MEANS | {"num_padded": 1, "pool_after": 1} | own(8, 8, 10)),
        ("700", stem(5) | MEANS | {"num_padded": 2, "pool_after": 2} | own(8, 8, 10, 10)),
        ("1k", stem(5, 8, "separable") | MEANS | {"num_padded": 2, "pool_after": 2}
         | own(10, 10, 11, 10)),
        ("2k", stem(8) | MEANS | PADDED | own(16, 16, 17, 16, 10)),
        ("5k", stem(12) | MEANS | PADDED | own(30, 30, 30, 30, 10)),
        ("quick", stem(8) | {"stem_kernel": 4, "pool_after": 1, "late_pool": "mean"} | FULL
         | own(16, 24, 20, name="full_width")),
    ],
)  # fmt: skip
def test_our_recipes_are_in_the_family(name: str, params: dict[str, Any]) -> None:
    """The best that we know at a size can be drawn, layer by layer."""
    recipe = get_recipe(f"smidgen/{name}")

    assert drawn(params, recipe.budget.max_params or 0) == recipe.network


def test_two_kernels_side_by_side_keep_the_size() -> None:
    """Half of the channels look through 5x5, and both halves meet again."""
    network = drawn(stem(6) | even(8, 3) | {"branched": 2}, 1_000)

    rows = [row for row in trace(network).rows if row.kind == "separable_conv"]
    assert [row.text for row in rows[1:3]] == [
        "SeparableConv(4, 3, bias=False)",
        "SeparableConv(4, 5, padding=1, bias=False)",
    ]
    assert rows[1].output_shape == rows[2].output_shape


@pytest.mark.parametrize("max_params", [500, 10_000])
def test_nearly_all_that_is_drawn_fits_the_budget(max_params: int) -> None:
    """Widths are scaled into the limits, and what does not fit into a map is changed."""
    optuna = import_optuna()
    limits = SizeLimits(max_params // 2, max_params)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    fitting = 0
    for _ in range(30):
        design = suggest_design(study.ask(), max_params)
        try:
            fitting += sized(design, limits, SHAPE, 10) in limits
        except NetworkError:
            continue

    assert fitting >= 24


def test_small_images_get_networks_too() -> None:
    """On 12x12 images kernels pad and pools are left out where nothing would be left."""
    optuna = import_optuna()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=2))
    limits = SizeLimits(0, 2_000)
    made = []
    for _ in range(30):
        design = suggest_design(study.ask(), 2_000, side=12)
        try:
            made.append(sized(design, limits, (3, 12, 12), 4))
        except NetworkError:
            continue

    assert len(made) >= 25
    assert {network.input_shape for network in made} == {(3, 12, 12)}
    assert {network.num_classes for network in made} == {4}


def test_macs_are_kept_as_well() -> None:
    """A design within the parameters and over the MACs is made narrower."""
    optuna = import_optuna()
    design = suggest_design(optuna.trial.FixedTrial(PLAIN | stem(8, 8) | even(16, 5)), 2_500)
    limits = SizeLimits(500, 2_500, 200_000)

    network = sized(design, limits, SHAPE, 10)

    assert design.network(SHAPE, 10) not in limits
    assert network in limits
    assert trace(network).totals.num_macs > 150_000


def test_a_budget_below_all_is_not_met() -> None:
    """What cannot be scaled into the limits comes back as near as it gets, outside of them."""
    optuna = import_optuna()
    design = suggest_design(optuna.trial.FixedTrial(PLAIN | stem(8) | even(4, 4)), 100)

    network = sized(design, SizeLimits(1, 20), SHAPE, 10)

    assert network not in SizeLimits(1, 20)
