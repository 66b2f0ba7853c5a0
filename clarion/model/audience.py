"""The audience rule: which users and devices a push is for."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from clarion.limits import INLINE_USERS
from clarion.model.base import Id, Model

MILLIONTHS = 1_000_000


class Where(Model):
    """A simple rule over devices; all given conditions must hold."""

    platform: tuple[Literal["ios", "android", "web"], ...] = ()
    app_version: str | None = Field(default=None, pattern=r"^(>=|<=|>|<|==)?\s*\d+(\.\d+)*$")
    locale: tuple[str, ...] = ()  # language ranges: zh matches zh-Hant-TW
    zone: tuple[str, ...] = ()  # IANA names
    tags_any: tuple[str, ...] = ()
    tags_all: tuple[str, ...] = ()
    tags_none: tuple[str, ...] = ()
    active_within_days: int | None = Field(default=None, ge=1)


class ClosedRows(Model):
    """The final rows of a closed push, by state and, if any are named, reason: how a push is retried."""

    push: Id
    states: tuple[Literal["rejected", "expired", "cancelled", "dead", "in_doubt"], ...] = Field(min_length=1)
    reasons: tuple[str, ...] = Field(default=(), max_length=100)  # apns:TooManyRequests or TooManyRequests


class Slice(Model):
    """A share of an audience, in millionths: a user falls to one place for a name, the same for ever.

    Slices of one name that do not overlap have no user in common, and those that cover 0 … 1,000,000 together
    have every user.
    """

    of: Id  # whose cut it is: another name cuts another way
    start: int = Field(default=0, ge=0, lt=MILLIONTHS)
    end: int = Field(default=MILLIONTHS, gt=0, le=MILLIONTHS)

    @model_validator(mode="after")
    def _has_something(self) -> Self:
        if self.start >= self.end:
            raise ValueError("slice: start must be less than end")
        return self


class Audience(Model):
    """Exactly one of: everybody, named users (at most 100 inline), a stored list, a rule, a push retried.

    `slice` takes a share of it, as the stages of a campaign do.
    """

    everybody: bool = False
    users: tuple[str, ...] = Field(default=(), max_length=INLINE_USERS)
    user_list: str | None = None  # reference given by the store: list:<sha256>
    where: Where | None = None
    retry: ClosedRows | None = None
    slice: Slice | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        others = (self.user_list, self.where, self.retry)
        given = [self.everybody, bool(self.users), *(other is not None for other in others)]
        if sum(given) != 1:
            raise ValueError("audience needs exactly one of everybody: true, users, user_list, where, retry")
        if self.retry is not None and self.slice is not None:
            raise ValueError("audience: a retry takes all its rows, so it has no slice")
        return self

    @property
    def fraction(self) -> float:
        """About which part of the rule's users it has."""
        return 1.0 if self.slice is None else (self.slice.end - self.slice.start) / MILLIONTHS
