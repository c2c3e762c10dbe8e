"""Characters that cannot be seen made visible: bidirectional controls, other controls, zero-width and tag characters.

They can make text read as what it is not (Trojan Source, CVE-2021-42574) or carry what nobody sees. Joiners stay where
a script or an emoji needs them, and so do the tags of the flags of England, Scotland and Wales.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable

BIDI = {
    "\u061c": "ALM",
    "\u200e": "LRM",
    "\u200f": "RLM",
    "\u202a": "LRE",
    "\u202b": "RLE",
    "\u202c": "PDF",
    "\u202d": "LRO",
    "\u202e": "RLO",
    "\u2066": "LRI",
    "\u2067": "RLI",
    "\u2068": "FSI",
    "\u2069": "PDI",
}
_C0 = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS HT LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN EM SUB ESC FS GS RS US"
)
_OTHERS = {
    "\x7f": "DEL",
    "\x85": "NEL",
    "\xad": "SHY",
    "\u180e": "MVS",
    "\u200b": "ZWSP",
    "\u200c": "ZWNJ",
    "\u200d": "ZWJ",
    "\u2028": "LS",
    "\u2029": "PS",
    "\u2060": "WJ",
    "\ufeff": "BOM",
}
NAMES = BIDI | {chr(code): name for code, name in enumerate(_C0.split())} | _OTHERS

_BLACK_FLAG = "\U0001f3f4"
_FLAG = _BLACK_FLAG + "[\U000e0030-\U000e0039\U000e0061-\U000e007a]{3,6}\U000e007f"
_ALWAYS = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\u3164"
    "\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff"
)
_JOINING = (
    "\u0590-\u08ff\u0900-\u0dff\u0e00-\u109f\u1700-\u180d\u1810-\u18af\u1a00-\u1cff\ua800-\uabff\ufb1d-\ufdff"
    "\ufe70-\ufefc\U00010a00-\U00011fff"
)
_EMOJI = "\u00a9\u00ae\u203c-\u2bff\u3030\u303d\u3297\u3299\ufe0f\U0001f000-\U0001faff"
_HAN = "\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_SELECTORS = "\ufe00-\ufe0f"
_SEEN = re.compile(
    f"{_FLAG}|[{_ALWAYS}]+|(?<![{_JOINING}])\u200c|(?<![{_JOINING}{_EMOJI}])\u200d"
    f"|(?<=[{_SELECTORS}])[{_SELECTORS}]|(?<![{_HAN}])[\U000e0100-\U000e01ef]"
)
_SAME = re.compile(r"(.)\1*", re.DOTALL)
_LINE_END = re.compile("\r\n?")
_UNENCODABLE = re.compile("[\x00\ud800-\udfff]")


def as_displayed(text: str) -> str:
    """The text with the line ends that a browser makes of it, and U+FFFD for NUL and lone surrogates."""
    return _UNENCODABLE.sub("\ufffd", _LINE_END.sub("\n", text))


def name_of(char: str) -> str:
    """ "RLO" for U+202E, "U+E0041" for a character without a short name."""
    return NAMES.get(char) or f"U+{ord(char):04X}"


def show_controls(text: str) -> str:
    """The text with every such character as "⟦RLO⟧"; for plain text: titles, attributes, options."""
    return _replace(as_displayed(text), as_label=lambda label, _is_bidi: f"⟦{label}⟧")


def mark_controls(escaped: str) -> str:
    """Escaped text, no tags in it, with every such character as <span class="bidi">RLO</span> (others: "control")."""
    return _replace(escaped, as_label=_as_span)


def escape_plain(text: str) -> tuple[str, str]:
    """The text as HTML that keeps every character, controls marked, and the textContent of that HTML."""
    text = as_displayed(text)
    return mark_controls(html.escape(text, quote=False)), _replace(text, as_label=lambda label, _is_bidi: label)


def _as_span(label: str, is_bidi: bool) -> str:
    return f'<span class="{"bidi" if is_bidi else "control"}">{label}</span>'


def _replace(text: str, *, as_label: Callable[[str, bool], str]) -> str:
    """Equal characters in a row share a label, so that a thousand NULs stay short."""

    def of_run(match: re.Match[str]) -> str:
        if match[0].startswith(_BLACK_FLAG):
            return match[0]
        return "".join(as_label(_label(same), same[1] in BIDI) for same in _SAME.finditer(match[0]))

    return _SEEN.sub(of_run, text)


def _label(same: re.Match[str]) -> str:
    count = len(same[0])
    return name_of(same[1]) + (f"×{count}" if count > 1 else "")
