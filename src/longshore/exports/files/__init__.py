"""Exports of many files: partitions and parts of one index, and bundles of several indexes from one snapshot."""
