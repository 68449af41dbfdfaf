"""The part of Kubernetes' objects that cluster/ uses, as strict models: an unknown key is refused."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
HostName = Annotated[str, Field(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)*$")]
Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
Port = Annotated[int, Field(gt=0, lt=65536)]
AbsolutePath = Annotated[str, Field(pattern=r"^/")]
Id = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(gt=0)]

# Maps are free in Kubernetes; these are the keys that mean something here.
LabelKey = Literal[
    "app",
    "release",
    "kubernetes.io/metadata.name",
    "gateway.networking.k8s.io/gateway-name",
    "ray.io/group",
    "ray.io/node-type",
]
AnnotationKey = Literal[
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "karpenter.sh/do-not-disrupt",
]
Labels = dict[LabelKey, str]
Resources = dict[Literal["cpu", "memory", "ephemeral-storage", "nvidia.com/gpu"], Quantity]


class Strict(BaseModel):
    """Base: no key but those of the model, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Selector(Strict):
    matchLabels: Labels


class Metadata(Strict):
    name: Name
    labels: Labels = {}


class PodMetadata(Strict):
    labels: Labels
    annotations: dict[AnnotationKey, str] = {}


class EnvironmentVariable(Strict):
    name: str
    value: str


class ContainerPort(Strict):
    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$", max_length=15)]
    containerPort: Port


class ResourceRequirements(Strict):
    requests: Resources
    limits: Resources


class Capabilities(Strict):
    drop: list[Literal["ALL"]]


class ContainerSecurity(Strict):
    allowPrivilegeEscalation: bool
    readOnlyRootFilesystem: bool = False
    capabilities: Capabilities


class SeccompProfile(Strict):
    type: Literal["RuntimeDefault"]


class PodSecurity(Strict):
    runAsNonRoot: bool
    runAsUser: Id
    runAsGroup: Id
    fsGroup: Id
    fsGroupChangePolicy: Literal["OnRootMismatch", "Always"]
    seccompProfile: SeccompProfile


class HttpGet(Strict):
    path: AbsolutePath
    port: Port


class Probe(Strict):
    httpGet: HttpGet
    initialDelaySeconds: Positive
    periodSeconds: Positive
    timeoutSeconds: Positive
    failureThreshold: Positive


class VolumeMount(Strict):
    name: Name
    mountPath: AbsolutePath
    readOnly: bool = False


class Container(Strict):
    name: Name
    image: Annotated[str, Field(pattern=r"^[a-z0-9./-]+:[\w.-]+$")]
    command: list[str] = []
    env: list[EnvironmentVariable] = []
    ports: list[ContainerPort] = []
    resources: ResourceRequirements
    readinessProbe: Probe | None = None
    livenessProbe: Probe | None = None
    securityContext: ContainerSecurity | None = None
    volumeMounts: list[VolumeMount]


class ClaimSource(Strict):
    claimName: Name
    readOnly: bool = False


class SecretSource(Strict):
    secretName: Name
    defaultMode: Annotated[int, Field(ge=0, le=0o777)]


class EmptyDir(Strict):
    sizeLimit: Quantity


class Volume(Strict):
    name: Name
    persistentVolumeClaim: ClaimSource | None = None
    secret: SecretSource | None = None
    emptyDir: EmptyDir | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> "Volume":
        if sum(map(bool, (self.persistentVolumeClaim, self.secret, self.emptyDir))) != 1:
            raise ValueError("expected one of persistentVolumeClaim, secret, emptyDir")
        return self


class Toleration(Strict):
    key: Literal["nvidia.com/gpu"]
    operator: Literal["Exists"]
    effect: Literal["NoSchedule"]


class TopologySpreadConstraint(Strict):
    maxSkew: Positive
    topologyKey: Literal["kubernetes.io/hostname"]
    whenUnsatisfiable: Literal["ScheduleAnyway", "DoNotSchedule"]
    labelSelector: Selector


class PodSpec(Strict):
    restartPolicy: Literal["Always", "OnFailure", "Never"] = "Always"
    automountServiceAccountToken: bool = True
    terminationGracePeriodSeconds: Positive = 30
    securityContext: PodSecurity | None = None
    tolerations: list[Toleration] = []
    topologySpreadConstraints: list[TopologySpreadConstraint] = []
    containers: Annotated[list[Container], Field(min_length=1)]
    volumes: list[Volume]

    @model_validator(mode="after")
    def _mounts_its_volumes(self) -> "PodSpec":
        known = {volume.name for volume in self.volumes}
        mounted = {mount.name for each in self.containers for mount in each.volumeMounts}
        if known != mounted:
            raise ValueError(f"volumes {sorted(known)} are mounted as {sorted(mounted)}")
        return self


class PodTemplate(Strict):
    metadata: PodMetadata | None = None
    spec: PodSpec


class Pod(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["Pod"]
    metadata: Metadata
    spec: PodSpec


class DisruptionBudgetSpec(Strict):
    # Kubernetes counts `maxUnavailable` and percentages by a scale subresource, which a RayCluster has not.
    minAvailable: Positive
    unhealthyPodEvictionPolicy: Literal["AlwaysAllow", "IfHealthyBudget"]
    selector: Selector


class PodDisruptionBudget(Strict):
    apiVersion: Literal["policy/v1"]
    kind: Literal["PodDisruptionBudget"]
    metadata: Metadata
    spec: DisruptionBudgetSpec


class ClaimResources(Strict):
    requests: dict[Literal["storage"], Quantity]


class ClaimSpec(Strict):
    accessModes: list[Literal["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]]
    resources: ClaimResources


class PersistentVolumeClaim(Strict):
    apiVersion: Literal["v1"]
    kind: Literal["PersistentVolumeClaim"]
    metadata: Metadata
    spec: ClaimSpec
