"""The native engine: a network becomes one C file, compiled once, that trains whole epochs."""
