"""The audience rule: which users and devices a push is for."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from clarion.limits import INLINE_USERS
from clarion.model.base import Model


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


class Audience(Model):
    """Exactly one of: everybody, named users (at most 100 inline), a stored list, a rule."""

    everybody: bool = False
    users: tuple[str, ...] = Field(default=(), max_length=INLINE_USERS)
    user_list: str | None = None  # reference given by the store: list:<sha256>
    where: Where | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [self.everybody, bool(self.users), self.user_list is not None, self.where is not None]
        if sum(given) != 1:
            raise ValueError("audience needs exactly one of everybody: true, users, user_list, where")
        return self
