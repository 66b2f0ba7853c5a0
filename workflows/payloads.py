"""What strangers send: bytes that may be no JSON at all.

An argument that cannot be decoded would fail the workflow *task*, which Temporal repeats for ever: a start
by hand with a wrong encoding would hang and show nothing. So it becomes a value that no spec and no word
accepts, and is refused like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter


class Garbled:
    """An argument that is not JSON."""


class Forgiving(PydanticPayloadConverter):
    """Decodes what workflows are sent from outside. Values of our own, which have a type, must be right."""

    def from_payloads(self, payloads: Sequence[Payload], type_hints: list[type] | None = None) -> list[Any]:
        """One value a payload."""
        hints: Sequence[type | None] = type_hints or [None] * len(payloads)
        return [self._value(payload, hint) for payload, hint in zip(payloads, hints, strict=False)]

    def _value(self, payload: Payload, hint: Any) -> Any:
        hints = None if hint is None else [hint]
        try:
            value = super().from_payloads([payload], hints)[0]
        except Exception:  # whatever a converter raises over bytes of anybody's making
            if hint not in (None, Any):
                raise
            return Garbled()
        return Garbled() if hint in (None, Any) and isinstance(value, bytes) else value
