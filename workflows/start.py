"""The start contract: the same from Python, Go, the `temporal` command line, HTTP or Nexus.

One JSON object, the spec; the workflow id is `push/{id}` or `campaign/{id}`, and an id in the spec equals
it. An object without anything but the id starts the workflow of a push again that the ledger knows.
Whatever else is sent fails the workflow with a reason: a start must never hang.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from clarion import names
from clarion.model.base import Model
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.names import ID_PATTERN
from workflows.payloads import Garbled

Spec = TypeVar("Spec", CampaignSpec, PushSpec)
Words = TypeVar("Words", bound=Model)
Own = TypeVar("Own", bound=BaseModel)
WHO = 100  # letters of a name, as in the words


@dataclass(frozen=True, slots=True)
class Start(Generic[Spec]):
    """Whose workflow it is. Without a spec it goes on with what the ledger has."""

    id: str
    spec: Spec | None


def read_start(kind: type[Spec], prefix: str, workflow_id: str, inputs: Sequence[Any]) -> Start[Spec]:
    """Check a start. Raises ApplicationError, which fails the workflow with its words."""
    id = workflow_id.removeprefix(prefix)
    if id == workflow_id or not ID_PATTERN.match(id):
        raise _refuse("BadWorkflowId", f"the workflow id must be {prefix} and an id of {ID_PATTERN.pattern}")
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _refuse("BadSpec", f"start with one JSON object, a {kind.__name__}")
    body = inputs[0]
    if body.get("id") not in (None, id):
        raise _refuse("BadSpec", f"id: leave it out, or let it be {id!r} as in the workflow id")
    if not set(body) - {"id"}:
        return Start(id, None)
    try:
        return Start(id, _as_json(kind, body))
    except ValidationError as error:
        raise _refuse("BadSpec", first_words(error, "spec")) from None


def starter() -> str:
    """Who has started this workflow, as its memo says, for the audit."""
    who = workflow.memo_value(names.STARTER_MEMO, default="")
    return (who[:WHO] if isinstance(who, str) else "") or names.OPERATOR


def read_topic(kind: type[Words], workflow_id: str, inputs: Sequence[Any]) -> tuple[str, Words]:
    """The id and the word of a workflow `topic/{id}`. Raises ApplicationError."""
    id = workflow_id.removeprefix("topic/")
    if id == workflow_id or not ID_PATTERN.match(id):
        raise _refuse("BadWorkflowId", f"the workflow id must be topic/ and an id of {ID_PATTERN.pattern}")
    if len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _refuse("BadSpec", f"start with one JSON object, a {kind.__name__}")
    try:
        return id, _as_json(kind, inputs[0])
    except ValidationError as error:
        raise _refuse("BadSpec", first_words(error, "input")) from None


def read_batch(kind: type[Own], inputs: Sequence[Any]) -> Own:
    """The input of a batch, which its push gives it. Raises ApplicationError: another has started it."""
    try:
        return kind.model_validate(inputs[0] if len(inputs) == 1 else None)
    except ValidationError as error:
        raise _refuse(
            "BadSpec", f"batches are started by their push, not by hand ({first_words(error, 'input')})"
        ) from None


def read_words(kind: type[Words], given: Any, *, short: str) -> Words:
    """The input of an update: an object, nothing, or just the value of the field `short`, as people type it.

    Raises ApplicationError.
    """
    if isinstance(given, Garbled):
        raise _refuse(
            "BadInput", f"input: not JSON (encoding json/plain); give one object, a {kind.__name__}"
        )
    body = given if isinstance(given, dict) else {} if given is None else {short: given}
    try:
        return _as_json(kind, body)
    except ValidationError as error:
        raise _refuse("BadInput", first_words(error, "input")) from None


def _as_json(kind: type[Words], body: dict[str, Any]) -> Words:
    """The published schema, to the letter: a number in quotes is no number, and 1 is not true.

    Raises ValidationError.
    """
    return kind.model_validate_json(json.dumps(body), strict=True)


def first_words(error: ValidationError, name: str) -> str:
    """What is wrong and where, without the values: they may be a message's."""
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or name}: {e['msg']}" for e in found[:3])


def _refuse(kind: str, words: str) -> ApplicationError:
    return ApplicationError(words, type=kind, non_retryable=True)
