"""Initial weights: drawn with NumPy from PyTorch's or Keras' distributions, keyed by the seed."""

from math import sqrt

import numpy as np

from smidgen.network.network import Network
from smidgen.network.shapes import TensorSpec
from smidgen.randomness import generator

Tensors = dict[str, np.ndarray]
"""Arrays by full name, such as `conv1.weight`."""


def initial_weights(network: Network, seed: int) -> Tensors:
    """Draw every tensor of a network (float32), buffers included, in the order of first use.

    PyTorch: weights and biases uniform in +-1/sqrt(fan_in). Keras: weights Glorot-uniform,
    biases zero.

    Source: He et al. 2015 with a = sqrt(5), as `torch.nn.Conv2d` does; Glorot and Bengio 2010.
    """
    rng = generator(seed, "init")
    return {name: _draw(spec, network.init, rng) for name, spec in network.graph.tensors.items()}


def _draw(spec: TensorSpec, init: str, rng: np.random.Generator) -> np.ndarray:
    if spec.fill is not None or (init == "keras" and spec.role == "bias"):
        return np.full(spec.shape, spec.fill or 0.0, dtype=np.float32)
    bound = sqrt(6.0 / sum(spec.keras_fans)) if init == "keras" else 1.0 / sqrt(spec.fan_in)
    return rng.uniform(-bound, bound, spec.shape).astype(np.float32)
