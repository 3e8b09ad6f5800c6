"""Where images come from: a name or a folder in, checked arrays with a hash out."""

from smidgen.data.dataset import (
    Dataset,
    DatasetStats,
    Progress,
    Split,
    SplitStats,
    assemble,
    dataset_stats,
    split_valid,
)
from smidgen.data.fetch import FetchLimits, fetch_dataset
from smidgen.data.folders import read_folder, read_images, read_labelled_images
from smidgen.data.grid import pick_samples, samples_grid, samples_of
from smidgen.data.images import Fit, Invert, decode_image, read_image
from smidgen.data.load import load_dataset
from smidgen.data.specs import DATASET_NAMES, DatasetSpec, FileSpec
from smidgen.data.stripes import draw_stripes

__all__ = [
    "DATASET_NAMES",
    "Dataset",
    "DatasetSpec",
    "DatasetStats",
    "FetchLimits",
    "FileSpec",
    "Fit",
    "Invert",
    "Progress",
    "Split",
    "SplitStats",
    "assemble",
    "dataset_stats",
    "decode_image",
    "draw_stripes",
    "fetch_dataset",
    "load_dataset",
    "pick_samples",
    "read_folder",
    "read_image",
    "read_images",
    "read_labelled_images",
    "samples_grid",
    "samples_of",
    "split_valid",
]
