"""The ground: PostgreSQL, how to reach it, its schema, and the embedded server for those who have none."""
