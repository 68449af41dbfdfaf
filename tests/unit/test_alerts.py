"""The rules and the dashboard; tests/serve compares their metrics with a scrape of the server."""

import json
import shutil
import subprocess
from pathlib import Path

import make_dashboard
import pytest

PROMETHEUS = Path(__file__).parents[2] / "cluster" / "prometheus"
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool: apt-get install prometheus"
)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True)


@needs_promtool
def test_prometheus_takes_the_config_and_the_rules() -> None:
    checked = promtool("check", "config", PROMETHEUS / "prometheus.yml")
    assert checked.returncode == 0, checked.stderr
    assert "rules found" in checked.stdout


@needs_promtool
def test_each_alert_comes_when_it_should_and_not_before() -> None:
    tried = promtool("test", "rules", PROMETHEUS / "alerts_test.yaml")
    assert tried.returncode == 0, tried.stderr
    rules = (PROMETHEUS / "alerts.yaml").read_text().split("- alert: ")[1:]
    tests = (PROMETHEUS / "alerts_test.yaml").read_text()
    assert all(f"alertname: {rule.split()[0]}" in tests for rule in rules)


@needs_promtool
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("> 0.02", "> 0.2"),
        ("<= 2", "<= 6"),
        ("> 120", "> 1200"),
        ("> 0.95", "> 0.1"),
        ("min by (deployment, ray_io_cluster)", "max by (deployment)"),
        ("or vector(0)", ""),
        ("<= 4", "<= 3"),
    ],
)
def test_a_wrong_rule_is_noticed(tmp_path: Path, right: str, wrong: str) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    rules = tmp_path / "alerts.yaml"
    assert right in rules.read_text()
    rules.write_text(rules.read_text().replace(right, wrong))
    assert promtool("test", "rules", tmp_path / "alerts_test.yaml").returncode == 1


def test_the_dashboard_is_what_its_script_writes() -> None:
    assert json.loads(make_dashboard.PATH.read_text()) == make_dashboard.dashboard()


@needs_promtool
def test_prometheus_understands_each_query_of_the_dashboard(tmp_path: Path) -> None:
    queries = [
        query for row in make_dashboard.ROWS.values() for p in row for query in p.queries.values()
    ]
    rules = [{"record": f"query{number}", "expr": query} for number, query in enumerate(queries)]
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = promtool("check", "rules", path)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(queries)} rules found" in checked.stdout
