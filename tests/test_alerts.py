"""The alert rules and the dashboard, tried with Prometheus's own promtool: what fires each alert, and what does not."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.service import Longshore

DEPLOY = Path(__file__).parents[1] / "deploy"
ALERTS = DEPLOY / "alerts.yaml"
RULES = {rule["alert"]: rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]}
PROMTOOL = Path(sys.executable).with_name("promtool")  # `make test` puts it there
BUCKET = 'longshore_http_request_seconds_bucket{method="GET",route="/tasks/{id}",le="%s"}'


class Case(NamedTuple):
    """Series, a value a minute, and when the alert fires that they are about; None for never within two hours."""

    alert: str
    series: dict[str, str]
    silent_at: str
    fires_at: str | None


# `a+bxN` is a, and N more values, each b higher: https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
CASES = [
    Case("LongshoreNoWorkers", {'longshore_workers{instance="a"}': "3 0x20"}, "2m", "3m"),
    # Two APIs tell the same; one that has not asked again yet does not count.
    Case(
        "LongshoreNoWorkers",
        {'longshore_workers{instance="a"}': "0x120", 'longshore_workers{instance="b"}': "1x120"},
        "3m",
        None,
    ),
    Case("LongshoreSilent", {"longshore_workers": "3x5 _x30"}, "10m", "20m"),
    Case("LongshoreSilent", {"longshore_workers": "0x120"}, "10m", None),
    Case("LongshoreQueueOld", {"longshore_queue_oldest_seconds": "0+60x60"}, "20m", "21m"),
    Case("LongshoreQueueOld", {"longshore_queue_oldest_seconds": "900x120"}, "21m", None),
    Case("LongshoreScheduleLate", {"longshore_schedule_late_seconds": "0+60x60"}, "3m", "4m"),
    Case("LongshoreScheduleLate", {"longshore_schedule_late_seconds": "1x120"}, "4m", None),
    Case("LongshoreTaskStuck", {"longshore_run_silent_seconds": "0+60x60"}, "15m", "16m"),
    Case("LongshoreTaskStuck", {"longshore_run_silent_seconds": "0 60 120 180 240 300 0+60x5 0x110"}, "16m", None),
    Case(
        "LongshoreRunsFail",
        {
            'longshore_runs_total{action="export",state="DONE"}': "0+8x60",
            'longshore_runs_total{action="export",state="ERROR"}': "0+2x60",
        },
        "15m",
        "17m",
    ),
    Case(
        "LongshoreRunsFail",
        {
            'longshore_runs_total{action="export",state="DONE"}': "0+19x120",
            'longshore_runs_total{action="export",state="ERROR"}': "0+1x120",
        },
        "17m",
        None,
    ),
    Case(
        "LongshoreRunsFail",
        {
            'longshore_runs_total{action="export",state="DONE"}': "5x120",
            'longshore_runs_total{action="export",state="ERROR"}': "5x120",
        },
        "17m",
        None,
    ),
    Case(
        "LongshoreWorkersLost",
        {
            'longshore_lost_attempts_total{instance="a"}': "0x5 1 2 3x20",
            'longshore_lost_attempts_total{instance="b"}': "0x5 1x20",
        },
        "5m",
        "9m",
    ),
    Case("LongshoreWorkersLost", {"longshore_lost_attempts_total": "0x30 1x30 2x60"}, "31m", None),
    Case(
        "LongshoreRequestsFail",
        {
            'longshore_http_requests_total{method="GET",status="200"}': "0+97x30",
            'longshore_http_requests_total{method="GET",status="503"}': "0+3x30",
        },
        "5m",
        "7m",
    ),
    Case(
        "LongshoreRequestsFail",
        {
            'longshore_http_requests_total{method="GET",status="200"}': "0+50x120",
            'longshore_http_requests_total{method="GET",status="404"}': "0+50x120",
        },
        "7m",
        None,
    ),
    Case(
        "LongshorePollsSlow",
        {BUCKET % "2.5": "0+90x60", BUCKET % "5.0": "0+100x60", BUCKET % "+Inf": "0+100x60"},
        "10m",
        "12m",
    ),
    Case(
        "LongshorePollsSlow",
        {BUCKET % "0.1": "0+100x120", BUCKET % "2.5": "0+100x120", BUCKET % "+Inf": "0+100x120"},
        "12m",
        None,
    ),
    Case("LongshoreWebhooksPile", {"longshore_webhook_deliveries_pending": "0+500x60"}, "32m", "33m"),
    Case("LongshoreWebhooksPile", {"longshore_webhook_deliveries_pending": "900x120"}, "33m", None),
    Case("LongshoreDeliveryOld", {"longshore_delivery_oldest_seconds": "0+60x120"}, "65m", "66m"),
    Case("LongshoreDeliveryOld", {"longshore_delivery_oldest_seconds": "0+60x59 0+60x59"}, "66m", None),
    Case("LongshoreDeliveriesPile", {"longshore_deliveries_pending": "0+100x60"}, "32m", "33m"),
    Case("LongshoreDeliveriesPile", {"longshore_deliveries_pending": "150x120"}, "33m", None),
]


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True)


def fires(folder: Path, case: Case, at: str, firing: bool) -> subprocess.CompletedProcess[str]:
    """Try whether the alert fires, or does not, at a time."""
    rule = RULES[case.alert]
    alert = {"exp_labels": rule["labels"], "exp_annotations": rule["annotations"]}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "alert_rule_test": [{"eval_time": at, "alertname": case.alert, "exp_alerts": [alert] if firing else []}],
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": [test]}))
    return promtool("test", "rules", file)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}-{case.fires_at or 'never'}")
def test_an_alert_fires_when_it_should_and_not_before(tmp_path: Path, case: Case) -> None:
    before = fires(tmp_path, case, case.silent_at, False)
    assert before.returncode == 0, before.stdout + before.stderr
    then = fires(tmp_path, case, case.fires_at or "110m", case.fires_at is not None)
    assert then.returncode == 0, then.stdout + then.stderr
    otherwise = fires(tmp_path, case, case.fires_at or "110m", case.fires_at is None)
    assert otherwise.returncode == 1


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    assert {case.alert for case in CASES if case.fires_at} == set(RULES)
    assert {case.alert for case in CASES if not case.fires_at} == set(RULES)


DOCS = DEPLOY.parent / "docs"
PAGE = DOCS / "monitoring.md"
PAGES = (PAGE, DOCS / "operations.md", DOCS / "secrets.md", DOCS / "upgrading.md")
STATEMENTS = [found for page in PAGES for found in re.findall(r"^```sql\n(.+?)^```$", page.read_text(), re.M | re.S)]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_every_sql_statement_of_the_pages_on_operations_and_upgrading_runs(
    idle_service: Longshore, statement: str
) -> None:
    assert statement.startswith("select ")
    idle_service.sql(statement)


def test_the_statement_about_failed_runs_groups_them_by_their_reason(idle_service: Longshore) -> None:
    (statement,) = (found for found in STATEMENTS if "state = 'ERROR'" in found)
    idle_service.sql(
        "insert into longshore.tasks (chain_id, description, action, trigger, target, debug, state, reason)"
        " select 74, '', 'export', '{}', '{}', '', 'ERROR', 'failed: the disk is full' from generate_series(1, 2)"
    )
    assert [row["count"] for row in idle_service.sql(statement) if row["reason"] == "failed: the disk is full"] == [2]


def test_every_alert_is_explained_where_it_says() -> None:
    page = PAGE.read_text()
    assert "docs/monitoring.md" in ALERTS.read_text()
    for alert in RULES:
        assert f"**{alert}**" in page


def test_every_expression_of_the_dashboard_is_promql(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert len(asked) > 20

    def checked(expressions: list[str]) -> subprocess.CompletedProcess[str]:
        rules = [{"record": f"asked:{number}", "expr": text} for number, text in enumerate(expressions)]
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        return promtool("check", "rules", file)

    done = checked(asked)
    assert done.returncode == 0, done.stderr
    assert checked([*asked, "sum by (le (x))"]).returncode == 1
