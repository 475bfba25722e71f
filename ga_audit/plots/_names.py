"""Names of runs as a figure can show them: short, told apart, in the scripts that the fonts here have."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from ga_audit.run import Run

_WIDTH = 30
_ISOLATE, _POP = "\u2068", "\u2069"
# fonts with Chinese, Japanese and Korean (and much else), as systems and distributions install them
_WIDE_FONTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans CJK TC", "Noto Sans SC", "Noto Sans JP",
    "Noto Sans KR", "Source Han Sans SC", "Source Han Sans JP", "PingFang SC", "Hiragino Sans GB", "Hiragino Sans",
    "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Meiryo", "Malgun Gothic", "SimHei", "MS Gothic",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAexGothic", "IPAGothic", "TakaoPGothic",
    "NanumGothic", "Arial Unicode MS", "Unifont", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Sans Bengali",
    "Noto Sans Tamil", "Nirmala UI", "Leelawadee UI",
)  # fmt: skip


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run: at most 30 columns, GA behind it where the name does not say it, no two alike.

    Long names lose their middle, since names differ at their ends; what still looks alike is numbered. Control
    characters become `?`. A right-to-left name is isolated, so that it does not turn round what follows. Characters
    that no font of this machine draws are given as their code points.
    """
    named = []
    for run in runs:
        name = shown(run.name)
        ga = run.settings.ga
        named.append(name if ga is None or f"ga{ga}" in name.lower() else f"{name} (GA {ga})")
    seen: Counter[str] = Counter()
    often = Counter(named)
    out = []
    for name in named:
        seen[name] += 1
        out.append(f"{name} #{seen[name]}" if often[name] > 1 else name)
    return out


def shown(text: str, width: int = _WIDTH) -> str:
    """Text of a log as one line of at most `width` columns, in characters that can be drawn."""
    plain = "".join(c if c.isprintable() else "?" for c in text)
    short = _shortened(_drawable(plain), width)
    turned = any(unicodedata.bidirectional(c) in {"R", "AL"} for c in short)
    return f"{_ISOLATE}{short}{_POP}" if turned and _isolates() else short


def columns(text: str) -> float:
    """Width of a text in columns: a Chinese character takes two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 0 if c in _ISOLATE + _POP else 1 for c in text)


def _shortened(text: str, width: int) -> str:
    if columns(text) <= width:
        return text
    first, last = "", ""
    for head, tail in zip(text, reversed(text), strict=True):
        if columns(first + head + tail + last) + 1 > width:
            break
        first, last = first + head, tail + last
    return f"{first}…{last}"


def _drawable(text: str) -> str:
    """Text with characters that no font here has as `[5b9f 9a13]`: ugly, but two names stay two names."""
    if text.isascii():
        return text
    have = _characters(fonts_for([text]))
    out: list[str] = []
    for c in text:
        if ord(c) in have:
            out.append(c)
        elif out and out[-1].endswith("]") and len(out[-1]) > 1:
            out[-1] = f"{out[-1][:-1]} {ord(c):x}]"
        else:
            out.append(f"[{ord(c):x}]")
    return "".join(out)


def fonts_for(texts: Iterable[str]) -> list[str]:
    """Font families for these texts: DejaVu Sans, which matplotlib brings, then installed ones for what it lacks."""
    wanted = {ord(c) for text in texts if not text.isascii() for c in text if c not in _ISOLATE + _POP}
    families = ["DejaVu Sans"]
    missing = wanted - _characters(families) if wanted else wanted
    if missing:
        from matplotlib.font_manager import fontManager

        installed = {entry.name for entry in fontManager.ttflist}
        for family in _WIDE_FONTS:
            if family in installed and missing & _characters([family]):
                families.append(family)
                missing -= _characters([family])
    return families


def _characters(families: Sequence[str]) -> set[int]:
    from matplotlib.font_manager import findfont, get_font

    return {code for family in families for code in get_font(findfont(family)).get_charmap()}


def _isolates() -> bool:
    """Whether matplotlib orders and shapes text (3.11 on); before, an isolate would be drawn as a box."""
    from matplotlib import ft2font

    return hasattr(ft2font, "__libraqm_version__")
