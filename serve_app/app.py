"""build(args) binds the deployments, and is the only place that does. serve.yaml names it as import_path."""

from ray import serve
from ray.serve import Application

from serve_app.checkpoint import read_image_size
from serve_app.deployments.clip_router import clip_affinity
from serve_app.deployments.generator import Generator
from serve_app.deployments.ingress import Ingress
from serve_app.deployments.preprocessor import Preprocessor
from serve_app.settings import AppSettings


def build(args: AppSettings) -> Application:
    """The Serve application. serve.yaml sets the deployments' replicas, queues and resources."""
    decoding = serve.deployment(
        request_router_config=clip_affinity(min_ongoing=args.media.num_decode_workers)
    )
    generating = serve.deployment(request_router_config=clip_affinity())
    preprocessor = decoding(Preprocessor).bind(args.media, read_image_size(args.model), args.traces)
    generator = generating(Generator).bind(args.model, args.engine, args.answer_cache, args.traces)
    return serve.deployment(Ingress).bind(preprocessor, generator, args)
