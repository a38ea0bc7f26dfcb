"""Removes access tokens from text for users, logs and files."""

import re

_TOKENS = re.compile(
    r"\b(?:hf_|api_org_|ghp_|github_pat_|sk-)\w+|\bBearer\s+[^\s'\"]+|(?<=://)[^/\s@]+@", re.IGNORECASE
)


def redact(text: str, token: str | bool | None = None) -> str:
    """Replaces token-like strings, credentials in an address, and `token` itself by 'hf_…'."""
    if isinstance(token, str) and token:
        text = text.replace(token, "hf_…")
    return _TOKENS.sub("hf_…", text)
