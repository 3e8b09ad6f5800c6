"""One image through a trained network: what every layer makes of it, and which part decides.

The only part of a report that runs the model, and so the only one that needs torch.
"""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smidgen.data.images import import_pillow
from smidgen.errors import ReportError
from smidgen.network.network import Node
from smidgen.report.page import image_uri
from smidgen.report.run_view import RunView

if TYPE_CHECKING:
    from smidgen.network.torch_module import TorchNetwork

_PATCH_FRACTION = 0.22
_ORANGE = np.array([226, 106, 20])
_MOST_MAPS, _MAPS_PER_ROW = 32, 8
_TILE_PIXELS, _FRAME = 28, 128
_BATCH = 256


@dataclass(frozen=True, slots=True)
class LayerMaps:
    """What a layer makes of the image.

    Args:
        text: The layer, and what follows it, in words.
        shape: Channels, height and width.
        num_shown: Channels that are shown.
        uri: The channels side by side; the brightest pixel is the largest value.
        low: Smallest value.
        high: Largest value.
    """

    text: str
    shape: tuple[int, ...]
    num_shown: int
    uri: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Probe:
    """One image, followed through the network.

    Args:
        position: Of the image in its split, from 0.
        true_name: What its label says.
        ranked: Class names with their probabilities, the three most probable first.
        uri: The image.
        occlusion_uri: The image with what decides in orange.
        patch: Side of the square that was covered, in pixels.
        largest_drop: By how much covering the best place lowers the probability of the answer.
        layers: From the image to the class scores.
    """

    position: int
    true_name: str
    ranked: tuple[tuple[str, float], ...]
    uri: str
    occlusion_uri: str
    patch: int
    largest_drop: float
    layers: tuple[LayerMaps, ...]


def probe(view: RunView, position: int) -> Probe:
    """Follow one image of a run's split through its network.

    Args:
        view: The run.
        position: Of the image, from 0.

    Raises:
        ReportError: The run has no weights, its images are not here, or no image stands there.
    """
    images, answers = view.pictures.images, view.answers
    if not view.weights or answers is None:
        raise ReportError(f"`--image` needs trained weights. {' '.join(view.notes)}")
    if images is None:
        raise ReportError(f"`--image` needs the run's images. {view.pictures.reason}")
    if not 0 <= position < len(images):
        raise ReportError(
            f"`--image {position}`: the run was measured on images 0 to {len(images) - 1}."
        )
    module, image = _module(view), images[position]
    probabilities, outputs = _run(view, module, image[None])
    first = int(probabilities[0].argmax())
    names = view.record.data.class_names
    patch = max(1, round(_PATCH_FRACTION * min(image.shape[1:])))
    drops = float(probabilities[0, first]) - _occluded(view, module, image, patch)[:, first]
    drops = np.maximum(drops, 0.0).reshape(image.shape[1:])
    return Probe(
        position=position,
        true_name=names[int(answers.labels[position])],
        ranked=tuple(
            (names[i], float(probabilities[0, i])) for i in np.argsort(-probabilities[0])[:3]
        ),
        uri=view.pictures.uri(position),
        occlusion_uri=_uri(_tinted(image, drops)),
        patch=patch,
        largest_drop=float(drops.max()),
        layers=tuple(_maps(view, outputs)),
    )


def _module(view: RunView) -> "TorchNetwork":
    import torch

    from smidgen.network.torch_module import TorchNetwork

    network = view.record.recipe.network
    missing = network.graph.tensors.keys() - view.weights.keys()
    if missing:
        raise ReportError(f"The run's weights lack `{min(missing)}`. Restore the file.")
    weights = {name: torch.from_numpy(view.weights[name]) for name in network.graph.tensors}
    return TorchNetwork(network, weights).eval()


def _run(
    view: RunView, module: "TorchNetwork", images: np.ndarray
) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Return probabilities (N, classes), and what each operation makes of the first image."""
    import torch

    scale = view.record.recipe.normalization
    outputs: dict[int, np.ndarray] = {}
    with torch.no_grad():
        pixels = torch.from_numpy(images.astype(np.float32)) / 255.0
        scores = module.scores(
            (pixels - scale.eval_mean) / scale.eval_std,
            lambda node, out: outputs.update({node.index: out[0].numpy()}),
        )
        return torch.softmax(scores, 1).numpy(), outputs


def _occluded(view: RunView, module: "TorchNetwork", image: np.ndarray, patch: int) -> np.ndarray:
    """Return probabilities with a square around each pixel covered by the darkest gray there is."""
    height, width = image.shape[1:]
    covered = np.repeat(image[None], height * width, axis=0)
    for number, (row, column) in enumerate(np.ndindex(height, width)):
        top, left = row - patch // 2, column - patch // 2
        covered[
            number, :, max(top, 0) : max(top + patch, 0), max(left, 0) : max(left + patch, 0)
        ] = image.min()
    parts = [covered[start : start + _BATCH] for start in range(0, len(covered), _BATCH)]
    return np.concatenate([_run(view, module, part)[0] for part in parts])


def _maps(view: RunView, outputs: dict[int, np.ndarray]) -> list[LayerMaps]:
    nodes = view.record.recipe.network.graph.nodes
    readers: dict[int, list[Node]] = {}
    for node in nodes:
        for index in node.inputs:
            readers.setdefault(index, []).append(node)
    found, words = [], []
    for node in nodes:
        words.append(repr(node.layer) if len(node.inputs) == 1 else type(node.layer).__name__)
        after = readers.get(node.index, [])
        goes_on = len(after) == 1 and _stands_for_the_last(after[0])
        if goes_on and after[0].index == node.index + 1:
            continue
        values = outputs[node.index]
        shown = values[:_MOST_MAPS].reshape(len(values[:_MOST_MAPS]), *(values.shape[1:] or (1, 1)))
        found.append(
            LayerMaps(
                text=", ".join(words),
                shape=values.shape,
                num_shown=len(shown),
                uri=_uri(_sheet(shown)),
                low=float(values.min()),
                high=float(values.max()),
            )
        )
        words = []
    return found


def _stands_for_the_last(node: Node) -> bool:
    """Whether a layer's output is shown in the place of that of the layer before it."""
    return node.layer.role in ("norm", "activation", "dropout", "reshape")


def _sheet(maps: np.ndarray) -> np.ndarray:
    """Lay maps (C, H, W) out in rows, from black for the smallest value to white for the largest.

    Returns:
        uint8 (height, width, 2), gray and opacity: there is nothing between the maps.
    """
    low, high = float(maps.min()), float(maps.max())
    gray = np.round(255.0 * (maps - low) / ((high - low) or 1.0)).astype(np.uint8)
    zoom = max(1, _TILE_PIXELS // maps.shape[2])
    gray = gray.repeat(zoom, axis=1).repeat(zoom, axis=2)
    count, height, width = gray.shape
    num_rows = -(-count // _MAPS_PER_ROW)
    num_columns = -(-count // num_rows)
    step_y, step_x = height + 4, width + 4
    sheet = np.zeros((num_rows * step_y - 2, num_columns * step_x - 2, 2), np.uint8)
    for number, picture in enumerate(gray):
        top, left = step_y * (number // num_columns), step_x * (number % num_columns)
        # a gray frame, so that a white map can be seen on white paper
        sheet[top : top + height + 2, left : left + width + 2] = (_FRAME, 255)
        sheet[top + 1 : top + 1 + height, left + 1 : left + 1 + width, 0] = picture
    return sheet


def _tinted(image: np.ndarray, drops: np.ndarray) -> np.ndarray:
    """Lay orange over a gray picture, (H, W, 3), as strong as the drops, (H, W), are large."""
    gray = np.repeat(image.mean(axis=0)[..., None], 3, axis=2)
    strength = (0.85 * drops / (drops.max() or 1.0))[..., None]
    return np.round(gray * (1.0 - strength) + _ORANGE * strength).astype(np.uint8)


def _uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    import_pillow().fromarray(pixels).save(buffer, "PNG", optimize=True)
    return image_uri(buffer.getvalue())
