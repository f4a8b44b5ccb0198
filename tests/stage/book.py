"""Code on the pages of docs/."""

import re
from pathlib import Path

from processes import REPOSITORY

BOOK = REPOSITORY / "docs"


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of this language on a page, from the first to the last."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
