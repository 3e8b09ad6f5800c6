"""The planned dropout in torch; the rule itself stands in `smidgen.engines.dropout`."""

import torch
from torch import Tensor

from smidgen.engines.dropout import ELEMENT_FACTOR, MIX_FACTORS, row_keys, threshold
from smidgen.network.layers import Dropout

_SIGN_BITS = 0x80008000
"""Flips the top bit of both halves, so that signed comparison orders them as unsigned."""


class PlannedDropout:
    """Drops the values that the plan's key decides; stands in for a module's own dropout."""

    def __init__(self, key: int = 0, step: int = 0) -> None:
        self._key, self._step = key, step

    def begin(self, key: int, step: int) -> None:
        """Say which epoch's key and which step of it the next forward pass belongs to."""
        self._key, self._step = key, step

    def __call__(self, x: Tensor, layer: Dropout, number: int) -> Tensor:
        """Return the values with some zeroed and the rest scaled by 1 / (1 - rate)."""
        keys = row_keys(self._key, self._step, number, len(x)).view("int32")
        hashes = _hashes(torch.from_numpy(keys).to(x.device)[:, None], x[0].numel())
        # a pair's 32 bits seen as two 16-bit numbers, low half first (little-endian machines)
        bits = (hashes ^ _signed(_SIGN_BITS)).view(torch.int16)[:, : x[0].numel()]
        keep = (bits >= threshold(layer.rate) - 32768).view(x.shape)
        # one copy into the values' own memory order; mixed orders made the product 3x slower
        is_last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if is_last else torch.contiguous_format
        return x * keep.to(x.dtype, memory_format=order).mul_(1.0 / (1.0 - layer.rate))


def _hashes(rows: Tensor, num_elements: int) -> Tensor:
    # int32 products keep the low 32 bits, as unsigned ones would; shifts need their sign cut off
    pairs = torch.arange((num_elements + 1) // 2, dtype=torch.int32, device=rows.device)
    x = rows ^ (pairs * _signed(ELEMENT_FACTOR))
    x ^= (x >> 16) & 0xFFFF
    x *= _signed(MIX_FACTORS[0])
    x ^= (x >> 15) & 0x1FFFF
    x *= _signed(MIX_FACTORS[1])
    x ^= (x >> 16) & 0xFFFF
    return x


def _signed(bits: int) -> int:
    return bits - (1 << 32) if bits >= 1 << 31 else bits
