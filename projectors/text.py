"""Text search: which language rules apply, and what a text that is asked for may be."""

import re
import unicodedata

from domain.errors import InvalidParameter

_CODES = {
    "arabic": "ar ara",
    "armenian": "hy hye arm",
    "basque": "eu eus baq",
    "catalan": "ca cat",
    "danish": "da dan",
    "dutch": "nl nld dut",
    "english": "en eng",
    "finnish": "fi fin",
    "french": "fr fra fre",
    "german": "de deu ger",
    "greek": "el ell gre",
    "hindi": "hi hin",
    "hungarian": "hu hun",
    "indonesian": "id ind",
    "irish": "ga gle",
    "italian": "it ita",
    "lithuanian": "lt lit",
    "nepali": "ne nep",
    "norwegian": "no nor nb nob nn nno",
    "portuguese": "pt por",
    "romanian": "ro ron rum",
    "russian": "ru rus",
    "serbian": "sr srp",
    "spanish": "es spa",
    "swedish": "sv swe",
    "tamil": "ta tam",
    "turkish": "tr tur",
    "yiddish": "yi yid",
}
CONFIGS = (*_CODES, "simple")
"""Text search configurations that every supported Postgres (14 and later) has."""
_CONFIG_OF = {code: config for config, codes in _CODES.items() for code in codes.split()}


def config_of(language: str | None) -> str:
    """The text search configuration for a BCP 47 tag: by its first part, else `simple`."""
    if language is None:
        return "simple"
    return _CONFIG_OF.get(re.split("[-_]", language, maxsplit=1)[0].lower(), "simple")


def like_pattern(text: str) -> str:
    """A LIKE pattern for texts that contain `text` as it stands."""
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


def exact(parameter: str, text: str) -> str:
    """`text` as it is, to be compared with what is stored.

    Raises:
        InvalidParameter: it holds a NUL character, which nothing stored can.
    """
    if "\0" in text:
        raise InvalidParameter(parameter, "may not contain NUL characters")
    return text


def plain(parameter: str, text: str) -> str:
    """Text as somebody typed it: composed, without blanks around it; raises InvalidParameter like `exact`."""
    return unicodedata.normalize("NFC", exact(parameter, text)).strip()
