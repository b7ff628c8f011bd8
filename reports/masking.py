"""Masks passwords and keys in URIs, which would be visible in messages, tables and reports."""

from __future__ import annotations

import re
from urllib.parse import unquote

OPTION = re.compile(r"(?<=[?&#;])([^=&#;]*)=([^&#;]*)")
SECRET_NAME = re.compile(
    r"key|secret|token|passw|passphrase|pwd|credential|signature|jwt|bearer|authorization|(?:^|[_-])(?:pass|auth|sig|sas)$",
    re.IGNORECASE,
)
PASSWORD = re.compile(r"(?!\[)[^/?#@]*(?::|%3a)(?!\d{1,5}[/?#])[^@]*@", re.IGNORECASE)
"""`name:password@` before a host. A password may hold a slash, as many keys of S3 do; the port of a host, and an address in brackets, are none."""
PASSWORD_OF_STORE = re.compile(r"[^/?#@]*(?::|%3a)[^@]*@", re.IGNORECASE)
"""The same before the name of a bucket, which has no port."""
OBJECT_STORES = ("s3", "s3a", "s3n", "gs", "gcs")
"""Schemes of URIs that name a bucket in place of a host."""
URI = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>()]+")


def without_secrets(uri: str) -> str:
    """Return a URI with *** for `name:password` before the host, and for the values of options named like a secret.

    Args:
        uri: The URI. Any other text is returned as it is.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    user = (PASSWORD_OF_STORE if scheme.lower() in OBJECT_STORES else PASSWORD).match(rest)
    # A name alone is not secret in abfs://container@account and hdfs://user@host, but for a web server it may be a token.
    if user is None and scheme.lower() in ("http", "https"):
        user = re.match(r"[^/?#@]+@", rest)
    if user is not None:
        rest = f"***@{rest[user.end() :]}"
    return f"{scheme}://{OPTION.sub(_without_secret, rest)}"


def _without_secret(option: re.Match[str]) -> str:
    """Replace the value of an option that is named like a secret, or that is a URI which holds one."""
    name, value = map(unquote, option.groups())
    is_secret = SECRET_NAME.search(name) is not None or without_secrets(value) != value
    return f"{option[1]}=***" if is_secret else option[0]


def masked(text: str) -> str:
    """Return a text with the secrets of each URI in it replaced as in `without_secrets`.

    Args:
        text: Such as an error of a library, or a command line.
    """
    return URI.sub(lambda uri: without_secrets(uri[0]), text)
