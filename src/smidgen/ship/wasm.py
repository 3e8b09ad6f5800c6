"""The C header as a WebAssembly module that imports nothing.

Compiled without any C library: with one, zig first builds that library, which takes nine times
as long.
"""

import tempfile
from pathlib import Path

from smidgen.engines.native.toolchain import describe_failure, find_compiler, run
from smidgen.errors import CompilerError
from smidgen.ship.c_printer import renamed

_FLAGS = (
    *("-target", "wasm32-freestanding", "-nostdlib", "-std=c99", "-O2", "-fno-builtin"),
    *("-Wl,--no-entry", "-Wl,--export=image", "-Wl,--export=scores", "-Wl,--export=classify"),
    *("-Wl,--strip-all", "-mcpu=mvp"),
)
_SECONDS = 300.0
_WRAPPER = """#include "network.h"
static uint8_t NAME_pixels[NAME_CHANNELS * NAME_HEIGHT * NAME_WIDTH];
static int32_t NAME_results[NAME_CLASSES];
uint8_t *image(void) { return NAME_pixels; }
int32_t *scores(void) { return NAME_results; }
int classify(void) { return NAME_classify(NAME_pixels, NAME_results); }
"""


def wasm(header: str, prefix: str) -> bytes:
    """Compile a header.

    Args:
        header: Its text.
        prefix: Of its names.

    Returns:
        A module with `memory`, `image()` and `scores()` (addresses of bytes and int32), and
        `classify()`, which returns the class.

    Raises:
        CompilerError: No zig, or it failed.
    """
    try:
        zig = find_compiler("zig")
    except CompilerError as error:
        raise CompilerError(
            "WebAssembly is made by the compiler zig, which was not found. "
            "Run `pip install ziglang`."
        ) from error
    with tempfile.TemporaryDirectory(prefix="smidgen-") as name:
        folder = Path(name)
        (folder / "network.h").write_text(header, encoding="utf-8")
        (folder / "network.c").write_text(renamed(_WRAPPER, prefix), encoding="utf-8")
        caches = {f"ZIG_{which}_CACHE_DIR": name for which in ("LOCAL", "GLOBAL")}
        command = [*zig.command, *_FLAGS, "network.c", "-o", "network.wasm"]
        outcome = run(command, _SECONDS, folder, caches)
        if outcome.status != 0 or not (folder / "network.wasm").is_file():
            how = describe_failure(outcome, _SECONDS)
            raise CompilerError(f"The C compiler `{zig.name}` {how}.")
        return (folder / "network.wasm").read_bytes()
