import numpy as np
import pytest
import torch

from smidgen.engines.dropout import keep_mask
from smidgen.engines.torch_dropout import PlannedDropout
from smidgen.network.layers import Dropout


@pytest.mark.parametrize(
    "shape", [(5, 3, 4, 4), (3, 1, 3, 3), (4, 7), (2, 1), (1, 2, 5, 5), (130, 3, 5, 7)]
)
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.1, 0.5, 0.93, 1 - 1e-7])
@pytest.mark.parametrize("channels_last", [False, True])
def test_torch_drops_what_the_reference_drops(
    shape: tuple[int, ...], rate: float, channels_last: bool
) -> None:
    """Every decision equals NumPy's, for odd and even sizes and either memory layout."""
    x = torch.rand(shape) + 1.0
    if channels_last and x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    dropout = PlannedDropout()
    dropout.begin(0xC0FFEE11, 17)

    found = dropout(x, Dropout(rate), 2)

    expected = keep_mask(0xC0FFEE11, 17, 2, (shape[0], int(np.prod(shape[1:]))), rate)
    assert (found.numpy() != 0).reshape(shape[0], -1).tolist() == expected.tolist()


@pytest.mark.parametrize("rate", [0.1, 0.25, 0.5])
def test_what_stays_is_scaled(rate: float) -> None:
    """Kept values and their gradients are multiplied by 1 / (1 - rate); dropped ones are 0."""
    x = (torch.rand(8, 4, 6, 6) + 1.0).requires_grad_()

    y = PlannedDropout(5, 1)(x, Dropout(rate), 0)
    y.sum().backward()

    kept = y != 0
    scale = torch.where(kept, torch.tensor(1 / (1 - rate)), torch.tensor(0.0))
    assert x.grad is not None
    torch.testing.assert_close(y, x * scale, rtol=1e-6, atol=0)
    torch.testing.assert_close(x.grad, scale, rtol=1e-6, atol=0)


def test_scaling_keeps_the_mean() -> None:
    """Over many values the mean is what it was."""
    x = torch.ones(400, 1000)

    mean = float(PlannedDropout(1, 2)(x, Dropout(0.3), 0).mean())

    assert abs(mean - 1) < 4 * (0.3 / 0.7 / 400_000) ** 0.5
