"""What is counted, in Prometheus' words. Labels have few values each: never an id, a name or a text."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from schemas.events import AgentEvent, Event

Counts = Mapping[str, int]


class Metrics:
    """One registry for one process, so that two in one test do not meet."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.deliveries = Counter("interlock_deliveries", "Webhook deliveries by answer", ["answer"], registry=own)
        self.decisions = Counter("interlock_decisions", "Ticket decisions by event", ["event"], registry=own)
        self.lane_steps = Counter("interlock_lane_steps", "Merge-queue steps by event", ["event"], registry=own)
        self.tokens = Counter("interlock_tokens", "Model tokens by direction", ["direction"], registry=own)
        self.tickets = Gauge("interlock_tickets", "Tickets by state", ["state"], registry=own)
        self.entries = Gauge("interlock_entries", "Merge-queue entries by state", ["state"], registry=own)
        self.effects = Gauge("interlock_effects_waiting", "Effects not yet performed, by kind", ["kind"], registry=own)
        self.oldest_event = Gauge("interlock_oldest_event_seconds", "Age of the oldest undecided event", registry=own)
        self.audit = Gauge("interlock_audit_records", "Records in the audit chain", registry=own)

    def decided(self, event: Event) -> None:
        """A ticket was decided on, by this event."""
        self.decisions.labels(event.kind).inc()
        if isinstance(event, AgentEvent):
            self.tokens.labels("input").inc(event.usage.input_tokens)
            self.tokens.labels("output").inc(event.usage.output_tokens)

    def page(self, tickets: Counts, entries: Counts, effects: Counts, oldest_event: float, audit: int) -> bytes:
        """The text that Prometheus reads."""
        for gauge, counts in ((self.tickets, tickets), (self.entries, entries), (self.effects, effects)):
            gauge.clear()
            for name, count in counts.items():
                gauge.labels(name).set(count)
        self.oldest_event.set(oldest_event)
        self.audit.set(audit)
        return generate_latest(self.registry)
