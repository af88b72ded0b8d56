"""Secrets: what opaque values are signed with when they leave the process."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = "TREADLE_SECRET"
SHORTEST = 16


def secrets_of_end(end: str) -> list[bytes]:
    """Return the secrets of one of two journals: "FROM" or "TO".

    They are in `TREADLE_FROM_SECRET` and `TREADLE_TO_SECRET`; without that variable in
    `TREADLE_SECRET`. One that is empty means none: a file's own secret is used.
    """
    given = os.environ.get(f"TREADLE_{end}_SECRET")
    return secrets_of(None if given is None else given.split())


def secrets_of(secret: "str | bytes | Sequence[str | bytes] | None") -> list[bytes]:
    """Return the secrets as bytes: the first one signs, each of them verifies.

    Args:
        secret: one, or several while they are being changed; the environment variable
            `TREADLE_SECRET` (several are separated by white space) if not given. An empty list
            means none, whatever the environment says.

    Raises:
        TypeError, ValueError: a secret is of a wrong type, or shorter than 16 bytes.
    """
    if secret is None:
        given: list[str | bytes] = list(os.environ.get(VARIABLE, "").split())
        name = VARIABLE
    else:
        given = [secret] if isinstance(secret, (str, bytes)) else list(secret)
        name = "secret"
    secrets = []
    for one in given:
        if not isinstance(one, (str, bytes)):
            raise TypeError(f"{name}: a str or bytes expected, not {type(one).__name__}")
        encoded = one.encode() if isinstance(one, str) else one
        if len(encoded) < SHORTEST:
            raise ValueError(
                f"{name}: at least {SHORTEST} bytes expected, not {len(encoded)}; "
                f"`python -c 'import secrets; print(secrets.token_hex())'` makes a good one"
            )
        secrets.append(encoded)
    return secrets
