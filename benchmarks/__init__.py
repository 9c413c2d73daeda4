"""What Longshore promises of speed and memory, measured beside a named peer in the same run.

Machines are shared and noisy, so an absolute time proves nothing. Ours and the peer take turns, and the best round of
one is compared with the best round of the other.
"""
