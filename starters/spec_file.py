"""Reading a spec: YAML or JSON, with the place of every mistake in the message."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from clarion.errors import BadSpec
from clarion.model.base import Model
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec

Spec = TypeVar("Spec", CampaignSpec, PushSpec)
Valid = TypeVar("Valid", bound=Model)


def read_spec(path: Path, kind: type[Spec], **overrides: Any) -> Spec:
    """The spec in a file (`-`: standard input). Overrides that are None say nothing. Raises BadSpec."""
    name = _name(path)
    values = _values(path, "app, audience and message")
    values |= {key: value for key, value in overrides.items() if value is not None}
    return _valid(kind, name, values)


def read_message(path: Path) -> Message:
    """The message in a file, which holds it alone or, as a spec does, under `message`. Raises BadSpec."""
    values = _values(path, "texts and what else the message has")
    return _valid(Message, _name(path), values.get("message", values))


def _name(path: Path) -> str:
    return "standard input" if str(path) == "-" else str(path)


def _values(path: Path, fields: str) -> dict[str, Any]:
    name = _name(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        values = yaml.safe_load(text)
    except OSError as error:
        raise BadSpec(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadSpec(f"{name} is not UTF-8 text") from None
    except yaml.YAMLError as error:
        raise BadSpec(f"{name} is not YAML or JSON{_place(error)}") from None
    except RecursionError:
        raise BadSpec(f"{name} is nested too deep") from None
    except Exception:  # a date that is none, a key that can be none: YAML's constructors raise what they meet
        words = "a value that cannot be, like a date that is none or a list as the name of a field"
        raise BadSpec(f"{name} holds {words}") from None
    if not isinstance(values, dict):
        raise BadSpec(f"{name} must hold one object with {fields}")
    return values


def _valid(kind: type[Valid], name: str, values: Any) -> Valid:
    try:
        return kind.model_validate_json(_json(values))
    except ValidationError as error:
        raise BadSpec(f"{name} is not a {kind.__name__}:\n{_mistakes(error)}") from None
    except RecursionError:
        raise BadSpec(f"{name} is nested too deep") from None
    except (TypeError, ValueError):
        words = "what JSON has no word for, like a set or a part of itself"
        raise BadSpec(f"{name} holds {words}") from None


def _json(values: Any) -> str:
    """As the same spec would travel: a YAML date becomes text, and strict types see what JSON has."""
    import json

    return json.dumps(values, default=_moment)


def _moment(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f": line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _mistakes(error: ValidationError) -> str:
    lines = []
    for mistake in error.errors(include_input=False, include_url=False):
        place = ".".join(str(part) for part in mistake["loc"]) or "spec"
        lines.append(f"  {place}: {mistake['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)
