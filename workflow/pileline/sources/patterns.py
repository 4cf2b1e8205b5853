"""Which members of an archive are read: globs over their names."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

ZIP = (".zip", ".whl")
TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")
DEB = (".deb",)


@dataclass(frozen=True)
class Patterns:
    """Which members are read: those that a glob of `members` matches and none of `exclude`.

    `*` and `?` stay within a folder, `**` stands for any number of folders, and a glob without "/" is compared
    with the member's name alone.
    """

    members: tuple[str, ...] = ("**",)
    exclude: tuple[str, ...] = ()

    def select(self, name: str) -> bool:
        return any(matches(name, glob) for glob in self.members) and not any(matches(name, x) for x in self.exclude)

    def enter(self, name: str) -> bool:
        """Whether a pattern reaches into the archive of that name."""
        return is_archive(name) and any(matches(name, inner) for glob in self.members for inner in _reached(glob))


def _reached(glob: str) -> list[str]:
    """The archives that a glob names on its way: the parts up to each folder that ends as an archive does."""
    parts = glob.split("/")
    return ["/".join(parts[: i + 1]) for i, part in enumerate(parts[:-1]) if is_archive(part)]


def matches(name: str, glob: str) -> bool:
    """Whether a path with "/" matches a glob, as `Patterns` says."""
    compare = name if "/" in glob or glob == "**" else name.rpartition("/")[2]
    return _compiled(glob).fullmatch(compare) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(glob: str) -> re.Pattern[str]:
    written = ""
    for part in re.findall(r"\*\*/|\*\*|\*|\?|[^*?]+", glob):
        written += {"**/": r"(?:.*/)?", "**": r".*", "*": r"[^/]*", "?": r"[^/]"}.get(part, re.escape(part))
    return re.compile(written, re.DOTALL)


def is_archive(name: str) -> bool:
    return name.lower().endswith(ZIP + TAR + DEB)
