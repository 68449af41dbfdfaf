"""cluster/: the files agree with each other and with their serve.yaml; pods have no needless rights."""

import math
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import write_rayservice
import yaml
from manifests.files import CLUSTER, CONFIGS, ROOT, load, with_haproxy
from ray._private import ray_constants

from serve_app import cli

SERVICE = load(CLUSTER / "rayservice.yaml")[0]
RAY = SERVICE["spec"]["rayClusterConfig"]
GROUPS = {group["groupName"]: group for group in RAY["workerGroupSpecs"]}
JOB = load(CLUSTER / "rayjob.yaml")[0]["spec"]
JOB_RAY = JOB["rayClusterSpec"]
STORAGE = load(CLUSTER / "storage.yaml")
TEMPLATES = {
    "head": RAY["headGroupSpec"]["template"],
    **{name: group["template"] for name, group in GROUPS.items()},
    "batch head": JOB_RAY["headGroupSpec"]["template"],
    "batch gpu": JOB_RAY["workerGroupSpecs"][0]["template"],
    "batch submitter": JOB["submitterPodTemplate"],
}
PODS = {
    **{name: template["spec"] for name, template in TEMPLATES.items()},
    "storage": next(each["spec"] for each in STORAGE if each["kind"] == "Pod"),
}
RAY_PODS = ["head", *GROUPS]
DRAIN_TIMEOUT = "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
CONFIG = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
APPLICATION = CONFIG["applications"][0]
GATEWAY, REDIRECT, ROUTE = load(CLUSTER / "gateway.yaml")


def container(pod: str) -> dict[str, Any]:
    (only,) = PODS[pod]["containers"]
    found: dict[str, Any] = only
    return found


def resources_at_most(deployment: dict[str, Any], resource: str) -> float:
    """Of all its replicas, those that a rollout adds among them."""
    scaling = deployment["autoscaling_config"]
    surge = 1 + deployment["max_surge_percent"] / 100
    each: float = deployment["ray_actor_options"].get(resource, 0)
    num_replicas: int = math.ceil(scaling["max_replicas"] * surge)
    return num_replicas * each


def test_it_holds_the_config_for_many_gpus() -> None:
    text = (CLUSTER / "rayservice.yaml").read_text()
    config = (CONFIGS / "serve.multi-gpu.yaml").read_text()
    assert text == write_rayservice.with_config(text, config), "run scripts/write_rayservice.py"
    assert yaml.safe_load(config) == CONFIG


def test_versions_and_images_are_those_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for version in (RAY["rayVersion"], JOB_RAY["rayVersion"]):
        assert f"ray[serve]=={version}" in project["dependencies"]
    targets = {pod: "gpu" if pod.endswith("gpu") else "cpu" for pod in PODS}
    for pod, target in targets.items():
        assert container(pod)["image"] == image(target, project["version"])
    up = load(CLUSTER / "ray-up.yaml")[0]["docker"]["image"]
    assert up == image("gpu", project["version"])


def image(target: str, version: str) -> str:
    """As README's `sed` and `docker build` name it."""
    return f"registry.example.org/emotion-llama:{target}-{version}"


@pytest.mark.parametrize("pod", PODS)
def test_whoever_asks_for_a_gpu_may_go_where_one_is(pod: str) -> None:
    asks = "nvidia.com/gpu" in container(pod)["resources"]["limits"]
    tolerated = [each["key"] for each in PODS[pod].get("tolerations", [])]
    assert tolerated == (["nvidia.com/gpu"] if asks else [])


@pytest.mark.parametrize("pod", PODS)
def test_what_a_pod_mounts_is_made_by_the_files_or_the_readme(pod: str) -> None:
    claims = {each["metadata"]["name"] for each in STORAGE if "accessModes" in each["spec"]}
    readme = (CLUSTER / "README.md").read_text()
    for volume in PODS[pod]["volumes"]:
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in claims
        if "secret" in volume:
            assert f"kubectl create secret generic {volume['secret']['secretName']}" in readme
    writable = {each["mountPath"] for each in container(pod)["volumeMounts"]}
    assert "/tmp" in writable, "the root is read-only"
    if pod in (*RAY_PODS, "batch head", "batch gpu"):
        assert "ephemeral-storage" in container(pod)["resources"]["requests"]


@pytest.mark.parametrize("pod", PODS)
def test_a_pod_has_no_right_that_it_does_not_need(pod: str) -> None:
    security = container(pod)["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert PODS[pod]["securityContext"]["runAsNonRoot"] is True
    assert PODS[pod]["securityContext"]["runAsUser"] >= 1000
    # The autoscaler, beside the head, asks Kubernetes for pods.
    assert PODS[pod].get("automountServiceAccountToken", True) is (pod == "head")


def test_the_autoscaler_has_no_more_rights() -> None:
    security = RAY["autoscalerOptions"]["securityContext"]
    assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("pod", RAY_PODS)
def test_model_and_keys_are_where_the_config_looks(pod: str) -> None:
    mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
    wanted = (APPLICATION["args"]["model"], APPLICATION["args"]["access"]["keys_file"])
    for path in wanted:
        assert mounts[str(Path(path).parent)]["readOnly"] is True
    assert {"/tmp", "/home/ray"} <= mounts.keys(), "Ray and the engines write there"


def test_the_batch_is_a_command_about_what_its_pods_mount() -> None:
    command, *arguments = shlex.split(JOB["entrypoint"])
    assert command == "emotion-llama"
    parsed = cli._parser().parse_args(arguments)
    assert parsed.resume, "a job that is applied again goes on"
    assert JOB["backoffLimit"] == 0, "rows with errors would start another cluster"
    for pod in ("batch head", "batch gpu"):
        mounts = {mount["mountPath"]: mount for mount in container(pod)["volumeMounts"]}
        assert {"/tmp", "/home/ray"} <= mounts.keys()
        for path in (parsed.input, parsed.output, parsed.report):
            assert not mounts[str(Path(path).parent)].get("readOnly", False)
        assert mounts[str(Path(parsed.model).parent)]["readOnly"] is True


def test_the_token_and_the_keys_are_both_asked_for() -> None:
    assert RAY["authOptions"] == JOB_RAY["authOptions"] == {"mode": "token"}
    assert "open" not in APPLICATION["args"]["access"]


def test_nothing_is_held_when_nothing_is_deployed() -> None:
    assert {group["minReplicas"] for group in GROUPS.values()} == {0}
    assert RAY["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_groups_hold_what_the_config_may_ask_for() -> None:
    limits = {name: container(name)["resources"]["limits"] for name in GROUPS}
    stages = {each["name"]: each for each in APPLICATION["deployments"]}
    num_gpus = int(limits["gpu"]["nvidia.com/gpu"])
    wanted = resources_at_most(stages["Generator"], "num_gpus")
    assert wanted <= GROUPS["gpu"]["maxReplicas"] * num_gpus
    assert stages["Generator"]["ray_actor_options"]["num_cpus"] <= int(limits["gpu"]["cpu"])
    # At worst the Preprocessors fill pods before an Ingress comes, and no two of that share a pod.
    num_cpus = int(limits["cpu"]["cpu"])
    for_ingress = resources_at_most(stages["Ingress"], "num_cpus")
    for_preprocessors = math.ceil(resources_at_most(stages["Preprocessor"], "num_cpus") / num_cpus)
    assert for_ingress + for_preprocessors <= GROUPS["cpu"]["maxReplicas"]


def test_nothing_but_an_engine_finds_a_place_beside_a_gpu() -> None:
    """An Ingress there would hold the GPU's machine when its engine has gone."""
    (generator,) = (each for each in APPLICATION["deployments"] if each["name"] == "Generator")
    offered = GROUPS["gpu"]["rayStartParams"]["num-cpus"]
    assert int(offered) == generator["ray_actor_options"]["num_cpus"]


def test_one_machine_never_holds_all_that_answer() -> None:
    (ingress,) = (each for each in APPLICATION["deployments"] if each["name"] == "Ingress")
    assert ingress["max_replicas_per_node"] == 1 < ingress["autoscaling_config"]["min_replicas"]
    (budget,) = load(CLUSTER / "disruptionbudget.yaml")
    selected = budget["spec"]["selector"]["matchLabels"]
    assert selected == TEMPLATES["cpu"]["metadata"]["labels"] | {"ray.io/group": "cpu"}
    assert budget["spec"]["minAvailable"] < ingress["autoscaling_config"]["min_replicas"]
    (spread,) = PODS["cpu"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == selected


@pytest.mark.parametrize("pod", ["head", "batch head"])
def test_nobody_moves_a_head_to_save_a_machine(pod: str) -> None:
    annotations = TEMPLATES[pod]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert annotations["karpenter.sh/do-not-disrupt"] == "true"


def test_the_old_cluster_outlives_the_longest_request() -> None:
    longest = max(each["graceful_shutdown_timeout_s"] for each in APPLICATION["deployments"])
    assert longest > APPLICATION["args"]["limits"]["request_timeout_s"]
    assert SERVICE["spec"]["rayClusterDeletionDelaySeconds"] > longest


@pytest.mark.parametrize("group", GROUPS)
def test_a_pod_that_ends_has_time_to_drain(group: str) -> None:
    """SIGTERM reaches `ray start --block`, which drains its node; after that time it kills what is left."""
    assert hasattr(ray_constants, DRAIN_TIMEOUT), "Ray reads it no more"
    (variable,) = container(group)["env"]
    assert variable["name"] == DRAIN_TIMEOUT
    drain_s = float(variable["value"])
    longest_s = max(each["graceful_shutdown_timeout_s"] for each in APPLICATION["deployments"])
    assert drain_s > 300 + longest_s, (
        "a GPU's machine and an engine start before the replica here ends"
    )
    assert PODS[group]["terminationGracePeriodSeconds"] > drain_s


def test_the_port_is_one_and_the_same() -> None:
    port = CONFIG["http_options"]["port"]
    for pod in RAY_PODS:
        ports = {each["name"]: each["containerPort"] for each in container(pod)["ports"]}
        assert ports["serve"] == port
    for pod in GROUPS:
        assert container(pod)["readinessProbe"]["httpGet"]["port"] == port
    policy = load(CLUSTER / "networkpolicy.yaml")[0]["spec"]
    assert {"protocol": "TCP", "port": port} in policy["ingress"][1]["ports"]


def test_the_head_is_ready_before_there_is_an_application() -> None:
    """KubeRay deploys it to a head that is ready: one that waited for it would wait for ever."""
    assert container("head")["readinessProbe"]["httpGet"]["path"] == "/api/healthz"


@pytest.mark.parametrize("pod", GROUPS)
def test_a_worker_answers_for_itself_alone(pod: str) -> None:
    """/readyz goes to any ingress replica: one that starts or is full would take healthy pods away."""
    assert container(pod)["readinessProbe"]["httpGet"]["path"] == "/-/healthz"


def test_the_monitor_and_the_policies_find_the_pods() -> None:
    labels = [template["metadata"]["labels"] for template in TEMPLATES.values()]
    (monitor,) = load(CLUSTER / "podmonitor.yaml")
    policy, head_policy, gateway_policy = load(CLUSTER / "networkpolicy.yaml")
    for each in labels:
        assert monitor["spec"]["selector"]["matchLabels"] == each
        assert policy["spec"]["podSelector"]["matchLabels"] == each
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    (job,) = (each for each in endpoint["relabelings"] if each["targetLabel"] == "job")
    alerts = (CLUSTER / "prometheus" / "alerts.yaml").read_text()
    assert f'up{{job="{job["replacement"]}"}}' in alerts
    for pod in (*RAY_PODS, "batch head", "batch gpu"):
        ports = {port["name"]: port["containerPort"] for port in container(pod)["ports"]}
        assert ports[endpoint["port"]] == policy["spec"]["ingress"][2]["ports"][0]["port"]
    assert head_policy["spec"]["podSelector"]["matchLabels"]["ray.io/node-type"] == "head"
    selected = gateway_policy["spec"]["podSelector"]["matchLabels"].values()
    assert list(selected) == [f"{SERVICE['metadata']['name']}-gateway"]


def test_requests_come_over_tls_and_through_the_gateway_that_divides_them() -> None:
    upgrade = SERVICE["spec"]["upgradeStrategy"]["clusterUpgradeOptions"]
    (rule,) = ROUTE["spec"]["rules"]
    name = f"{SERVICE['metadata']['name']}-gateway-{upgrade['gatewayClassName']}"
    assert rule["backendRefs"] == [{"name": name, "port": 80}]
    assert GATEWAY["metadata"]["name"] != f"{SERVICE['metadata']['name']}-gateway", "KubeRay's own"
    listeners = {each["name"]: each for each in GATEWAY["spec"]["listeners"]}
    assert listeners["https"]["tls"]["mode"] == "Terminate"
    assert [parent["sectionName"] for parent in ROUTE["spec"]["parentRefs"]] == ["https"]
    assert [parent["sectionName"] for parent in REDIRECT["spec"]["parentRefs"]] == ["http"]
    assert "backendRefs" not in REDIRECT["spec"]["rules"][0]
    limit = APPLICATION["args"]["limits"]["request_timeout_s"]
    assert int(rule["timeouts"]["request"].removesuffix("s")) > limit


def test_haproxy_is_on_every_pod_or_on_none() -> None:
    (patch,) = load(CLUSTER / "haproxy.patch.yaml")
    cluster = with_haproxy(patch)["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (only,) = group["template"]["spec"]["containers"]
        assert {"name": "RAY_SERVE_ENABLE_HA_PROXY", "value": "1"} in only["env"]
    assert {each["name"] for each in only["env"]} > {DRAIN_TIMEOUT}, "it is kept"
    assert "HA_PROXY" not in (CLUSTER / "rayservice.yaml").read_text()


def test_ray_up_holds_one_engine_on_each_worker() -> None:
    (config,) = load(CLUSTER / "ray-up.yaml")
    assert config["min_workers"] == config["max_workers"] == len(config["provider"]["worker_ips"])
    assert "--num-cpus=0" in config["head_start_ray_commands"][1]
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    mounted = [each.split()[1].split(":")[1] for each in config["docker"]["run_options"][2:]]
    assert mounted == ["/models", "/etc/emotion-llama"]
