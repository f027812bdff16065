"""What a Developer submits: a set of file operations against a pinned base commit (version 1)."""

import base64
import binascii
import re
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from schemas.base import Frozen, Glob, Mode, Name, Sha

MAX_FILE_BYTES = 8 * 1024 * 1024
MAX_REQUEST_BYTES = 32 * 1024 * 1024
_GIT_NAMES = {".git", "git~1", "git~2", "git~3", "git~4"}
# Code points that HFS+ ignores in file names, so that `.g<ZWNJ>it` is `.git` there (git's utf8.c, next_hfs_char).
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF], None)


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def _safe(path: str) -> str:
    """Refuse what no operation may name; stricter rules for new paths are in bot.rules.paths."""
    if not path or len(path.encode("utf-8", "surrogatepass")) > 4096:
        raise ValueError(f"{path!r:.200}: a path has 1 to 4096 bytes")
    if _UNPRINTABLE.search(path):
        raise ValueError(f"{path!r:.200}: a path holds no control characters and no surrogates")
    for segment in path.split("/"):
        if segment in ("", ".", ".."):
            raise ValueError(f"{path!r:.200}: a path is relative, and has no empty, '.' or '..' segment")
        if segment.isascii() and "git" not in segment.lower():
            continue
        folded = segment.translate(_HFS_IGNORED).casefold().replace("\\", "/").split("/")
        for part in folded:
            if part.split(":", 1)[0].rstrip(". ") in _GIT_NAMES:
                raise ValueError(f"{path!r:.200}: {segment!r:.200} is a form of .git")
    return path


SafePath = Annotated[str, AfterValidator(_safe)]


class _Operation(Frozen):
    path: SafePath


class _OnBlob(_Operation):
    before: Sha


class _Content(_Operation):
    content: str | None
    encoding: Literal["utf-8", "base64"] = "utf-8"

    def data(self) -> bytes:
        """The raw bytes that the file will hold."""
        if self.content is None:
            raise ValueError("this operation carries no content")
        if self.encoding == "base64":
            return base64.b64decode(self.content, validate=True)
        return self.content.encode("utf-8")

    @model_validator(mode="after")
    def _decodes(self) -> Self:
        if self.content is not None:
            try:
                plain = self.encoding == "utf-8" and self.content.isascii()
                size = len(self.content if plain else self.data())
            except (binascii.Error, UnicodeEncodeError) as error:
                raise ValueError(f"content is not valid {self.encoding}: {error}") from error
            if size > MAX_FILE_BYTES:
                raise ValueError(f"content is over {MAX_FILE_BYTES} bytes")
        return self


class Add(_Content):
    """A new file; the path must be absent in the base."""

    op: Literal["add"] = "add"
    content: str
    mode: Mode = "100644"


class Modify(_Content, _OnBlob):
    """New content for a file whose blob in the base is `before`."""

    op: Literal["modify"] = "modify"
    content: str
    mode: Mode | None = None


class Delete(_OnBlob):
    """Remove a file whose blob in the base is `before`."""

    op: Literal["delete"] = "delete"


class Rename(_Content, _OnBlob):
    """Move a file, with new content when `content` is given."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    op: Literal["rename"] = "rename"
    source: Annotated[SafePath, Field(alias="from")]
    content: str | None = None
    mode: Mode | None = None


class Chmod(_OnBlob):
    """Change the executable bit alone."""

    op: Literal["chmod"] = "chmod"
    mode: Mode


Edit = Annotated[Add | Modify | Delete | Rename | Chmod, Field(discriminator="op")]


class CheckClaim(Frozen):
    """A check as the submitter saw it; information only, the queue runs its own."""

    name: str
    command: str
    exit_code: int
    seconds: float = 0.0


class Impact(Frozen):
    """What the submitter says the change means beyond its files; information only."""

    manifests: tuple[str, ...] = ()
    removed_symbols: tuple[str, ...] = ()
    deleted_tests: tuple[str, ...] = ()


class ChangeRequest(Frozen):
    """One submission. The patch is a set: every path at most once as target and once as source."""

    version: Literal[1] = 1
    id: Name
    task: str = ""
    base: Sha
    title: Annotated[str, Field(max_length=500)] = ""
    summary: Annotated[str, Field(max_length=20_000)] = ""
    owns: tuple[Glob, ...] | None = None
    patch: tuple[Edit, ...]
    checks: tuple[CheckClaim, ...] = ()
    impact: Impact = Impact()

    @field_validator("patch")
    @classmethod
    def _is_a_set(cls, patch: tuple[Edit, ...]) -> tuple[Edit, ...]:
        if not patch:
            raise ValueError("the patch is empty")
        for what, paths in (
            ("target", [edit.path for edit in patch]),
            ("source", [edit.source for edit in patch if isinstance(edit, Rename)]),
        ):
            if len(set(paths)) < len(paths):
                path = Counter(paths).most_common(1)[0][0]
                raise ValueError(f"{path!r} is the {what} of two operations")
        if sum(len(edit.content or "") for edit in patch if isinstance(edit, _Content)) > MAX_REQUEST_BYTES * 4 // 3:
            raise ValueError(f"the patch is over {MAX_REQUEST_BYTES} bytes")
        return patch
