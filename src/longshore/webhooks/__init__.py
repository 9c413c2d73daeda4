"""Webhooks: who wants to hear of ended tasks, and the courier that tells them."""
