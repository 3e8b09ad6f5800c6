"""Four ideas that need code which the library does not keep, measured on 988 parameters.

    python benchmarks/not_kept.py [--data-dir DIR] [--epochs 10] [--seeds 3] [NAME ...]

The base is `PReLU, lr 0.08` of `choose_frontier.py`. The torch engine trains all, under the `tune`
protocol (55,000 images, measured on the 5,000 of `valid` after the last epoch; the test set is
never opened). Runs with one random seed see the same images, changed in the same way, in the same
order; differences are paired by it.

- `overparametrized`: trained as a sum of branches, each with its own batch norm, that is folded
  into the small network before it is measured.
- `deskewed`: each image is sheared upright by its own moments before anything else.
- `coordinates`: the first convolution also sees each pixel's x and y, after augmentation.
- `fixed filters`: the first convolution is nine derivatives of a Gaussian; the rest is trained.

Results: `docs/results/not_kept.{json,md}`, written after every run; runs of other names, epochs or
seeds stay.
"""

import argparse
import copy
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
from choose_frontier import CANDIDATES, max_tower
from torch import Tensor, nn

from smidgen.data import load_dataset
from smidgen.data.dataset import Split
from smidgen.engines.torch_engine import TorchEngine
from smidgen.files import write_atomically
from smidgen.network.layers import BatchNorm, Conv, SeparableConv
from smidgen.network.network import Network, Node
from smidgen.network.torch_module import TorchNetwork, to_torch
from smidgen.network.trace import trace
from smidgen.network.weights import initial_weights
from smidgen.randomness import generator
from smidgen.recipes.recipe import Recipe
from smidgen.training.plan import plan
from smidgen.training.splits import evaluate, splits_for

RESULTS = Path(__file__).parent.parent / "docs" / "results"
BASE = CANDIDATES["1k"]["PReLU, lr 0.08"]
BODY = (10, 9, 10, 9)  # output channels of its separable convolutions but the last
CLEAN_EPOCHS = 2
EXPANSION = 2
"""The wide branch of a 1x1 convolution has this many times as many maps inside as it gives."""


class WideConv(nn.Module):
    """A convolution as the sum of itself, 1x1 and, if depthwise, the identity, each normed.

    Args:
        weight: (M, C / groups, k, k), initial weights.
        groups: As in `torch.nn.Conv2d`.
        padding: In pixels, on each side.
        rng: Draws the branch of 1x1.

    Source: Ding et al., RepVGG, 2021.
    """

    def __init__(self, weight: Tensor, groups: int, padding: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.groups, self.padding = groups, padding
        self.center = weight.shape[-1] // 2
        self.weight = nn.Parameter(weight.clone())
        self.point = _drawn(rng, len(weight), weight.shape[1])
        num_branches = 3 if groups == len(weight) else 2
        self.norms = nn.ModuleList(nn.BatchNorm2d(len(weight)) for _ in range(num_branches))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branches."""
        # what a valid convolution leaves out at the border, 1x1 and the identity leave out too
        middle = F.pad(x, 4 * (self.padding - self.center,))
        y = self.norms[0](F.conv2d(x, self.weight, padding=self.padding, groups=self.groups))
        y = y + self.norms[1](F.conv2d(middle, self.point, groups=self.groups))
        return y + self.norms[2](middle) if len(self.norms) > 2 else y

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of the one convolution that gives the same."""
        gains, shifts = zip(*map(_gain_and_shift, self.norms), strict=True)
        weight = gains[0][:, None, None, None] * self.weight
        weight[:, :, self.center, self.center] += gains[1][:, None] * self.point[:, :, 0, 0]
        if len(gains) > 2:
            weight[:, 0, self.center, self.center] += gains[2]
        return weight, torch.stack(shifts).sum(0)


class WidePoint(nn.Module):
    """A 1x1 convolution as the sum of itself and of one to more maps and back, all normed.

    Args:
        weight: (M, C, 1, 1), initial weights.
        rng: Draws the other branch.

    Source: Guo et al., ExpandNets, 2020; Ding et al., Diverse Branch Block, 2021.
    """

    def __init__(self, weight: Tensor, rng: np.random.Generator) -> None:
        super().__init__()
        num_maps, num_inside = len(weight), EXPANSION * len(weight)
        self.weight = nn.Parameter(weight.clone())
        self.expand = _drawn(rng, num_inside, weight.shape[1])
        self.reduce = _drawn(rng, num_maps, num_inside)
        self.norms = nn.ModuleList(map(nn.BatchNorm2d, (num_maps, num_inside, num_maps)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the branches."""
        wide = self.norms[1](F.conv2d(x, self.expand))
        return self.norms[0](F.conv2d(x, self.weight)) + self.norms[2](F.conv2d(wide, self.reduce))

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return the weight and the bias of the one convolution that gives the same."""
        own, inside, end = map(_gain_and_shift, self.norms)
        reduce = end[0][:, None] * self.reduce[:, :, 0, 0]
        stack = reduce @ (inside[0][:, None] * self.expand[:, :, 0, 0])
        weight = own[0][:, None] * self.weight[:, :, 0, 0] + stack
        return weight[:, :, None, None], own[1] + reduce @ inside[1] + end[1]


def _initial(network: Network, seed: int) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in initial_weights(network, seed).items()}


def _drawn(rng: np.random.Generator, num_maps: int, fan_in: int) -> nn.Parameter:
    bound = fan_in**-0.5
    drawn = rng.uniform(-bound, bound, (num_maps, fan_in, 1, 1))
    return nn.Parameter(torch.from_numpy(drawn.astype(np.float32)))


def _gain_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Return what a batch norm multiplies each channel by, and adds to it, in evaluation."""
    assert isinstance(norm, nn.BatchNorm2d)
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return gain, norm.bias - gain * norm.running_mean


class WideNetwork(TorchNetwork):
    """A network whose convolutions are sums of branches while it is trained.

    The network's own batch norms stay behind the sums. One branch of each begins with the weights
    with which the network itself begins.
    """

    def __init__(self, network: Network, seed: int) -> None:
        weights = _initial(network, seed)
        super().__init__(network, weights)
        rng = generator(seed, "branches")
        self.wide = nn.ModuleDict()
        for node in network.graph.nodes:
            if isinstance(node.layer, Conv | SeparableConv):
                self.wide[node.name] = _widened(node, weights, rng)
                del self.owners[node.name]

    def named_tensors(self) -> dict[str, Tensor]:
        """Return every parameter and buffer by its name in the module."""
        return dict(self.named_parameters()) | dict(self.named_buffers())

    def folded(self) -> TorchNetwork:
        """Return the small network, after a check that it gives the same scores."""
        exact = copy.deepcopy(self).double().eval()
        small = TorchNetwork(self.network, exact._folded_weights()).eval()
        assert sum(p.numel() for p in small.parameters()) == trace(self.network).totals.num_params
        images = generator(0, "images").normal(size=(100, *self.network.input_shape))
        with torch.inference_mode():
            x = torch.from_numpy(images)
            assert (small.scores(x) - exact.scores(x)).abs().max() < 1e-5
        return small.float()

    def _run(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name in self.wide:
            return self.wide[node.name](inputs[0])
        return super()._run(node, inputs)

    @torch.no_grad()
    def _folded_weights(self) -> dict[str, Tensor]:
        names = self.network.graph.tensors
        weights = {n: self._tensor(n).clone() for n in names if n.split(".")[0] in self.owners}
        for node, norm in pairwise(self.network.graph.nodes):
            if node.name not in self.wide:
                continue
            parts = list(self.wide[node.name])
            weights[f"{node.name}.weight"], bias = parts[-1].folded()
            if len(parts) > 1:
                depthwise, between = parts[0].folded()
                weights[f"{node.name}.depthwise_weight"] = depthwise
                bias = bias + weights[f"{node.name}.weight"][:, :, 0, 0] @ between
            assert isinstance(norm.layer, BatchNorm)
            # the small convolutions have no bias: the norm behind them takes it over
            weights[f"{norm.name}.running_mean"] -= bias
        return weights


def _widened(node: Node, weights: dict[str, Tensor], rng: np.random.Generator) -> nn.Sequential:
    layer, weight = node.layer, weights[f"{node.name}.weight"]
    if isinstance(layer, Conv):
        return nn.Sequential(WideConv(weight, layer.groups, layer.padding, rng))
    depthwise = weights[f"{node.name}.depthwise_weight"]
    own = WideConv(depthwise, len(depthwise), layer.padding, rng)
    return nn.Sequential(own, WidePoint(weight, rng))


class SeesCoordinates(TorchNetwork):
    """A network of three channels that is given one: x and y, from -1 to 1, are joined to it.

    Source: Liu et al., CoordConv, 2018.
    """

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__(network, _initial(network, seed))

    def scores(self, images: Tensor, watch: Callable[[Node, Tensor], None] | None = None) -> Tensor:
        """Return the class scores of (N, 1, H, W)."""
        height, width = (torch.linspace(-1.0, 1.0, size) for size in images.shape[2:])
        y, x = torch.meshgrid(height, width, indexing="ij")
        both = torch.stack([x, y]).expand(len(images), -1, -1, -1)
        joined = torch.cat([images, both], dim=1)
        return super().scores(joined.contiguous(memory_format=torch.channels_last), watch)


def gaussian_derivatives() -> np.ndarray:
    """Return float32 (9, 1, 3, 3) of norm 1: a Gaussian, its slopes and ridges in 4 directions.

    A ridge is the negative second derivative, which is positive on a bright stroke. Standard
    deviation: one pixel.
    """
    y, x = np.mgrid[-1:2, -1:2]
    bell = np.exp(-(x**2 + y**2) / 2)
    along = [x * np.cos(angle) + y * np.sin(angle) for angle in np.pi * np.arange(4) / 4]
    slopes = [each * bell for each in along]
    ridges = [(1 - each**2) * bell for each in along]
    kernels = np.stack([bell, *slopes, *(ridge - ridge.mean() for ridge in ridges)])
    kernels /= np.sqrt((kernels**2).sum((1, 2), keepdims=True))
    return kernels[:, None].astype(np.float32)


def with_fixed_filters(network: Network, seed: int) -> TorchNetwork:
    """Return the network with a first convolution that is not trained."""
    model = to_torch(network, seed)
    first = model.named_tensors()["conv1.weight"]
    with torch.no_grad():
        first.copy_(torch.from_numpy(gaussian_derivatives()))
    first.requires_grad_(False)
    return model


def deskewed(images: np.ndarray) -> np.ndarray:
    """Return uint8 (N, 1, H, W), each image sheared about its center of mass until upright.

    Upright: the covariance of the two coordinates, weighted by grey level, is zero.
    """
    return np.concatenate([_upright(part) for part in np.array_split(images, 50)])


def _upright(images: np.ndarray) -> np.ndarray:
    grey = images[:, 0].astype(np.float64)
    lines, columns = np.mgrid[: grey.shape[1], : grey.shape[2]].astype(np.float64)
    mass = grey.sum((1, 2)) + 1e-9  # of an empty image every moment is zero
    down = lines - ((grey * lines).sum((1, 2)) / mass)[:, None, None]
    right = columns - ((grey * columns).sum((1, 2)) / mass)[:, None, None]
    slope = (grey * down * right).sum((1, 2)) / ((grey * down**2).sum((1, 2)) + 1e-9)
    read = columns + slope[:, None, None] * down
    left = np.floor(read).astype(np.int64)
    share = read - left
    sheared = (1 - share) * _at(grey, left) + share * _at(grey, left + 1)
    return np.rint(sheared).astype(np.uint8)[:, None]


def _at(grey: np.ndarray, columns: np.ndarray) -> np.ndarray:
    last = grey.shape[2] - 1
    values = np.take_along_axis(grey, columns.clip(0, last), axis=2)
    return np.where((columns >= 0) & (columns <= last), values, 0.0)


@dataclass(frozen=True)
class Idea:
    """What differs from the base.

    Args:
        network: What is shipped.
        module: (network, seed) -> what is trained.
        changed: What is done to every image, in training and on `valid`, before anything else.
    """

    network: Network = BASE.network
    module: Callable[[Network, int], TorchNetwork] = to_torch
    changed: Callable[[np.ndarray], np.ndarray] | None = None


# Two channels more cost the first convolution 108 parameters; 4 maps instead of 6 pay for them.
# Fixed filters save 54; 9 maps instead of 6 cost 63 behind the first convolution.
IDEAS = {
    "base": Idea(),
    "overparametrized": Idea(module=WideNetwork),
    "deskewed": Idea(changed=deskewed),
    "coordinates": Idea(Network(max_tower((4,), BODY).layers, (3, 28, 28)), SeesCoordinates),
    "fixed filters": Idea(max_tower((9,), BODY), with_fixed_filters),
}


class IdeaEngine(TorchEngine):
    """The torch engine with an idea's module in place of the one that it would train."""

    def __init__(self, idea: Idea, recipe: Recipe, train: Split, seed: int) -> None:
        self._module = idea.module(idea.network, seed)
        super().__init__(idea.network, recipe, train.images, train.labels, seed=seed)

    def ship(self) -> None:
        """Put the small network in place of the wide one."""
        if isinstance(self.model, WideNetwork):
            self.model = self.model.folded()

    def _placed(self, model: TorchNetwork) -> TorchNetwork:
        return super()._placed(self._module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(IDEAS)}; or all")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in IDEAS]
    if unknown:
        parser.error(f"no idea is called {unknown[0]!r}; there are {', '.join(IDEAS)}")
    jobs = [
        (name, seed, options.epochs, options.data_dir)
        for seed in range(1, options.seeds + 1)
        for name in options.names or IDEAS
    ]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for run in pool.map(_one, jobs):
            print(run, flush=True)
            _write(run)


def _one(job: tuple[str, int, int, Path | None]) -> dict:
    name, seed, epochs, data_dir = job
    torch.set_num_threads(1)
    idea = IDEAS[name]
    recipe = BASE.replace(epochs=epochs, clean_epochs=CLEAN_EPOCHS)
    splits = splits_for("tune", recipe, load_dataset("mnist", data_dir))
    train, valid = splits.train, splits.each_epoch
    if idea.changed is not None:
        train = Split(idea.changed(train.images), train.labels)
        valid = Split(idea.changed(valid.images), valid.labels)
    engine = IdeaEngine(idea, recipe, train, seed)
    trained = sum(p.numel() for p in engine.model.parameters() if p.requires_grad)
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):  # the schedule does not look at the epochs before
        stats = engine.train_epoch(plan(recipe, seed, epoch, [], len(train)), lambda: False)
    seconds = time.perf_counter() - start
    engine.ship()
    measured = evaluate(engine.logits(valid.images), valid.labels)
    return {
        "name": name,
        "epochs": epochs,
        "seed": seed,
        "trained": trained,
        "shipped": trace(idea.network).totals.num_params,
        "train_loss": round(stats.loss, 5),
        "loss": round(measured.loss, 5),
        "accuracy": round(100 * measured.accuracy, 2),
        "seconds": round(seconds, 1),
    }


def _write(run: dict) -> None:
    path = RESULTS / "not_kept.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    runs = [old for old in runs if _key(old) != _key(run)] + [run]
    runs.sort(key=_key)
    rows = []
    for name, epochs in dict.fromkeys((each["name"], each["epochs"]) for each in runs):
        alike = [each for each in runs if each["epochs"] == epochs]
        base = {each["seed"]: each for each in alike if each["name"] == "base"}
        rows.append(_row([each for each in alike if each["name"] == name], base))
    command = "python benchmarks/not_kept.py"
    content = {"command": command, "split": "valid, 5,000 images, last epoch"}
    content |= {"rows": rows, "runs": runs}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "not_kept.md", _markdown(rows).encode())


def _key(run: dict) -> tuple[int, int, int]:
    return run["epochs"], list(IDEAS).index(run["name"]), run["seed"]


def _row(own: list[dict], base: dict[int, dict]) -> dict:
    paired = [(run, base[run["seed"]]) for run in own if run["seed"] in base]
    row = {each: own[0][each] for each in ("name", "epochs", "trained", "shipped")}
    row["n"] = len(own)
    for what, digits in (("train_loss", 5), ("loss", 5), ("accuracy", 3), ("seconds", 1)):
        row[f"mean_{what}"] = round(mean(run[what] for run in own), digits)
    for what, digits in (("loss", 5), ("accuracy", 3)):
        by_seed = [run[what] - other[what] for run, other in paired]
        error = stdev(by_seed) / len(by_seed) ** 0.5 if len(by_seed) > 1 else None
        row[f"{what}_difference"] = round(mean(by_seed), digits) if by_seed else None
        row[f"{what}_standard_error"] = None if error is None else round(error, digits)
    return row


def _markdown(rows: list[dict]) -> str:
    lines = [
        "# Ideas that need code which is not kept",
        "",
        "`python benchmarks/not_kept.py`: variants of a network of 988 parameters on the torch",
        "engine, under the `tune` protocol (trained on 55,000 images, the last 2 epochs clean;",
        "measured on the 5,000 of `valid` after the last epoch; the test set is never opened).",
        "Differences: to the base with the same random seed, which sees the same images; mean,",
        "with its standard error where there are two or more. Shipped parameters of the fixed",
        "filters include 81 that a formula gives.",
        "",
        "| idea | epochs | n | trained | shipped | training loss | valid loss | difference |"
        " mean valid | difference | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['epochs']} | {row['n']} | {row['trained']:,}"
            f" | {row['shipped']:,} | {row['mean_train_loss']:.4f} | {row['mean_loss']:.4f}"
            f" | {_difference(row, 'loss', 4)} | {row['mean_accuracy']:.2f}"
            f" | {_difference(row, 'accuracy', 2)} | {row['mean_seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def _difference(row: dict, what: str, digits: int) -> str:
    if row["name"] == "base" or row[f"{what}_difference"] is None:
        return ""
    error = row[f"{what}_standard_error"]
    ending = "" if error is None else f" ± {error:.{digits}f}"
    return f"{row[f'{what}_difference']:+.{digits}f}{ending}"


if __name__ == "__main__":
    main()
