"""One chain at its worst beside another one: `make neighbour`, and a small one in tests/test_neighbour.py."""
