"""The durable middle on SQLite: inbox, tickets, outbox, merge queue and audit chain. The one door to SQLite."""
