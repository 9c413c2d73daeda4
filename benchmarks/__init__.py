"""Longshore's promises of speed and memory, measured beside a named peer in the same run.

Machines are shared and noisy, so an absolute time proves nothing. Ours and the peer take turns. Exports are
compared by the medians of their rounds, all else by the best ones.
"""
