"""The sizes of a network by every counting rule, each with the rule's name."""

from typing import TYPE_CHECKING

from smidgen.cli.tables import table

if TYPE_CHECKING:
    from smidgen.network.trace import Totals


def totals_table(totals: "Totals") -> str:
    """Return the table of totals that `show` and `inspect` print."""
    others = totals.others
    rows = [
        ["parameters (trainable, reached, shared once)", totals.num_params],
        ["dead (registered, never reached)", totals.num_dead],
        ["buffers (running statistics)", totals.num_buffers],
        ["Keras total (parameters + buffers)", totals.keras_total],
        ["folded (batch norms merged)", totals.folded],
        ["MACs (multiply-accumulates, one image)", totals.num_macs],
        ["  as torchinfo counts (mult-adds, biases and norms too)", others.torchinfo_mult_adds],
        ["  as fvcore counts (norms and global means too)", others.fvcore_flops],
        ["  as torch's flop counter counts (two per MAC)", others.torch_flops],
        ["activations (values, one image)", totals.num_activations],
        ["receptive field (pixels)", totals.receptive_field],
    ]
    return table(["total", ""], rows)
