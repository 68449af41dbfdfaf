"""KubeRay's own definitions, made strict, accept our manifests and refuse any key that is misspelt."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from manifests.files import CLUSTER, load, with_haproxy
from manifests.typos import Keys, keys_of, misspelt

CRDS = Path(__file__).parents[3] / "shared" / "crds"
MANIFESTS = [path for path in sorted(CLUSTER.glob("*.yaml")) if "ray.io/v1" in path.read_text()]
FREE = {"x-kubernetes-preserve-unknown-fields", "additionalProperties"}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not CRDS.is_dir(), reason=f"no {CRDS}"),
]


def strict(schema: Any) -> Any:
    """A copy that refuses what an API server would silently drop; maps stay free."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    copied = {key: strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.keys() & FREE:
        copied["additionalProperties"] = False
    return copied


def definition(kind: str) -> Draft202012Validator:
    crd = yaml.load((CRDS / f"ray.io_{kind.lower()}s.yaml").read_text(), yaml.CSafeLoader)
    (version,) = (each for each in crd["spec"]["versions"] if each["name"] == "v1")
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # any: the API server knows its form
    return Draft202012Validator(schema)


def names(schema: dict[str, Any], way: Keys) -> bool:
    """Does the schema name the last key of the way? Those of labels and of quantities are free."""
    for step in way[:-1]:
        below = schema.get("items") if isinstance(step, int) else schema["properties"].get(step)
        if below is None or "properties" not in (below.get("items") or below):
            return False
        schema = below
    return way[-1] in schema["properties"]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_manifest_is_what_kuberay_defines(path: Path) -> None:
    for document in load(path):
        definition(document["kind"]).validate(document)


def test_with_haproxy_it_is_too() -> None:
    (patch,) = load(CLUSTER / "haproxy.patch.yaml")
    definition("RayService").validate(with_haproxy(patch))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kuberay_defines_no_key_with_a_letter_too_many(path: Path) -> None:
    for document in load(path):
        defined = definition(document["kind"])
        ways = [way for way in keys_of(document) if names(defined.schema, way)]
        assert len(ways) > 20
        for way in ways:
            assert not defined.is_valid(misspelt(document, way)), ".".join(map(str, way))
