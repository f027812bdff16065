"""Settings from the environment, settings.yml and the defaults, in that order; a mistake names its key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path

import yaml
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from bot.errors import Misconfigured
from bot.runners.gateway import Provider
from schemas.settings import Settings

PREFIX = "INTERLOCK_"
FILE = "settings.yml"


class _Read(BaseSettings, Settings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", yaml_file=FILE, extra="forbid")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then the file in the working directory."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls)


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The effective settings. Raises Misconfigured naming the first wrong key and where it is."""
    found = os.environ if environment is None else environment
    for name in sorted(found):
        key = name.removeprefix(PREFIX).lower()
        if name.startswith(PREFIX) and key.split("__", 1)[0] not in Settings.model_fields:
            raise Misconfigured(f"{name} is no setting{_near(key)}")
    try:
        read = _Read()
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise Misconfigured(f"{FILE}: {key!r} is no setting{_near(key)}") from None
        where = f"{PREFIX}{key.upper()}" if f"{PREFIX}{key.upper()}" in found else f"{FILE}: {key}"
        raise Misconfigured(f"{where}: {first['msg']}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{Path(FILE).resolve()} is not YAML: {error}") from None
    return Settings.model_validate(dict(read))


def _near(key: str) -> str:
    close = difflib.get_close_matches(key.lower(), Settings.model_fields, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; there are {', '.join(Settings.model_fields)}"


def read_model(environment: Mapping[str, str] | None = None) -> tuple[Provider | None, str]:
    """The model by Copilot's own variables: a provider (BYOK), or Copilot's token. Only the gateway gets them."""
    found = os.environ if environment is None else environment
    url = found.get("COPILOT_PROVIDER_BASE_URL", "")
    if not url:
        return None, found.get("COPILOT_GITHUB_TOKEN", "")
    try:
        provider = Provider.model_validate(
            {
                "type": found.get("COPILOT_PROVIDER_TYPE", "openai"),
                "base_url": url,
                "api_key": SecretStr(found.get("COPILOT_PROVIDER_API_KEY", "")),
                "model": found.get("COPILOT_MODEL", "scripted"),
            }
        )
    except ValidationError as error:
        raise Misconfigured(f"COPILOT_PROVIDER_TYPE: {error.errors()[0]['msg']}") from None
    return provider, ""
