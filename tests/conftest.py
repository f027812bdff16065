"""What all tests share: a hypothesis profile that gives the same verdict on a slow machine."""

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def _no_soak(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules have read it; to the command it would be an unknown setting."""
    monkeypatch.delenv("INTERLOCK_SOAK", raising=False)
