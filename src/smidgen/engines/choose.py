"""Which engine runs a recipe, and making it."""

import numpy as np

from smidgen.choices import EngineChoice, EngineName
from smidgen.cores import num_cores
from smidgen.engines.contract import Engine
from smidgen.errors import EngineError
from smidgen.extras import is_installed, require
from smidgen.recipes.recipe import Recipe

_MOST_THREADS = 4


def choose_engine(recipe: Recipe, choice: EngineChoice, device: str) -> tuple[EngineName, str]:
    """Return the engine to use and, where `auto` could not have the native one, why.

    `auto` compiles and loads the native program to be sure of it.

    Raises:
        EngineError: The native engine was asked for and cannot run this recipe here, or
            neither engine can.
        MissingPackageError: The torch engine was asked for and PyTorch is not installed.
    """
    if choice == "torch":
        require("The torch engine needs", "torch")
        return "torch", ""
    obstacle = "" if device == "cpu" else f"the native engine runs on the CPU, not on `{device}`"
    if not obstacle:
        from smidgen.engines.native.obstacles import obstacle_to

        obstacle = (obstacle_to(recipe, builds=choice == "auto") or "").rstrip(".")
    if not obstacle:
        return "native", ""
    if choice == "native":
        raise EngineError(f"The native engine cannot run this: {obstacle}. Use `--engine torch`.")
    if not is_installed("torch"):
        raise EngineError(
            f"Neither engine runs here. The native one: {obstacle}. The torch one: PyTorch is not "
            "installed; `pip install torch` brings it."
        )
    return "torch", obstacle


def default_threads() -> int:
    """Return how many threads a single run gets: the cores of this machine, at most four."""
    return min(num_cores(), _MOST_THREADS)


def native_lanes(wish: int | None = None) -> int:
    """Return how many images the native engine holds side by side here.

    Args:
        wish: 16, 8, 4 or 1; None for as many as this processor can.

    Raises:
        CompilerError: This processor cannot hold so many.
    """
    from smidgen.engines.native.toolchain import checked_features, lanes_of_host

    if wish is None:
        return lanes_of_host()
    checked_features(wish)
    return wish


def make_engine(
    name: EngineName,
    recipe: Recipe,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    seed: int,
    threads: int,
    device: str = "cpu",
    lanes: int | None = None,
) -> Engine:
    """Build an engine with freshly drawn weights.

    Args:
        name: `torch` or `native`.
        recipe: What is trained.
        images: uint8 (N, C, H, W), all there is to train on.
        labels: int64 (N,).
        seed: Decides the initial weights.
        threads: How many cores it may use.
        device: A torch device.
        lanes: Images side by side in the native engine; None for as many as this processor can.

    Raises:
        EngineError: There is no such device here, or so many lanes cannot be.
    """
    if name == "native":
        from smidgen.engines.native.build import CompileOptions
        from smidgen.engines.native.engine import NativeEngine

        options = CompileOptions(lanes=lanes)
        return NativeEngine(
            recipe.network,
            recipe,
            images,
            labels,
            seed=seed,
            threads=threads,
            compile_options=options,
        )
    from smidgen.engines.torch_engine import TorchEngine

    _check_device(device)
    return TorchEngine(
        recipe.network, recipe, images, labels, seed=seed, threads=threads, device=device
    )


def _check_device(device: str) -> None:
    import torch

    advice = "Leave `--device` out to train on the CPU."
    if device == "cpu":
        return
    if not torch.cuda.is_available():
        raise EngineError(
            f"The device `{device}` needs a GPU that PyTorch can use, and there is none. {advice}"
        )
    known = ["cpu", "cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if device not in known:
        listed = ", ".join(f"`{name}`" for name in known)
        raise EngineError(f"There is no device `{device}` here, only {listed}. {advice}")
