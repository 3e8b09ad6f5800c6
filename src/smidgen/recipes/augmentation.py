"""Random changes to training images, as data: the distributions from which a plan draws.

All geometry of an image is composed into one affine map that is sampled once. Transforms act
in the order given. Units are in the names; grey levels are shares of white, 0 being black.
"""

from dataclasses import field
from typing import Annotated, Literal

from pydantic import Field

from smidgen.errors import RecipeError
from smidgen.recipes.parts import NonNegativeFloat, PositiveFloat, Share
from smidgen.values import value

Position = Literal["before_normalization", "after_normalization"]


@value(RecipeError)
class Rotation:
    """An angle uniform in +-`degrees` about the image's center."""

    degrees: Annotated[float, Field(ge=0.0, le=180.0)]
    kind: Literal["rotation"] = field(default="rotation", kw_only=True)


@value(RecipeError)
class Translation:
    """A shift uniform in +-`pixels` on each axis; rounded to whole pixels if `whole_pixels`."""

    pixels: NonNegativeFloat
    whole_pixels: bool = False
    kind: Literal["translation"] = field(default="translation", kw_only=True)


@value(RecipeError)
class Scaling:
    """A zoom factor uniform in [`smallest`, `largest`], the same on both axes."""

    smallest: PositiveFloat
    largest: PositiveFloat
    kind: Literal["scaling"] = field(default="scaling", kw_only=True)

    def __post_init__(self) -> None:
        if self.smallest > self.largest:
            raise RecipeError(
                f"`Scaling`: `smallest` {self.smallest} is above `largest` {self.largest}."
            )


@value(RecipeError)
class Shear:
    """A horizontal shear by an angle uniform in +-`degrees`."""

    degrees: Annotated[float, Field(ge=0.0, lt=90.0)]
    kind: Literal["shear"] = field(default="shear", kw_only=True)


@value(RecipeError)
class ResizedCrop:
    """A random rectangle of the image, stretched back to the full size.

    Its area is a share of the image uniform in [`smallest_area`, 1] and its width / height
    log-uniform in [`1 / largest_aspect`, `largest_aspect`].
    """

    smallest_area: Annotated[float, Field(gt=0.0, le=1.0)]
    largest_aspect: Annotated[float, Field(ge=1.0)] = 4 / 3
    kind: Literal["resized_crop"] = field(default="resized_crop", kw_only=True)


@value(RecipeError)
class Elastic:
    """A smooth random bend: a 7x7 grid of normal displacements with this standard deviation.

    Source: Simard, Steinkraus and Platt, Best Practices for CNNs, 2003 (coarser grid).
    """

    pixels: PositiveFloat
    kind: Literal["elastic"] = field(default="elastic", kw_only=True)


@value(RecipeError)
class Jitter:
    """Brightness, then contrast, each times a factor uniform in [1 - x, 1 + x]; clipped to [0, 1].

    Contrast pulls towards the image's mean grey level.
    """

    brightness: Share = 0.0
    contrast: Share = 0.0
    kind: Literal["jitter"] = field(default="jitter", kw_only=True)


@value(RecipeError)
class Erasing:
    """With this probability, a random rectangle set to one `level`.

    Area is a share of the image and aspect height / width (log-uniform). `position` says in
    which units `level` is: grey levels before normalization, normalized values after.

    Source: Zhong et al., Random Erasing Data Augmentation, 2017.
    """

    probability: Share
    smallest_area: PositiveFloat = 0.02
    largest_area: Share = 0.33
    smallest_aspect: PositiveFloat = 0.3
    largest_aspect: PositiveFloat = 3.3
    level: float = 0.0
    position: Position = "after_normalization"
    kind: Literal["erasing"] = field(default="erasing", kw_only=True)


Transform = Annotated[
    Rotation | Translation | Scaling | Shear | ResizedCrop | Elastic | Jitter | Erasing,
    Field(discriminator="kind"),
]


@value(RecipeError)
class Augmentation:
    """What happens to every training image, drawn anew each epoch.

    Args:
        transforms: In the order in which they act. Jitter acts after all geometry and erasing
            last, whatever their place; each kind of those two may stand once.
        interpolation: How the composed geometry samples the image.
        fill: What lies outside the image, in the units of `position`.
        position: Whether geometry acts before or after normalization (this matters for the
            fill only).
    """

    transforms: tuple[Transform, ...] = ()
    interpolation: Literal["nearest", "bilinear"] = "bilinear"
    fill: float = 0.0
    position: Position = "before_normalization"

    def __post_init__(self) -> None:
        for kind in (Jitter, Erasing, Elastic):
            if sum(isinstance(t, kind) for t in self.transforms) > 1:
                raise RecipeError(f"`augmentation.transforms`: more than one `{kind.__name__}`.")
