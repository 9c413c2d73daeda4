# Made of ../asynchronous/__init__.py by tools/blocking_client.py: change that file, then run `make format`.
"""The client whose methods are awaited. `make blocking` makes `longshore.client.blocking` of these files."""
