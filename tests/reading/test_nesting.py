import pytest

from smidgen.errors import NetworkError
from smidgen.network.layers import BatchNorm, Branches, Conv, Multiply, ReLU, Repeat, Residual
from smidgen.network.network import INPUT
from smidgen.reading.nesting import Join, Step, nest

A, B, C, NORM = Conv(1, 1), Conv(2, 1), Conv(3, 1), BatchNorm()


def _steps(*given: tuple[tuple[int, ...], Conv | ReLU | BatchNorm | Join, str]) -> list[Step]:
    return [
        Step(inputs, layer, f"step {n}", owner) for n, (inputs, layer, owner) in enumerate(given)
    ]


def test_chain():
    """One after another stays one after another; what the result does not need is left out."""
    nested = nest(_steps(((INPUT,), A, "a"), ((0,), B, "b"), ((0,), C, "c")), 2)

    assert nested.layers == (A, C)
    assert nested.order == (0, 2)


def test_branches_keep_their_order():
    """Concatenated paths come in the order they are given, empty ones included."""
    steps = _steps(((INPUT,), A, "a"), ((0,), B, "b"), ((1, 0, 1), "concat", ""))

    with pytest.raises(NetworkError, match="step 1: its result is read by paths that cross"):
        nest(steps, 2)
    steps = _steps(((INPUT,), A, "a"), ((0,), B, "b"), ((1, 0), "concat", ""))
    assert nest(steps, 2).layers == (A, Branches(((B,), ())))


@pytest.mark.parametrize("inputs", [(0, 1), (1, 0)])
def test_shortcut_is_the_empty_path(inputs: tuple[int, int]):
    """Both x + f(x) and f(x) + x are one residual sum, whose body comes before the sum."""
    nested = nest(_steps(((INPUT,), A, "a"), ((0,), B, "b"), (inputs, "add", "")), 2)

    assert nested.layers == (A, Residual((B,)))
    assert nested.order == (0, 1, 2)


def test_sum_with_itself_doubles():
    """The sum x + x is a factor of two."""
    assert nest(_steps(((INPUT,), A, "a"), ((0, 0), "add", "")), 1).layers == (A, Multiply(2.0))


def test_joins_within_joins():
    """A sum whose body branches nests twice."""
    steps = _steps(
        ((INPUT,), A, "a"),
        ((0,), B, "b"),
        ((0,), C, "c"),
        ((1, 2), "concat", ""),
        ((3, 0), "add", ""),
    )

    assert nest(steps, 4).layers == (A, Residual((Branches(((B,), (C,))),)))


def test_dense_blocks_are_read_as_growing_concatenations():
    """concat(a, b, c) after concat(a, b) reads the latter."""
    steps = _steps(
        ((INPUT,), A, "a"),
        ((0,), B, "b"),
        ((0, 1), "concat", ""),
        ((2,), C, "c"),
        ((0, 1, 3), "concat", ""),
    )

    assert nest(steps, 4).layers == (A, Branches(((), (B,))), Branches(((), (C,))))


def test_crossing_paths_are_refused():
    """A value that two joins read from inside different branches has no place in a nesting."""
    steps = _steps(
        ((INPUT,), A, "a"),
        ((0,), B, "b"),
        ((0, 1), "add", ""),
        ((1, 2), "concat", ""),
    )

    with pytest.raises(NetworkError) as caught:
        nest(steps, 3)

    assert str(caught.value) == (
        "step 1: its result is read by paths that cross each other, and a network nests: branches "
        "must meet before their value is used elsewhere."
    )


def test_shared_weights_in_a_row_repeat():
    """The same tensors applied again and again are one block; norms are new each time."""
    relu = ReLU()
    steps = _steps(
        ((INPUT,), relu, ""),
        ((0,), A, "a"),
        ((1,), NORM, "n1"),
        ((2,), A, "a"),
        ((3,), NORM, "n2"),
        ((4,), B, "b"),
    )

    nested = nest(steps, 5)

    assert nested.layers == (relu, Repeat((A, NORM), 2), B)
    assert nested.order == (0, 1, 2, 3, 4, 5)


def test_block_may_begin_before_what_it_shares():
    """Where only a longer block repeats as often, that one is taken."""
    relu = ReLU()
    steps = _steps(((INPUT,), relu, ""), ((0,), A, "a"), ((1,), relu, ""), ((2,), A, "a"))

    assert nest(steps, 3).layers == (Repeat((relu, A), 2),)


def test_equal_layers_with_other_weights_do_not_repeat():
    """Two convolutions alike, or two norms alike, are two."""
    steps = _steps(((INPUT,), A, "a"), ((0,), A, "b"), ((1,), NORM, "n1"), ((2,), NORM, "n2"))

    assert nest(steps, 3).layers == (A, A, NORM, NORM)
