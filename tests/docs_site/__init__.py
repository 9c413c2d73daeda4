"""The built site of the docs, as `make docs` leaves it in docs/_build."""
