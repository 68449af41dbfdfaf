"""Writes cluster/grafana/emotion-llama.json: python scripts/make_dashboard.py"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "cluster" / "grafana" / "emotion-llama.json"
WIDTH, HEIGHT, COLUMNS = 8, 8, 3  # size of a panel, panels in a row; Grafana's grid is 24 wide

REQUESTS = "ray_emotion_llama_requests_total"
ASKED = f'{REQUESTS}{{route!~"/healthz|/readyz|/v1/status"}}'
STAGE = "ray_emotion_llama_stage_seconds_bucket"
TOKENS = "ray_emotion_llama_tokens_total"
ATTEMPTS = "ray_emotion_llama_attempts_total"
CLIPS = "ray_emotion_llama_clips_total"
OURS = 'deployment=~"Ingress|Preprocessor|Generator"'


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph over time, with one query for each legend."""

    title: str
    unit: str  # by Grafana's name
    queries: dict[str, str]
    description: str = ""


def quantile(share: float, stage: str) -> str:
    return f'histogram_quantile({share}, sum by (le) (rate({STAGE}{{stage="{stage}"}}[5m])))'


def rate(metric: str, by: str = "") -> str:
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}[5m]))"


def share(part: str, whole: str) -> str:
    return f"{rate(part)} / {rate(whole)}"


ROWS: dict[str, list[Panel]] = {
    "Requests": [
        Panel("Requests by route", "reqps", {"{{route}}": rate(ASKED, "route")}),
        Panel(
            "Errors by code",
            "reqps",
            {"{{status}} {{code}}": rate(f'{REQUESTS}{{code!~"none|not_ready"}}', "status, code")},
        ),
        Panel("Requests by key", "reqps", {"{{key}}": rate(ASKED, "key")}),
        Panel(
            "Attempts that came to nothing, in all",
            "short",
            {"{{outcome}}": f"sum by (outcome) ({ATTEMPTS})"},
            "The ingress asked another replica instead. Falls when an ingress replica ends.",
        ),
    ],
    "Latency": [
        Panel(
            "Answers",
            "s",
            {f"p{int(each * 100)}": quantile(each, "total") for each in (0.5, 0.95, 0.99)},
            "From a request's arrival to its last token.",
        ),
        Panel(
            "Stages, p95",
            "s",
            {stage: quantile(0.95, stage) for stage in ("decode", "queue", "first_token")},
            "decode: of the clip. queue: all waiting. first_token: from the arrival on.",
        ),
        Panel(
            "Between tokens, p95",
            "s",
            {
                "inter-token": "histogram_quantile(0.95, "
                "sum by (le) (rate(ray_vllm_inter_token_latency_seconds_bucket[5m])))"
            },
        ),
    ],
    "Load": [
        Panel(
            "Requests inside the ingress",
            "short",
            {"inside": "sum(ray_emotion_llama_requests_in_flight)"},
        ),
        Panel("Oldest request", "s", {"oldest": "max(ray_emotion_llama_oldest_request_seconds)"}),
        Panel(
            "Queues of the deployments",
            "short",
            {
                "{{deployment}}": "sum by (deployment) "
                f"(ray_serve_deployment_queued_queries{{{OURS}}})"
            },
        ),
        Panel(
            "Clips waiting, p95",
            "s",
            {
                "wait": "histogram_quantile(0.95, "
                "sum by (le) (rate(ray_emotion_llama_clip_wait_seconds_bucket[5m])))"
            },
            "For a decode worker.",
        ),
        Panel(
            "Batch of the engines",
            "short",
            {"{{state}}": "sum by (state) (ray_emotion_llama_engine_requests)"},
        ),
        Panel(
            "KV cache in use",
            "percentunit",
            {"{{NodeAddress}}": "max by (NodeAddress) (ray_emotion_llama_kv_cache_usage)"},
        ),
    ],
    "Tokens and caches": [
        Panel("Tokens", "short", {"{{kind}} per second": rate(TOKENS, "kind")}),
        Panel(
            "Hits",
            "percentunit",
            {
                "held clips": share(f'{CLIPS}{{result="hit"}}', CLIPS),
                "prefix cache, tokens": share(
                    "ray_vllm_prefix_cache_hits_total", "ray_vllm_prefix_cache_queries_total"
                ),
                "clips in the engine": share(
                    "ray_vllm_mm_cache_hits_total", "ray_vllm_mm_cache_queries_total"
                ),
                "answers": share(
                    'ray_emotion_llama_answer_cache_total{result="hit"}',
                    "ray_emotion_llama_answer_cache_total",
                ),
            },
        ),
        Panel(
            "Clips that could not be had",
            "cps",
            {"{{code}}": rate("ray_emotion_llama_clip_failures_total", "code")},
        ),
    ],
    "Machines": [
        Panel(
            "Replicas wanted",
            "short",
            {
                "{{deployment}}": "max by (deployment) "
                f"(ray_serve_autoscaling_target_replicas{{{OURS}}})"
            },
        ),
        Panel(
            "Status of the deployments",
            "short",
            {"{{deployment}}": f"min by (deployment) (ray_serve_deployment_status{{{OURS}}})"},
            "6 healthy, 5 downscaling, 4 upscaling, 3 updating, 2 unhealthy, 1 deploy failed",
        ),
        Panel(
            "GPUs in use",
            "percent",
            {"{{ip}} GPU {{GpuIndex}}": "ray_node_gpus_utilization"},
        ),
        Panel("GPU memory", "decmbytes", {"{{ip}} GPU {{GpuIndex}}": "ray_node_gram_used"}),
        Panel("CPU", "percent", {"{{ip}}": "ray_node_cpu_utilization"}),
        Panel("Memory", "bytes", {"{{ip}}": "ray_node_mem_used"}),
    ],
}


def dashboard() -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        place = {"h": 1, "w": 24, "x": 0, "y": top}
        panels.append({"id": len(panels) + 1, "type": "row", "title": title, "gridPos": place})
        top += 1
        for number, panel in enumerate(row):
            x, y = number % COLUMNS * WIDTH, top + number // COLUMNS * HEIGHT
            place = {"h": HEIGHT, "w": WIDTH, "x": x, "y": y}
            panels.append({"id": len(panels) + 1, "gridPos": place, **_graph(panel)})
        top += -(-len(row) // COLUMNS) * HEIGHT
    return {
        "uid": "emotion-llama",
        "title": "Emotion-LLaMA",
        "schemaVersion": 39,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    }


def _graph(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + number), "expr": query, "legendFormat": legend}
        for number, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.description,
        "datasource": {"type": "prometheus", "uid": "${source}"},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": targets,
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(dashboard(), indent=1) + "\n")
