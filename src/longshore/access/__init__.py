"""Authentication and authorization: access tokens, users, sessions, rate limits and the audit log."""
