"""What an application calls a user."""

from __future__ import annotations

import re
from typing import Final

from clarion.errors import BadInput

USER_ID: Final = re.compile(r"[^\x00-\x1f\x7f]{1,256}")


def check_user_id(user_id: str) -> str:
    """The id exactly as given. Raises BadInput when it cannot be one."""
    if not USER_ID.fullmatch(user_id):
        raise BadInput("a user id must be a text of 1 to 256 characters without control characters")
    return user_id
