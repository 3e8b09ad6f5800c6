"""`Network`: the one value from which tables, modules, generated code and mutations come."""

from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field

from smidgen.errors import NetworkError
from smidgen.network.blocks import Layer, Unreached
from smidgen.network.graph import Graph, lower
from smidgen.network.shapes import Positive, show_shape
from smidgen.values import from_json, to_json, value


@value(NetworkError)
class Network:
    """An image classifier as data.

    Args:
        layers: What runs, in order; it must end in flat features, one per class.
        input_shape: (channels, height, width) of the images.
        num_classes: How many labels there are to tell apart.
        output: What the model returns: the class scores as they are, or their (log-)softmax.
            The loss is always the cross-entropy of the class probabilities.
        init: Whose initial distributions: PyTorch's (uniform, +-1/sqrt(fan_in)) or Keras'
            (Glorot-uniform weights, zero biases).
        unreached: Layers registered by the original and never called; counted, never run.

    Raises:
        NetworkError: A layer does not fit its input, or the classes do not come out.
    """

    layers: Annotated[tuple[Layer, ...], Field(min_length=1)]
    input_shape: tuple[Positive, Positive, Positive] = (1, 28, 28)
    num_classes: Annotated[int, Field(ge=2)] = 10
    output: Literal["logits", "log_softmax", "softmax"] = "logits"
    init: Literal["torch", "keras"] = "torch"
    unreached: tuple[Unreached, ...] = ()

    def __post_init__(self) -> None:
        shape = self.graph.output_shape
        if shape != (self.num_classes,):
            advice = "; end with `Flatten()`" if len(shape) > 1 else ""
            raise NetworkError(
                f"The last layer, {len(self.layers) - 1}, gives {show_shape(shape)}, but "
                f"{self.num_classes} classes need {self.num_classes} flat values{advice}."
            )
        for number, dead in enumerate(self.unreached):
            try:
                lower(dead.layers, dead.input_shape)
            except NetworkError as problem:
                raise NetworkError(f"Unreached block {number}: {problem}") from None

    @cached_property
    def graph(self) -> Graph:
        """The operations in the order they run, with every shape."""
        return lower(self.layers, self.input_shape)

    def to_json(self, indent: int | None = 2) -> str:
        """Return the exchange form; `Network.from_json` gives back an equal network."""
        return to_json(self, indent)

    @staticmethod
    def from_json(text: str | bytes) -> "Network":
        """Read a network back; raises NetworkError with the path of what is wrong."""
        return from_json(Network, text, NetworkError)
