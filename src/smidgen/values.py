"""Frozen values with strict fields: how networks and recipes are written, checked and exchanged.

A value is a pydantic dataclass: unknown keys are forbidden, nothing is coerced, and every
complaint is one line that names the path, what stands there and the nearest known key.
JSON is the exchange form and gives back an equal value.
"""

import codecs
import dataclasses
import hashlib
import json
from collections.abc import Callable
from functools import cache
from typing import Any, Final, TypeVar, dataclass_transform

import pydantic
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic.dataclasses import rebuild_dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from smidgen.errors import SmidgenError, nearest

T = TypeVar("T")

_UNKNOWN_KEY = ("unexpected_keyword_argument", "extra_forbidden")
"""What pydantic calls an unknown key: in a constructor, and in a reader."""


_SHOWN_IN_FULL: set[type] = set()
"""Values whose `__repr__` is made from their fields: not one for those that inherit from them."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, pydantic.Field))
def value(error: type[SmidgenError]) -> Callable[[type[T]], type[T]]:
    """Make a class a frozen value whose invalid fields raise `error` in one line."""
    config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    def decorate(cls: type[T]) -> type[T]:
        has_repr = any(
            "__repr__" in vars(base) and base not in _SHOWN_IN_FULL for base in cls.__mro__[:-1]
        )
        made = pydantic_dataclass(cls, frozen=True, config=config, repr=not has_repr)
        if not has_repr:
            _SHOWN_IN_FULL.add(made)
        checked_init = made.__init__

        def init(self: Any, *args: Any, **kwargs: Any) -> None:
            try:
                checked_init(self, *args, **kwargs)
            except pydantic.ValidationError as problem:
                raise error(f"`{made.__name__}`: {describe(problem, made)}") from None

        init.__doc__ = checked_init.__doc__
        init.__wrapped__ = checked_init  # type: ignore[attr-defined]  # keeps the signature visible
        made.__init__ = init
        return made  # type: ignore[return-value]

    return decorate


def complete(*classes: type, **names: object) -> None:
    """Finish values whose fields name classes that came after them, or the values themselves.

    Args:
        classes: The values, those first that others hold.
        names: What the fields name and the values' own modules do not know.
    """
    for cls in classes:
        # pydantic sets a constructor of its own, and a signature made from the one it found
        kept = {name: vars(cls)[name] for name in ("__init__", "__signature__")}
        rebuild_dataclass(cls, force=True, _types_namespace=names or None)
        for name, attribute in kept.items():
            setattr(cls, name, attribute)


def to_plain(thing: object) -> Any:
    """Return a value as dictionaries, lists, strings, numbers and None."""
    return _adapter(type(thing)).dump_python(thing, mode="json")


NO_DEFAULT: Final = object()
"""Of a field that must be given."""


def default_of(item: "dataclasses.Field[Any]") -> Any:
    """Return the declared default of a field; NO_DEFAULT where it must be given, or is made."""
    declared = item.default
    if isinstance(declared, FieldInfo):
        declared = NO_DEFAULT if declared.is_required() else declared.default
    return NO_DEFAULT if declared in (dataclasses.MISSING, PydanticUndefined) else declared


def canonical(thing: Any) -> Any:
    """Return a value as plain data by which it can be told from others, now and later.

    Fields that have their declared default are left out, so one that is added with a default
    changes nothing; so are those that the class names in `NOT_IDENTITY`. Tags of unions, the
    fields called `kind`, stay.
    """
    if isinstance(thing, tuple | list):
        return [canonical(each) for each in thing]
    if not dataclasses.is_dataclass(thing):
        return thing
    left_out = getattr(type(thing), "NOT_IDENTITY", ())
    return {
        item.name: canonical(given)
        for item in dataclasses.fields(thing)
        if item.name not in left_out
        and ((given := getattr(thing, item.name)) != default_of(item) or item.name == "kind")
    }


def canonical_digest(thing: Any, form: int) -> str:
    """Return 64 hexadecimal digits over the canonical form of a value, sorted.

    Args:
        thing: The value, or plain data.
        form: Version of what is hashed; another one gives other digits.
    """
    text = json.dumps([form, canonical(thing)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(thing: object, indent: int | None = 2) -> str:
    """Return a value as JSON text with every default written out."""
    return json.dumps(to_plain(thing), indent=indent)


def from_json(kind: type[T], text: str | bytes, error: type[SmidgenError], where: str = "") -> T:
    """Read a value back from JSON text.

    Args:
        kind: The class of the value.
        text: The JSON.
        error: What to raise.
        where: Where the text comes from, for the message.

    Raises:
        SmidgenError: As `error`: not JSON, an unknown or missing key, a wrong type or range.
    """
    if isinstance(text, bytes):
        text = text.removeprefix(codecs.BOM_UTF8)  # editors on Windows begin files with it
    try:
        return _adapter(kind).validate_json(text)
    except pydantic.ValidationError as problem:
        place = f"{where}: " if where else ""
        raise error(f"{place}{describe(problem, kind)}") from None


def from_plain(kind: type[T], plain: object, error: type[SmidgenError], where: str = "") -> T:
    """Read a value back from what `to_plain` gave; raises as `from_json` does."""
    return from_json(kind, json.dumps(plain), error, where)


def json_schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema of a value's exchange form."""
    schema = _adapter(kind).json_schema()
    # one that holds itself is only referred to; its keys belong at the top for readers
    return {**_resolved(schema, schema.get("$defs", {})), **schema} if "$ref" in schema else schema


def describe(problem: pydantic.ValidationError, kind: type) -> str:
    """Say a validation error in one line: path, value, what would be right."""
    problems = problem.errors(include_url=False)
    # a misspelt key is also a missing one; the spelling is what helps
    first = next((found for found in problems if found["type"] in _UNKNOWN_KEY), problems[0])
    steps, keys_there = _walk(first["loc"], kind)
    path = ".".join(steps)
    given, context = first.get("input"), first.get("ctx", {})
    if first["type"] in _UNKNOWN_KEY:
        key = str(first["loc"][-1])
        near = nearest(key, keys_there)
        listed = ", ".join(f"`{known}`" for known in keys_there)
        advice = f"Did you mean `{near}`?" if near else f"Known: {listed}."
        return f"unknown key `{'.'.join([*steps, key])}`. {advice}"
    match first["type"]:
        case "missing" | "missing_argument":
            return f"`{path}` is missing."
        case "json_invalid":
            return f"not valid JSON: {context['error']}."
        case "union_tag_invalid":
            tags = context["expected_tags"].replace("'", "").split(", ")
            near = nearest(context["tag"], tags)
            advice = f"Did you mean `{near}`?" if near else f"Known: {', '.join(tags)}."
            return f"`{path}`: unknown kind `{context['tag']}`. {advice}"
        case "union_tag_not_found":
            return f"`{path}`: `kind` is missing."
    text = first["msg"][:1].lower() + first["msg"][1:]
    shown = "" if isinstance(given, dict | list | tuple) else f", not {given!r}"
    return f"`{path}`: {text}{shown}." if path else f"{text}{shown}."


def _walk(location: tuple[int | str, ...], kind: type) -> tuple[list[str], list[str]]:
    """Return the steps of the exchange form that lead to an error, and the keys known there.

    Of what pydantic lists, only keys and positions are such steps; the tags of unions are not.
    """
    parts = list(location)
    if parts and isinstance(parts[0], int) and dataclasses.is_dataclass(kind):
        # positional arguments of a constructor come as numbers
        parts[0] = dataclasses.fields(kind)[parts[0]].name
    schema = json_schema(kind)
    definitions = schema.get("$defs", {})
    here, steps = schema, []
    for part in parts:
        here = _resolved(here, definitions)
        tags = here.get("discriminator", {}).get("mapping", {})
        if isinstance(part, int):
            steps.append(str(part))
            here = here.get("items", {})
        elif part in here.get("properties", {}):
            steps.append(part)
            here = here["properties"][part]
        elif part in tags:
            here = {"$ref": tags[part]}
    return steps, list(_resolved(here, definitions).get("properties", {}))


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Follow references, an optional value to the value, and one that a name may stand for."""
    while True:
        listed = node.get("anyOf", node.get("oneOf", ()))
        choices = [choice for choice in listed if choice.get("type") not in ("null", "string")]
        if "$ref" in node:
            node = definitions[node["$ref"].rsplit("/", 1)[1]]
        elif len(choices) == 1:
            node = choices[0]
        else:
            return node


@cache
def _adapter(kind: type[T]) -> pydantic.TypeAdapter[T]:
    return pydantic.TypeAdapter(kind)
