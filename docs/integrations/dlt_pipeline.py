"""A pipeline that keeps a table of all users in DuckDB right; run it as often as the table is to be renewed."""

import dlt

from longshore import Longshore
from longshore.integrations.dlt import load

pipeline = dlt.pipeline("loyalty", destination="duckdb", dataset_name="exports")
with Longshore() as client:
    run = load(pipeline, client, "users")
    print(run.rows, "changes of run", run.run)
