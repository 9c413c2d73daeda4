"""Longshore: a task service for data exports."""

__version__ = "0.1.0"
