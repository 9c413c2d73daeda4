"""Incremental exports: which transactions an increment takes."""
