"""What all tests share: a hypothesis profile that gives the same verdict on a slow machine."""

from hypothesis import HealthCheck, settings

settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
