"""Take the pictures of report pages that stand in the README: `docs/img/*.png`.

    smidgen prove smidgen/quick --seeds 20 --target 99.4 --engine native
    make browser
    python scripts/screenshots.py [--runs-dir DIR] [--data-dir DIR]

The pages are made anew from the runs of `smidgen/quick` in the store. It needs node and Chromium.
"""

import argparse
import io
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from smidgen.evidence.select import select_runs
from smidgen.files import write_atomically
from smidgen.runs.store import RunStore

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests" / "report" / "browser" / "shoot.mjs"
RECIPE = "smidgen/quick@native"
PICTURES = (
    {"name": "run", "page": "run", "scheme": "light", "height": 1180, "from": ""},
    {"name": "errors", "page": "run", "scheme": "dark", "height": 960, "from": "#errors"},
    {"name": "proof", "page": "proof", "scheme": "light", "height": 1180, "from": ""},
    {"name": "frontier", "page": "frontier", "scheme": "light", "height": 1120, "from": ""},
)
WIDTH = 1280
MOST_BYTES = 250_000
LIMIT_SECONDS = 570


def main() -> None:
    """Write the pages into a temporary folder, and their pictures into `docs/img`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("Chromium is missing: `apt-get install chromium`.")
    run = select_runs(RunStore(given.runs_dir), RECIPE)[0].name
    places = ["--runs-dir", str(given.runs_dir)]
    if given.data_dir is not None:
        places += ["--data-dir", str(given.data_dir)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pages = {"run": [run], "proof": [RECIPE, "--target", "99.4"], "frontier": ["frontier"]}
        for page, targets in pages.items():
            command = ["smidgen", "report", *targets, "-o", str(folder / f"{page}.html")]
            subprocess.run([*command, *places], check=True)
        _shoot(browser, folder)
        for picture in PICTURES:
            _keep(folder / f"{picture['name']}.png")


def _shoot(browser: str, folder: Path) -> None:
    pictures = [
        {
            **picture,
            "page": str(folder / f"{picture['page']}.html"),
            "out": str(folder / f"{picture['name']}.png"),
            "width": WIDTH,
        }
        for picture in PICTURES
    ]
    job = folder / "job.json"
    job.write_text(json.dumps({"browser": browser, "pictures": pictures}))
    subprocess.run(["node", str(SCRIPT), str(job)], check=True, timeout=LIMIT_SECONDS)


def _keep(taken: Path) -> None:
    """Write a picture with 256 colors, of which pages have fewer that matter."""
    buffer = io.BytesIO()
    with Image.open(taken) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            buffer, "PNG", optimize=True
        )
    if len(buffer.getvalue()) > MOST_BYTES:
        sys.exit(f"{taken.name} takes {len(buffer.getvalue()):,} bytes, over {MOST_BYTES:,}.")
    path = ROOT / "docs" / "img" / taken.name
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, buffer.getvalue())
    print(f"{path.relative_to(ROOT)}: {len(buffer.getvalue()) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
