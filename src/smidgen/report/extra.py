"""What reports need beyond the core."""

from importlib.util import find_spec

from smidgen.errors import ReportError


def require_extra() -> None:
    """Raise ReportError with what to install where matplotlib or jinja2 is missing."""
    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        raise ReportError(
            f"Reports need {' and '.join(missing)}. "
            'Install what is missing with `pip install "smidgen[report]"`.'
        )
