"""Segments: rules, their SQL, stored segments."""
