"""Exports that many workers write."""
