"""The body of a mail message, a file each (RFC 5322 and MIME): one text a member.

Headers and attachments are left out; of parts that say the same the plain one is taken. The subject is kept as
metadata. A charset that the message names wrongly, or not at all, falls back on the source's `encoding`, then on
Latin-1, in which any bytes are text: mail of the past is full of it.
"""

from __future__ import annotations

import email
import email.errors
import email.header
import re
from collections.abc import Iterator
from email.message import Message
from typing import IO

from pileline.sources.reading import Reading
from pileline.sources.record import MISSING, TOO_LONG, Format, Record, found, unread, whole

_ENVELOPE = re.compile(rb"^From [^\n]*\n")  # the line of a mailbox before the message


def read_mail(stream: IO[bytes], reading: Reading, _: str) -> Iterator[Record]:
    data = whole(stream, reading)
    if isinstance(data, int):
        yield unread(data, TOO_LONG)
        return
    message = email.message_from_bytes(_ENVELOPE.sub(b"", data))
    bodies = [part for part in message.walk() if part.get_content_type() == "text/plain" and not _attached(part)]
    texts = [_text(part, reading) for part in bodies]
    text = "\n\n".join(filter(None, (text.replace("\r\n", "\n").strip() for text in texts)))
    yield found(text, _subject(message)) if text else unread(data, MISSING)


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
