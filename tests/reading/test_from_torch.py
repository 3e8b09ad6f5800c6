import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from smidgen.errors import NetworkError
from smidgen.network.layers import (
    AvgPool,
    BatchNorm,
    Branches,
    Conv,
    Dense,
    Dropout,
    Dropout2d,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    Layer,
    LeakyReLU,
    MaxPool,
    Multiply,
    PReLU,
    ReLU,
    Repeat,
    Residual,
    Unreached,
)
from smidgen.network.network import Network
from smidgen.network.torch_module import to_torch
from smidgen.network.trace import trace
from smidgen.reading.from_torch import check_equal, from_torch
from smidgen.recipes import frontier
from smidgen.recipes.catalogue import RECIPES

_BRANCHED = (Conv(4, 1, bias=True), ReLU()), (Conv(4, 3, padding="same", bias=True), ReLU())
_DEAD = (Conv(16, 3, padding=1), BatchNorm(), ReLU(), Dropout(0.05))
STUDENTS: dict[str, tuple[tuple[Layer, ...], str]] = {
    "CourseBlocks": (
        (
            *(Conv(8, 3), ReLU(), BatchNorm(), Dropout(0.1), MaxPool(2)),
            *(Conv(12, 3, padding=1), ReLU(), BatchNorm(), Dropout(0.1), AvgPool(13)),
            *(Conv(10, 1), Flatten()),
        ),
        "log_softmax",
    ),
    "Functional": (
        (
            *(Conv(6, 5, padding=2, bias=True), ReLU(), MaxPool(2)),
            *(Conv(8, 5, bias=True), ReLU(), MaxPool(2), Dropout(0.25), Flatten()),
            *(Dense(20), ReLU(), Dropout(0.5), Dense(10)),
        ),
        "log_softmax",
    ),
    "Perceptron": ((Flatten(), Dense(16), BatchNorm(), LeakyReLU(0.1), Dense(10)), "logits"),
    "TinyResNet": (
        (
            *(Conv(4, 3, stride=2, padding=1), ReLU()),
            Residual(
                (
                    *(Conv(4, 3, padding=1), BatchNorm(), ReLU()),
                    *(Conv(4, 3, padding=1), BatchNorm()),
                )
            ),
            ReLU(),
            Residual(
                (
                    *(Conv(8, 3, stride=2, padding=1), BatchNorm(), ReLU()),
                    *(Conv(8, 3, padding=1), BatchNorm()),
                ),
                (Conv(8, 1, stride=2), BatchNorm()),
            ),
            *(ReLU(), GlobalAvgPool(), Flatten(), Dense(10)),
        ),
        "logits",
    ),
    "SqueezeNet": (
        (
            *(Conv(6, 3, stride=2, bias=True), PReLU(), Conv(3, 1, bias=True), ReLU()),
            *(Branches(_BRANCHED), MaxPool(3, stride=2, padding=1), Conv(4, 1, bias=True), ReLU()),
            Branches(
                (
                    (Conv(6, 1, bias=True), ReLU()),
                    (Conv(6, 3, padding="same", bias=True), ReLU()),
                )
            ),
            *(Dropout(0.2), Conv(10, 1, bias=True), GlobalAvgPool(), Flatten()),
        ),
        "logits",
    ),
    "MobileNet": (
        (
            *(Conv(4, 3, stride=2, padding=1), Conv(4, 3, padding=1, groups=4), Conv(8, 1)),
            *(BatchNorm(), ReLU(), AvgPool(2), Conv(8, 3, padding=1, groups=8), Conv(8, 1)),
            *(BatchNorm(), ReLU(), Branches(((GlobalAvgPool(),), (GlobalMaxPool(),)))),
            *(Flatten(), Dense(10)),
        ),
        "logits",
    ),
    "DeadBlock": (
        (
            *(Conv(16, 3, stride=4), BatchNorm(), ReLU(), Dropout(0.05)),
            *(Conv(10, 1), AvgPool(7), Flatten()),
        ),
        "log_softmax",
    ),
    "SharedDropout": (
        (
            *(Conv(4, 3, bias=True), ReLU(), MaxPool(2), Dropout(0.1)),
            *(Conv(8, 3, bias=True), ReLU(), MaxPool(2), Dropout(0.1)),
            *(Conv(10, 5, bias=True), Dropout(0.2), Flatten()),
        ),
        "log_softmax",
    ),
    "Recurrent": (
        (
            *(Conv(6, 3, stride=2, bias=True), ReLU()),
            Repeat((Conv(6, 3, padding=1), BatchNorm(), ReLU()), 3),
            *(GlobalMaxPool(), Flatten(), Dense(10), Multiply(0.5)),
        ),
        "logits",
    ),
    "DenseBlock": (
        (
            *(Conv(3, 3, stride=2, padding=1, bias=True), ReLU()),
            Branches(((), (Conv(3, 3, padding=1, bias=True), ReLU()))),
            Branches(((), (Conv(3, 3, padding=1, bias=True), ReLU()))),
            *(Conv(10, 1, bias=True), AvgPool(14), Flatten()),
        ),
        "logits",
    ),
}

NOT_IN_TORCH_LAYERS = (
    "mnist-challenge/conv",  # Keras' running variance
    "mnist-challenge/separable",
    "mnist-challenge/inception",  # pooling that keeps the size
    "anchors/1936",  # a norm over each image
    *(recipe.name for recipe in frontier.RECIPES),  # norms that learn a shift and no scale
)
WRITABLE = [name for name in RECIPES if name not in NOT_IN_TORCH_LAYERS]


@pytest.mark.parametrize("name", STUDENTS)
def test_reads_what_students_write(name: str, students: ModuleType):
    """Each model becomes the layers that one would write by hand."""
    imported = from_torch(getattr(students, name)())

    assert (imported.network.layers, imported.network.output) == STUDENTS[name]


@pytest.mark.parametrize("name", STUDENTS)
def test_gives_the_same_scores(name: str, students: ModuleType):
    """The value with its weights gives the module's output in evaluation."""
    torch.manual_seed(5)
    module = getattr(students, name)().eval()
    images = torch.randn(4, 1, 28, 28)

    imported = from_torch(module)

    weights = {name: torch.from_numpy(array) for name, array in imported.weights.items()}
    ours = to_torch(imported.network, weights=weights).eval()
    with torch.no_grad():
        np.testing.assert_allclose(ours(images), module(images), atol=1e-5)


@pytest.mark.parametrize("name", WRITABLE)
def test_catalogue_survives_torch(name: str, in_torch_layers: Callable[[Network], nn.Module]):
    """A network of the catalogue, written in torch's layers and read back, is itself."""
    network = RECIPES[name].network

    found = from_torch(in_torch_layers(network)).network

    before, after = trace(network).totals, trace(found).totals
    assert (after.num_params, after.num_macs) == (before.num_params, before.num_macs)
    assert after.receptive_field == before.receptive_field
    if "SeparableConv" not in str(network.layers):  # read back as its two convolutions
        assert found.layers == network.layers


@st.composite
def _blocks(draw: st.DrawFn, channels: int, depth: int) -> tuple[Layer, ...]:
    """Draw layers that keep a map's height and width and end in `channels` channels."""
    kinds = ["conv", "norm", "relu", "dropout"] + (["branches", "sum", "repeat"] if depth else [])
    layers: list[Layer] = [Conv(channels, 1)]
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=3)):
        match kind:
            case "branches":
                paths = tuple(draw(_blocks(2, depth - 1)) for _ in range(2))
                layers += [Branches((*paths, ())), Conv(channels, 1)]
            case "sum":
                layers.append(Residual(draw(_blocks(channels, depth - 1))))
            case "repeat":
                shared = Conv(channels, 3, padding=1)
                layers.append(Repeat((shared, BatchNorm(), ReLU()), draw(st.integers(2, 3))))
            case "conv":
                layers.append(Conv(channels, draw(st.sampled_from([1, 3])), padding="same"))
            case _:
                layers.append({"norm": BatchNorm(), "relu": ReLU()}.get(kind, Dropout(0.1)))
    return tuple(layers)


@settings(
    max_examples=10,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(layers=_blocks(4, 2))
def test_any_nesting_survives_torch(
    layers: tuple[Layer, ...], in_torch_layers: Callable[[Network], nn.Module]
):
    """Branches in sums in branches come back as they were written."""
    network = Network((*layers, GlobalAvgPool(), Flatten(), Dense(10)), (2, 6, 6))

    assert from_torch(in_torch_layers(network), (2, 6, 6)).network == network


def test_dead_blocks_are_counted_and_never_run(students: ModuleType):
    """What is registered and never called is in `unreached`, on the shape it would have fit."""
    imported = from_torch(students.DeadBlock())

    assert imported.network.unreached == (Unreached((16, 7, 7), _DEAD),)
    assert trace(imported.network).totals.num_dead == 2_336
    assert imported.notes == (
        "`block2` is registered and never used.",
        "`spare` is registered and never used.",
    )


def test_what_is_computed_in_vain_is_dead():
    """A layer whose result nobody reads is no part of the network."""
    module = _made(
        lambda m, x: (m.extra(x), m.fc(x.flatten(1)))[1],
        fc=nn.Linear(784, 10),
        extra=nn.Conv2d(1, 2, 3),
    )

    imported = from_torch(module)

    assert trace(imported.network).totals.num_dead == 20
    assert "`extra` (Conv2d) is computed and never used." in imported.notes


def test_module_stays_as_it_was(students: ModuleType):
    """Reading changes neither the module nor the random numbers that come next."""
    torch.manual_seed(3)
    module = students.CourseBlocks().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()

    from_torch(module)

    assert module.training
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(parameter.grad is None for parameter in module.parameters())


def test_other_image_shapes(students: ModuleType):
    """Color images of another size, and sequences without a class, are read as well."""
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    network = from_torch(nn.Sequential(module, nn.Linear(4, 7)), (3, 10, 12)).network

    assert network.input_shape == (3, 10, 12)
    assert network.num_classes == 7


class _Made(nn.Module):
    def __init__(self, body: Callable[..., Tensor], modules: dict[str, Any]) -> None:
        super().__init__()
        self.body = body
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


def _made(body: Callable[..., Tensor], **modules: Any) -> nn.Module:
    return _Made(body, {"fc": nn.Linear(784, 10)} | modules)


def _crossed(m: Any, x: Tensor) -> Tensor:
    a = m.c(x)
    b = m.d(a)
    return m.fc((F.relu(a) + b).flatten(1)) + m.fc((b + x).flatten(1))


def _in_place(m: Any, x: Tensor) -> Tensor:
    a = m.c(x)
    return m.fc((F.relu(a, inplace=True) + a).flatten(1))


def _frozen(module: nn.Module) -> nn.Module:
    return module.requires_grad_(False)


class _Renamed(nn.Conv2d):
    """A subclass that adds nothing."""


class _Doubled(nn.Conv2d):
    """A subclass that computes something else."""

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * 2, self.bias)


_PLAIN_DOUBLE = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).double()
_PLAIN = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
REFUSED: dict[str, tuple[nn.Module, str]] = {
    "parametrized": (
        nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 10, 28)), nn.Flatten()),
        "`0` (ParametrizedConv2d) has no counterpart among the layers of a network.",
    ),
    "one class": (
        nn.Sequential(nn.Flatten(), nn.Linear(784, 1)),
        "`Network`: `num_classes`: input should be greater than or equal to 2, not 1.",
    ),
    "own forward": (
        nn.Sequential(_Doubled(1, 10, 28), nn.Flatten()),
        "`0.weight` is a tensor that `forward` uses outside of any layer; a network's numbers "
        "belong to its layers.",
    ),
    "sigmoid": (
        _made(lambda m, x: m.fc(torch.sigmoid(x.flatten(1)))),
        "`sigmoid` at HERE has no counterpart among the layers of a network.",
    ),
    "module": (
        nn.Sequential(nn.Flatten(), nn.GELU(), nn.Linear(784, 10)),
        "`1` (GELU) has no counterpart among the layers of a network.",
    ),
    "dilation": (
        _made(
            lambda m, x: m.fc(m.conv(x).flatten(1)),
            conv=nn.Conv2d(1, 1, 3, padding=(1, 2), dilation=(1, 2)),
        ),
        "`conv` (Conv2d) has dilation 1x2; a network's are equal for rows and columns.",
    ),
    "reflection": (
        _made(
            lambda m, x: m.fc(m.conv(x).flatten(1)),
            conv=nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        ),
        "`conv` (Conv2d) pads with `reflect`; a network pads with zeros.",
    ),
    "stride": (
        nn.Sequential(nn.Conv2d(1, 1, 3, stride=(1, 2)), nn.Flatten(), nn.Linear(338, 10)),
        "`0` (Conv2d) has stride 1x2; a network's are equal for rows and columns.",
    ),
    "layer norm of a map": (
        nn.Sequential(nn.LayerNorm([1, 28, 28]), _PLAIN),
        (
            "`0` (LayerNorm) learns a gain for each of 1x28x28 values; a network's norms have one "
            "for each channel: `nn.GroupNorm(1, 1)`."
        ),
    ),
    "layer norm of rows": (
        nn.Sequential(nn.LayerNorm(28), _PLAIN),
        "`0` (LayerNorm) normalizes 28 of 1x28x28 values, not all.",
    ),
    "running instance norm": (
        nn.Sequential(nn.InstanceNorm2d(1, track_running_stats=True), _PLAIN),
        (
            "`0` (InstanceNorm2d) keeps running statistics; a network's norms of single images "
            "do not."
        ),
    ),
    "always drops": (
        _made(lambda m, x: m.fc(F.dropout(x.flatten(1), 0.2))),
        "`dropout` at HERE drops in evaluation, too; pass `training=self.training`.",
    ),
    "batch": (
        nn.Sequential(nn.Linear(28, 10)),
        "`0` (Linear) works on the last axis of a 1x28x28 map; flatten it first.",
    ),
    "mixes images": (
        _made(lambda m, x: m.fc(m.pool(x).view(-1, 784)), pool=nn.Conv2d(1, 4, 1)),
        "`view` at HERE mixes the images of a batch: 3 images of 4x28x28 become 12x784.",
    ),
    "no flatten": (
        nn.Sequential(nn.Conv2d(1, 10, 28)),
        (
            "`forward` gives 10x1x1 for each image, not one row of class scores; end it with "
            "`x.flatten(1)`."
        ),
    ),
    "two results": (
        _made(lambda m, x: (m.fc(x.flatten(1)), x)),
        "`forward` returns several values; it must return the class scores alone.",
    ),
    "decides": (
        _made(lambda m, x: m.fc(x.flatten(1)) if x.sum() > 0 else m.fc(-x.flatten(1))),
        (
            "`forward` decides by the values or shapes of tensors (HERE); a network is one fixed "
            "list of operations."
        ),
    ),
    "gate": (
        _made(lambda m, x: m.fc((x * x.sigmoid()).flatten(1))),
        "`sigmoid` at HERE has no counterpart among the layers of a network.",
    ),
    "product": (
        _made(lambda m, x: m.fc((x * x).flatten(1))),
        "`mul` at HERE combines two tensors; a network multiplies by fixed numbers only.",
    ),
    "shift": (
        _made(lambda m, x: m.fc((x - 0.13).flatten(1))),
        "`sub` at HERE has no counterpart among the layers of a network.",
    ),
    "added number": (
        _made(lambda m, x: m.fc((x + 1).flatten(1))),
        "`add` at HERE adds a number; a network adds paths only.",
    ),
    "broadcast": (
        _made(lambda m, x: m.fc((x + x.mean((2, 3), keepdim=True)).flatten(1))),
        "`add` at HERE stretches 1x28x28 and 1x1x1 to one shape; a network adds equal shapes.",
    ),
    "rows": (
        _made(lambda m, x: m.fc(torch.cat([x, x], 2).flatten(1)), fc=nn.Linear(1_568, 10)),
        "`cat` at HERE concatenates along axis 2, not over channels.",
    ),
    "mean of rows": (
        _made(lambda m, x: m.fc(x.mean(3).flatten(1)), fc=nn.Linear(28, 10)),
        "`mean` at HERE reduces over axes 3; a network reduces whole maps: (2, 3).",
    ),
    "softmax inside": (
        _made(lambda m, x: m.fc(x.flatten(1).softmax(1))),
        "`fc` (Linear) comes after a softmax; a network may only end with one.",
    ),
    "softmax axis": (
        _made(lambda m, x: m.fc(x.flatten(1)).softmax(0)),
        "`softmax` at HERE works along axis 0 of 2, not along the classes (axis 1).",
    ),
    "loose tensor": (
        _made(lambda m, x: m.fc(x.flatten(1)) + m.b, b=nn.Parameter(torch.zeros(10))),
        (
            "`b` is a tensor that `forward` uses outside of any layer; a network's numbers "
            "belong to its layers."
        ),
    ),
    "loose dead": (
        _made(lambda m, x: m.fc(x.flatten(1)), b=nn.Parameter(torch.zeros(10))),
        "`b`, 10 numbers, is registered and never used, and is in no layer that a network knows.",
    ),
    "dead recurrence": (
        _made(lambda m, x: m.fc(x.flatten(1)), b=nn.LSTM(2, 3)),
        "`b`, 84 numbers, is registered and never used, and is in no layer that a network knows.",
    ),
    "frozen": (
        _made(lambda m, x: m.fc(m.c(x).flatten(1)), c=_frozen(nn.Conv2d(1, 1, 3, padding=1))),
        "`c.weight` is frozen (`requires_grad` is False); a network trains all its numbers.",
    ),
    "shared apart": (
        _made(
            lambda m, x: m.fc(m.c(m.d(m.c(x))).flatten(1)),
            c=nn.Conv2d(1, 1, 3, padding=1),
            d=nn.Conv2d(1, 1, 1),
        ),
        (
            "`c` (Conv2d) is used several times; a network shares weights only between blocks "
            "that follow each other and have norms of their own."
        ),
    ),
    "shared norm": (
        _made(lambda m, x: m.fc(m.n(m.n(x)).flatten(1)), n=nn.BatchNorm2d(1)),
        (
            "`n` (BatchNorm2d) is used several times; a network shares weights only between "
            "blocks that follow each other and have norms of their own."
        ),
    ),
    "crossing": (
        _made(lambda m, x: _crossed(m, x), c=nn.Conv2d(1, 1, 3, padding=1), d=nn.Conv2d(1, 1, 1)),
        (
            "`c` (Conv2d): its result is read by paths that cross each other, and a network "
            "nests: branches must meet before their value is used elsewhere."
        ),
    ),
    "in place": (
        _made(lambda m, x: _in_place(m, x), c=nn.Conv2d(1, 1, 3, padding=1)),
        (
            "`relu` at HERE works in place on a value that is read again later, which changes "
            "that reading too; leave out `inplace=True`."
        ),
    ),
    "rounding up": (
        nn.Sequential(nn.MaxPool2d(3, ceil_mode=True), nn.Flatten(), nn.Linear(100, 10)),
        (
            "`0` (MaxPool2d) rounds up (`ceil_mode`) on a 1x28x28 map; a network drops "
            "incomplete windows."
        ),
    ),
    "unequal windows": (
        nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Flatten(), nn.Linear(25, 10)),
        (
            "`0` (AdaptiveAvgPool2d) makes 5 of 28 rows or columns, by windows of unequal size; "
            "use one that divides."
        ),
    ),
    "padded mean": (
        nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), _PLAIN),
        "`0` (AvgPool2d) leaves padded cells out of its means; a network counts them as zeros.",
    ),
    "momentum": (
        nn.Sequential(nn.BatchNorm2d(1, momentum=None), _PLAIN),
        "`0` (BatchNorm2d) averages over all batches (`momentum=None`); give it a number.",
    ),
    "no statistics": (
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), _PLAIN),
        "`0` (BatchNorm2d) keeps no running statistics; a network's batch norm does.",
    ),
    "indices": (
        _made(lambda m, x: m.fc(m.p(x)[0].flatten(1)), p=nn.MaxPool2d(1, return_indices=True)),
        "`[...]` at HERE has no counterpart among the layers of a network.",
    ),
    "wrong size": (
        nn.Sequential(nn.Flatten(), nn.Linear(100, 10)),
        (
            "`forward` fails on images of 1x28x28: RuntimeError: mat1 and mat2 shapes cannot be "
            "multiplied (3x784 and 100x10)."
        ),
    ),
    "unflattened": (
        _made(lambda m, x: m.fc(x.flatten(1)).view(-1, 10, 1).relu().flatten(1)),
        "`relu` at HERE works on neither a map nor flat features: `view` at HERE makes 10x1.",
    ),
}


_FLAT = (Flatten(), Dense(10))
ACCEPTED: dict[str, tuple[nn.Module, tuple[Layer, ...]]] = {
    "lazy layers": (
        nn.Sequential(nn.LazyConv2d(3, 3), nn.Flatten(), nn.LazyLinear(10)),
        (Conv(3, 3, bias=True), *_FLAT),
    ),
    "subclass": (
        nn.Sequential(_Renamed(1, 2, 3), nn.Flatten(), nn.Linear(1_352, 10)),
        (Conv(2, 3, bias=True), *_FLAT),
    ),
    "double precision": (_PLAIN_DOUBLE, _FLAT),
    "asks for the mode": (
        _made(lambda m, x: m.fc((F.dropout(x, 0.2) if m.training else x).flatten(1))),
        (Dropout(0.2), *_FLAT),
    ),
    "sum of a list": (
        _made(lambda m, x: m.fc(sum([m.c(x), x]).flatten(1)), c=nn.Conv2d(1, 1, 1)),
        (Residual((Conv(1, 1, bias=True),)), *_FLAT),
    ),
    "twice itself": (_made(lambda m, x: m.fc((x + x).flatten(1))), (Multiply(2.0), *_FLAT)),
    "minus": (
        _made(lambda m, x: m.fc(-(x / 4).flatten(1))),
        (Multiply(0.25), Flatten(), Multiply(-1.0), Dense(10)),
    ),
    "nothing learned": (nn.Sequential(nn.Flatten()), (Flatten(),)),
    "prints": (_made(lambda m, x: (print(x.shape), m.fc(x.flatten(1)))[1]), _FLAT),
    "shared dense": (
        _made(
            lambda m, x: m.o(m.h(m.h(m.i(x.flatten(1)).relu()).relu()).relu()),
            i=nn.Linear(784, 8),
            h=nn.Linear(8, 8),
            o=nn.Linear(8, 10),
            fc=None,
        ),
        (Flatten(), Dense(8), ReLU(), Repeat((Dense(8), ReLU()), 2), Dense(10)),
    ),
    "oblong": (
        nn.Sequential(
            nn.MaxPool2d((2, 1)),
            nn.Conv2d(1, 2, (1, 3), padding=(0, 1)),
            nn.AvgPool2d((14, 28)),
            nn.Flatten(),
            nn.Linear(2, 10),
        ),
        (MaxPool((2, 1)), Conv(2, (1, 3), padding=(0, 1), bias=True), AvgPool((14, 28)), *_FLAT),
    ),
    "softmax": (nn.Sequential(nn.Flatten(), nn.Linear(784, 10), nn.Softmax(dim=1)), _FLAT),
    "norm without scale": (
        nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784, affine=False), nn.Linear(784, 10)),
        (Flatten(), BatchNorm(scale=False, shift=False), Dense(10)),
    ),
    "pools that change nothing": (
        nn.Sequential(
            *(nn.AdaptiveAvgPool2d(28), nn.Conv2d(1, 10, 28), nn.AdaptiveMaxPool2d(1), nn.Flatten())
        ),
        (Conv(10, 28, bias=True), GlobalMaxPool(), Flatten()),
    ),
    "rounding up where nothing is left over": (
        nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Flatten(), nn.Linear(196, 10)),
        (MaxPool(2), *_FLAT),
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_reads_uncommon_forms(case: str):
    """Whatever the value can say exactly is read, however it is written."""
    module, layers = ACCEPTED[case]

    shape = (10, 1, 1) if case == "nothing learned" else (1, 28, 28)

    assert from_torch(module, shape).network.layers == layers


def test_gate_sees_hooks():
    """A hook that changes a result does not show in the trace, and is caught by the comparison."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    module[1].register_forward_hook(lambda m, inputs, output: output * 3)

    with pytest.raises(NetworkError, match="differs from the module: the scores in evaluation by"):
        from_torch(module)


@pytest.mark.parametrize("case", REFUSED)
def test_refuses_what_a_network_cannot_say(case: str):
    """Whatever has no layer is named, with its place."""
    module, text = REFUSED[case]

    with pytest.raises(NetworkError) as caught:
        from_torch(module)

    assert re.sub(r"test_from_torch\.py:\d+", "HERE", str(caught.value)) == text


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ((Conv(2, 3), BatchNorm(eps=1e-2), ReLU()), "the scores in evaluation"),
        ((Conv(2, 3), BatchNorm(momentum=0.2), ReLU()), "`batchnorm1.running_mean` after a step"),
        ((Conv(2, 3), BatchNorm(running_variance="biased"), ReLU()), "`batchnorm1.running_var`"),
        ((Conv(2, 3), BatchNorm(), LeakyReLU(0.01)), "the scores in evaluation"),
    ],
)
def test_gate_sees_every_difference(wrong: tuple[Layer, ...], what: str):
    """A network that is off by one setting is not accepted."""
    body = nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.ReLU())
    module = nn.Sequential(body, nn.Flatten(), nn.Linear(1_352, 10))
    right = from_torch(module)
    tensors = dict(zip(right.weights, _in_order(module), strict=True))

    check_equal(module, right.network, tensors)

    network = Network((*wrong, Flatten(), Dense(10)))
    with pytest.raises(NetworkError, match=re.escape(what)):
        check_equal(module, network, tensors)


def test_gate_sees_stopped_gradients():
    """A path that is computed without gradients gives the logits and is still refused."""

    class Stopped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.fc = nn.Linear(1_352, 10)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                x = F.relu(self.conv(x))
            return self.fc(x.flatten(1))

    with pytest.raises(NetworkError, match=r"the gradient of `conv1\.weight` by"):
        from_torch(Stopped())


def _in_order(module: nn.Module) -> list[Tensor]:
    """Return the tensors as our names list them: of each layer the learned ones first."""
    return [
        tensor
        for leaf in module.modules()
        for tensor in (*leaf.parameters(recurse=False), *leaf.buffers(recurse=False))
        if tensor.dim() > 0
    ]


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (nn.GroupNorm(2, 4, eps=1e-3), GroupNorm(2, eps=1e-3)),
        (nn.GroupNorm(1, 4, affine=False), GroupNorm(1, affine=False)),
        (nn.InstanceNorm2d(4), GroupNorm(4, affine=False)),
        (nn.InstanceNorm2d(4, affine=True), GroupNorm(4)),
        (nn.LayerNorm([4, 26, 26], elementwise_affine=False), GroupNorm(1, affine=False)),
        (_made(lambda m, x: F.layer_norm(x, x.shape[1:])), GroupNorm(1, affine=False)),
        (nn.Dropout2d(0.2), Dropout2d(0.2)),
        (nn.PReLU(), PReLU(shared=True)),
        (nn.PReLU(4), PReLU()),
        (
            nn.Conv2d(4, 4, 3, padding=2, dilation=2),
            Conv(4, 3, padding=2, bias=True, dilation=2),
        ),
        (
            nn.Conv2d(4, 4, 4, padding="same", dilation=3, bias=False),
            Conv(4, 4, padding="same", dilation=3),
        ),
        (_made(lambda m, x: F.dropout2d(x, 0.3, m.training)), Dropout2d(0.3)),
    ],
)
def test_norms_of_single_images_and_channel_dropout(module: nn.Module, layer: Layer):
    """What later course notebooks use is read as what it is."""
    whole = nn.Sequential(nn.Conv2d(1, 4, 3), module, nn.Flatten(), nn.Linear(2_704, 10))

    imported = from_torch(whole)

    assert imported.network.layers == (Conv(4, 3, bias=True), layer, Flatten(), Dense(10))


def test_layer_norm_of_features_is_one_group():
    """Flat features are channels, so their layer norm has a gain for each."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.LayerNorm(16), nn.Linear(16, 10))

    assert from_torch(module).network.layers[2] == GroupNorm(1)


def test_lazy_layers_get_their_sizes_from_the_images():
    """A layer that waits for its first batch is read as what it becomes."""
    module = nn.Sequential(nn.LazyConv2d(4, 28), nn.Flatten(), nn.LazyLinear(10))

    assert from_torch(module).network.layers == (Conv(4, 28, bias=True), Flatten(), Dense(10))


def test_modules_made_in_forward_are_traced_through():
    """A pool made where it is used does what one made before would do."""
    module = _made(
        lambda m, x: m.fc(nn.AvgPool2d(2)(nn.ReLU()(x)).flatten(1)), fc=nn.Linear(196, 10)
    )

    imported = from_torch(module)

    assert imported.network.layers == (ReLU(), AvgPool(2), Flatten(), Dense(10))
    assert imported.notes == ()
    assert [name for name, _ in module.named_children()] == ["fc"]


def test_what_is_made_in_forward_and_cannot_be_is_said():
    """New numbers at every call, and a dropout that never hears of `eval()`, are refused."""
    learns = _made(lambda m, x: m.fc(nn.Conv2d(1, 1, 1)(x).flatten(1)))
    drops = _made(lambda m, x: m.fc(nn.Dropout(0.5)(x.flatten(1))))

    with pytest.raises(NetworkError, match="makes a Conv2d with new numbers at every call"):
        from_torch(learns)
    with pytest.raises(NetworkError, match=r"`Dropout` made at .* drops in evaluation, too"):
        from_torch(drops)
