"""The exception tree. A rejection by a provider is data (an `Outcome`); an exception means no answer was had.

    ClarionError
    ├── BadInput                 somebody's words are wrong: says what, where and what to do
    │   ├── BadSpec              a campaign, push or message does not validate
    │   ├── BadCredential        a key, certificate or service account cannot be used
    │   └── BadRegistration      a device or its token cannot be stored
    ├── NotFound                 no such app, credential, push, campaign or user
    ├── AlreadyExists            the id is taken by something with other content
    ├── CommandRefused           the push is in a state that forbids the command
    ├── StackUnavailable         PostgreSQL or Temporal cannot be reached, or none is configured
    │   ├── StoreUnavailable     PostgreSQL went away in the middle; the statement may be repeated
    │   └── StoreFull            PostgreSQL's disk is full; somebody has to make room
    └── SenderError              a provider could not be spoken to at all
        └── CredentialBlocked    the provider refuses the credential itself

Messages of these exceptions never contain tokens, secrets or message bodies: they are shown to people,
written to logs and kept in workflow histories.
"""

from __future__ import annotations


class ClarionError(Exception):
    """Something went wrong in Clarion."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class BadInput(ClarionError):
    """The input is not usable."""


class BadSpec(BadInput):
    """The campaign, push or message does not validate."""


class BadCredential(BadInput):
    """The credential cannot be used."""


class BadRegistration(BadInput):
    """The device or its token cannot be stored."""


class NotFound(ClarionError):
    """There is no such thing."""


class AlreadyExists(ClarionError):
    """The id is taken by something with other content."""


class CommandRefused(ClarionError):
    """The push is in a state that forbids this command."""


class StackUnavailable(ClarionError):
    """PostgreSQL or Temporal cannot be reached."""


class StoreUnavailable(StackUnavailable):
    """PostgreSQL went away; the same statement may be repeated."""


class StoreFull(StackUnavailable):
    """store full: PostgreSQL has no room left on its disk. Make room, then resume"""


class SenderError(ClarionError):
    """The provider could not be spoken to."""


class CredentialBlocked(SenderError):
    """The provider refuses the credential itself."""
