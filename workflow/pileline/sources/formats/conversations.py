"""ChatterBot's YAML conversations: a member is one text, a turn a line, blank lines between conversations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any

import yaml

from pileline.sources.reading import Reading
from pileline.sources.record import MALFORMED, Format, Record, found, unread, whole_text


def read(stream: IO[bytes], reading: Reading, place: str) -> Iterator[Record]:
    text = whole_text(stream, reading, place)
    if isinstance(text, Record):
        yield text
        return
    root = _yaml(text)
    entries = [(_scalar(key), value) for key, value in root.value] if isinstance(root, yaml.MappingNode) else []
    talks = [value for key, value in entries if key == "conversations"]
    if not any(map(_is_list, talks)):
        yield unread(text.encode(), MALFORMED)
        return
    said, strange = [], []  # type: tuple[list[str], list[yaml.Node]]
    for talk in [talk for node in talks for talk in (node.value if _is_list(node) else [node])]:
        turns = []
        for node in talk.value if _is_list(talk) else [talk]:
            turn = _turn(node)
            if turn is None:
                strange.append(node)
            elif turn:
                turns.append(turn)
        said.append("\n".join(turns))
    metadata = {key: _value(node) for key, node in entries if key in reading.metadata}
    yield found("\n\n".join(filter(None, said)), metadata)
    for node in strange:
        yield unread(text[node.start_mark.index : node.end_mark.index].strip().encode(), MALFORMED)


def _turn(node: yaml.Node) -> str | None:
    """The text of one turn, None if it is none. What YAML takes for a mapping is a turn with a colon in it."""
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node)
    lines = []
    for pair in node.value:
        key, value = map(_scalar, pair)
        if key is None or value is None:
            return None
        lines.append(f"{key}: {value}".rstrip())
    return "\n".join(lines)


def _scalar(node: yaml.Node) -> str | None:
    """A scalar as it is written (No, 12:30 and 1_000 are text here), None if it is none or has a tag of its own."""
    own = not node.tag.startswith("tag:yaml.org,2002:") or node.tag.startswith("tag:yaml.org,2002:python")
    return None if own or not isinstance(node, yaml.ScalarNode) else str(node.value)


def _is_list(node: yaml.Node) -> bool:
    return isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq"


def _value(node: yaml.Node) -> Any:
    """The node as a JSON value, its scalars as text."""
    if isinstance(node, yaml.MappingNode):
        return {str(_value(key)): _value(value) for key, value in node.value}
    return [_value(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else node.value


def _yaml(text: str) -> yaml.Node | None:
    """The tree of a YAML text, without a type guessed for its scalars.

    None if it is not YAML, or uses aliases (a few of which can stand for gigabytes).
    """
    try:
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.CBaseLoader)):
            return None
        return yaml.compose(text, yaml.CBaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return None


YAML_CONVERSATIONS = Format(read, {"metadata": []})
