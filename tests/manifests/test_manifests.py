"""cluster/ and configs/: every file has the form that its reader expects, down to each key."""

from pathlib import Path

import pytest
from manifests.files import CLUSTER, CONFIGS, FILES, check, load
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


def test_the_files_are_those_that_the_docs_name() -> None:
    named = {path.name for path in FILES}
    assert {"rayservice.yaml", "podmonitor.yaml", "networkpolicy.yaml", "gateway.yaml"} <= named
    assert {"storage.yaml", "ray-up.yaml", "values.yaml"} <= named
    assert {path.parent for path in FILES} == {CLUSTER, CONFIGS}
