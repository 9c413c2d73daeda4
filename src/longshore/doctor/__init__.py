"""The checks of `longshore doctor`."""
