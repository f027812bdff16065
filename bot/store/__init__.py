"""The durable middle, the one door to SQLite: inbox, tickets, outbox, merge queue and audit chain."""
