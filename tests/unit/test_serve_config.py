"""serve.yaml: the shipped file is valid; every misspelt key is an error that names its path."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from serve_app import app, serve_config
from serve_app.deployments.generator import Generator
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.preprocessor import Preprocessor
from serve_app.errors import ConfigurationError
from serve_app.ray_start import MIN_LOCAL_CPUS
from serve_app.serve_config import app_settings, load_serve_config
from serve_app.settings import AppSettings, EngineLoadSettings, Settings

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
LAPTOP = next(path for path in CONFIGS if path.name == "serve.yaml")


def write(raw: Any, folder: Path) -> Path:
    path = folder / "serve.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_config_loads_and_builds(path: Path, tiny_checkpoint: Path) -> None:
    config = load_serve_config(path, model=tiny_checkpoint)
    access = app_settings(config).access
    assert config.http_options.host == "127.0.0.1" or access.keys_file, "strangers could ask"
    assert app.build(app_settings(config)) is not None


def test_the_known_deployment_names_are_those_of_the_application() -> None:
    names = {deployment.__name__ for deployment in (Ingress, Preprocessor, Generator)}
    assert names == serve_config.DEPLOYMENT_NAMES


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_deployment_has_bounded_queues(path: Path) -> None:
    for deployment in yaml.safe_load(path.read_text())["applications"][0]["deployments"]:
        assert deployment["max_queued_requests"] > 0, deployment["name"]
        assert deployment["max_ongoing_requests"] > 0, deployment["name"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_engine_always_has_a_request_to_start(path: Path) -> None:
    application = yaml.safe_load(path.read_text())["applications"][0]
    generator = next(each for each in application["deployments"] if each["name"] == "Generator")
    assert generator["max_ongoing_requests"] == 1.5 * application["args"]["engine"]["max_num_seqs"]


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if "-gpu" in path.name], ids=lambda path: path.name
)
def test_a_replica_of_one_gpu_asks_for_it(path: Path) -> None:
    application = yaml.safe_load(path.read_text())["applications"][0]
    generator = next(each for each in application["deployments"] if each["name"] == "Generator")
    assert generator["ray_actor_options"]["num_gpus"] == 1
    assert application["args"]["engine"]["dtype"] == "bfloat16"


def test_two_cores_hold_the_two_replicas_of_each_stage_and_those_of_a_rollout() -> None:
    raw = yaml.safe_load(LAPTOP.with_name("serve.two-replicas.yaml").read_text())
    num_cpus = 0.0
    for deployment in raw["applications"][0]["deployments"]:
        assert (deployment["num_replicas"], deployment["max_surge_percent"]) == (2, 50)
        num_cpus += 3 * deployment["ray_actor_options"]["num_cpus"]
    assert num_cpus <= MIN_LOCAL_CPUS


def test_tensor_parallel_workers_find_a_gpu_in_every_bundle_and_the_replica_takes_none() -> None:
    path = LAPTOP.with_name("serve.tensor-parallel.yaml")
    application = yaml.safe_load(path.read_text())["applications"][0]
    engine = application["args"]["engine"]
    generator = next(each for each in application["deployments"] if each["name"] == "Generator")
    bundles, options = generator["placement_group_bundles"], generator["ray_actor_options"]
    assert [bundle["GPU"] for bundle in bundles] == [1] * engine["tensor_parallel_size"]
    assert options == {"num_cpus": bundles[0]["CPU"]}
    assert generator["placement_group_strategy"] == "STRICT_PACK"
    assert engine["extra_args"] == {"distributed_executor_backend": "ray"}


def mappings(node: Any, where: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every mapping in the file."""
    if isinstance(node, dict):
        return [where, *(p for key, value in node.items() for p in mappings(value, (*where, key)))]
    if isinstance(node, list):
        return [p for i, value in enumerate(node) for p in mappings(value, (*where, i))]
    return []


@pytest.mark.parametrize(
    "where", mappings(yaml.safe_load(LAPTOP.read_text())), ids=lambda w: ".".join(map(str, w))
)
def test_a_misspelt_key_is_refused_at_every_level(where: tuple[Any, ...], tmp_path: Path) -> None:
    raw = copy.deepcopy(yaml.safe_load(LAPTOP.read_text()))
    node = raw
    for step in where:
        node = node[step]
    node["num_replica"] = 2
    with pytest.raises(ConfigurationError, match="num_replica"):
        load_serve_config(write(raw, tmp_path))


def test_an_unknown_deployment_is_refused(tmp_path: Path) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["applications"][0]["deployments"][0]["name"] = "Ingres"
    with pytest.raises(ConfigurationError, match="found Generator, Ingres, Preprocessor; expected"):
        load_serve_config(write(raw, tmp_path))


def test_a_deployment_left_out_is_refused(tmp_path: Path) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    del raw["applications"][0]["deployments"][1]
    with pytest.raises(ConfigurationError, match="found Generator, Ingress; expected"):
        load_serve_config(write(raw, tmp_path))


@pytest.mark.parametrize("deployments", [None, "Ingress", ["Ingress"]])
def test_deployments_of_another_type_are_refused(tmp_path: Path, deployments: Any) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["applications"][0]["deployments"] = deployments
    with pytest.raises(ConfigurationError, match="expected a list of mappings"):
        load_serve_config(write(raw, tmp_path))


@pytest.mark.parametrize(
    ("section", "key"), [("grpc_options", "portt"), ("tracing_config", "enabledd")]
)
def test_sections_the_file_does_not_use_are_strict_too(
    tmp_path: Path, section: str, key: str
) -> None:
    raw = yaml.safe_load(LAPTOP.read_text()) | {section: {key: 1}}
    with pytest.raises(ConfigurationError, match=f"unknown key {section}.{key}"):
        load_serve_config(write(raw, tmp_path))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("media", "max_duration_s", -1), ("sampling", "repetition_penalty", 0.001)],
)
def test_a_value_out_of_range_names_its_key(
    section: str, key: str, value: float, tmp_path: Path
) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["applications"][0]["args"][section][key] = value
    with pytest.raises(ConfigurationError, match=rf"applications\.0\.args\.{section}\.{key}"):
        load_serve_config(write(raw, tmp_path))


def knobs(model: type[Settings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            yield from knobs(field.annotation)
        else:
            yield f"{model.__name__}.{name}", field


def test_every_knob_is_described() -> None:
    """serve.yaml sends its readers to settings.py."""
    found = [*knobs(AppSettings), *knobs(EngineLoadSettings)]
    assert len(found) > 60
    assert [name for name, field in found if not field.description] == []


def test_a_rate_that_is_none_says_how_to_write_one(tmp_path: Path) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["applications"][0]["args"]["access"] = {"rate": "often"}
    with pytest.raises(ConfigurationError, match=r"access\.rate: .*'often' is no rate; write 10/m"):
        load_serve_config(write(raw, tmp_path))


def test_options_replace_model_and_port(tmp_path: Path) -> None:
    config = load_serve_config(LAPTOP, model=tmp_path, port=8123)
    assert config.http_options.port == 8123
    assert app_settings(config).model == tmp_path


def scaled(policy: dict[str, Any], **options: Any) -> Any:
    """The laptop's file with one to three Generator replicas."""
    raw = yaml.safe_load(LAPTOP.read_text())
    generator = raw["applications"][0]["deployments"][2]
    generator["autoscaling_config"] |= {"max_replicas": 3, "policy": policy}
    generator |= options
    return raw


ENGINE_LOAD = {"policy_function": serve_config.LOAD_POLICY, "policy_kwargs": {"tolerance": 0.2}}


def test_the_shipped_generator_has_the_policys_defaults_and_may_scale_to_zero(
    tmp_path: Path,
) -> None:
    """As docs/decisions/autoscaling.md says."""
    raw = yaml.safe_load(LAPTOP.read_text())
    multi_gpu = yaml.safe_load(LAPTOP.with_name("serve.multi-gpu.yaml").read_text())
    generator = multi_gpu["applications"][0]["deployments"][2]
    scaling = generator["autoscaling_config"]
    assert scaling["policy"]["policy_kwargs"] == EngineLoadSettings().model_dump()
    scaling |= {"min_replicas": 0, "downscale_to_zero_delay_s": 900}
    raw["applications"][0]["deployments"][2] = generator
    load_serve_config(write(raw, tmp_path))


def test_the_policy_by_engine_load_is_accepted(tmp_path: Path) -> None:
    load_serve_config(write(scaled(ENGINE_LOAD), tmp_path))


def test_serves_own_autoscaling_is_accepted(tmp_path: Path) -> None:
    raw = scaled({}, num_replicas="auto")
    del raw["applications"][0]["deployments"][2]["autoscaling_config"]
    load_serve_config(write(raw, tmp_path))


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        (
            ENGINE_LOAD | {"policy_kwargs": {"tolerence": 0.2}},
            r"Generator\.autoscaling_config\.policy\.policy_kwargs\.tolerence",
        ),
        (ENGINE_LOAD | {"policy_kwargs": {"tolerance": 2}}, r"policy_kwargs\.tolerance"),
        ({"policy_function": serve_config.LOAD_POLICY + "2"}, "EngineLoadPolicy2"),
        ({"policy_function": "serve_app.autoscalng:Policy"}, "autoscalng"),
        (ENGINE_LOAD | {"policy_kwarg": {}}, "policy.policy_kwarg"),
    ],
    ids=["unknown argument", "out of range", "no such class", "no such module", "unknown key"],
)
def test_a_wrong_policy_is_named(policy: dict[str, Any], named: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=named):
        load_serve_config(write(scaled(policy), tmp_path))


def test_a_request_router_that_is_not_there_is_not_called_a_policy(tmp_path: Path) -> None:
    router = {"request_router_config": {"request_router_class": "serve_app.ruoter:Router"}}
    with pytest.raises(ConfigurationError, match=r"imported: .*ruoter") as raised:
        load_serve_config(write(scaled(ENGINE_LOAD, **router), tmp_path))
    assert "policy" not in raised.value.message


@pytest.mark.parametrize("port", [None, 8123])
@pytest.mark.parametrize("options", [None, "127.0.0.1", []], ids=repr)
def test_http_options_of_another_type_are_refused(
    options: Any, port: int | None, tmp_path: Path
) -> None:
    raw = yaml.safe_load(LAPTOP.read_text()) | {"http_options": options}
    with pytest.raises(ConfigurationError, match="http_options: expected a mapping"):
        load_serve_config(write(raw, tmp_path), port=port)


@pytest.mark.parametrize("name", ["Ingress", "Preprocessor", "Generator"])
@pytest.mark.parametrize("drain_s", [27, None])
def test_a_drain_shorter_than_the_deadline_is_refused(
    name: str, drain_s: int | None, tmp_path: Path
) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    deployments = {each["name"]: each for each in raw["applications"][0]["deployments"]}
    del deployments[name]["graceful_shutdown_timeout_s"]  # Serve's own is 20
    deployments[name] |= {} if drain_s is None else {"graceful_shutdown_timeout_s": drain_s}
    with pytest.raises(
        ConfigurationError, match=rf"{name}\.graceful_shutdown_timeout_s: 2[07].* 28\.0 s"
    ):
        load_serve_config(write(raw, tmp_path))


def test_a_proxy_that_gives_up_before_our_limits_do_is_refused(tmp_path: Path) -> None:
    raw = yaml.safe_load(LAPTOP.read_text())
    raw["http_options"]["request_timeout_s"] = 1446  # 10 + 88 MiB / 64 KiB/s + 28
    with pytest.raises(
        ConfigurationError, match=r"request_timeout_s: 1446\.0 s.* 1418 s .* 28\.0 s"
    ):
        load_serve_config(write(raw, tmp_path))
    raw["http_options"]["request_timeout_s"] = 1447
    load_serve_config(write(raw, tmp_path))
