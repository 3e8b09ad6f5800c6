"""What a person may choose of a run, word by word: the types of options and of records."""

from typing import Literal

Protocol = Literal["final", "tune", "origin"]
"""Which images a run trains on, and what it is measured on; see `training.splits`."""
EngineName = Literal["native", "torch"]
EngineChoice = Literal["auto", "native", "torch"]
"""An engine, or the fastest that there is."""
Keep = Literal["all", "model", "record"]
"""What of a finished run travels: all files, the record with the model, or the record alone."""
Invert = Literal["auto", "yes", "no"]
"""Whether images of a folder are dark on light; `auto` looks at their borders."""
Fit = Literal["resize", "mnist"]
"""How an image comes to the network's size: scaled, or cropped and centered like MNIST."""
