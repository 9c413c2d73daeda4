"""Settings that every session of the service pins, whatever the role, the database or the server sets."""

# All settings of a role, a database or a server that change input or output, as in pg_dump.
# tests/exports/test_pinned_settings.py reads pg_settings and fails for a missing one.
# https://www.postgresql.org/docs/current/runtime-config-client.html
OUTPUT = {
    "quote_all_identifiers": "off",  # first, as it changes how the server stores some of the others
    "timezone": "UTC", "timezone_abbreviations": "Default", "datestyle": "ISO, MDY", "intervalstyle": "iso_8601",
    "extra_float_digits": "1", "bytea_output": "hex", "xmlbinary": "base64", "xmloption": "content",
    "lc_monetary": "C", "lc_numeric": "C", "lc_time": "C", "default_text_search_config": "pg_catalog.simple",
    # Names come from the catalog, so no search path is trusted; an index may name its own (exports/row_security.py).
    "search_path": "",
    # How SQL is read.
    "standard_conforming_strings": "on", "escape_string_warning": "on", "backslash_quote": "safe_encoding",
    "array_nulls": "on", "transform_null_equals": "off",
    # The rows and their order: searches in GIN indexes are complete, and scans begin at the first page.
    "row_security": "on", "gin_fuzzy_search_limit": "0", "synchronize_seqscans": "off",
    "default_transaction_isolation": "read committed", "default_transaction_deferrable": "off",
}  # fmt: skip

# Settings that would end a statement or session of the service, or lose an acknowledged commit.
LIMITS = {
    "statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0", "transaction_timeout": "0", "exit_on_error": "off",
    "client_min_messages": "warning", "synchronous_commit": "on",
}  # fmt: skip

# The server closes the connection of a host that vanished, as `connect` does on this side. Until then the host's
# transaction holds locks on a task or on all tasks of a chain; the defaults of Linux are a quarter of an hour and more.
KEEPALIVE = {
    "tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "20s",
}  # fmt: skip

# Each is set only if the server knows it, as older servers lack some.
PINNED_SETTINGS = {**OUTPUT, **LIMITS, **KEEPALIVE}
