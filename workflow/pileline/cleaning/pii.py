"""Personal data replaced: e-mail addresses, public IP addresses, phone numbers.

As FineWeb does (datatrove's formatter), with nearly its pattern for e-mail; addresses of private and reserved
networks stay, since they are nobody's. Phone numbers are dolma's third kind; here they need separators or a leading
"+", so that a long number is no phone. Each is replaced by one constant that makes no new find, so that the filter run
twice is the filter run once. datatrove takes its constants in turn, which makes a document depend on those before it,
and finds addresses inside version numbers such as 1.2.3.4.5; neither is done here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?)"
_LOCAL = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_FIRST_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # bounded, for many beginnings may lead to one "@"
# It begins with a letter or digit that continues no address, so that replacing it makes no other.
_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9_@])(?<!{_LOCAL}\.)[A-Za-z0-9_]{_LOCAL}{{0,63}}(?:\.{_LOCAL}{{1,64}}){{0,16}}"
    rf"@(?:{_FIRST_LABEL}\.(?:{_LABEL}\.)*{_LABEL}|\[(?:{_OCTET}\.){{3}}{_OCTET}\](?!-*[A-Za-z0-9_]|\.[A-Za-z0-9]))"
)
_IPV4 = re.compile(rf"(?<![\w.])(?:{_OCTET}\.){{3}}{_OCTET}(?![\w]|\.\d)", re.ASCII)
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:.])")
_PHONE = re.compile(
    r"(?<![\w.+/-])(?:"
    r"(?:\+?1[-. ]?)?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[-. ])\d{3}[-. ]\d{4}"  # North America
    r"|\+[1-9]\d{0,2}(?:[-. ]?\(?\d{2,5}\)?){2,5}"  # international, with its plus
    r")(?![\w/-]|\.\d)",
    re.ASCII,
)
EMAIL, IPV4, IPV6, PHONE = "email@example.com", "22.214.171.124", "2001:db8::1", "PHONE_NUMBER"


@dataclass(frozen=True)
class Pii:
    """Rewrites texts; removes nothing."""

    name: ClassVar[str] = "pii"
    emails: bool = True
    addresses: bool = True  # IPv4 and IPv6, public ones
    phones: bool = True

    def apply(self, text: str) -> str:
        if self.addresses:
            text = _IPV4.sub(lambda found: _replaced(found.group(), IPV4), text)
            if ":" in text:
                text = _IPV6.sub(lambda found: _replaced(found.group(), IPV6), text)
        if self.phones:
            text = _PHONE.sub(PHONE, text)
        if self.emails and "@" in text:  # last, since what replaces the others may begin an e-mail address
            text = _EMAIL.sub(EMAIL, text)
        return text


def _replaced(found: str, by: str) -> str:
    try:
        return by if ipaddress.ip_address(found).is_global else found
    except ValueError:  # 1:2:3 or 010.1.1.1
        return found
