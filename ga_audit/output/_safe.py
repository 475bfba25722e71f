"""Text from logs made harmless: control characters, Markdown, and what must not be posted."""

from __future__ import annotations

import re


def plain(text: str) -> str:
    """Control characters and direction overrides made visible; line breaks and ordinary text of any script stay."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def short(text: str, width: int) -> str:
    """At most `width` characters; the middle gives way, since names differ at their ends."""
    if len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[len(text) - half :]}"


def cell(text: str) -> str:
    """Text for a cell of a Markdown table, or a line of Markdown: nothing in it is markup."""
    shown = plain(text).replace("\n", " ")
    return _MARKUP.sub(r"\\\1", shown)


def redact(text: str, *, names: tuple[str, ...] = ()) -> str:
    """Secrets, people and machines out of a text that is to be posted.

    Parameters
    ----------
    text : what is to be shown.
    names : words that are secret in this case: a host's name, a W&B entity.
    """
    for pattern, instead in (*_SECRETS, *_words(names)):
        text = pattern.sub(instead, text)
    return text


def redact_escaped(text: str, *, names: tuple[str, ...] = ()) -> str:
    """As `redact`, for Markdown that `cell` has escaped: a key is one also with backslashes in it."""
    for pattern, instead in (*_SECRETS, *_words(names)):
        at = [i for i, c in enumerate(text) if not (c == "\\" and _MARKUP.match(text, i + 1))]
        clean = "".join(text[i] for i in at)
        at.append(len(text))
        parts, last = [], 0
        for match in pattern.finditer(clean):
            parts += [text[last : at[match.start()]], match.expand(instead)]
            last = at[match.end()]
        text = "".join(parts) + text[last:]
    return text


def _words(names: tuple[str, ...]) -> list[tuple[re.Pattern[str], str]]:
    longest_first = sorted((name for name in names if len(name) > 2), key=len, reverse=True)
    # an underscore ends a word here: runs/Nov24_01-26-23_HOST
    return [(re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])"), "<redacted>") for name in longest_first]


_MARKUP = re.compile(r"([\\`*_\[\]<>|#~!])")
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\bwandb_v1_[A-Za-z0-9_]{20,}"), "<wandb key>"),
    (re.compile(r"\bhf_[A-Za-z0-9]{20,}"), "<hf token>"),
    (re.compile(r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,}"), "<api key>"),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_[A-Za-z0-9_]{20,}"), "<github token>"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "<aws key>"),
    (re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"), "<google key>"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+"), "<token>"),
    (
        re.compile(r"(?i)((?:api[_-]?key|token|secret|password|passwd)[\"']?\s*[:=]\s*[\"']?)[^\s\"',;]{6,}"),
        r"\1<redacted>",
    ),
    (re.compile(r"(?<![A-Za-z0-9])[0-9a-f]{40}(?![A-Za-z0-9])"), "<key>"),
    (re.compile(r"(/(?:home|Users|scratch|gscratch))/[^/\s\"']+"), r"\1/<user>"),
    (re.compile(r"(events\.out\.tfevents\.\d+\.)[^/\s\"'`|]*?(?=\.\d+\.\d+|[/\s\"'`|]|$)"), r"\1<host>"),
    # 40 mixed characters alone: a secret as AWS gives them
    (re.compile(r"(?<![\w/+.-])(?=\S*[A-Z])(?=\S*[a-z])(?=\S*\d)[A-Za-z0-9/+]{40}(?![\w/+.=-])"), "<secret>"),
    (re.compile(r"(?:(?<=\W)|^)/root(?=/|\b)"), "~"),
    (re.compile(r"(?i)\b[A-Z]:\\Users\\[^\\\s\"']+"), "~"),
    (re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}"), "<e-mail>"),
    (re.compile(r"(https?://)[^/\s:@]+:[^/\s@]+@"), r"\1"),
    (re.compile(r"((?:https?://)?(?:api\.|www\.)?wandb\.ai/)[^/\s]+"), r"\1<entity>"),
    (re.compile(r"(forge\.coreweave\.com/wandb/)[^/\s]+"), r"\1<entity>"),
    (re.compile(r"(https?://)[^/\s]+/[^/\s]+(/[^/\s]+/(?:runs|groups|sweeps)/)"), r"\1<host>/<entity>\2"),
    (re.compile(r"(wandb://)[^/\s]+/"), r"\1<entity>/"),
    (re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b"), "<address>"),
)
