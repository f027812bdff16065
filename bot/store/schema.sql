-- Times are milliseconds since the epoch, except `expires`: seconds of the machine's boot clock, of boot `boot_id`.
-- Bodies are JSON of the models in schemas/. Statements end with a semicolon at a line's end; triggers with END;

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    guid TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    digest TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    error TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL DEFAULT 'pending'
);
CREATE INDEX deliveries_open ON deliveries (seq) WHERE state = 'pending';
CREATE INDEX deliveries_digest ON deliveries (digest);

-- A row of state 'reserved' (version -1, no body) holds the id of a ticket whose first event waits for its decision.
CREATE TABLE tickets (
    id TEXT PRIMARY KEY,
    repo_id INTEGER NOT NULL,
    issue INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL,
    base_ref TEXT NOT NULL,
    version INTEGER NOT NULL,
    wake_at INTEGER,
    opened_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (repo_id, issue, generation)
);
CREATE INDEX tickets_open ON tickets (repo_id, opened_at) WHERE open = 1;
CREATE INDEX tickets_wake ON tickets (wake_at) WHERE wake_at IS NOT NULL;

-- The body goes once the event is decided: the audit chain has it then, where it can be erased. Keys stay.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    ticket TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    why TEXT NOT NULL DEFAULT ''
);
CREATE INDEX events_pending ON events (ticket, seq) WHERE state = 'pending';

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    slot TEXT NOT NULL,
    ticket TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    owner TEXT NOT NULL DEFAULT '',
    boot_id TEXT NOT NULL DEFAULT '',
    expires REAL NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    queued_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX outbox_open ON outbox (seq) WHERE state IN ('pending', 'leased');
CREATE INDEX outbox_order ON outbox (ticket, kind, seq) WHERE state IN ('pending', 'leased');
CREATE INDEX outbox_slot ON outbox (slot) WHERE state = 'pending' AND slot <> '';

CREATE TABLE lanes (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    train INTEGER NOT NULL,
    due_at INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL,
    owner TEXT NOT NULL DEFAULT '',
    boot_id TEXT NOT NULL DEFAULT '',
    expires REAL NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE entries (
    seq INTEGER PRIMARY KEY,
    lane TEXT NOT NULL,
    id TEXT NOT NULL,
    ticket TEXT NOT NULL,
    task TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    accepted_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    settled_at INTEGER,
    deliveries INTEGER NOT NULL DEFAULT 0,
    outcomes INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    error_class TEXT,
    error TEXT NOT NULL DEFAULT '',
    evidence TEXT,
    oid TEXT,
    released_by TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL,
    content TEXT NOT NULL DEFAULT '',
    failures INTEGER NOT NULL DEFAULT 0,
    failed_at INTEGER,
    UNIQUE (lane, id)
);
-- The age term of bot.store.queue: one hour of waiting is worth one step of priority.
CREATE INDEX entries_due ON entries (lane, accepted_at - 3600000 * priority, seq) WHERE state = 'queued';
CREATE INDEX entries_next ON entries (due_at) WHERE state = 'queued';
CREATE INDEX entries_set_aside ON entries (lane, content) WHERE state = 'quarantined';
CREATE INDEX entries_ticket ON entries (ticket, task);
CREATE INDEX entries_failed ON entries (failed_at) WHERE failed_at IS NOT NULL;

-- Apart from their rows, so that counting and ordering entries never reads megabytes of change requests; `change` is the
-- request alone, which only composing needs.
CREATE TABLE entry_bodies (seq INTEGER PRIMARY KEY REFERENCES entries (seq), body TEXT NOT NULL, change TEXT NOT NULL);

CREATE TABLE verdicts (
    tree TEXT NOT NULL,
    checks TEXT NOT NULL,
    body TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (tree, checks)
) WITHOUT ROWID;

CREATE TABLE texts (digest TEXT PRIMARY KEY, body TEXT, erased INTEGER NOT NULL DEFAULT 0);

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    subject TEXT NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    decision TEXT NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    why TEXT NOT NULL,
    actor TEXT NOT NULL,
    previous TEXT NOT NULL,
    hash TEXT NOT NULL
);
CREATE INDEX audit_subject ON audit (subject, seq);
CREATE TRIGGER audit_keeps_its_rows BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit chain is append-only');
END;
CREATE TRIGGER audit_loses_no_row BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit chain is append-only');
END;
