"""The operator's settings: environment `INTERLOCK_*`, then settings.yml, then these defaults (docs/settings.md)."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from schemas.base import Described, Frozen

Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(Described):
    """One value each; the model's COPILOT_* variables are read apart and go to the gateway alone."""

    data_dir: Path = Path("var")
    """everything that is kept: database, mirrors, logs"""
    host: str = "127.0.0.1"
    """the public listener's address"""
    port: Port = 8080
    """the public listener's port"""
    admin_host: str = "127.0.0.1"
    """the admin listener's address"""
    admin_port: Port = 8081
    """the admin listener's port"""
    github_api_url: str = "https://api.github.com"
    """GitHub's REST API"""
    github_web_url: str = "https://github.com"
    """GitHub's pages, for links"""
    git_url: str = "https://github.com/{owner}/{repo}.git"
    """where git fetches and pushes"""
    app_id: int | None = None
    """the GitHub App's id"""
    private_key_file: Path | None = None
    """the App's private key, a .pem file"""
    webhook_secret: SecretStr = SecretStr("")
    """what GitHub signs deliveries with"""
    webhook_secret_file: Path | None = None
    """a file with that secret instead"""
    api_token: SecretStr = SecretStr("")
    """opens the admin listener from outside of loopback, and is needed for commands to it from anywhere"""
    api_token_file: Path | None = None
    """a file with that token instead"""
    policy: Path | None = None
    """a file with the defaults and ceilings of all repositories' policies (docs/policy.md)"""
    runners: Annotated[int, Field(ge=1, le=64)] = 4
    """agent runs at the same time"""
    harness: Literal["copilot", "scripted"] = "copilot"
    """which agent does the work"""
    playbook: Path | None = None
    """what the scripted harness plays"""
    copilot_bin: Path | None = None
    """Copilot CLI's native binary; unset: the one under .tools"""
    merge_driver: str = ""
    """a merge driver that you installed, as git calls one (%O %A %B: base, ours, theirs; %P: the path); it writes %A and
    exits 0. It runs as the server does, on what agents wrote: take one that only reads and writes these files"""
    registries: tuple[str, ...] = ()
    """hosts that a policy's environment may name although their address is not a public one"""
    sandbox: Literal["required", "reduced", "off"] = "required"
    """how agents and checks are confined; off only against a GitHub on loopback"""


class Provider(Frozen):
    """Where the model is: the operator's own (BYOK), or Copilot's service. `model` is the name on the wire."""

    type: Literal["openai", "azure", "anthropic"] = "openai"
    base_url: str
    api_key: SecretStr = SecretStr("")
    model: str = "scripted"
    headers: tuple[tuple[str, str], ...] = ()
