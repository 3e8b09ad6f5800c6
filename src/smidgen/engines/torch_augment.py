"""What a plan does to a batch of images, in torch: the definition of every augmentation."""

import torch
import torch.nn.functional as F
from torch import Tensor

from smidgen.engines.plan import EpochPlan, Erasures, Geometry


def augmented(images: Tensor, plan: EpochPlan, rows: slice) -> Tensor:
    """Return a batch as the network sees it before normalization.

    Args:
        images: uint8 (B, C, H, W), already in the plan's order.
        plan: The epoch's plan.
        rows: Which rows of the plan's per-image arrays belong to the batch.

    Returns:
        float32 (B, C, H, W), grey levels, 0 black and 1 white.
    """
    x = images.float() / 255.0
    if plan.geometry is not None:
        x = _moved(x, plan.geometry, rows)
    if plan.jitter is not None:
        x = _jittered(x, torch.from_numpy(plan.jitter[rows]).to(x.device))
    if plan.erasing is not None:
        x = _erased(x, plan.erasing, rows)
    return x


def _moved(x: Tensor, geometry: Geometry, rows: slice) -> Tensor:
    height, width = x.shape[2:]
    affine = torch.from_numpy(geometry.affine[rows]).to(x.device)[:, :, None, None]
    columns = torch.arange(width, dtype=torch.float32, device=x.device)[None, None, :]
    lines = torch.arange(height, dtype=torch.float32, device=x.device)[None, :, None]
    u = affine[:, 0] * columns + affine[:, 1] * lines + affine[:, 2]
    v = affine[:, 3] * columns + affine[:, 4] * lines + affine[:, 5]
    if geometry.elastic is not None:
        grid = torch.from_numpy(geometry.elastic[rows]).to(x.device)
        bend = F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
        u, v = u + bend[:, 0], v + bend[:, 1]
    # grid_sample wants -1..1 between the centers of the corner pixels
    grid = torch.stack([_unit(u, width), _unit(v, height)], dim=3)
    sampled = F.grid_sample(
        x - geometry.fill if geometry.fill else x,
        grid,
        mode=geometry.interpolation,
        padding_mode="zeros",
        align_corners=True,
    )
    return sampled + geometry.fill if geometry.fill else sampled


def _unit(pixels: Tensor, size: int) -> Tensor:
    return pixels * (2.0 / (size - 1)) - 1.0


def _jittered(x: Tensor, factors: Tensor) -> Tensor:
    brightness, contrast = factors[:, 0, None, None, None], factors[:, 1, None, None, None]
    x = (x * brightness).clamp(0.0, 1.0)
    mean = x.mean((1, 2, 3), keepdim=True)
    return (mean + contrast * (x - mean)).clamp(0.0, 1.0)


def _erased(x: Tensor, erasing: Erasures, rows: slice) -> Tensor:
    boxes = torch.from_numpy(erasing.boxes[rows]).to(x.device)[:, :, None, None]
    top, left, height, width = boxes[:, 0], boxes[:, 1], boxes[:, 2], boxes[:, 3]
    lines = torch.arange(x.shape[2], device=x.device)[None, :, None]
    columns = torch.arange(x.shape[3], device=x.device)[None, None, :]
    inside = (lines >= top) & (lines < top + height) & (columns >= left) & (columns < left + width)
    return x.masked_fill(inside[:, None], erasing.level)
