"""Measure what the intervals and the comparison of `smidgen.evidence` really do.

    python benchmarks/evidence_statistics.py [--sets 10000]

Draws many sets of n values whose true mean is known and counts how often each interval holds
it; and compares two recipes that are equal, counting how often one is called better. Writes
`docs/results/statistics.json` and `docs/results/statistics.md`.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from smidgen.evidence.compare import paired_difference
from smidgen.evidence.statistics import (
    bca_of_mean,
    clopper_pearson,
    paired_power,
    pairs_needed,
    t_interval,
    wilson,
)
from smidgen.files import write_atomically

RESULTS = Path(__file__).parent.parent / "docs" / "results"
SIZES = (3, 5, 10, 20, 30)
SHARES = (0.5, 0.8, 0.95)
NUM_IMAGES = 10_000
MEAN_ERRORS, SD_ERRORS = 55.0, 6.0
"""A net at 99.45 % whose seeds differ by 0.06 points, as small nets on MNIST do."""


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(1 - MEAN_ERRORS / NUM_IMAGES, SD_ERRORS / NUM_IMAGES, shape)


def error_counts(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw accuracies as whole numbers of errors, skewed towards many."""
    shape_of_gamma = 4.0  # skewness 1
    scale = SD_ERRORS / shape_of_gamma**0.5
    errors = rng.gamma(shape_of_gamma, scale, shape) + MEAN_ERRORS - shape_of_gamma * scale
    return 1 - np.round(errors) / NUM_IMAGES


KINDS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]] = {
    "normal": normal,
    "error counts, skewed": error_counts,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=10_000)
    num_sets = parser.parse_args().sets
    started = time.perf_counter()
    content = {
        "command": "python benchmarks/evidence_statistics.py",
        "sets": num_sets,
        "confidence": 0.95,
        "means": [means_row(kind, n, num_sets) for kind in KINDS for n in SIZES],
        "shares": [shares_row(share, n, num_sets) for share in SHARES for n in SIZES],
        "power": [power_row(points) for points in (0.01, 0.02, 0.03, 0.05, 0.1)],
    }
    content["seconds"] = round(time.perf_counter() - started)
    write_atomically(RESULTS / "statistics.json", (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(RESULTS / "statistics.md", _markdown(content).encode())
    print(_markdown(content))


def means_row(kind: str, n: int, num_sets: int) -> dict[str, object]:
    """Return the coverage of both intervals of a mean, and how often equals are told apart."""
    rng = np.random.default_rng([n, len(kind)])
    draw = KINDS[kind]
    truth = 1 - MEAN_ERRORS / NUM_IMAGES
    sets = draw(rng, (num_sets, n))
    pairs = draw(rng, (num_sets, 2, n))
    wins = [paired_difference(a, b).verdict != "cannot tell" for a, b in pairs]
    row = {
        "values": kind,
        "n": n,
        "t": float(np.mean([truth in t_interval(values) for values in sets])),
        "bca": float(np.mean([truth in bca_of_mean(values) for values in sets])),
        "false_wins": float(np.mean(wins)),
    }
    print(row, flush=True)
    return row


def shares_row(share: float, n: int, num_sets: int) -> dict[str, object]:
    """Return the coverage of both intervals of a share."""
    counts = np.random.default_rng([n, int(100 * share)]).binomial(n, share, num_sets)
    exact = {int(k): share in clopper_pearson(int(k), n) for k in np.unique(counts)}
    score = {int(k): share in wilson(int(k), n) for k in np.unique(counts)}
    return {
        "share": share,
        "n": n,
        "clopper_pearson": float(np.mean([exact[int(k)] for k in counts])),
        "wilson": float(np.mean([score[int(k)] for k in counts])),
    }


def power_row(points: float) -> dict[str, object]:
    """Return how many seeds see a difference where pairs of seeds differ by 0.08 points."""
    sd = SD_ERRORS / 100 * 2**0.5  # of the difference of two independent seeds, in points
    return {
        "points": points,
        "sd_of_differences": round(sd, 4),
        "seeds_needed": pairs_needed(points, sd),
        "power_of_20": paired_power(20, points, sd),
    }


def _markdown(content: dict) -> str:
    lines = [
        "# What the statistics really do",
        "",
        f"Over {content['sets']:,} simulated sets each, by `{content['command']}`; 95 % intervals.",
        "",
        "How often an interval of the mean holds the true mean, and how often `compare` calls one",
        "of two equal recipes better (it may at most 5 % of the time):",
        "",
        "| values | n | Student's t | BCa bootstrap | false wins |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['values']} | {row['n']} | {100 * row['t']:.1f} % | {100 * row['bca']:.1f} % "
        f"| {100 * row['false_wins']:.1f} % |"
        for row in content["means"]
    ]
    lines += [
        "",
        "How often an interval of a share holds the true share:",
        "",
        "| true share | n | Clopper-Pearson | Wilson |",
        "|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {row['share']:g} | {row['n']} | {100 * row['clopper_pearson']:.1f} % "
        f"| {100 * row['wilson']:.1f} % |"
        for row in content["shares"]
    ]
    lines += [
        "",
        "How many seeds see a difference four times in five, where the accuracies of seeds have a",
        f"standard deviation of {SD_ERRORS / 100:g} points, and how often 20 seeds see it:",
        "",
        "| true difference | seeds needed | power of 20 seeds |",
        "|--:|--:|--:|",
    ]
    lines += [
        f"| {row['points']:g} points | {row['seeds_needed']} | {100 * row['power_of_20']:.0f} % |"
        for row in content["power"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
