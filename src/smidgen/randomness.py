"""Counter-based random generators keyed by what they are for.

Two purposes never share numbers, so drawing more for one cannot change the other, and any
epoch can be drawn again without drawing those before it.
"""

import hashlib

import numpy as np


def generator(seed: int, purpose: str, epoch: int = 0) -> np.random.Generator:
    """Return the Philox generator of a seed, a purpose (such as "order") and an epoch.

    Source: Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.
    """
    return np.random.Generator(np.random.Philox(key=_key(seed, purpose, epoch)))


def key32(seed: int, purpose: str, epoch: int = 0) -> int:
    """Return 32 bits for a generator that lives elsewhere (dropout, in C and in torch)."""
    return _key(seed, purpose, epoch) & 0xFFFFFFFF


def _key(seed: int, purpose: str, epoch: int) -> int:
    text = f"{seed}/{purpose}/{epoch}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "little")
