"""The client whose methods are awaited. `make blocking` makes `longshore.client.blocking` of these files."""
