"""A training on a rented EC2 machine, under a cap in dollars, that ends by itself."""
