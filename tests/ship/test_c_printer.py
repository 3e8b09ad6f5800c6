import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from shipped import EVERYTHING, WARNINGS, has, images_of, integer_of, networks, run_c

from smidgen.network.network import Network
from smidgen.recipes.catalogue import get_recipe
from smidgen.ship.c_printer import header
from smidgen.ship.executor import scores_of

SANITIZE = ("-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
COMPILERS = {"gcc": SANITIZE, "clang": ("-O0", "-fsanitize=undefined", "-fsanitize-trap=undefined")}
"""Without optimization: clang 14 takes a minute for one network with -O2, and proves no more."""
needs_gcc = pytest.mark.skipif(not has("gcc"), reason="no gcc here")


@pytest.mark.parametrize("fast", [False, True], ids=["small", "fast"])
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("name", ["", "smidgen/500", "smidgen/quick", "mnist-challenge/inception"])
def test_c_computes_what_python_does(name: str, compiler: str, fast: bool, tmp_path: Path) -> None:
    """All scores are equal, and neither memory nor arithmetic is misused."""
    if not has(compiler):
        pytest.skip(f"no {compiler} here")
    network = get_recipe(name).network if name else EVERYTHING
    integers, images = integer_of(network), images_of(network, 20)
    text = header(integers, "digit", fast)

    scores = run_c(text, images, network.num_classes, tmp_path, compiler, *COMPILERS[compiler])

    assert np.array_equal(scores, scores_of(integers, images))


@needs_gcc
@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(network=networks())
def test_any_network_is_the_same_in_c(network: Network, tmp_path: Path) -> None:
    """Both forms of any drawn network give the executor's scores."""
    integers, images = integer_of(network), images_of(network, 10)
    expected = scores_of(integers, images)

    for fast in (False, True):
        text = header(integers, "digit", fast)
        scores = run_c(text, images, network.num_classes, tmp_path, "gcc", *SANITIZE)
        assert np.array_equal(scores, expected)


@needs_gcc
@pytest.mark.parametrize("fast", [False, True], ids=["small", "fast"])
def test_header_is_cpp_too_and_goes_twice_into_a_program(fast: bool, tmp_path: Path) -> None:
    """Two networks under two names compile together, as C++ as well."""
    first = header(integer_of(EVERYTHING), "first", fast)
    second = header(integer_of(get_recipe("smidgen/500").network), "second_one", fast)
    (tmp_path / "first.h").write_text(first)
    (tmp_path / "second.h").write_text(second)
    text = (
        '#include "first.h"\n#include "second.h"\n#include "first.h"\n'
        "int main(void) {\n    static uint8_t image[FIRST_HEIGHT * SECOND_ONE_WIDTH * 28];\n"
        "    int32_t scores[10];\n    return first_classify(image, scores) < 0 ||\n"
        "           second_one_classify(image, scores) > 9;\n}\n"
    )
    (tmp_path / "main.cpp").write_text(text)
    (tmp_path / "main.c").write_text(text)

    for compiler, source, standard in (("gcc", "main.c", "c99"), ("g++", "main.cpp", "c++11")):
        command = [compiler, *WARNINGS[1:], f"-std={standard}", source, "-o", "main"]
        built = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr[:2000]
        assert subprocess.run(["./main"], cwd=tmp_path, check=False).returncode == 0


def test_header_needs_no_library() -> None:
    """Only the integer types of the compiler itself are included."""
    text = header(integer_of(EVERYTHING), "digit", fast=True)

    included = [line for line in text.splitlines() if "#include" in line]
    assert included == ["#include <stdint.h>", "#include <avr/pgmspace.h>"]  # the second on AVR
    assert "malloc" not in text
