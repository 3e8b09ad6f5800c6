import numpy as np
import pytest
import torch

from smidgen.data import Dataset
from smidgen.engines.choose import EngineName, choose_engine, default_threads, make_engine
from smidgen.engines.native import obstacles
from smidgen.engines.torch_engine import TorchEngine
from smidgen.errors import EngineError
from smidgen.recipes.recipe import Recipe
from smidgen.training.plan import plan


def test_torch_is_always_possible(tiny_recipe: Recipe) -> None:
    """The torch engine is taken where it is asked for, on any device, without a remark."""
    assert choose_engine(tiny_recipe, "torch", "cpu") == ("torch", "")
    assert choose_engine(tiny_recipe, "torch", "cuda") == ("torch", "")


def test_auto_says_why_it_falls_back(tiny_recipe: Recipe) -> None:
    """On a GPU `auto` takes torch and says why; asking for native there is refused."""
    reason = "the native engine runs on the CPU, not on `cuda`"

    assert choose_engine(tiny_recipe, "auto", "cuda") == ("torch", reason)
    with pytest.raises(EngineError) as caught:
        choose_engine(tiny_recipe, "native", "cuda")

    assert str(caught.value) == (
        f"The native engine cannot run this: {reason}. Use `--engine torch`."
    )


@pytest.mark.parametrize(
    ("obstacle", "expected"),
    [(None, ("native", "")), ("There is no compiler.", ("torch", "There is no compiler"))],
)
def test_auto_asks_the_native_engine(
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    obstacle: str | None,
    expected: tuple[str, str],
) -> None:
    """On the CPU the native engine runs what it can, and its reason is passed on if it cannot."""
    monkeypatch.setattr(obstacles, "obstacle_to", lambda recipe, builds: obstacle)

    assert choose_engine(tiny_recipe, "auto", "cpu") == expected


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (3, 3), (64, 4)])
def test_default_threads(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    """A run gets the cores that this process may use, at most four."""
    monkeypatch.setattr("smidgen.engines.choose.num_cores", lambda: cores)

    assert default_threads() == threads


def test_make_torch_engine(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """The torch engine is made with the seed's weights and the threads asked for."""
    train = stripes.train

    engine = make_engine("torch", tiny_recipe, train.images, train.labels, seed=3, threads=1)

    assert isinstance(engine, TorchEngine)
    assert engine.name == "torch"
    twin = TorchEngine(tiny_recipe.network, tiny_recipe, train.images, train.labels, seed=3)
    assert (engine.state()["conv1.weight"] == twin.state()["conv1.weight"]).all()


def test_threads_do_not_leak(tiny_recipe: Recipe, stripes: Dataset) -> None:
    """PyTorch's own number of threads is what it was, within an engine's methods it is theirs."""
    train = stripes.train
    before = torch.get_num_threads()
    engine = make_engine(
        "torch", tiny_recipe, train.images, train.labels, seed=3, threads=before + 1
    )
    seen = []

    def look() -> bool:
        seen.append(torch.get_num_threads())
        return True

    engine.train_epoch(plan(tiny_recipe, 1, 1, [], len(train)), look)

    assert seen == [before + 1]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("name", ["torch", "native"])
def test_engines_name_what_is_not_finite(
    name: EngineName, tiny_recipe: Recipe, stripes: Dataset
) -> None:
    """Both engines tell which operation gave the first number that is not finite."""
    train = stripes.train
    engine = make_engine(name, tiny_recipe, train.images, train.labels, seed=3, threads=1)
    drawn = plan(tiny_recipe, 1, 1, [], len(train))
    assert engine.first_not_finite(drawn, 0) == ""
    state = engine.state()
    state["conv2.weight"][0, 0, 0, 0] = np.inf
    engine.load_state(state)

    assert engine.first_not_finite(drawn, 0) == "`conv2`"


def test_a_missing_gpu_is_one_line(
    tiny_recipe: Recipe, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that PyTorch cannot use is refused before anything is built."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    train = stripes.train

    with pytest.raises(EngineError) as caught:
        make_engine(
            "torch", tiny_recipe, train.images, train.labels, seed=1, threads=1, device="cuda"
        )

    assert str(caught.value) == (
        "The device `cuda` needs a GPU that PyTorch can use, and there is none. "
        "Leave `--device` out to train on the CPU."
    )


def test_an_unknown_device_lists_those_there_are(
    tiny_recipe: Recipe, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with GPUs a mistyped device is answered with the ones there are."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    train = stripes.train

    with pytest.raises(EngineError) as caught:
        make_engine(
            "torch", tiny_recipe, train.images, train.labels, seed=1, threads=1, device="cuda:7"
        )

    assert str(caught.value) == (
        "There is no device `cuda:7` here, only `cpu`, `cuda`, `cuda:0`. "
        "Leave `--device` out to train on the CPU."
    )
