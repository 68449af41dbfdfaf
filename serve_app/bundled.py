"""Files that come with the package: the demonstration checkpoint and clips that its generator made."""

from pathlib import Path

_ASSETS = Path(__file__).parent / "assets"

DEMO_CHECKPOINT = _ASSETS / "demo"
SAMPLES = {
    label: _ASSETS / "samples" / f"{label}.mp4" for label in ("worried", "happy", "contempt")
}
"""Sample clips by label. A worried and a sad face are drawn alike: only the voice tells them apart."""

SAMPLE = SAMPLES["worried"]
