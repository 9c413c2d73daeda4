"""The wheel in empty environments, as users install it; `make packages` runs what takes minutes of it."""
