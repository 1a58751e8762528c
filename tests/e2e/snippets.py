"""The fenced blocks of the documents, and what the comment before each says about its test. Runs nothing.

    <!-- test: NAME -->             test_readme.py has a function test_NAME, which takes the block's text from here
    <!-- not tested: WHY -->        no test runs it
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "deploy/local/README.md", "deploy/spark/README.md", "envoy/README.md")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
MARK = re.compile(r"<!-- (test|not tested): (.+) -->\n\Z")


@dataclass(frozen=True)
class Snippet:
    document: str
    line: int
    language: str
    text: str
    # The name of its test, or the reason why it has none; one of the two.
    test: str | None
    reason: str | None

    @property
    def place(self) -> str:
        return f"{self.document}:{self.line}"


def in_text(document: str, text: str) -> list[Snippet]:
    found = []
    for fence in FENCE.finditer(text):
        mark = MARK.search(text, 0, fence.start())
        kind, words = mark.groups() if mark else (None, None)
        line = text.count("\n", 0, fence.start()) + 1
        test, reason = (words, None) if kind == "test" else (None, words)
        found.append(Snippet(document, line, fence[1], fence[2], test, reason))
    return found


def all_snippets() -> list[Snippet]:
    return [snippet for name in DOCUMENTS for snippet in in_text(name, (REPOSITORY / name).read_text())]


def replaced(text: str, table: dict[str, str]) -> str:
    """Each key gives way to its value, in one pass, the longer one first. A key that is not there is a mistake in the
    table, or a document that says something else now."""
    missing = [key for key in table if key not in text]
    assert not missing, f"the snippet does not hold {missing}:\n{text}"
    keys = sorted(table, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, keys)), lambda match: table[match[0]], text)


def without(text: str, start: str) -> str:
    """Leaves out the command that starts so, with the lines that a backslash adds to it."""
    shorter, count = re.subn(rf"^{re.escape(start)}(.*\\\n)*.*\n", "", text, flags=re.M)
    assert count == 1, f"{count} commands start with {start!r}:\n{text}"
    return shorter
