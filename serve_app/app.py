"""build(args): the only place where deployments are bound. serve.yaml names it as import_path."""

from ray.serve import Application
from ray.serve.config import RequestRouterConfig

from serve_app.checkpoint import read_image_size
from serve_app.deployments.generator import Generator
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.preprocessor import Preprocessor
from serve_app.settings import AppSettings

# Requests of one clip go to one replica; when that one is full, to the next on the ring.
CLIP_AFFINITY = RequestRouterConfig(
    request_router_class="ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
)


def build(args: AppSettings) -> Application:
    """The application. Replica counts, queues and resources of the three deployments: serve.yaml."""
    preprocessor = Preprocessor.options(request_router_config=CLIP_AFFINITY).bind(
        args.media, read_image_size(args.model)
    )
    generator = Generator.options(request_router_config=CLIP_AFFINITY).bind(args.model, args.engine)
    return Ingress.bind(preprocessor, generator, args)
