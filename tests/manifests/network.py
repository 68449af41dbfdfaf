"""What stands around the pods, as strict models: NetworkPolicy, the Gateway API, PodMonitor."""

from typing import Annotated, Literal

from manifests.kubernetes import HostName, Metadata, Name, Port, Selector, Strict
from pydantic import Field, model_validator


class IpBlock(Strict):
    cidr: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+\.\d+/\d+$")]


class Peer(Strict):
    podSelector: Selector | None = None
    namespaceSelector: Selector | None = None
    ipBlock: IpBlock | None = None


class PolicyPort(Strict):
    protocol: Literal["TCP", "UDP"]
    port: Port


# An empty list of peers, or none at all, would be everybody.
Peers = Annotated[list[Peer], Field(min_length=1)]


class IngressRule(Strict):
    from_: Peers = Field(alias="from")
    ports: list[PolicyPort] = Field(default=[])


class EgressRule(Strict):
    to: Peers
    ports: list[PolicyPort] = Field(default=[])


class NetworkPolicySpec(Strict):
    podSelector: Selector
    policyTypes: list[Literal["Ingress", "Egress"]]
    ingress: list[IngressRule] = Field(default=[])
    egress: list[EgressRule] = Field(default=[])


class NetworkPolicy(Strict):
    apiVersion: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: NetworkPolicySpec


class RouteNamespaces(Strict):
    from_: Literal["Same"] = Field(alias="from")


class AllowedRoutes(Strict):
    namespaces: RouteNamespaces


class CertificateRef(Strict):
    kind: Literal["Secret"]
    name: Name


class ListenerTls(Strict):
    mode: Literal["Terminate"]
    certificateRefs: Annotated[list[CertificateRef], Field(min_length=1)]


class Listener(Strict):
    name: Name
    protocol: Literal["HTTP", "HTTPS"]
    port: Port
    hostname: HostName
    tls: ListenerTls | None = None
    allowedRoutes: AllowedRoutes


class GatewaySpec(Strict):
    gatewayClassName: Name
    listeners: Annotated[list[Listener], Field(min_length=1)]


class Gateway(Strict):
    apiVersion: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["Gateway"]
    metadata: Metadata
    spec: GatewaySpec


class ParentRef(Strict):
    name: Name
    sectionName: Name


class RequestRedirect(Strict):
    scheme: Literal["https"]
    statusCode: Literal[301, 302]


class Filter(Strict):
    type: Literal["RequestRedirect"]
    requestRedirect: RequestRedirect


class PathMatch(Strict):
    type: Literal["PathPrefix", "Exact"]
    value: Annotated[str, Field(pattern=r"^/")]


class Match(Strict):
    path: PathMatch


class Timeouts(Strict):
    request: Annotated[str, Field(pattern=r"^\d+s$")]


class BackendRef(Strict):
    name: Name
    port: Port


class RouteRule(Strict):
    matches: list[Match] = Field(default=[])
    filters: list[Filter] = Field(default=[])
    timeouts: Timeouts | None = None
    backendRefs: list[BackendRef] = Field(default=[])


class HTTPRouteSpec(Strict):
    parentRefs: Annotated[list[ParentRef], Field(min_length=1)]
    hostnames: list[HostName]
    rules: Annotated[list[RouteRule], Field(min_length=1)]


class HTTPRoute(Strict):
    apiVersion: Literal["gateway.networking.k8s.io/v1"]
    kind: Literal["HTTPRoute"]
    metadata: Metadata
    spec: HTTPRouteSpec


class Relabeling(Strict):
    """Sets a label: to what the pod's label says, or to a text."""

    action: Literal["replace"]
    sourceLabels: list[Annotated[str, Field(pattern=r"^__meta_kubernetes_pod_label_\w+$")]] = Field(
        default=[]
    )
    replacement: str | None = None
    targetLabel: Annotated[str, Field(pattern=r"^[a-z_]+$")]

    @model_validator(mode="after")
    def _has_one_origin(self) -> "Relabeling":
        if bool(self.sourceLabels) == bool(self.replacement):
            raise ValueError("expected either sourceLabels or replacement")
        return self


class MetricsEndpoint(Strict):
    port: Name
    interval: Annotated[str, Field(pattern=r"^\d+s$")]
    relabelings: list[Relabeling]


class PodMonitorSpec(Strict):
    selector: Selector
    podMetricsEndpoints: Annotated[list[MetricsEndpoint], Field(min_length=1)]


class PodMonitor(Strict):
    apiVersion: Literal["monitoring.coreos.com/v1"]
    kind: Literal["PodMonitor"]
    metadata: Metadata
    spec: PodMonitorSpec
