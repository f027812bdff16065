"""What is counted, in Prometheus' words. Labels have few values each: never an id, a name or a text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from schemas.base import Frozen


class Counts(Frozen):
    """The numbers of the store at one moment, as far as they are shown."""

    tickets: dict[str, int]
    entries: dict[str, int]
    effects: dict[str, int]
    oldest_event_seconds: float = 0.0
    audit_records: int = 0


class Metrics:
    """One registry for one process, so that two in one test do not meet."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        own = self.registry
        self.deliveries = Counter("interlock_deliveries", "Webhook deliveries by answer", ["answer"], registry=own)
        self.decisions = Counter("interlock_decisions", "Ticket decisions by event", ["event"], registry=own)
        self.lane_steps = Counter("interlock_lane_steps", "Merge-queue steps by event", ["event"], registry=own)
        self.tokens = Counter("interlock_tokens", "Model tokens by direction", ["direction"], registry=own)
        self.tickets = Gauge("interlock_tickets", "Tickets by state", ["state"], registry=own)
        self.entries = Gauge("interlock_entries", "Merge-queue entries by state", ["state"], registry=own)
        self.effects = Gauge("interlock_effects_waiting", "Effects not yet performed, by kind", ["kind"], registry=own)
        self.oldest_event = Gauge("interlock_oldest_event_seconds", "Age of the oldest undecided event", registry=own)
        self.audit = Gauge("interlock_audit_records", "Records in the audit chain", registry=own)

    def page(self, counts: Counts) -> bytes:
        """The text that Prometheus reads."""
        for gauge, values in (
            (self.tickets, counts.tickets),
            (self.entries, counts.entries),
            (self.effects, counts.effects),
        ):
            gauge.clear()
            for name, value in values.items():
                gauge.labels(name).set(value)
        self.oldest_event.set(counts.oldest_event_seconds)
        self.audit.set(counts.audit_records)
        return generate_latest(self.registry)
