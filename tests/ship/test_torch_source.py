import numpy as np
import pytest
import torch

from smidgen.errors import NetworkError
from smidgen.network.layers import SampleNorm
from smidgen.network.network import Network
from smidgen.network.torch_module import to_torch
from smidgen.network.trace import trace
from smidgen.reading.from_torch import from_torch
from smidgen.recipes.catalogue import RECIPES
from smidgen.ship.torch_source import torch_source

UNSAYABLE = ("SampleNorm", "Repeat")
SAYABLE = [
    name
    for name, recipe in RECIPES.items()
    if not any(word in repr(recipe.network) for word in UNSAYABLE)
]


def module_of(network: Network) -> torch.nn.Module:
    """Return the module that the printed source defines."""
    space: dict[str, object] = {}
    exec(compile(torch_source(network), "model.py", "exec"), space)
    return space["Net"]()  # type: ignore[operator]


@pytest.mark.parametrize("name", SAYABLE)
def test_printed_class_is_the_network(name: str) -> None:
    """The printed class has the very parameters, and with equal weights the very outputs."""
    network = RECIPES[name].network
    module = module_of(network).eval()
    ours = to_torch(network, seed=3).eval()
    totals = trace(network).totals
    assert sum(p.numel() for p in module.parameters()) == totals.num_params + totals.num_dead

    reached = [t for key, t in module.state_dict().items() if "unused" not in key]
    theirs = [t for t in reached if t.dtype.is_floating_point]
    mine = list(ours.named_tensors().values())
    assert [t.shape for t in theirs] == [t.shape for t in mine]
    with torch.no_grad():
        for target, source in zip(theirs, mine, strict=True):
            target.copy_(source)
        images = torch.from_numpy(np.random.default_rng(0).random((2, 1, 28, 28), np.float32))
        assert torch.allclose(module(images), ours(images), atol=1e-5)


@pytest.mark.parametrize("name", ["era-s7/7", "assignment7/3", "era-s7/as-told"])
def test_printed_class_is_read_back(name: str) -> None:
    """`from_torch` turns the printed class into the network's counts again."""
    network = RECIPES[name].network
    read = from_torch(module_of(network)).network

    assert trace(read).totals.num_params == trace(network).totals.num_params


def test_layer_without_a_module_is_named() -> None:
    """A layer that PyTorch lacks is refused by name."""
    network = Network((SampleNorm(), *RECIPES["smidgen/500"].network.layers))
    with pytest.raises(NetworkError, match="`SampleNorm"):
        torch_source(network)
