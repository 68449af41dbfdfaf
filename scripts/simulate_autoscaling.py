"""Simulates the Generator's autoscaling over a day, against a fixed fleet and Serve's own policy.

    python scripts/simulate_autoscaling.py --clips-per-day 10e6 --max-replicas 128 --png replicas.png

The policy is the object that Serve uses, and the router decides as the product's does; delays, limits and the
policy's arguments are those of --config. How long an engine takes is a parameter: give your own with
--latency-1-s, --rate and --num-clients, from `scripts/bench.py --only bare --config FILE --model DIR`
(docs/capacity.md). The same arguments and seed print the same numbers.
"""

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ray.serve.autoscaling_policy import default_autoscaling_policy
from scaling.autoscaler import Autoscaler
from scaling.deployed import Deployed, read_deployed
from scaling.fleet import READY, Fleet, FleetSettings, longest_step_s
from scaling.service import PROFILES, ServiceTimes
from scaling.traffic import DAY_S, TRAFFIC, arrivals

from serve_app.autoscaling import EngineLoadPolicy

CONFIG = Path(__file__).parents[1] / "configs" / "serve.multi-gpu.yaml"
GENTLE = 0.1
PERCENTILES = (50, 95, 99)
COLUMNS = (
    "strategy",
    "GPU hours",
    "most ready",
    "wait p50 / p95 / p99, s",
    "answer p50 / p95 / p99, s",
    "503",
    "504",
)
CHART_S = 60.0


@dataclass(frozen=True)
class Run:
    """The result of one strategy."""

    name: str
    fleet: Fleet
    gpu_hours: float
    num_ready: list[int]  # every CHART_S

    def percentiles_s(self, steps: Any) -> list[float]:
        """The percentiles, in seconds, of a histogram over steps."""
        shares = np.cumsum(steps) / max(1, steps.sum())
        return [float(np.searchsorted(shares, p / 100)) * self.fleet.step_s for p in PERCENTILES]


def run(
    name: str, fleet: Fleet, counts: Any, num_at_start: int, autoscaler: Autoscaler | None
) -> Run:
    """Simulates all of the traffic. The first replicas are ready at once; without an autoscaler they stay."""
    fleet.scale(num_at_start)
    fleet.ready_at[:] = 0
    num_ready = []
    every = round(CHART_S / fleet.step_s)
    for count in counts.tolist():
        fleet.step(count)
        if autoscaler is not None:
            autoscaler.look(fleet)
        if fleet.now % every == 0:
            num_ready.append(int((fleet.state == READY).sum()))
    gpu_hours = fleet.replica_steps * fleet.step_s / 3600
    return Run(name, fleet, gpu_hours, num_ready)


def needed_for(rate: float, service: ServiceTimes, settings: FleetSettings, share: float) -> int:
    """Replicas needed for a steady rate if each runs `share` of its max_num_seqs. At least one."""
    return max(1, int(np.ceil(rate / service.max_rate(share * settings.max_num_seqs))))


def simulate(
    rates: Any, service: ServiceTimes, deployed: Deployed, step_s: float, seed: int
) -> list[Run]:
    """Runs the same arrivals under each strategy. Serve's own policy gets the delays and target of ours."""
    counts = arrivals(rates, step_s, np.random.default_rng(seed))
    settings, config = deployed.fleet, deployed.autoscaling
    share = deployed.policy.target_seqs_share
    at_peak = min(needed_for(rates.max(), service, settings, share), settings.max_replicas)
    at_start = min(
        max(needed_for(rates[0], service, settings, share), config.min_replicas),
        settings.max_replicas,
    )
    gentle = config.model_copy(update={"downscaling_factor": GENTLE})
    policy = EngineLoadPolicy(**deployed.policy.model_dump())
    strategies: dict[str, tuple[int, Any]] = {
        f"fixed at the peak's {at_peak}": (at_peak, None),
        "Serve's ongoing requests": (at_start, Autoscaler(default_autoscaling_policy, config)),
        f"the same, downscaling_factor {GENTLE}": (
            at_start,
            Autoscaler(default_autoscaling_policy, gentle),
        ),
        "engine load": (at_start, Autoscaler(policy, config)),
    }
    return [
        run(
            name,
            Fleet(settings, service, step_s, np.random.default_rng(seed + 1)),
            counts,
            start,
            scaler,
        )
        for name, (start, scaler) in strategies.items()
    ]


def print_table(runs: list[Run]) -> None:
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for each in runs:
        fleet = each.fleet
        waits, times = (
            " / ".join(f"{value:.1f}" for value in each.percentiles_s(steps))
            for steps in (fleet.wait_steps, fleet.latency_steps)
        )
        print(
            f"| {each.name} | {each.gpu_hours:.1f} | {max(each.num_ready)} | {waits} | {times} "
            f"| {of_all(fleet.refused, fleet)} | {of_all(fleet.timed_out, fleet)} |"
        )


def of_all(count: int, fleet: Fleet) -> str:
    return f"{count} ({100 * count / max(1, fleet.arrived):.2f} %)" if count else "0"


def draw(path: Path, times_s: Any, rates: Any, runs: list[Run]) -> None:
    """Draws the traffic and the replicas that were ready."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (above, below) = pyplot.subplots(2, sharex=True, figsize=(9, 5))
    above.plot(times_s / 3600, rates, color="black", linewidth=1)
    above.set_ylabel("requests/s")
    for each in runs:
        hours = (times_s[0] + (np.arange(len(each.num_ready)) + 1) * CHART_S) / 3600
        below.step(hours, each.num_ready, where="post", label=each.name, linewidth=1)
    below.set_ylabel("replicas ready")
    below.set_xlabel("hour of the day")
    figure.tight_layout(rect=(0, 0, 1, 0.9))
    figure.legend(*below.get_legend_handles_labels(), loc="upper center", ncol=2, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traffic", choices=sorted(TRAFFIC), default="diurnal")
    parser.add_argument("--clips-per-day", type=float, default=1e6)
    parser.add_argument("--from-hour", type=float, default=0, help="of the day")
    parser.add_argument("--hours", type=float, default=24, help="how long")
    parser.add_argument("--profile", choices=sorted(PROFILES), default="assumed-gpu")
    parser.add_argument(
        "--latency-1-s", type=float, help="yours: of one client alone, without decoding"
    )
    parser.add_argument("--rate", type=float, help="yours: requests/s of --num-clients at a time")
    parser.add_argument("--num-clients", type=int, default=32)
    parser.add_argument("--start-s", type=float, default=120, help="until a new replica answers")
    parser.add_argument("--config", type=Path, default=CONFIG, help="a serve.yaml that scales")
    parser.add_argument("--min-replicas", type=int, help="in place of the file's")
    parser.add_argument("--max-replicas", type=int, help="in place of the file's")
    parser.add_argument("--max-num-seqs", type=int, help="in place of the file's")
    parser.add_argument("--step-s", type=float, default=0.25)
    parser.add_argument(
        "--policy-kwargs",
        type=json.loads,
        default={},
        help='besides the file\'s, JSON, such as {"tolerance": 0.2}',
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--png", type=Path, help="draw the replicas over time")
    args = parser.parse_args()
    service = PROFILES[args.profile]
    if args.latency_1_s is not None and args.rate is not None:
        service = ServiceTimes.from_bench(args.latency_1_s, args.rate, args.num_clients, "yours")
    elif args.latency_1_s is not None or args.rate is not None:
        parser.error("--latency-1-s and --rate go together")
    if args.step_s > longest_step_s(service):
        parser.error(
            f"--step-s {args.step_s}: at most {longest_step_s(service):.3f} for these times"
        )
    deployed = read_deployed(
        args.config,
        args.start_s,
        args.min_replicas,
        args.max_replicas,
        args.max_num_seqs,
        args.policy_kwargs,
    )
    times_s = args.from_hour * 3600 + np.arange(0, args.hours * 3600, args.step_s)
    rates = TRAFFIC[args.traffic](times_s, args.clips_per_day / DAY_S)
    print(
        f"{args.traffic}: {args.clips_per_day:.3g} clips a day, at most {rates.max():.1f} a second; "
        f"an answer takes {service.fixed_s:.3f} s + {service.per_request_s:.3f} s for each request in "
        f"the batch ({service.source}); half_rate_seqs {service.half_rate_seqs:.1f}, "
        f"the policy's {deployed.policy.half_rate_seqs:.1f}\n"
    )
    runs = simulate(rates, service, deployed, args.step_s, args.seed)
    print_table(runs)
    if args.png is not None:
        draw(args.png, times_s, rates, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
