"""The code in an answer: its first fenced block, as CommonMark has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["CodeBlock", "first_code_block"]

_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>.*)\Z")
_SUFFIXES = {
    "bash": ".sh", "c": ".c", "c++": ".cpp", "cpp": ".cpp", "cs": ".cs", "csharp": ".cs", "css": ".css", "go": ".go",
    "html": ".html", "java": ".java", "javascript": ".js", "js": ".js", "json": ".json", "kotlin": ".kt", "php": ".php",
    "py": ".py", "python": ".py", "python3": ".py", "rb": ".rb", "rs": ".rs", "ruby": ".rb", "rust": ".rs", "sh": ".sh",
    "shell": ".sh", "sql": ".sql", "swift": ".swift", "toml": ".toml", "ts": ".ts", "typescript": ".ts", "xml": ".xml",
    "yaml": ".yaml", "yml": ".yaml",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CodeBlock:
    """A fenced block. `language`: the first word after the fence, in lower case, or empty."""

    code: str
    language: str

    @property
    def file_name(self) -> str:
        """`answer` with the suffix of its language; `.txt` where there is none, or it is not known here."""
        return f"answer{_SUFFIXES.get(self.language, '.txt')}"


def first_code_block(answer: str) -> CodeBlock | None:
    """The first fenced block that is not blank, or None. One that is never closed reaches to the answer's end.

    The language is not looked at: an answer that is to be run has to put its program first. Linear in the answer's length.
    """
    fence, language, indent = "", "", 0
    lines: list[str] = []
    for line in answer.splitlines(keepends=True):
        found = _FENCE.match(line.rstrip())
        if not fence:
            if found is not None and not (found["fence"][0] == "`" and "`" in found["info"]):  # that is inline code
                fence, lines, indent = found["fence"], [], found.start("fence")
                language = (found["info"].split() or [""])[0].lower()
        elif found is not None and found["fence"].startswith(fence) and not found["info"]:
            if (code := "".join(lines)).strip():
                return CodeBlock(code, language)
            fence = ""
        else:
            spaces = len(line) - len(line.lstrip(" "))
            lines.append(line[min(indent, spaces) :])
    code = "".join(lines) if fence else ""
    return CodeBlock(code, language) if code.strip() else None
