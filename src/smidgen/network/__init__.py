"""What a model is: layers, the `Network` value, its table, its PyTorch module."""
