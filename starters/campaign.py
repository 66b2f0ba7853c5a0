"""`clarion campaign …`"""

from __future__ import annotations

from starters.operating import nouns

app = nouns("campaign")
