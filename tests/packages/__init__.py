"""What users install: the wheel in empty environments. `make packages` runs what takes minutes of it."""
