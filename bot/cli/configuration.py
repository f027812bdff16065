"""Settings from the environment, settings.yml and the defaults, in that order; a mistake names its key."""

import difflib
import os
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from bot.errors import Misconfigured
from schemas.settings import Provider, Settings

PREFIX = "INTERLOCK_"
FILE = "settings.yml"
MANIFEST = Path(__file__).parents[2] / "app.yml"
"""What the App is and may do, as GitHub registers it."""
PROVIDER = {
    "base_url": "COPILOT_PROVIDER_BASE_URL", "type": "COPILOT_PROVIDER_TYPE", "api_key": "COPILOT_PROVIDER_API_KEY",
    "model": "COPILOT_MODEL",
}  # fmt: skip


COPILOT = {
    "base_url": "https://api.githubcopilot.com", "headers": (("Copilot-Integration-Id", "copilot-developer-cli"),),
}  # fmt: skip
"""Copilot's own service. It takes the token of a licensed user, or of an App with the Copilot permission, as the key, and
refuses calls that do not say which of GitHub's clients makes them."""


class _Environment(BaseSettings, Settings):
    model_config = SettingsConfigDict(env_prefix=PREFIX)


def read_settings() -> Settings:
    """The effective settings. Raises Misconfigured naming the first wrong key and where it is."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and (key := name.removeprefix(PREFIX).lower()) not in Settings.model_fields:
            raise Misconfigured(f"{name} is no setting{_near(key)}")
    environment = EnvSettingsSource(_Environment)()
    try:
        found = Settings.model_validate(YamlConfigSettingsSource(_Environment, FILE)() | environment)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Misconfigured(f"{FILE}: {key!r} is no setting{_near(key)}") from None
        where = f"{PREFIX}{key.upper()}" if key in environment else f"{FILE}: {key}"
        raise Misconfigured(f"{where}: {first['msg']}") from None
    # The last three may also be YAML that is no mapping of names.
    except (yaml.YAMLError, ValueError, TypeError, AttributeError) as error:
        raise Misconfigured(f"{Path(FILE).resolve()} is not YAML: {error}") from None
    secrets = {key: _secret(key, found) for key in ("webhook_secret", "api_token")}
    return found.model_copy(update=secrets)


def _secret(key: str, found: Settings) -> SecretStr:
    """A secret that may be given by a file instead. Raises Misconfigured."""
    given: SecretStr = getattr(found, key)
    file: Path | None = getattr(found, f"{key}_file")
    if file is None:
        return given
    if given.get_secret_value():
        raise Misconfigured(f"{key.upper()} and {key.upper()}_FILE are both set: leave one away")
    return SecretStr(_content(f"{key.upper()}_FILE", file))


def _content(name: str, file: Path) -> str:
    try:
        return file.read_text("utf-8").strip()
    except (OSError, UnicodeError) as error:
        raise Misconfigured(f"{name} cannot be read: {error}") from None


def _near(key: str) -> str:
    close = difflib.get_close_matches(key.lower(), Settings.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(Settings.model_fields)}"


def _given(name: str) -> str | None:
    """A variable of Copilot's, or the content of the file that `<name>_FILE` names. Raises Misconfigured."""
    value, file = os.environ.get(name), os.environ.get(f"{name}_FILE")
    return _content(f"{name}_FILE", Path(file)) if file and not value else value


def read_model() -> Provider | None:
    """The model by Copilot's own variables: a provider (BYOK), or Copilot's service by a token. Only the gateway gets it."""
    given: dict[str, Any] = {field: found for field, name in PROVIDER.items() if (found := _given(name)) is not None}
    if not given.get("base_url"):
        token = _given("COPILOT_GITHUB_TOKEN")
        given = COPILOT | {"api_key": token, "model": given.get("model", "gpt-4.1")} if token else {}
    try:
        return Provider.model_validate(given) if given else None
    except ValidationError as error:
        raise Misconfigured(f"COPILOT_PROVIDER_TYPE: {error.errors()[0]['msg']}") from None
