"""Microcontroller cores: what a header weighs there, and what it computes in an emulator.

Nothing here is needed to export. Where the cross compilers are installed flash and stack are
measured, and where QEMU is, every score and the number of instructions.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smidgen.errors import CompilerError
from smidgen.ship.arena import plan_arena
from smidgen.ship.c_printer import bytes_gathered, data_bytes, header
from smidgen.ship.c_text import resource
from smidgen.ship.integer import IntegerNetwork

_SECONDS = 300.0
_SMALL_CODE_BYTES, _FAST_CODE_BYTES, _SMALL_STACK_BYTES = 950, 1_300, 220
"""By gcc 12.2 on Cortex-M0: the small form's code, the fast one's for each stage, the stack."""


def is_tool(name: str) -> bool:
    """Tell whether a program is installed."""
    return shutil.which(name) is not None


@dataclass(frozen=True, slots=True)
class Core:
    """A core that headers are measured on.

    Args:
        name: What people call it.
        tools: Prefix of its compiler and binary tools.
        flags: That choose the core.
        emulator: The command of its emulator, without the program.
        flash: Where programs lie.
        ram: Where data lie.
    """

    name: str
    tools: str
    flags: tuple[str, ...]
    emulator: tuple[str, ...]
    flash: int
    ram: int

    @property
    def has_compiler(self) -> bool:
        """Whether its compiler is installed."""
        return is_tool(f"{self.tools}gcc")

    @property
    def has_emulator(self) -> bool:
        """Whether its emulator is installed."""
        return is_tool(self.emulator[0])


_COUNTING = ("-icount", "shift=0", "-nographic", "-monitor", "none", "-serial", "none")
_SEMIHOSTING = ("-semihosting-config", "enable=on,target=native")


def _arm(name: str, cpu: str, machine: str) -> Core:
    emulator = ("qemu-system-arm", "-M", machine, *_COUNTING, *_SEMIHOSTING, "-kernel")
    return Core(name, "arm-none-eabi-", ("-mthumb", f"-mcpu={cpu}"), emulator, 0, 0x20000000)


CORTEX_M0 = _arm("Cortex-M0", "cortex-m0", "microbit")
CORTEX_M4 = _arm("Cortex-M4", "cortex-m4", "mps2-an386")
RV32IMC = Core(
    "RV32IMC",
    "riscv64-unknown-elf-",
    ("-march=rv32imc_zicsr", "-mabi=ilp32", "-mcmodel=medany", "-msmall-data-limit=0"),
    (
        *("qemu-system-riscv32", "-M", "virt", "-bios", "none"),
        *(*_COUNTING, *_SEMIHOSTING, "-kernel"),
    ),
    0x80000000,
    0x80400000,
)
CORES = (CORTEX_M0, CORTEX_M4, RV32IMC)


@dataclass(frozen=True, slots=True)
class Weight:
    """What a header takes on a core, in bytes.

    Args:
        flash: Code, weights and tables.
        arena: Static memory.
        stack: The deepest path of calls, by the compiler's own account.
    """

    flash: int
    arena: int
    stack: int

    @property
    def ram(self) -> int:
        """Arena and stack; the image and the scores are the caller's."""
        return self.arena + self.stack


def weigh(header: str, prefix: str, core: Core, fast: bool = False) -> Weight:
    """Compile a header for a core and read what it takes.

    Args:
        header: Text of the header.
        prefix: Of its names.
        core: For which.
        fast: Whether to compile with -O2 and not -Os.

    Raises:
        CompilerError: No compiler for the core, or one that refuses the header.
    """
    with tempfile.TemporaryDirectory(prefix="smidgen-") as name:
        folder = Path(name)
        (folder / "network.h").write_text(header, encoding="utf-8")
        (folder / "network.c").write_text(_caller(prefix), encoding="utf-8")
        flags = [*core.flags, "-O2" if fast else "-Os", "-fstack-usage"]
        call_tool(
            [f"{core.tools}gcc", "-std=c99", "-ffreestanding", *flags, "-c", "network.c"], folder
        )
        sizes = call_tool([f"{core.tools}size", "network.o"], folder).splitlines()[1].split()
        stack = _deepest(folder, core)
        return Weight(int(sizes[0]) + int(sizes[1]), int(sizes[2]), stack)


def weigh_or_estimate(network: IntegerNetwork, fast: bool = False) -> tuple[Weight, bool]:
    """Return what a network takes on a Cortex-M0, and whether that was measured.

    Without the cross compiler the small form's data are counted exactly and its code is taken for
    as large as it is at most over the catalogue.
    """
    text = header(network, "network", fast)
    if CORTEX_M0.has_compiler:
        return weigh(text, "network", CORTEX_M0, fast), True
    data = data_bytes(network)
    code = _FAST_CODE_BYTES * len(network.stages) if fast else _SMALL_CODE_BYTES
    arena = plan_arena(network).num_bytes
    gathered = max((bytes_gathered(stage, network) for stage in network.stages), default=0)
    return Weight(data + code, arena, _SMALL_STACK_BYTES + gathered), False


def _caller(prefix: str) -> str:
    signature = "int classify(const uint8_t image[], int32_t scores[])"
    return (
        f'#include "network.h"\n{signature};\n{signature} {{\n'
        f"    return {prefix}_classify(image, scores);\n}}\n"
    )


def _deepest(folder: Path, core: Core) -> int:
    """Return the stack of the deepest path of calls, read from the code and gcc's account."""
    own = {}
    for line in (folder / "network.su").read_text().splitlines():
        place, size, _ = line.split("\t")
        own[place.rpartition(":")[2].split(".")[0]] = int(size)
    calls = _calls(call_tool([f"{core.tools}objdump", "-dr", "network.o"], folder), own)

    def deepest(name: str) -> int:
        return own[name] + max((deepest(callee) for callee in calls[name]), default=0)

    return deepest("classify")


def _calls(code: str, known: Collection[str]) -> dict[str, set[str]]:
    """Return which known functions each one names in its relocations, from a disassembly."""
    calls: dict[str, set[str]] = {name: set() for name in known}
    current = ""
    for line in code.splitlines():
        if match := re.match(r"[0-9a-f]+ <([\w.]+)>:", line):
            current = match[1].split(".")[0]
            continue
        named = set(re.findall(r"[A-Za-z_]\w*", line)) & set(known) - {current}
        calls.get(current, set()).update(named)
    return calls


@dataclass(frozen=True, slots=True)
class Emulated:
    """What an emulated core made of images.

    Args:
        scores: int32 (N, classes).
        instructions: Of one classification, the mean over the images.
    """

    scores: np.ndarray
    instructions: float


def emulate(
    header: str, prefix: str, core: Core, images: np.ndarray, num_classes: int, fast: bool = False
) -> Emulated:
    """Classify images on an emulated core.

    Args:
        header: Text of the header.
        prefix: Of its names.
        core: Which.
        images: uint8 (N, C, H, W), at most 150 of 28x28: they lie in its flash.
        num_classes: Scores of an image.
        fast: Whether to compile with -O2 and not -Os.

    Raises:
        CompilerError: No compiler or emulator, or one that fails.
    """
    with tempfile.TemporaryDirectory(prefix="smidgen-") as name:
        folder = Path(name)
        (folder / "network.h").write_text(header, encoding="utf-8")
        (folder / "network.c").write_text(_caller(prefix), encoding="utf-8")
        layout = resource("bare_metal.ld").replace("FLASH", hex(core.flash))
        (folder / "layout.ld").write_text(layout.replace("RAM", hex(core.ram)), encoding="utf-8")
        pixels = ",".join(map(str, images.transpose(0, 2, 3, 1).reshape(-1)))
        (folder / "images.c").write_text(
            f"const unsigned char images[] = {{{pixels}}};\n", encoding="utf-8"
        )
        settings = [
            f"-DIMAGES={len(images)}",
            f"-DPIXELS={images[0].size}",
            f"-DCLASSES={num_classes}",
            "-DCLASSIFY=classify",
        ]
        (folder / "main.c").write_text(
            "int classify(const unsigned char image[], int scores[]);\n" + resource("bare_metal.c"),
            encoding="utf-8",
        )
        flags = [*core.flags, "-O2" if fast else "-Os", "-ffreestanding", "-nostdlib"]
        command = [f"{core.tools}gcc", *flags, *settings, "-T", "layout.ld"]
        sources = ["main.c", "network.c", "images.c", "-o", "program.elf", "-lgcc"]
        call_tool([*command, "-w", *sources], folder)
        return _read(call_tool([*core.emulator, "program.elf"], folder), num_classes)


def _read(text: str, num_classes: int) -> Emulated:
    lines = [line.split() for line in text.split("\n") if line.strip()]
    if not lines or any(len(line) != num_classes + 1 for line in lines[1:]):
        raise CompilerError(f"The emulator printed what is no scores: {text[:80]!r}.")
    words = np.array([[int(word, 16) for word in line] for line in lines[1:]], dtype=np.uint32)
    per_tick = 1_000_000 / int(lines[0][0], 16)
    ticks = words[:, num_classes].astype(np.float64).mean()
    return Emulated(words[:, :num_classes].astype(np.int32), float(ticks * per_tick))


def call_tool(command: Sequence[str], folder: Path) -> str:
    """Run a tool in a folder and return what it printed."""
    if not is_tool(command[0]):
        raise CompilerError(f"`{command[0]}` was not found; install it to measure this core.")
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise CompilerError(f"`{command[0]}` did not end within {_SECONDS:.0f} seconds.") from None
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        errors = [line for line in said if "error" in line]
        raise CompilerError(f"`{command[0]}` failed: {(errors or said)[0]}")
    return done.stdout + (done.stderr if command[0].startswith("qemu") else "")
