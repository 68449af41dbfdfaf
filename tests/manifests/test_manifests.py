"""cluster/ and configs/: every file has the form that its reader expects, down to each key."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from manifests.files import CLUSTER, CONFIGS, FILES, ROOT, check, load
from manifests.serve_configs import check_serve_config
from manifests.typos import keys_of, misspelt

from serve_app.errors import ConfigurationError


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_has_the_form_that_its_reader_expects(path: Path) -> None:
    for document in load(path):
        check(path, document)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_letter_too_many_in_any_key_is_refused(path: Path) -> None:
    for document in load(path):
        ways = keys_of(document)
        assert ways
        for way in ways:
            with pytest.raises((ValueError, ConfigurationError)):
                check(path, misspelt(document, way))
                pytest.fail(f"{path.name} was accepted with {'.'.join(map(str, way))}x")


def test_the_readme_names_each_file() -> None:
    readme = (CLUSTER / "README.md").read_text()
    for path in CLUSTER.glob("*.yaml"):
        assert f"| [{path.name}]({path.name}) |" in readme
        if "apiVersion" in load(path)[0]:
            assert f"-f cluster/{path.name}" in readme, "it is applied nowhere"
    assert {path.parent for path in FILES} == {CLUSTER, CONFIGS}


def test_the_readme_makes_a_prometheus_rule_of_the_alerts() -> None:
    readme = (CLUSTER / "README.md").read_text()
    (command,) = re.findall(r"^\{ printf .*?\} \| kubectl apply -f -$", readme, re.M | re.S)
    command = command.removesuffix("| kubectl apply -f -")
    run = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, check=True)
    rule = yaml.safe_load(run.stdout)
    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    (monitor,) = load(CLUSTER / "podmonitor.yaml")
    assert rule["metadata"] == monitor["metadata"], "Prometheus selects both by one label"
    assert rule["spec"] == yaml.safe_load((CLUSTER / "prometheus" / "alerts.yaml").read_text())


def test_with_ray_up_a_rollout_needs_no_machine_besides() -> None:
    """The readme's `sed`, at the file's place in the checkout."""
    readme = (CLUSTER / "README.md").read_text()
    (command,) = re.findall(r"'(sed .*) >/tmp/serve\.yaml'", readme)
    command = command.replace("/app/", f"{ROOT}/")
    run = subprocess.run(["sh", "-c", command], capture_output=True, check=True)
    config = yaml.safe_load(run.stdout)
    check_serve_config(config)
    (application,) = config["applications"]
    assert {each["max_surge_percent"] for each in application["deployments"]} == {0}
