"""Who is asking, and what they may do: the App's JWT, installation tokens that expire, people's tokens."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from datetime import timedelta

import jwt
from aiohttp import web

from bot.standin.state import ApiError, App, Json, Repository, State, Token, User

TOKEN_LIFE = timedelta(hours=1)
_LEVELS = {"read": 1, "write": 2, "admin": 3}
_ROLE_LEVEL = {"none": 0, "read": 1, "triage": 1, "write": 2, "maintain": 2, "admin": 3}


@dataclass
class Caller:
    """A person, an installation (its bot user, with the token), or the App itself by JWT."""

    user: User | None = None
    token: Token | None = None
    app: App | None = None

    def may(self, state: State, repo: Repository, permission: str, level: str) -> None:
        """Raises ApiError: 404 for what must not be seen, 403 for what must not be done."""
        if self.token is not None:
            app = state.app
            if app is None or app.uninstalled:
                raise ApiError(401, "Bad credentials")
            if app.suspended:
                raise ApiError(403, "This installation has been suspended")
            if repo.id in app.without or (
                self.token.repositories is not None and repo.id not in self.token.repositories
            ):
                raise ApiError(404, "Not Found")
            have = min(_LEVELS.get(held.get(permission, ""), 0) for held in (self.token.permissions, app.permissions))
            if have < _LEVELS[level]:
                refusal = ApiError(403, "Resource not accessible by integration")
                refusal.headers["X-Accepted-GitHub-Permissions"] = f"{permission}={level}"
                raise refusal
        elif self.user is not None:
            role = _ROLE_LEVEL[state.role(repo, self.user)]
            if role == 0:
                raise ApiError(404, "Not Found")
            open_to_readers = permission in ("issues", "pull_requests", "metadata")
            if level == "write" and role < 2 and not open_to_readers:
                raise ApiError(403, "Must have push access to repository")
        else:
            raise ApiError(404, "Not Found")
        if level == "write" and repo.archived:
            raise ApiError(403, "Repository was archived so is read-only.")

    @property
    def who(self) -> User:
        """The acting user."""
        if self.user is None:
            raise ApiError(403, "Resource not accessible by integration")
        return self.user

    @property
    def name(self) -> str:
        """For the request log."""
        return self.user.login if self.user else ("app" if self.app else "anonymous")


def by_header(state: State, request: web.Request) -> Caller:
    """From the Authorization header. Raises ApiError 401."""
    header = request.headers.get("Authorization", "")
    kind, _, value = header.partition(" ")
    if not header:
        return Caller()
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value).decode().split(":", 1)[1]
        except (ValueError, IndexError):
            raise ApiError(401, "Bad credentials") from None
    value = value.strip()
    if value in state.user_tokens:
        return Caller(user=state.user_tokens[value])
    if value in state.tokens:
        token = state.tokens[value]
        if token.expires <= state.now() or state.app is None:
            raise ApiError(401, "Bad credentials")
        return Caller(user=state.app.bot, token=token)
    if value.count(".") == 2 and not value.startswith("ghs_"):
        return Caller(app=_by_jwt(state, value))
    raise ApiError(401, "Bad credentials")


def _by_jwt(state: State, value: str) -> App:
    app = state.app
    if app is None:
        raise ApiError(401, "Integration not found")
    try:
        claims = jwt.decode(
            value, app.public_key, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False,
                                                                    "require": ["iat", "exp", "iss"]},
        )  # fmt: skip
    except jwt.InvalidTokenError as error:
        raise ApiError(401, f"A JSON web token could not be decoded: {error}") from None
    now = state.now().timestamp()
    if claims["exp"] <= now or claims["exp"] > now + 660 or claims["iat"] > now + 60:
        raise ApiError(401, "'Expiration time' claim ('exp') is too far in the future or past")
    if str(claims["iss"]) not in (str(app.id), f"Iv{app.id}"):
        raise ApiError(401, "'Issuer' claim ('iss') must be the App's id")
    return app


def mint(state: State, app: App, body: Json) -> Json:
    """A new installation token, narrowed as asked. Raises ApiError 422 for more than was granted."""
    if app.uninstalled:
        raise ApiError(404, "Not Found")
    if app.suspended:
        raise ApiError(403, "This installation has been suspended")
    granted = app.more.get("granted", app.permissions)
    wanted = body.get("permissions") or granted
    for name, level in wanted.items():
        if _LEVELS.get(level, 9) > _LEVELS.get(granted.get(name, ""), 0):
            raise ApiError(422, "The permissions requested are not granted to this installation.")
    repositories: set[int] | None = None
    if body.get("repository_ids"):
        repositories = set(body["repository_ids"])
        if not repositories <= set(state.repositories) - app.without:
            raise ApiError(422, "There is at least one repository that does not exist or is not accessible.")
    elif body.get("repositories"):
        repositories = {r.id for r in state.repositories.values() if r.name in body["repositories"]}
    value = f"ghs_{secrets.token_hex(18)}"
    if len(state.tokens) % 2:  # the new format is being rolled out
        value = f"ghs_{app.id}_{secrets.token_urlsafe(24)}.{secrets.token_urlsafe(90)}.{secrets.token_urlsafe(40)}"
    token = Token(value, state.now() + TOKEN_LIFE, repositories, {"metadata": "read", **wanted})
    state.tokens[value] = token
    return {
        "token": value, "expires_at": token.expires.strftime("%Y-%m-%dT%H:%M:%SZ"), "permissions": token.permissions,
        "repository_selection": "selected" if repositories else "all",
    }  # fmt: skip
