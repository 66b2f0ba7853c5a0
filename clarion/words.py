"""What a caller says, checked before it travels: a spec with its id, an operator's words."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import uuid4

from pydantic import ValidationError

from clarion.errors import BadInput, BadSpec
from clarion.model.base import Model
from clarion.model.command import RetryInput
from clarion.model.spec import CampaignSpec, PushSpec

Spec = TypeVar("Spec", CampaignSpec, PushSpec)
Said = TypeVar("Said", bound=Model)


def with_id(spec: Spec, id: str | None) -> Spec:
    """The spec with its id; one of the two places must say it, and both the same. Raises BadSpec."""
    if id is not None and spec.id not in (None, id):
        raise BadSpec(f"id is {id!r} in the call and {spec.id!r} in the spec: give one of them")
    given = id or spec.id or str(uuid4())
    try:
        return type(spec).model_validate(spec.model_dump(exclude_unset=True) | {"id": given})
    except ValidationError as error:
        raise BadSpec(_first_words(error)) from error


def said(kind: type[Said], **given: Any) -> Said:
    """An operator's words, checked. Raises BadInput."""
    try:
        return kind.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        raise BadInput(_first_words(error)) from error


def retry_words(
    states: Sequence[str],
    reasons: Sequence[str],
    deadline: datetime | None,
    by: str,
    command_id: str | None,
) -> RetryInput:
    """Which deliveries are to be tried again. Raises BadInput."""
    id = command_id or str(uuid4())
    given = {"states": tuple(states), "reasons": tuple(reasons)}
    return said(RetryInput, **given, deadline=deadline, by=by, command_id=id)


def _first_words(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, e['loc'])) or 'input'}: {e['msg'].removeprefix('Value error, ')}"
        for e in error.errors()[:3]
    )
