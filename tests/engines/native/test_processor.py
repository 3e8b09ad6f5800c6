import platform

import pytest

from smidgen.engines.native import toolchain as processor

AVX512 = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx2", "fma"}


@pytest.mark.parametrize(
    ("machine", "features", "lanes"),
    [
        ("x86_64", AVX512, 16),
        ("AMD64", AVX512, 16),
        ("x86_64", AVX512 - {"avx512vl"}, 8),
        ("x86_64", {"avx2", "fma"}, 8),
        ("x86_64", {"avx2"}, 4),
        ("x86_64", set(), 4),
        ("aarch64", set(), 4),
        ("arm64", set(), 4),
        ("riscv64", set(), 1),
    ],
)
def test_lanes_follow_the_processor(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: set[str], lanes: int
) -> None:
    """The widest vectors are taken whose features the processor has, all of them."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(processor, "processor_features", lambda: frozenset(features))

    assert processor.lanes_of_host() == lanes


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 fma\n\nflags\t\t: other\n", {"fpu", "avx2", "fma"}),
        ("processor\t: 0\nFeatures\t: fp asimd\n", {"fp", "asimd"}),
        ("vmx flags\t: vnmi\n", set()),
        ("", set()),
    ],
)
def test_features_are_those_of_the_first_processor(text: str, features: set[str]) -> None:
    """The text of cpuinfo is read on x86 and ARM, and a text without them gives none."""
    assert processor.features_in_cpuinfo(text) == features


def test_missing_features_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """What so many lanes need is told apart from what is there."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(processor, "processor_features", lambda: frozenset({"avx512f", "fma"}))

    assert processor.missing_features(16) == ("avx512bw", "avx512dq", "avx512vl")
    assert processor.missing_features(8) == ("avx2",)
    assert processor.missing_features(4) == ()
