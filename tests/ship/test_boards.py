import numpy as np
import pytest
from shipped import EVERYTHING, images_of, integer_of

from smidgen.errors import CompilerError
from smidgen.network.network import Network
from smidgen.recipes.catalogue import get_recipe
from smidgen.ship import boards
from smidgen.ship.boards import CORES, CORTEX_M0, Core, emulate, weigh, weigh_or_estimate
from smidgen.ship.c_printer import header
from smidgen.ship.executor import scores_of

NETWORKS = {
    "everything": EVERYTHING,
    "500": get_recipe("smidgen/500").network,
    "quick": get_recipe("smidgen/quick").network,
}
needs_gcc = pytest.mark.skipif(not CORTEX_M0.has_compiler, reason="no arm-none-eabi-gcc here")


def _check(network: Network, core: Core, fast: bool, count: int) -> None:
    if not (core.has_compiler and core.has_emulator):
        pytest.skip(f"no {core.tools}gcc or {core.emulator[0]} here")
    integers, images = integer_of(network), images_of(network, count)

    made = emulate(
        header(integers, "digit", fast), "digit", core, images, network.num_classes, fast
    )

    assert np.array_equal(made.scores, scores_of(integers, images))
    assert made.instructions > 1_000


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
@pytest.mark.parametrize("fast", [False, True], ids=["small", "fast"])
def test_cores_compute_what_python_does(core: Core, fast: bool) -> None:
    """A few images of the network with every stage have all their scores on every core."""
    _check(EVERYTHING, core, fast, 4)


@pytest.mark.slow
@pytest.mark.parametrize("core", CORES, ids=lambda core: core.name)
@pytest.mark.parametrize("fast", [False, True], ids=["small", "fast"])
@pytest.mark.parametrize("name", NETWORKS)
def test_hundred_images_have_all_their_scores(name: str, core: Core, fast: bool) -> None:
    """So do a hundred images of networks of the catalogue."""
    _check(NETWORKS[name], core, fast, 100)


@needs_gcc
def test_flash_depends_on_no_weight() -> None:
    """Two sets of weights make the small form equally large."""
    network = NETWORKS["500"]

    first, second = (
        weigh(header(integer_of(network, seed), "digit"), "digit", CORTEX_M0) for seed in (1, 2)
    )

    assert first == second


@needs_gcc
@pytest.mark.parametrize(
    ("name", "flash", "ram"),
    [("500", 1_500, 1_100), ("2k", 3_250, 2_600), ("quick", 10_280, 1_330)],
)
def test_frontier_networks_stay_small(name: str, flash: int, ram: int) -> None:
    """Flash and RAM of the small form on a Cortex-M0 are no larger than they were."""
    integers = integer_of(get_recipe(f"smidgen/{name}").network)

    weight = weigh(header(integers, "digit"), "digit", CORTEX_M0)

    assert weight.flash <= flash
    assert weight.ram <= ram


def test_estimates_do_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no cross compiler is, flash and RAM are estimated from above, and it is said."""
    monkeypatch.setattr(boards, "is_tool", lambda name: False)

    for name, least in (("500", 1_490), ("quick", 10_260)):
        weight, is_measured = weigh_or_estimate(integer_of(NETWORKS[name]))

        assert not is_measured
        assert least <= weight.flash <= 1.15 * least


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tool the error says which."""
    monkeypatch.setattr(boards, "is_tool", lambda name: False)

    with pytest.raises(CompilerError, match="`arm-none-eabi-gcc` was not found"):
        weigh("", "digit", CORTEX_M0)
