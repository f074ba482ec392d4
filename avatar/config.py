"""Dataclasses to plain JSON and back, strict: an unknown or missing key is an error that names the key."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from avatar.errors import InputError

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain JSON values; tuples become lists."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[T], data: dict[str, Any], *, where: str = "config") -> T:
    """Build `kind` from plain JSON values.

    Raises:
        InputError: on an unknown key, a missing key or a value of the wrong kind.
    """
    if not isinstance(data, dict):
        raise InputError(f"{where}: expected an object, found {type(data).__name__}")
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind) if f.init}  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise InputError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(known))}")
    for name, item in known.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and name not in data:
            raise InputError(f"{where}: key {name!r} is missing")
    return kind(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in data.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _union(arguments, value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where=where)
    if origin is typing.Literal:
        if value not in arguments:
            raise InputError(f"{where}: {value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    if origin in (tuple, list):
        return _items(origin, arguments, value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = hint if isinstance(hint, type) and origin is None else None
    if plain is not None and (not isinstance(value, plain) or (plain is int and isinstance(value, bool))):
        raise InputError(f"{where}: expected {plain.__name__}, found {value!r}")
    return value


def _union(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in arguments:
        return None
    for argument in arguments:
        if argument is type(None):
            continue
        try:
            return _value(argument, value, where)
        except InputError:
            continue
    raise InputError(f"{where}: {value!r} fits none of {arguments}")


def _items(origin: type, arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where}: expected a list, found {value!r}")
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise InputError(f"{where}: expected {len(arguments)} items, found {len(value)}")
        return tuple(_value(h, v, f"{where}[{i}]") for i, (h, v) in enumerate(zip(arguments, value, strict=True)))
    hint = arguments[0] if arguments else Any
    return origin(_value(hint, v, f"{where}[{i}]") for i, v in enumerate(value))


def load_json(path: Path) -> dict[str, Any]:
    """Read one JSON object.

    Raises:
        InputError: when the file is missing, unreadable or no JSON object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a JSON object")
    return data
