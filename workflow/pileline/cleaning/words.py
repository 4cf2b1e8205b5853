"""Words as spaCy's English tokenizer splits them, which is what datatrove's filters count.

A text is split at white space, and each chunk on its own: punctuation, quotes and symbols are taken from its front
and its end, contractions ("do" + "n't") and abbreviations ("Mr.") are known, addresses stay whole, and what is left
is split at hyphens and the like inside it. Since a chunk's words depend on nothing else, they are worked out once a
distinct chunk (`vocabulary.py` remembers them), and English prose repeats its chunks.

Left out: spaCy's emoticons, its special cases across chunks, and most of its icons; of Chinese and other scripts
without blanks a "word" is a run between punctuation marks, there as here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

_MARKS = r"…,:;!?¿؟¡()\[\]{}<>_#*&。？！，、；：～·।،۔؛٪"
_QUOTES = r"'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧"
_CURRENCY = r"(?:US|C|A)?\$|[£€¥฿₠-₿﷼]"
_ICONS = (
    "[¦©®°\u2100-\u2101\u2103-\u2109\u2114-\u2123\u2195-\u21f3\u2300-\u2426\u249c-\u27bf\u2b00-\u2bff\u3200-\u33ff"
    "\U0001f000-\U0001faff\ufffc-\ufffd]"
)
# What ends a sentence, in the scripts of living languages (Unicode's property Sentence_Terminal).
TERMINAL = "!.?։؝؞؟۔܀܁܂߹।॥၊။።፧፨᙮᠃᠉‼‽⁇⁈⁉⸮⸼。．！？｡﹒﹖﹗"
_UNITS = (
    "km²|km³|km|m²|m³|m/s|mph|mbar|mb|MB|mg|mm²|mm³|mm|m|dm²|dm³|dm|cm²|cm³|cm|ha|µm|µg|nm|yd|in|ft|kmh|km/h|kg|kb|KB|"
    "hPa|Pa|gb|GB|g|tb|TB|t|lb|oz|T|G|M|K|%"
)
_LETTER = r"[^\W\d_]"
_UNCASED = "\u0591-\u1fff\u3040-\ud7ff"
_LOWER = "".join(letter for letter in map(chr, range(0x530)) if letter.islower()) + "\u1e00-\u1eff" + _UNCASED
_UPPER = "".join(letter for letter in map(chr, range(0x530)) if letter.isupper()) + "\u1e00-\u1eff" + _UNCASED

_PREFIX = re.compile(rf"[§%=—–]|\+(?![0-9])|……|[{_MARKS}]|\.\.+|''|[{_QUOTES}]|{_CURRENCY}|{_ICONS}")
_SUFFIX = re.compile(
    rf"(?:……|[{_MARKS}]|\.\.+|''|[{_QUOTES}]|{_ICONS}|['’][sS]|[—–]|(?<=[0-9])\+|(?<=[0-9])(?:{_CURRENCY}|{_UNITS})"
    rf"|(?<=[0-9{_LOWER}%²\-+{_MARKS}{_QUOTES}])\.|(?<=[{_UPPER}][{_UPPER}])\.)$"
)
_INFIX = re.compile(
    rf"\.\.+|…|{_ICONS}|(?<=[0-9])[+\-*^](?=[0-9-])|(?<=[{_LOWER}{_QUOTES}])\.(?=[{_UPPER}{_QUOTES}])"
    rf"|(?<={_LETTER}),(?={_LETTER})|(?<=[^\W_])(?:-{{1,3}}|[–~]|——?)(?={_LETTER})|(?<=[^\W_])[:<>=/](?={_LETTER})"
)
_ADDRESS = re.compile(
    r"(?:[\w+.-]{2,}://)?(?:[^\s@]+@)?(?:(?:\d{1,3}\.){3}\d{1,3}|(?:[A-Za-z0-9\u00a1-\uffff][\w\u00a1-\uffff-]{0,63}\.)+"
    rf"[{_LOWER}]{{2,63}})(?::\d{{2,5}})?(?:[/?#]\S*)?"
)
_SUFFIX_REACH = 8  # characters in which every suffix but a run of dots ends
_ADDRESS_REACH = 2000  # longer chunks are no addresses

_PRONOUNS = ("i", "you", "he", "she", "it", "we", "they")
_ASKING = ("who", "what", "when", "where", "why", "how", "there", "that", "this", "these", "those")
_VERBS = "ca could do does did had may might must need ought sha should wo would ai are is was were have has dare"
_ABBREVIATIONS = (
    "Mt. Ak. Ala. Apr. Ariz. Ark. Aug. Calif. Colo. Conn. Dec. Del. Feb. Fla. Ga. Ia. Id. Ill. Ind. Jan. Jul. Jun. "
    "Kan. Kans. Ky. La. Mar. Mass. Mich. Minn. Miss. N.C. N.D. N.H. N.J. N.M. N.Y. Neb. Nebr. Nev. Nov. Okla. Oct. "
    "Ore. Pa. S.C. Sep. Sept. Tenn. Va. Wash. Wis. a.m. Adm. Bros. co. Co. Corp. D.C. Dr. e.g. E.g. E.G. Gen. Gov. "
    "i.e. I.e. I.E. Inc. Jr. Ltd. Md. Messrs. Mo. Mont. Mr. Mrs. Ms. p.m. Ph.D. Prof. Rep. Rev. Sen. St. vs. v.s. "
    "ma'am Ma'am o'clock O'clock and/or w/o 'em 'll 'nuff 'Cause 'cause 'cos 'Cos 'coz 'Coz 'cuz 'Cuz 'bout 're 'd "
    "lovin' Lovin' havin' Havin' doin' Doin' goin' Goin' nothin' Nothin' nuthin' Nuthin' ol' Ol' somethin' Somethin' "
    "'s 'S '' C++"
)
_NO_CONTRACTIONS = ("ill", "its", "hell", "shell", "shed", "were", "well", "whore")


def _contractions() -> Iterator[tuple[str, ...]]:
    """The parts of each contraction, in small letters and with the straight apostrophe."""
    for word in (*_PRONOUNS, *_ASKING):
        endings = [("'ll",), ("'ll", "'ve"), ("'d",), ("'d", "'ve")]
        if word in ("i", "you", "we", "they") or (word in _ASKING and word not in ("that", "this")):
            endings.append(("'ve",))
        if word in ("you", "we", "they") or (word in _ASKING and word not in ("that", "this")):
            endings.append(("'re",))
        if word in ("he", "she", "it") or (word in _ASKING and word not in ("these", "those")):
            endings.append(("'s",))
        if word == "i":
            endings += [("'m",), ("'m", "a")]
        yield from ((word, *ending) for ending in endings)
    for word in _VERBS.split():
        yield (word, "n't")
        if word in _VERBS.split()[:15]:
            yield (word, "n't", "'ve")
        if word in ("could", "might", "must", "should", "would"):
            yield (word, "'ve")
    yield from [("can", "not"), ("gon", "na"), ("got", "ta"), ("let", "'s"), ("not", "'ve"), ("y'", "all")]
    yield from [("c'm", "on"), ("how", "'d", "'y")]


def _special() -> dict[str, tuple[str, ...]]:
    """Chunks that have words of their own: contractions, abbreviations, initials and times of day."""
    known: dict[str, tuple[str, ...]] = {}
    for first, *others in _contractions():
        for head in (first, first[0].upper() + first[1:]):
            parts = (head, *others)
            for made in (parts, tuple(part.replace("'", "") for part in parts)):
                known["".join(made)] = made
    for whole in _NO_CONTRACTIONS:
        known.pop(whole, None)
        known.pop(whole.capitalize(), None)
    known["lets"], known["Lets"] = ("lets",), ("Lets",)
    for hour, half in product(range(1, 13), ("a.m.", "am", "p.m.", "pm")):
        known[f"{hour}{half}"] = (str(hour), half)
    known |= {f"{letter}.": (f"{letter}.",) for letter in "abcdefghijklmnopqrstuvwxyzäöü"}
    known |= {whole: (whole,) for whole in _ABBREVIATIONS.split()}
    return known | {
        whole.replace("'", "’"): tuple(part.replace("'", "’") for part in parts)
        for whole, parts in known.items()
        if "'" in whole
    }


_SPECIAL = _special()
_LONGEST_SPECIAL = max(map(len, _SPECIAL))


def words_of(chunk: str) -> list[str]:
    """The words of a chunk: a string without white space, not empty. Time is linear in its length."""
    if (simple := _simple(chunk)) is not None:
        return simple
    front: list[str] = []
    back: list[str] = []
    start, end = 0, len(chunk)
    core: tuple[str, ...] | None = None
    while start < end:
        core = _known(chunk, start, end)
        if core is not None:
            break
        prefix = _PREFIX.match(chunk, start, end)
        head = prefix.end() if prefix else start
        if head > start and (core := _known(chunk, head, end)) is not None:
            front.append(chunk[start:head])
            start = head
            break
        tail = _suffix(chunk, head, end)
        if tail < end and (core := _known(chunk, start, tail)) is not None:
            back.append(chunk[tail:end])
            end = tail
            break
        if head == start and tail == end:
            break
        if head > start:
            front.append(chunk[start:head])
        if tail < end:
            back.append(chunk[tail:end])
        start, end = head, tail
    if core is None:
        core = _inside(chunk[start:end])
    return [*front, *core, *reversed(back)]


def _simple(chunk: str) -> list[str] | None:
    """Words of the commonest chunks, letters and perhaps a mark behind them; None for the others."""
    if chunk.isalpha():
        return [*_SPECIAL.get(chunk, (chunk,))]
    letters, mark = chunk[:-1], chunk[-1]
    if chunk in _SPECIAL or not letters.isalpha() or not letters.isascii():
        return None
    if mark in ",;:!?" or (mark == "." and letters[-1].islower()):
        return [*_SPECIAL.get(letters, (letters,)), mark]
    return None


def _known(chunk: str, start: int, end: int) -> tuple[str, ...] | None:
    return _SPECIAL.get(chunk[start:end]) if end - start <= _LONGEST_SPECIAL else None


def _suffix(chunk: str, start: int, end: int) -> int:
    """Where the suffix of chunk[start:end] begins; `end` if there is none."""
    if chunk.endswith("..", start, end):
        dots = end - 2
        while dots > start and chunk[dots - 1] == ".":
            dots -= 1
        return dots
    found = _SUFFIX.search(chunk, max(start, end - _SUFFIX_REACH), end)
    return found.start() if found else end


def _inside(core: str) -> tuple[str, ...]:
    """What is left between prefixes and suffixes: an address, or words split at infixes."""
    if core.isalpha() or (len(core) <= _ADDRESS_REACH and "." in core and _ADDRESS.fullmatch(core)):
        return (core,) if core else ()
    made, start = [], 0
    for infix in _INFIX.finditer(core):
        if infix.start() == 0:
            continue
        if infix.start() > start:
            made.append(core[start : infix.start()])
        made.append(infix.group())
        start = infix.end()
    if start < len(core):
        made.append(core[start:])
    return tuple(made)
