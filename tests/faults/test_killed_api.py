"""An API whose main process is killed leaves nobody behind at its port, so that it can be started again at once."""

import psutil

from tests.service import Longshore
from tests.waiting import until


def test_the_processes_of_an_api_that_was_killed_end_by_themselves(service: Longshore) -> None:
    api = Longshore(service.data, service.url, api_processes="2")
    api.log_file = service.data / "killed-api.log"
    try:
        main = api.start_api()
        children = psutil.Process(main.pid).children(recursive=True)
        assert len(children) >= 2
        main.kill()
        main.wait()
        second = api.start("api")
        until(lambda: not any(child.is_running() for child in children), "its processes to end")
        until(lambda: psutil.Process(second.pid).children() and api.answers(), "the next one to answer")
        assert second.poll() is None
    finally:
        api.stop()
