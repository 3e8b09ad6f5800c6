"""What other tools would print as the arithmetic of a layer, by the rule each one follows.

Our own number is the multiply-accumulates of convolutions and dense layers for one image.
The three tools agree on those and differ in what they add, so each rule is written down here
once and checked against the tool itself.
"""

from dataclasses import dataclass

from smidgen.network.blocks import Layer
from smidgen.network.layers import BatchNorm, Conv, GlobalAvgPool, SeparableConv
from smidgen.network.shapes import Shape, num_elements


@dataclass(frozen=True, slots=True)
class OtherCounts:
    """One layer or network as other tools would count it, for one image.

    Args:
        torchinfo_mult_adds: "Total mult-adds" of torchinfo 1.8: every trainable number of a
            convolution (its bias too) once per output position, every other trainable number
            once per image (those of batch norms and slopes too).
        fvcore_flops: `FlopCountAnalysis` of fvcore 0.1.5 in evaluation mode: multiply-accumulates,
            plus two (without scale and shift: one) per value of a batch norm and one per value
            that a global average reads. It does not see a convolution that is written with
            `padding="same"`; write the number of cells.
        torch_flops: `torch.utils.flop_counter.FlopCounterMode`: two per multiply-accumulate.
    """

    torchinfo_mult_adds: int
    fvcore_flops: int
    torch_flops: int

    def __add__(self, other: "OtherCounts") -> "OtherCounts":
        return OtherCounts(
            self.torchinfo_mult_adds + other.torchinfo_mult_adds,
            self.fvcore_flops + other.fvcore_flops,
            self.torch_flops + other.torch_flops,
        )


NOTHING = OtherCounts(0, 0, 0)


def other_counts(layer: Layer, shape: Shape) -> OtherCounts:
    """Return the tools' counts of a layer on an input of this shape; shared weights count anew."""
    num_macs = layer.macs(shape)
    return OtherCounts(
        torchinfo_mult_adds=_torchinfo(layer, shape),
        fvcore_flops=num_macs + _fvcore_extra(layer, shape),
        torch_flops=2 * num_macs,
    )


def _torchinfo(layer: Layer, shape: Shape) -> int:
    learned = sum(spec.size for spec in layer.tensors(shape) if spec.trainable)
    if isinstance(layer, Conv | SeparableConv):
        return learned * num_elements(layer.output_shape(shape)[1:])
    return learned


def _fvcore_extra(layer: Layer, shape: Shape) -> int:
    if isinstance(layer, BatchNorm):
        return num_elements(shape) * (2 if layer.scale else 1)
    return num_elements(shape) if isinstance(layer, GlobalAvgPool) else 0
