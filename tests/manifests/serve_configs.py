"""A serve.yaml as strictly as the product reads it, and its free mappings by the keys known here."""

import tempfile
from pathlib import Path
from typing import Any

import yaml

from serve_app.serve_config import load_serve_config

BUNDLE_RESOURCES = {"CPU", "GPU"}
EXTRA_ENGINE_ARGS = {"distributed_executor_backend"}


def check_serve_config(raw: Any) -> None:
    """Raises ConfigurationError or ValueError; names the key."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve.yaml"
        path.write_text(yaml.safe_dump(raw))
        load_serve_config(path)
    (application,) = raw["applications"]
    for deployment in application["deployments"]:
        for bundle in deployment.get("placement_group_bundles", []):
            _refuse(bundle.keys() - BUNDLE_RESOURCES, "placement_group_bundles")
    engine = application["args"].get("engine", {})
    _refuse(engine.get("extra_args", {}).keys() - EXTRA_ENGINE_ARGS, "extra_args")


def _refuse(unknown: set[str], where: str) -> None:
    if unknown:
        raise ValueError(f"{where}: unknown key {', '.join(sorted(unknown))}")
