"""`clarion push …`"""

from __future__ import annotations

from starters.operating import nouns
from starters.words import words

app = nouns("push", *words("push"))
