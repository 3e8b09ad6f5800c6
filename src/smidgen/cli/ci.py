"""What a check found, in the forms that CI systems read."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from smidgen.evidence.check import Checked


def junit(found: "Sequence[Checked]") -> str:
    """Return JUnit's XML: a suite per model, a case per limit."""
    root = ElementTree.Element("testsuites", name="smidgen check")
    for checked in found:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=_printable(checked.subject.name),
            tests=str(len(checked.limits)),
            failures=str(len(checked.broken)),
            errors="0",
        )
        for limit in checked.limits:
            name = f"{limit.name} {limit.limit}" if isinstance(limit.limit, str) else limit.name
            case = ElementTree.SubElement(
                suite, "testcase", classname=_printable(checked.subject.name), name=name
            )
            if not limit.kept:
                failure = ElementTree.SubElement(case, "failure", message=limit.text)
                failure.text = limit.text
    ElementTree.indent(root)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return declaration + ElementTree.tostring(root, encoding="unicode")


def github(checked: "Checked", target: str) -> str:
    """Return GitHub's workflow commands: an error per broken limit, a line per kept one."""
    file, python, _ = target.partition(".py:")
    path = f"{file}.py" if python else target
    place = f"file={_property(path)}," if path.endswith((".py", ".json")) else ""
    lines = []
    for limit in checked.limits:
        text = _message(f"{checked.subject.name}: {limit.text}")
        if limit.kept:
            lines.append(f"kept {limit.name}: {text}")
        else:
            lines.append(f"::error {place}title={_property(limit.name)} not kept::{text}")
    return "\n".join(lines)


def _printable(text: str) -> str:
    """Return text without the control characters that XML cannot hold."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _message(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _message(text).replace(":", "%3A").replace(",", "%2C")
