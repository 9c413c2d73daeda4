"""Webhooks: addresses that receive a message when a task ends, and the dispatcher that sends the messages."""
