"""From a network to typed kernel calls: stages, segments, folded numbers, a memory plan; no C."""
