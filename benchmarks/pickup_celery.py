"""Celery's side of the pick-up benchmark, set up as its tutorial has it: `prepare`, `worker` or `send`."""

import os
import sys

from celery import Celery

from benchmarks.pickup import began, send_one_by_one

app = Celery("benchmarks.pickup_celery", broker=os.environ["BENCH_URL"])
app.task(began, name="began")

if __name__ == "__main__":
    match sys.argv[1]:
        case "worker":
            app.worker_main(["worker", "--concurrency=4", "--loglevel=WARNING"])
        case "send":
            send_one_by_one(lambda: app.send_task("began"))
