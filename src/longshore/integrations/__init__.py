"""Longshore in the tools that move data: `airflow`, `dagster` and `dlt`, each with an extra of its name.

They use the client alone, as any other program can.
"""
