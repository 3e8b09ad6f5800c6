"""Where every value of an integer network lies in one buffer, as small as it can be.

A stage writes its cells in the order of rows and columns while it still reads. So a value may lie
over the one it is made from: each byte must only be written after it was read for the last time.
How much lower it must begin is found by going through all reads and writes; where the values then
lie is found by an exact search.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from smidgen.errors import NetworkError
from smidgen.ship.integer import IMAGE, IntegerNetwork, Stage


@dataclass(frozen=True, slots=True)
class Arena:
    """Where values lie.

    Args:
        offsets: First byte of each value; a value's cell (row, column) has its channels at
            (row * width + column) * channels from there.
        num_bytes: How large the buffer is.
    """

    offsets: tuple[int, ...]
    num_bytes: int


@dataclass(frozen=True, slots=True)
class _Overlap:
    """How two values that are alive at once may lie: apart, or the later one `lead` lower.

    Args:
        earlier: The value that is read last when `later` is made.
        later: The value being made.
        lead: How many bytes `later` must begin below `earlier`; None if they must lie apart.
    """

    earlier: int
    later: int
    lead: int | None


def plan_arena(network: IntegerNetwork) -> Arena:
    """Find the smallest buffer for a network's values, in the order that its stages run."""
    sizes = [channels * height * width for channels, height, width in network.shapes]
    overlaps = _overlaps(network)
    best = _Search(sizes, overlaps).run()
    return Arena(tuple(best), max((b + s for b, s in zip(best, sizes, strict=True)), default=0))


def check_arena(network: IntegerNetwork, arena: Arena) -> None:
    """Prove that no byte is written before it was read for the last time.

    Raises:
        NetworkError: Two values that get in each other's way, or a buffer that is too small.
    """
    sizes = [channels * height * width for channels, height, width in network.shapes]
    for number, (offset, size) in enumerate(zip(arena.offsets, sizes, strict=True)):
        if offset < 0 or offset + size > arena.num_bytes:
            raise NetworkError(f"The value {number} does not lie within {arena.num_bytes} bytes.")
    for rule in _overlaps(network):
        earlier, later = arena.offsets[rule.earlier], arena.offsets[rule.later]
        apart = later + sizes[rule.later] <= earlier or earlier + sizes[rule.earlier] <= later
        if not apart and (rule.lead is None or later > earlier - rule.lead):
            raise NetworkError(
                f"The values {rule.earlier} and {rule.later} get in each other's way in the arena."
            )


def _overlaps(network: IntegerNetwork) -> list[_Overlap]:
    """Return a rule for each pair of values that are alive at once."""
    born, dies = _lives(network.stages, len(network.shapes))
    rules = []
    for later in range(len(network.shapes)):
        for earlier in range(len(network.shapes)):
            if (born[earlier], earlier) >= (born[later], later) or dies[earlier] < born[later]:
                continue
            maker = network.stages[born[later]]
            fills_alone = maker.out_channels == network.shapes[later][0]
            follows = dies[earlier] == born[later] and fills_alone
            lead = _lead(network, maker, earlier) if follows else None
            rules.append(_Overlap(earlier, later, lead))
    return rules


def _lives(stages: Sequence[Stage], count: int) -> tuple[list[int], list[int]]:
    """Return the first stage that writes and the last one that reads or writes each value."""
    born, dies = [len(stages)] * count, [0] * count
    for number, stage in enumerate(stages):
        touched = [index for index in stage.inputs if index != IMAGE]
        if stage.output < count:
            born[stage.output] = min(born[stage.output], number)
            touched.append(stage.output)
        for value in touched:
            dies[value] = max(dies[value], number)
    return born, dies


def _lead(network: IntegerNetwork, stage: Stage, earlier: int) -> int:
    """Return how far below what it reads a stage's output must begin, to write over it.

    A separable stage has read all of a cell's window before it writes the cell. The others write
    channel by channel, and the next channel reads the window again.
    """
    channels, _, width = network.shapes[earlier]
    rows, columns = stage.size
    firsts = [
        [_first_cell(stage, axis, place) for place in range(stage.size[axis])] for axis in (0, 1)
    ]

    def lowest(row: int, column: int) -> int:
        return (firsts[0][row] * width + firsts[1][column]) * channels

    lead = -(1 << 30)
    for cell in range(rows * columns):
        reading = [cell + 1] if stage.gather == "separable" else [cell]
        reading.append((cell // columns + 1) * columns)  # the next row begins again on the left
        needed = [lowest(*divmod(at, columns)) for at in reading if at < rows * columns]
        if needed:
            lead = max(lead, (cell + 1) * stage.out_channels - min(needed))
    return lead


def _first_cell(stage: Stage, axis: int, place: int) -> int:
    """Return the first row or column that an output's row or column reads."""
    position = place
    if stage.pool is not None:
        position = max(0, place * stage.pool.stride[axis] - stage.pool.before[axis])
    return max(0, position * stage.stride[axis] - stage.before[axis])


class _Search:
    """Offsets by branch and bound.

    Values are placed one after another, each touching one that was placed before it, or as far
    over it as it may be.
    """

    def __init__(self, sizes: Sequence[int], rules: Sequence[_Overlap]) -> None:
        self.sizes, self.rules = sizes, rules
        self.best: list[int] = []
        self.best_bytes = 1 << 60
        self.visits = 0

    def run(self) -> list[int]:
        self.place({}, 0, 0)
        lowest = min(self.best, default=0)
        return [offset - lowest for offset in self.best]

    def place(self, placed: dict[int, int], low: int, high: int) -> None:
        self.visits += 1
        if high - low >= self.best_bytes or self.visits > 20_000:
            return
        if len(placed) == len(self.sizes):
            self.best_bytes = high - low
            self.best = [placed[number] for number in range(len(self.sizes))]
            return
        number = len(placed)  # in the order they are made: neighbors in time touch each other
        for offset in sorted(
            self.candidates(number, placed),
            key=lambda at: max(high, at + self.sizes[number]) - min(low, at),
        ):
            if self.fits(number, offset, placed):
                self.place(
                    {**placed, number: offset},
                    min(low, offset),
                    max(high, offset + self.sizes[number]),
                )

    def candidates(self, number: int, placed: dict[int, int]) -> set[int]:
        found = {0} if not placed else set()
        lows = [min(placed.values())] if placed else []
        found.update(lows)
        for rule in self.rules:
            if number not in (rule.earlier, rule.later):
                continue
            other = rule.earlier if rule.later == number else rule.later
            if other not in placed:
                continue
            found.add(placed[other] - self.sizes[number])
            found.add(placed[other] + self.sizes[other])
            if rule.lead is not None:
                found.add(placed[other] + (-rule.lead if rule.later == number else rule.lead))
        return found

    def fits(self, number: int, offset: int, placed: dict[int, int]) -> bool:
        for rule in self.rules:
            if number not in (rule.earlier, rule.later):
                continue
            other = rule.earlier if rule.later == number else rule.later
            if other not in placed:
                continue
            ends_below = offset + self.sizes[number] <= placed[other]
            ends_above = placed[other] + self.sizes[other] <= offset
            if ends_below or ends_above:
                continue
            earlier, later = (
                (placed[other], offset) if rule.later == number else (offset, placed[other])
            )
            if rule.lead is None or later > earlier - rule.lead:
                return False
        return True
