"""The application's deployments and their replicas, as Serve's controller has them."""

import asyncio
from collections.abc import Mapping
from typing import Any

from ray import serve


async def cluster_status() -> Mapping[str, Any]:
    """See api.server_status.ClusterStatus; of the application whose replica this is."""
    name = serve.get_replica_context().app_name
    status = await asyncio.to_thread(serve.status)
    application = status.applications.get(name)
    deployments = {} if application is None else application.deployments
    return {
        name: {
            "status": deployment.status.value,
            "replicas": dict(deployment.replica_states),
        }
        for name, deployment in deployments.items()
    }
