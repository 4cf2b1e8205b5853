"""Formats: how the texts of a member are told from what surrounds them.

A format is a function from a member's byte stream to records, one a text, in the member's order:

    text                one text, the whole member
    lines               one text a line
    jsonl               one JSON object a line, its text in a field
    json_records        a JSON list of objects, or an object of objects, the text of each in a field
    yaml_conversations  ChatterBot's YAML: a member's conversations are one text, a turn a line, blank lines between
    rated_snippets      lines of id, rating and sentence, parted by tabs; the sentences of a review ("7_1", "7_2", ...)
                        are one text, joined by blanks

Bytes are counted of texts, in UTF-8. The syntax around them (line ends between texts, JSON's quotes, ratings)
is not text. What should be a text and cannot be read is a record with a reason, never an exception.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from typing import IO, Any, NamedTuple

import yaml

from pileline.sources.archives import MEGABYTE
from pileline.sources.errors import SourceError
from pileline.sources.reading import Reading

UNDECODABLE = "undecodable"  # the bytes are not in the encoding, or the text is not valid Unicode
MALFORMED = "malformed"  # the syntax is not the format's
MISSING = "no text"  # a record without the field that should have its text


class Record(NamedTuple):
    """A text with its metadata, or the `reason` why there is none; `size` in bytes, of the text or its stand-in."""

    text: str
    size: int
    metadata: dict[str, Any]
    reason: str | None = None


def _found(text: str, metadata: dict[str, Any] | None = None) -> Record:
    try:
        return Record(text, len(text.encode()), metadata or {})
    except UnicodeEncodeError:  # JSON can escape half a surrogate pair, which is no character
        return _unread(text.encode("utf-8", "surrogatepass"), UNDECODABLE)


def _unread(data: bytes, reason: str) -> Record:
    return Record("", len(data), {}, reason)


def records(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    """The records of one member. `where` names it in errors. Raises `SourceError` if it is beyond `member_mb`."""
    yield from FORMATS[reading.format](stream, reading, where)


def _whole(stream: IO[bytes], reading: Reading, where: str) -> bytes:
    data = stream.read(reading.member_mb * MEGABYTE + 1)
    if len(data) > reading.member_mb * MEGABYTE:
        raise _too_long(where, "is", reading)
    return data


def _too_long(where: str, what: str, reading: Reading) -> SourceError:
    return SourceError(
        f"{where}: {what} longer than {reading.member_mb} MB; raise `member_mb` in the source's `read` block, "
        "if there is memory for it, or use a format by lines"
    )


def _decoded(data: bytes, reading: Reading) -> str | None:
    """The bytes as text, without a byte-order mark; None if they are not in the encoding."""
    try:
        return data.removeprefix(codecs.BOM_UTF8 if _is_utf8(reading) else b"").decode(reading.encoding)
    except UnicodeDecodeError:
        return None


def _is_utf8(reading: Reading) -> bool:
    return codecs.lookup(reading.encoding).name == "utf-8"


def _lines(stream: IO[bytes], reading: Reading, where: str) -> Iterator[tuple[bytes, str | None]]:
    """Each line without its end, as bytes and as text (None if undecodable)."""
    most, first = reading.member_mb * MEGABYTE, True
    while line := stream.readline(most + 1):
        if len(line) > most:
            raise _too_long(where, "has a line", reading)
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if first and _is_utf8(reading):
            line = line.removeprefix(codecs.BOM_UTF8)
        first = False
        try:
            yield line, line.decode(reading.encoding)
        except UnicodeDecodeError:
            yield line, None


def _read_text(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    data = _whole(stream, reading, where)
    text = _decoded(data, reading)
    yield _unread(data, UNDECODABLE) if text is None else _found(text)


def _read_lines(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    for data, text in _lines(stream, reading, where):
        yield _unread(data, UNDECODABLE) if text is None else _found(text)


def _read_jsonl(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    for data, text in _lines(stream, reading, where):
        if text is None:
            yield _unread(data, UNDECODABLE)
        elif text.strip():  # a blank line between objects is no record
            value = _json(text)
            yield _unread(data, MALFORMED) if value is None else _from_object(value, reading, len(data))


def _read_json_records(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    data = _whole(stream, reading, where)
    text = _decoded(data, reading)
    if text is None:
        yield _unread(data, UNDECODABLE)
        return
    value = _json(text)
    if not isinstance(value, dict | list):
        yield _unread(data, MALFORMED)
        return
    for item in value.values() if isinstance(value, dict) else value:
        yield _from_object(item, reading, 0)


def _json(text: str) -> Any:
    """The JSON value, or None if the text is not JSON (or the value null)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _from_object(value: Any, reading: Reading, size: int) -> Record:
    """The record of a JSON object; `size` is counted where it has no text."""
    text = value.get(reading.text) if isinstance(value, dict) else None
    if not isinstance(text, str):
        return Record("", size, {}, MISSING)
    return _found(text, {name: value[name] for name in reading.metadata if value.get(name) is not None})


def _read_yaml_conversations(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    data = _whole(stream, reading, where)
    text = _decoded(data, reading)
    if text is None:
        yield _unread(data, UNDECODABLE)
        return
    root = _yaml(text)
    entries = [(_scalar(key), value) for key, value in root.value] if isinstance(root, yaml.MappingNode) else []
    found = [value for key, value in entries if key == "conversations"]
    if not any(_is_list(node) for node in found):
        yield _unread(data, MALFORMED)
        return
    talks, unread = [], []  # type: tuple[list[str], list[yaml.Node]]
    for talk in [talk for node in found for talk in (node.value if _is_list(node) else [node])]:
        turns = []
        for node in talk.value if _is_list(talk) else [talk]:
            turn = _turn(node)
            if turn is None:
                unread.append(node)
            elif turn:
                turns.append(turn)
        talks.append("\n".join(turns))
    metadata = {key: _value(node) for key, node in entries if key in reading.metadata}
    yield _found("\n\n".join(filter(None, talks)), metadata)
    for node in unread:
        yield _unread(text[node.start_mark.index : node.end_mark.index].strip().encode(), MALFORMED)


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


def _read_rated_snippets(stream: IO[bytes], reading: Reading, where: str) -> Iterator[Record]:
    review, sentences, ratings = "", [], []  # type: tuple[str, list[str], list[float]]

    def joined() -> Iterator[Record]:
        if sentences:
            rating = round(sum(ratings) / len(ratings), 4)
            yield _found(" ".join(sentences), {"review": review, "rating": rating})

    for data, text in _lines(stream, reading, where):
        parts = (text or "").split("\t", 2)
        rating = _number(parts[1]) if len(parts) == 3 else None
        if rating is None:
            yield _unread(data, UNDECODABLE if text is None else MALFORMED)
            continue
        name = parts[0].rpartition("_")[0] or parts[0]
        if name != review:
            yield from joined()
            review, sentences, ratings = name, [], []
        sentences.append(parts[2])
        ratings.append(rating)
    yield from joined()


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


FORMATS: dict[str, Callable[[IO[bytes], Reading, str], Iterator[Record]]] = {
    "text": _read_text,
    "lines": _read_lines,
    "jsonl": _read_jsonl,
    "json_records": _read_json_records,
    "yaml_conversations": _read_yaml_conversations,
    "rated_snippets": _read_rated_snippets,
}
BY_LINE = ("lines", "jsonl", "rated_snippets")
