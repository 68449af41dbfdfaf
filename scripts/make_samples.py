"""Makes the package's sample clips, always the same bytes: python scripts/make_samples.py"""

from serve_app.bundled import SAMPLES
from serve_app.demo.clips import Scene, write_scene
from serve_app.demo.labels import FACE_OF, VOICE_OF

# Not used by any training or report.
SEEDS = {"worried": 71_000_003, "happy": 71_000_001, "contempt": 71_000_002}


def main() -> None:
    for label, path in SAMPLES.items():
        path.parent.mkdir(exist_ok=True)
        scene = Scene(FACE_OF[label], VOICE_OF[label], SEEDS[label])
        write_scene(scene, path.parent).rename(path)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
