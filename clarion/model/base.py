"""What every travelling value shares."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

from clarion.names import ID_PATTERN

Id = Annotated[str, StringConstraints(pattern=ID_PATTERN.pattern)]
# How long, as people write it: 90s, 30m, 12h, 7d.
Duration = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,5}(s|m|h|d)$")]


class Model(BaseModel):
    """A frozen value that *is* the JSON which travels. Unknown keys are refused; new fields are optional."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=False)

    def canonical(self) -> dict[str, Any]:
        """The JSON form without defaults: equal meaning gives equal words, also across releases."""
        return self.model_dump(mode="json", exclude_defaults=True)

    def digest(self) -> bytes:
        """SHA-256 over the canonical form with sorted keys."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).digest()
