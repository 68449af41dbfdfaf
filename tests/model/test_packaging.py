"""The plugin is found by its entry point, and imports nothing heavy until it is used."""

import subprocess
import sys
from importlib.metadata import entry_points

import serve_app.model


def test_the_entry_point_names_register() -> None:
    (entry,) = [e for e in entry_points(group="vllm.general_plugins") if e.name == "emotion_llama"]
    assert entry.load() is serve_app.model.register


def test_importing_the_package_imports_neither_vllm_nor_ray_nor_torch() -> None:
    code = "import sys, serve_app.model; print({'vllm', 'ray', 'torch'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_model_package_imports_nothing_else_of_ours() -> None:
    code = (
        "import sys, serve_app.model.model as m;"
        "print(sorted(n for n in sys.modules if n.startswith('serve_app.')"
        " and not n.startswith('serve_app.model')))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
