"""`clarion push …`"""

from __future__ import annotations

from starters.operating import nouns

app = nouns("push")
