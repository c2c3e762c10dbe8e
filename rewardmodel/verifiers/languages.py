"""Which language a text is in, by langdetect (a port of Nakatani's detector), as the published IFEval has it.

Its last release is of 2021; it is kept because figures on IFEval are comparable only with it. It samples, so it is
seeded at every call: equal texts get equal answers.
"""

from __future__ import annotations

# ISO 639-1, and two variants of Chinese, as langdetect names them.
LANGUAGES = (
    "af", "ar", "bg", "bn", "ca", "cs", "cy", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "gu", "he", "hi",
    "hr", "hu", "id", "it", "ja", "kn", "ko", "lt", "lv", "mk", "ml", "mr", "ne", "nl", "no", "pa", "pl", "pt", "ro",
    "ru", "sk", "sl", "so", "sq", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "vi", "zh-cn", "zh-tw",
)  # fmt: skip


def detect_language(text: str) -> str | None:
    """The likeliest language of a text; None where nothing in it tells, such as digits alone."""
    from langdetect import DetectorFactory, LangDetectException, detect

    DetectorFactory.seed = 0
    try:
        return str(detect(text))
    except LangDetectException:
        return None
