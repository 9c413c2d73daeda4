"""Checkers that `make check` runs over the project's own text."""
