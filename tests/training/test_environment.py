import subprocess
import sys
from importlib.metadata import version

from smidgen.training.environment import describe_environment


def test_versions_of_what_computed() -> None:
    """A torch run records torch's version; a native run does not pretend to have used it."""
    torch, native = (describe_environment(engine, "cpu", 2) for engine in ("torch", "native"))

    assert torch.versions["torch"] == version("torch")
    assert torch.versions["numpy"] == version("numpy")
    assert "torch" not in native.versions
    assert (torch.engine, torch.device, torch.threads) == ("torch", "cpu", 2)


def test_hardware_is_described() -> None:
    """Processor, cores, machine and system are known on every machine."""
    hardware = describe_environment("native", "cpu", 1).hardware

    assert hardware.keys() == {"processor", "cores", "machine", "system"}
    assert all(hardware.values())
    assert int(hardware["cores"]) >= 1


def test_torch_is_not_imported() -> None:
    """Describing a machine without a GPU in play does not load torch."""
    code = (
        "import sys; from smidgen.training.environment import describe_environment as d; "
        "d('torch', 'cpu', 1); sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
