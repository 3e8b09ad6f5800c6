from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from shipped import EVERYTHING, integer_of, networks

from smidgen.errors import NetworkError
from smidgen.network.network import Network
from smidgen.recipes.catalogue import get_recipe
from smidgen.ship.arena import Arena, check_arena, plan_arena
from smidgen.ship.integer import IMAGE, IntegerNetwork, Stage


def reads_of(network: IntegerNetwork, stage: Stage, row: int, column: int) -> set[tuple[int, int]]:
    """Return (value, byte in it) of all that an output cell reads."""
    pool = stage.pool
    positions = [(row, column)]
    if pool is not None:
        positions = [
            (
                row * pool.stride[0] - pool.before[0] + i,
                column * pool.stride[1] - pool.before[1] + j,
            )
            for i in range(pool.kernel[0])
            for j in range(pool.kernel[1])
        ]
    found = set()
    for value in stage.inputs:
        if value == IMAGE:
            continue
        channels, height, width = network.shapes[value]
        for y, x in positions:
            if not (0 <= y < stage.positions[0] and 0 <= x < stage.positions[1]):
                continue
            for i in range(stage.kernel[0]):
                for j in range(stage.kernel[1]):
                    at_y = y * stage.stride[0] - stage.before[0] + i
                    at_x = x * stage.stride[1] - stage.before[1] + j
                    if 0 <= at_y < height and 0 <= at_x < width:
                        cell = (at_y * width + at_x) * channels
                        found |= {(value, cell + c) for c in range(channels)}
    return found


def is_safe(network: IntegerNetwork, arena: Arena) -> bool:
    """Run reads and writes byte by byte: no byte may be read that another value has overwritten."""
    owner: dict[int, tuple[int, int]] = {}
    for stage in network.stages:
        is_last = stage is network.last
        rows, columns = stage.size
        for row in range(rows):
            for column in range(columns):
                reads = reads_of(network, stage, row, column)
                writes = []
                if not is_last:
                    channels, _, width = network.shapes[stage.output]
                    cell = (row * width + column) * channels + stage.first_channel
                    writes = [(stage.output, cell + c) for c in range(stage.out_channels)]
                for value, byte in reads:
                    if owner.get(arena.offsets[value] + byte) != (value, byte):
                        return False
                if stage.gather != "separable" and len(writes) > 1:
                    # a channel is written before the next one reads the window again
                    touched = {arena.offsets[value] + byte for value, byte in writes[:-1]}
                    if touched & {arena.offsets[value] + byte for value, byte in reads}:
                        return stage.gather in ("each", "sum")
                for value, byte in writes:
                    owner[arena.offsets[value] + byte] = (value, byte)
    return True


@settings(max_examples=25, deadline=None)
@given(networks())
def test_no_byte_is_overwritten_before_its_last_read(network: Network) -> None:
    """Replaying all reads and writes finds none that meets a foreign byte."""
    integers = integer_of(network)

    arena = plan_arena(integers)

    check_arena(integers, arena)
    assert is_safe(integers, arena)


def test_joins_and_branches_are_safe() -> None:
    """Values that live on beside others are not overwritten."""
    integers = integer_of(EVERYTHING)

    assert is_safe(integers, plan_arena(integers))


def test_one_byte_less_fails() -> None:
    """Values that begin one byte lower or higher than the rules allow are refused."""
    integers = integer_of(get_recipe("smidgen/500").network)
    arena = plan_arena(integers)

    with pytest.raises(NetworkError, match="does not lie within"):
        check_arena(integers, replace(arena, num_bytes=arena.num_bytes - 1))
    closer = Arena((arena.offsets[0] - 1, *arena.offsets[1:]), arena.num_bytes)
    with pytest.raises(NetworkError, match=r"get in each other's way|does not lie"):
        check_arena(integers, closer)
    assert not is_safe(integers, closer)


@pytest.mark.parametrize(("name", "most"), [("500", 848), ("1k", 3380), ("quick", 1168)])
def test_frontier_networks_fit(name: str, most: int) -> None:
    """The arenas are a quarter to two fifths smaller than two buffers would be."""
    integers = integer_of(get_recipe(f"smidgen/{name}").network)
    sizes = [int(np.prod(shape)) for shape in integers.shapes]

    arena = plan_arena(integers)

    assert max(sizes) <= arena.num_bytes <= most
