"""Incremental exports: the transactions of an increment, and redelivery."""
