"""The operator's settings: environment `INTERLOCK_*`, then settings.yml, then these defaults (docs/settings.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from schemas.base import Frozen

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(Frozen):
    """One value each; the model's COPILOT_* variables are read apart and go to the gateway alone."""

    data_dir: Path = Field(default=Path("var"), description="everything that is kept: database, mirrors, logs")
    host: str = Field(default="127.0.0.1", description="the public listener's address")
    port: Port = Field(default=8080, description="the public listener's port")
    admin_host: str = Field(default="127.0.0.1", description="the admin listener's address")
    admin_port: Port = Field(default=8081, description="the admin listener's port")
    github_api_url: str = Field(default="https://api.github.com", description="GitHub's REST API")
    github_web_url: str = Field(default="https://github.com", description="GitHub's pages, for links")
    git_url: str = Field(default="https://github.com/{owner}/{repo}.git", description="where git fetches and pushes")
    app_id: int | None = Field(default=None, description="the GitHub App's id")
    private_key_file: Path | None = Field(default=None, description="the App's private key, a .pem file")
    webhook_secret: SecretStr = Field(default=SecretStr(""), description="what GitHub signs deliveries with")
    api_token: SecretStr = Field(default=SecretStr(""), description="opens the admin listener from outside of loopback")
    runners: Annotated[int, Field(ge=1, le=64)] = Field(default=4, description="agent runs at the same time")
    harness: Literal["copilot", "scripted"] = Field(default="copilot", description="which agent does the work")
    playbook: Path | None = Field(default=None, description="what the scripted harness plays")
    copilot_bin: Path | None = Field(
        default=None, description="Copilot CLI's native binary; unset: the one under .tools"
    )
    sandbox: Literal["required", "reduced", "off"] = Field(
        default="required", description="how agents and checks are confined; off only against a GitHub on loopback"
    )
