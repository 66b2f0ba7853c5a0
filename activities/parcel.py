"""What workflows and activities hand each other."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Parcel(BaseModel):
    """A value between our own workflows and activities: descriptors and counts, never content or tokens.

    Unlike the published specs it ignores what it does not know: while a release rolls out, processes of two
    versions talk to each other. New fields are therefore always optional.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
