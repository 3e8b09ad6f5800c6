import json
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smidgen.errors import NetworkError
from smidgen.network.trace import trace
from smidgen.reading.from_torch import from_torch
from smidgen.reading.watched import Watched
from smidgen.reading.watching import watch


class _Gated(nn.Module):
    """What no network says: a gate, a frozen layer, a dead one, a shared one, loose numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 5, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.gate = nn.Conv2d(4, 4, 1)
        self.frozen = nn.Conv2d(4, 6, 3, bias=False).requires_grad_(False)
        self.dead = nn.Linear(3, 7)
        self.scale = nn.Parameter(torch.ones(1))
        self.kernel = nn.Parameter(torch.ones(6, 6, 1, 1))
        self.fc = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        x = x * torch.sigmoid(self.gate(self.gate(x)))
        x = F.conv2d(self.frozen(x), self.kernel)
        return self.fc(self.scale * x.mean((2, 3)))


def test_counts_are_exact():
    """Trained, frozen, shared once, dead, buffers and all arithmetic, the functional too."""
    watched = watch(_Gated(), obstacle="because")

    assert watched.num_params == 104 + 8 + 20 + 1 + 36 + 70
    assert watched.num_frozen == 216
    assert watched.num_dead == 28
    assert watched.dead == ("dead.weight", "dead.bias")
    assert watched.num_buffers == 8
    maps = 100 * 144 + 2 * 16 * 144 + 216 * 100 + 36 * 100
    assert watched.num_macs == maps + 60
    assert watched.obstacle == "because"


_TABLE = torch.ones(5, 3)


class _Loose(nn.Module):
    """Numbers in every place where PyTorch's `parameters()` does not find them."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.hidden = [nn.Linear(784, 5)]
        self.register_buffer("mixing", torch.ones(3, 10))
        self.register_buffer("unused", torch.ones(99))

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden[0](self.norm(x).flatten(1)) * torch.tensor(0.5) + torch.rand(5)
        return x @ _TABLE @ self.get_buffer("mixing")


def test_numbers_of_no_layer_are_counted_apart():
    """Layers in a plain list, global tensors and own buffers; not what `forward` makes itself."""
    watched = watch(_Loose())

    assert watched.num_loose == 784 * 5 + 5 + 15 + 30
    assert (watched.num_params, watched.num_buffers) == (2, 2)
    assert watch(_Gated()).num_loose == 0


def test_rows_say_what_each_call_does():
    """Rows come in the order of the calls; a second call owns nothing new."""
    rows = {(row.path, row.is_shared): row for row in watch(_Gated()).rows}

    assert [path for path, _ in rows] == ["conv", "norm", "gate", "gate", "frozen", "fc"]
    conv, again, frozen = rows["conv", False], rows["gate", True], rows["frozen", False]
    assert (conv.input_shape, conv.output_shape) == ((1, 28, 28), (4, 12, 12))
    assert (conv.num_params, conv.num_macs, conv.receptive_field) == (104, 14_400, (5, 5))
    assert (again.num_params, again.num_macs) == (0, 16 * 144)
    assert (frozen.num_params, frozen.num_frozen, frozen.receptive_field) == (0, 216, (9, 9))
    assert rows["fc", False].receptive_field is None


@pytest.mark.parametrize(
    "name", ["CourseBlocks", "Functional", "TinyResNet", "SqueezeNet", "MobileNet", "DeadBlock"]
)
def test_agrees_with_the_network_where_there_is_one(name: str, students: ModuleType):
    """Watching a module that can be read gives the table's numbers."""
    module = getattr(students, name)()

    watched, totals = watch(module), trace(from_torch(module).network).totals

    assert watched.num_params == totals.num_params
    assert watched.num_dead == totals.num_dead
    assert watched.num_macs == totals.num_macs
    assert watched.num_buffers == totals.num_buffers


def test_measured_field_is_the_tables(students: ModuleType):
    """What becomes NaN with a pixel is what the table calls the receptive field."""
    module = students.CourseBlocks()
    rows = {row.path: row for row in watch(module).rows}
    table = trace(from_torch(module).network).rows

    assert rows["convblock1.0"].receptive_field == (3, 3) == table[0].reach.receptive_field
    assert rows["pool1"].receptive_field == (4, 4) == table[4].reach.receptive_field
    assert rows["convblock2.0"].receptive_field == (8, 8) == table[5].reach.receptive_field


def test_module_is_not_changed():
    """Watching leaves mode, numbers, gradients and what is frozen as they were."""
    module = _Gated().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    watch(module)

    assert module.training
    assert not module.frozen.weight.requires_grad
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    assert not any(leaf._forward_hooks for leaf in module.modules())


class _Odd(nn.Module):
    def __init__(self, forward: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.body = forward

    def forward(self, x: Tensor) -> Any:
        return self.body(self.conv(x))


@pytest.mark.parametrize(
    "ending",
    [
        lambda x: (x, x),
        lambda x: {"scores": x},
        lambda x: x.argmax(1),
        lambda x: x.detach(),
    ],
)
def test_without_gradients_who_ran_counts(ending: Any):
    """A module that gives no single tensor, or one without gradients, is counted by its calls."""
    watched = watch(_Odd(ending))

    assert (watched.num_params, watched.num_dead) == (20, 0)


def test_module_that_stumbles_over_nan_has_no_field():
    """Where the measuring images stop the module, the counts stand without fields."""

    def picky(x: Tensor) -> Tensor:
        if x.isnan().any():
            raise ValueError("no NaN here")
        return x.flatten(1)

    rows = watch(nn.Sequential(_Odd(picky), nn.Identity())).rows

    assert [row.num_params for row in rows] == [20, 0]
    assert [row.receptive_field for row in rows] == [None, None]


def test_account_survives_json():
    """The machine-readable form gives back an equal account."""
    watched = watch(_Gated(), obstacle="because")

    assert Watched.from_plain(json.loads(json.dumps(watched.to_plain()))) == watched


class _Squeezing(nn.Module):
    def __init__(self):
        super().__init__()
        self.score = nn.Linear(784, 10)

    def forward(self, x):
        x = torch.squeeze(x.view(x.size(0), -1))
        return torch.sigmoid(F.log_softmax(self.score(x), dim=1))


def test_a_model_that_squeezes_is_watched_with_two_images():
    """A batch of one that loses its axis is no reason to count nothing."""
    watched = watch(_Squeezing())

    assert (watched.num_params, watched.num_macs) == (7_850, 7_840)
    assert watched.rows[0].output_shape == (10,)


class _Functions(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)

    def forward(self, x):
        x = F.relu(self.conv(x))
        return F.adaptive_avg_pool2d(x, 1).flatten(1)


def test_functions_outside_of_layers_are_seen():
    """What a forward pass calls itself is listed with its shapes; what layers call is not."""
    assert [(f.name, f.input_shape, f.output_shape) for f in watch(_Functions()).functions] == [
        ("relu", (4, 26, 26), (4, 26, 26)),
        ("adaptive_avg_pool2d", (4, 26, 26), (4, 1, 1)),
        ("flatten", (4, 1, 1), (4,)),
    ]


class _Rows(nn.Module):
    """The image's rows as a sequence, through a layer, to ten scores."""

    def __init__(self, layer: nn.Module, size: int):
        super().__init__()
        self.layer, self.score = layer, nn.Linear(size, 10)

    def forward(self, x):
        found = self.layer(x.squeeze(1))
        return self.score((found[0] if isinstance(found, tuple) else found)[:, -1])


@pytest.mark.parametrize(
    ("layer", "size", "num_macs"),
    [
        (nn.LSTM(28, 64, batch_first=True), 64, 28 * 4 * 64 * (28 + 64) + 640),
        (
            nn.TransformerEncoderLayer(28, 4, 64, batch_first=True),
            28,
            28 * (4 * 28 * 28 + 2 * 28 * 28 + 2 * 28 * 64) + 280,
        ),
    ],
    ids=["lstm", "attention"],
)
def test_arithmetic_behind_fast_paths_is_counted(layer: nn.Module, size: int, num_macs: int):
    """A fused LSTM and the fast path of attention hide nothing from the counter."""
    assert watch(_Rows(layer, size)).num_macs == num_macs


def test_layers_that_nobody_counts_are_named():
    """A layer with a matrix and no counted arithmetic is told, so that no limit passes over it."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 8))
    module.append(_Twice())
    watched = watch(module)

    assert watched.uncounted == ("2.form (Bilinear)",)
    assert Watched.from_plain(json.loads(json.dumps(watched.to_plain()))) == watched


class _Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.form = nn.Bilinear(8, 8, 10)

    def forward(self, x):
        return self.form(x, x)


def test_computed_weights_are_copied_and_counted():
    """Old `weight_norm` hangs a computed tensor on a layer; its numbers are counted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        conv = nn.utils.weight_norm(nn.Conv2d(1, 4, 3))
    module = nn.Sequential(conv, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    with pytest.raises(NetworkError, match="no counterpart"):
        from_torch(module)
    assert watch(module).num_params == 36 + 4 + 4 + 50
