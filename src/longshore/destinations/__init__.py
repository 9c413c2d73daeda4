"""Chains' own places for results: kinds, the destinations of a chain, deliveries."""
