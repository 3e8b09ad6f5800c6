"""Why the native engine cannot run a recipe: no compiler, or sizes beyond what its C holds."""

from smidgen.engines.native.build import build_library
from smidgen.engines.native.codegen import ENTRIES, generate
from smidgen.engines.native.toolchain import find_compiler, lanes_of_host
from smidgen.errors import CompilerError, StorageError
from smidgen.network.layers import Conv, SeparableConv
from smidgen.network.network import Network
from smidgen.network.shapes import num_elements, show_shape
from smidgen.recipes.recipe import Recipe

_WIDEST_KERNEL, _LONGEST_STRIDE = 24, 12
"""Columns of a kernel and of a stride that a register tile can hold."""
_LARGEST_IMAGE, _LARGEST_ROW = 1 << 19, 1 << 15
"""Values of an image, and of one row of all channels.

Each thread has them on its stack, of which Linux gives 8 MiB: 4 bytes for a value of the image,
as many again while it is moved, and 64 for a value of a row, which is a vector.
"""


def obstacle_to(recipe: Recipe, *, builds: bool = False) -> str | None:
    """Return why the native engine cannot run a recipe on this machine, or None if it can.

    Args:
        recipe: What shall be trained or evaluated.
        builds: Whether to compile and load the recipe's program, too: nothing less tells whether
            a compiler has its headers, finds space and ends, and whether its work can be loaded.
            What was compiled is kept, so that the engine finds it.
    """
    if (reason := supports(recipe.network)) is not None:
        return reason
    try:
        if builds:
            build_library(generate(recipe.network, lanes_of_host()).source, ENTRIES)
        else:
            find_compiler()
    except (CompilerError, StorageError) as problem:
        return str(problem)
    return None


def supports(network: Network) -> str | None:
    """Return what the native engine cannot run, or None if it can run everything."""
    if num_elements(network.input_shape) > _LARGEST_IMAGE:
        shape = show_shape(network.input_shape)
        return f"images of {shape}: they may have {_LARGEST_IMAGE:,} values"
    for node in network.graph.nodes:
        window = node.layer.window(node.input_shape)
        if not isinstance(node.layer, Conv | SeparableConv) or window is None:
            continue
        where = f"layer {node.path}, `{node.layer}`"
        if window.kernel[1] > _WIDEST_KERNEL or window.stride[1] > _LONGEST_STRIDE:
            return (
                f"{where}: its kernel may have {_WIDEST_KERNEL} columns and its stride "
                f"{_LONGEST_STRIDE}"
            )
        if node.input_shape[0] * node.input_shape[2] > _LARGEST_ROW:
            return f"{where}: a row of its input may have {_LARGEST_ROW:,} values in all channels"
    return None
