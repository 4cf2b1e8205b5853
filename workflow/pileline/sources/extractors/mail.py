"""The body of a mail message, a file each (RFC 5322 and MIME): one text a member.

Headers and attachments are left out. Plain parts are taken where there are any, else what pages of HTML show. The
subject is kept as metadata. A charset that the message names wrongly, or not at all, falls back on the source's
`encoding`, then on Latin-1, in which any bytes are text: mail of the past is full of it.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import re
from collections.abc import Iterator
from email.message import Message
from typing import IO

from resiliparse.extract.html2text import extract_plain_text

from pileline.sources.reading import Reading
from pileline.sources.record import MISSING, TOO_LONG, Format, Record, found, unread, whole

_PAGE = re.compile(r"\s*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)  # HTML that the message calls plain
_ENVELOPE = re.compile(rb"^From [^\n]*\n")  # the line of a mailbox before the message


def read_mail(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    message = email.message_from_bytes(_ENVELOPE.sub(b"", data))
    text = _body(message, "text/plain", reading) or _body(message, "text/html", reading)
    yield found(text, _subject(message)) if text else unread(data, MISSING)


def _body(message: Message, kind: str, reading: Reading) -> str:
    """The parts of that kind, blank lines between."""
    parts = [part for part in message.walk() if part.get_content_type() == kind and not _attached(part)]
    texts = [_text(part, reading).replace("\r\n", "\n") for part in parts]
    shown = [_visible(text) if kind == "text/html" or _PAGE.match(text) else text for text in texts]
    return "\n\n".join(filter(None, map(str.strip, shown)))


def _visible(page: str) -> str:
    """The text of a page of HTML."""
    return str(extract_plain_text(page, preserve_formatting=True, skip_elements=["script", "style"]))


def _attached(part: Message) -> bool:
    return part.get_content_disposition() == "attachment"


def _text(part: Message, reading: Reading) -> str:
    content = part.get_payload(decode=True)
    if not isinstance(content, bytes):
        return ""
    for charset in (part.get_content_charset(), reading.encoding):
        try:
            return content.decode(charset or reading.encoding)
        except (LookupError, UnicodeDecodeError):
            continue
    return content.decode("latin-1")


def _subject(message: Message) -> dict[str, str]:
    try:
        subject = str(email.header.make_header(email.header.decode_header(str(message["Subject"] or ""))))
    except (LookupError, UnicodeDecodeError, email.errors.HeaderParseError):
        subject = str(message["Subject"])
    return {"subject": " ".join(subject.split())} if subject else {}


MAIL = Format(read_mail)
