"""The Ray Serve deployments: Ingress -> Preprocessor (CPU) -> Generator (vLLM)."""
