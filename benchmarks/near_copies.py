"""How far copies saved as JPEG and the nearest different pictures are apart.

The numbers behind the distance at which `smidgen data check` calls pictures nearly alike; run
with `SMIDGEN_DATA` naming a folder of MNIST.
"""

import io

import numpy as np
from PIL import Image

from smidgen.data import Dataset, draw_stripes, load_dataset

BLOCK = 500


def saved(image: np.ndarray, quality: int) -> float:
    """Return the root of the mean square by which saving as JPEG changes a grey picture."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return float(np.sqrt(((np.array(Image.open(file)).astype(float) - image) ** 2).mean()))


def nearest(dataset: Dataset) -> float:
    """Return the least distance of a test picture from a training picture."""
    train = dataset.train.images.reshape(len(dataset.train), -1).astype(np.float32)
    squares, best = (train**2).sum(1), np.inf
    for start in range(0, len(dataset.test), BLOCK):
        test = dataset.test.images[start : start + BLOCK].reshape(-1, train.shape[1])
        test = test.astype(np.float32)
        apart = squares - 2 * test @ train.T + (test**2).sum(1)[:, None]
        best = min(best, float(apart.min()))
    return float(np.sqrt(best / train.shape[1]))


def main() -> None:
    """Print both for MNIST and for the drawn stripes."""
    for dataset in (load_dataset("mnist"), draw_stripes()):
        images = dataset.train.images[:300, 0]
        changed = ", ".join(
            f"{np.median([saved(image, quality) for image in images]):.1f} at quality {quality}"
            for quality in (95, 90, 75)
        )
        print(f"{dataset.name}: JPEG changes {changed}; nearest pair {nearest(dataset):.1f}")


if __name__ == "__main__":
    main()
