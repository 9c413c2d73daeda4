"""PostgreSQL: addresses, connections, migrations, and the embedded server."""
