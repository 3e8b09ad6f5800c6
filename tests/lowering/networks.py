"""Small networks: every layer kind alone and in company."""

from smidgen.network import layers as L
from smidgen.network.layers import Branches, Layer, Repeat, Residual
from smidgen.network.network import Network

HEAD = (L.GlobalAvgPool(), L.Flatten(), L.Dense(5))


def small(*layers: Layer, shape: tuple[int, int, int] = (2, 8, 9), head: bool = True) -> Network:
    """Return a network for small images of five classes."""
    return Network(layers=(*layers, *(HEAD if head else ())), input_shape=shape, num_classes=5)


ALONE = {
    "conv": small(L.Conv(3, 3)),
    "conv with bias": small(L.Conv(5, 3, bias=True)),
    "conv padded": small(L.Conv(3, 3), L.Conv(4, 3, padding=1)),
    "conv 5x5 stride 2": small(L.Conv(3, 3, padding=1), L.Conv(4, 5, stride=2)),
    "conv same stride 2": small(L.Conv(3, 3, padding=1), L.Conv(4, 3, stride=2, padding="same")),
    "conv stride 3": small(L.Conv(3, 1), L.Conv(4, 2, stride=3, padding=1)),
    "conv not square": small(L.Conv(3, 1), L.Conv(4, (1, 5)), L.Conv(4, (4, 2), padding=(2, 1))),
    "conv even same": small(L.Conv(3, 1), L.Conv(3, 4, padding="same")),
    "conv groups": small(L.Conv(6, 1), L.Conv(9, 3, groups=3, padding=1)),
    "depthwise": small(L.Conv(5, 1), L.Conv(5, 3, groups=5, padding=1, bias=True)),
    "depthwise multiplier": small(L.Conv(3, 1), L.Conv(6, 3, groups=3)),
    "conv 1x1": small(L.Conv(7, 1), L.Conv(3, 1, bias=True)),
    "conv 1x1 stride 2": small(L.Conv(7, 1), L.Conv(3, 1, stride=2)),
    "conv 1x1 padded": small(L.Conv(7, 1), L.Conv(3, 1, padding=1)),
    "conv of 33 channels": small(L.Conv(33, 3), L.Conv(17, 3)),
    "conv wide": small(L.Conv(3, 3), L.Conv(2, 3), shape=(1, 7, 40)),
    "conv whole map": small(L.Conv(3, 3), L.Conv(5, (6, 7)), L.Flatten(), head=False),
    "conv dilated": small(L.Conv(3, 3, padding=1), L.Conv(4, 3, dilation=2)),
    "conv dilated padded": small(
        L.Conv(4, 3, padding=1), L.Conv(4, (3, 2), padding=3, groups=2, dilation=3)
    ),
    "conv dilated same stride 2": small(
        L.Conv(3, 3, padding=1), L.Conv(4, 3, stride=2, padding="same", dilation=2)
    ),
    "conv dilated behind norm": small(
        L.Conv(3, 1), L.BatchNorm(), L.ReLU(), L.Conv(4, 3, padding=2, dilation=2, bias=True)
    ),
    "separable": small(L.SeparableConv(4, 3, padding="same")),
    "separable with biases": small(
        L.Conv(3, 1), L.SeparableConv(4, 3, stride=2, depthwise_bias=True, bias=True)
    ),
    "batch norm": small(L.Conv(4, 3), L.BatchNorm()),
    "batch norm first": small(L.BatchNorm(), L.Conv(4, 3)),
    "batch norm plain": small(L.Conv(4, 3), L.BatchNorm(scale=False, shift=False, eps=1e-3)),
    "batch norm scale only": small(L.Conv(4, 3), L.BatchNorm(shift=False), L.ReLU()),
    "batch norm last": small(
        L.Conv(5, 3), L.GlobalAvgPool(), L.Flatten(), L.BatchNorm(), head=False
    ),
    "relu": small(L.Conv(4, 3), L.ReLU()),
    "relu first": small(L.ReLU(), L.Conv(4, 3)),
    "leaky relu": small(L.Conv(4, 3), L.LeakyReLU(0.2)),
    "leaky relu of slope 0": small(L.Conv(4, 3), L.LeakyReLU(0.0)),
    "prelu": small(L.Conv(4, 3), L.PReLU()),
    "prelu behind norm": small(L.Conv(4, 3), L.BatchNorm(), L.PReLU(), L.Conv(3, 3)),
    "prelu shared": small(L.Conv(4, 3), L.PReLU(shared=True), L.Conv(3, 3)),
    "prelu shared before a pool": small(
        L.Conv(4, 3), L.BatchNorm(), L.PReLU(shared=True), L.MaxPool(2)
    ),
    "sample norm": small(L.Conv(4, 3), L.SampleNorm(), L.ReLU()),
    "sample norm first": small(L.SampleNorm(), L.Conv(4, 3)),
    "group norm": small(L.Conv(6, 3), L.GroupNorm(3), L.ReLU(), L.Conv(4, 3)),
    "group norm plain": small(L.Conv(4, 3), L.GroupNorm(1, affine=False)),
    "group norm first": small(L.GroupNorm(2, eps=1e-3), L.Conv(4, 3)),
    "group norm of features": small(
        L.Flatten(), L.Dense(6), L.GroupNorm(2), L.Dense(5), head=False
    ),
    "max pool": small(L.Conv(4, 3), L.MaxPool(2)),
    "max pool first": small(L.MaxPool(2), L.Conv(4, 3)),
    "max pool overlapping": small(L.Conv(4, 3), L.MaxPool(3, stride=2)),
    "max pool padded": small(L.Conv(4, 3), L.MaxPool(3, stride=2, padding=1)),
    "max pool same": small(L.Conv(4, 3), L.MaxPool(3, stride=1, padding="same"), L.Conv(2, 3)),
    "max pool not square": small(L.Conv(4, 3), L.MaxPool((2, 3))),
    "avg pool": small(L.Conv(4, 3), L.AvgPool(2), L.Conv(3, 2)),
    "avg pool padded": small(L.Conv(4, 3), L.AvgPool(3, stride=2, padding=1), L.Conv(3, 2)),
    "avg pool same": small(L.Conv(4, 3), L.AvgPool(3, stride=2, padding="same"), L.Conv(3, 2)),
    "global max pool": small(L.Conv(4, 3), L.GlobalMaxPool(), L.Flatten(), L.Dense(5), head=False),
    "multiply": small(L.Conv(4, 3), L.Multiply(0.3), L.Conv(3, 3)),
    "dropout": small(L.Conv(5, 3), L.Dropout(0.3), L.Conv(3, 3)),
    "dropout of odd maps": small(L.Conv(3, 2), L.Dropout(0.5), L.Dropout(0.0), L.Dropout(0.1)),
    "channel dropout": small(L.Conv(5, 3), L.Dropout2d(0.3), L.Conv(3, 3)),
    "channel dropout behind norm": small(
        L.Conv(5, 3), L.BatchNorm(), L.ReLU(), L.Dropout2d(0.4), L.Conv(3, 3), L.Dropout(0.2)
    ),
    "channel dropout before a pool": small(
        L.Conv(5, 3), L.BatchNorm(), L.PReLU(), L.Dropout2d(0.4), L.MaxPool(2), L.Conv(3, 2)
    ),
    "channel dropout of features": small(
        L.Flatten(), L.Dense(6), L.Dropout2d(0.4), L.Dense(5), head=False
    ),
    "dense": small(L.Flatten(), L.Dense(6), L.ReLU(), L.Dense(5, bias=False), head=False),
    "flatten": small(L.Conv(3, 3), L.Flatten(), L.Dense(5), head=False),
}

TOGETHER = {
    "conv, norm, relu, dropout": small(
        L.Conv(4, 3),
        L.BatchNorm(),
        L.ReLU(),
        L.Dropout(0.1),
        L.MaxPool(2),
        L.Conv(6, 3, padding=1),
        L.BatchNorm(),
        L.ReLU(),
        L.Dropout(0.1),
        shape=(1, 12, 12),
    ),
    "conv, relu, norm, dropout": small(
        L.Conv(4, 3, bias=True),
        L.ReLU(),
        L.BatchNorm(),
        L.Dropout(0.1),
        L.MaxPool(2),
        L.Conv(6, 3, padding=1, bias=True),
        L.ReLU(),
        L.BatchNorm(),
        L.Dropout(0.1),
        shape=(1, 12, 12),
    ),
    "leaky relu before norm": small(
        L.Conv(4, 3), L.LeakyReLU(), L.BatchNorm(), L.Conv(4, 3), L.PReLU(), L.BatchNorm()
    ),
    "norm of pool": small(L.Conv(4, 3), L.MaxPool(2), L.BatchNorm(), L.ReLU(), L.Conv(3, 2)),
    "two convs before a norm": small(
        L.Conv(4, 3),
        L.ReLU(),
        L.Conv(4, 3, padding=1),
        L.BatchNorm(),
        L.ReLU(),
        L.Conv(3, 2),
        L.Dropout(0.2),
        L.Conv(4, 1),
        L.BatchNorm(),
    ),
    "norm of separable": small(
        L.Conv(4, 3),
        L.BatchNorm(),
        L.ReLU(),
        L.SeparableConv(5, 3, padding="same"),
        L.BatchNorm(),
        L.ReLU(),
    ),
    "norm of norm": small(L.Conv(4, 3), L.BatchNorm(), L.BatchNorm(), L.ReLU(), L.BatchNorm()),
    "branches": small(
        L.Conv(4, 3),
        Branches(((L.Conv(2, 1), L.ReLU()), (), (L.MaxPool(3, stride=1, padding=1), L.Conv(3, 1)))),
        L.Conv(3, 3, padding=1),
    ),
    "branches with norms of different depth": small(
        Branches(
            (
                (L.Conv(2, 1), L.BatchNorm(), L.ReLU()),
                (
                    L.Conv(2, 1),
                    L.BatchNorm(),
                    L.ReLU(),
                    L.Conv(3, 3, padding=1),
                    L.BatchNorm(),
                    L.ReLU(),
                ),
                (),
            )
        ),
        L.Conv(3, 3, padding=1),
        L.BatchNorm(),
        L.ReLU(),
    ),
    "residual": small(
        L.Conv(4, 3),
        L.BatchNorm(),
        L.ReLU(),
        Residual(
            (
                L.Conv(4, 3, padding=1),
                L.BatchNorm(),
                L.ReLU(),
                L.Conv(4, 3, padding=1),
                L.BatchNorm(),
            )
        ),
        L.ReLU(),
        Residual((L.Conv(6, 3, padding=1), L.BatchNorm()), (L.Conv(6, 1),)),
    ),
    "residual of the input": small(Residual((L.Conv(2, 3, padding=1), L.ReLU())), L.Conv(3, 3)),
    "repeat": small(
        L.Conv(4, 3), Repeat((L.Conv(4, 3, padding=1), L.BatchNorm(), L.ReLU()), 3), L.Conv(3, 2)
    ),
    "repeat with sample norms and slopes": small(
        L.Conv(4, 3),
        Repeat((L.SeparableConv(4, 3, padding=1, bias=True), L.SampleNorm(), L.PReLU()), 2),
    ),
}
