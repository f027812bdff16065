"""The App's private key, in a process of its own that does nothing but sign the App's JWTs.

Started with the key's file and the App's id, without an environment. A line on stdin is the time in seconds, the answer
is a line with the JWT. It ends with its stdin, so with the server, however that ends.
"""

import sys
from pathlib import Path

import jwt

JWT_MINUTES = 9


def signed(key: str, app_id: int, now: int) -> str:
    """A token for the App itself: a minute back-dated, ten minutes at most (GitHub's limit). Raises what PyJWT raises."""
    claims = {"iat": now - 60, "exp": now + JWT_MINUTES * 60, "iss": str(app_id)}
    return jwt.encode(claims, key, algorithm="RS256")


def main(key_file: str, app_id: str) -> None:
    """Sign until stdin ends. What cannot be read or cannot sign is an empty line, and a reason on stderr."""
    try:
        key = Path(key_file).read_text("utf-8")
        signed(key, int(app_id), 0)
    except Exception as error:  # whatever it says of the key is said nowhere
        sys.exit(type(error).__name__)
    for line in sys.stdin:
        print(signed(key, int(app_id), int(line)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
