CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    guid TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL,
    body BLOB NOT NULL,
    received_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    error TEXT NOT NULL DEFAULT '',
    done INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX deliveries_open ON deliveries (seq) WHERE done = 0;

CREATE TABLE tickets (
    id TEXT PRIMARY KEY,
    repo_id INTEGER NOT NULL,
    issue INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    state TEXT NOT NULL,
    open INTEGER NOT NULL,
    base_ref TEXT NOT NULL,
    version INTEGER NOT NULL,
    wake_ms INTEGER,
    opened_ms INTEGER NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (repo_id, issue, generation)
);
CREATE INDEX tickets_open ON tickets (repo_id, opened_ms) WHERE open = 1;
CREATE INDEX tickets_wake ON tickets (wake_ms) WHERE wake_ms IS NOT NULL;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    ticket TEXT NOT NULL,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'pending',
    why TEXT NOT NULL DEFAULT '',
    UNIQUE (ticket, key)
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
    expires REAL NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    interrupted INTEGER NOT NULL DEFAULT 0,
    due_ms INTEGER NOT NULL,
    error TEXT NOT NULL DEFAULT ''
);
CREATE INDEX outbox_open ON outbox (kind, seq) WHERE state IN ('pending', 'leased');

CREATE TABLE lanes (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    state TEXT NOT NULL,
    train INTEGER NOT NULL,
    body TEXT NOT NULL,
    owner TEXT NOT NULL DEFAULT '',
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
    accepted_ms INTEGER NOT NULL,
    due_ms INTEGER NOT NULL,
    deliveries INTEGER NOT NULL DEFAULT 0,
    outcomes INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    error_class TEXT,
    error TEXT NOT NULL DEFAULT '',
    evidence TEXT,
    oid TEXT,
    released_by TEXT NOT NULL DEFAULT '',
    digest TEXT NOT NULL,
    body TEXT NOT NULL,
    UNIQUE (lane, id)
);
CREATE INDEX entries_queued ON entries (lane, priority DESC, seq) WHERE state = 'queued';
CREATE INDEX entries_open ON entries (ticket, task) WHERE state IN ('queued', 'held', 'composed', 'checking', 'rework');

CREATE TABLE verdicts (
    tree TEXT NOT NULL,
    checks TEXT NOT NULL,
    body TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    PRIMARY KEY (tree, checks)
) WITHOUT ROWID;

CREATE TABLE texts (digest TEXT PRIMARY KEY, ticket TEXT NOT NULL, body TEXT, erased INTEGER NOT NULL DEFAULT 0);

CREATE TABLE audit (
    seq INTEGER PRIMARY KEY,
    at_ms INTEGER NOT NULL,
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
CREATE TRIGGER audit_is_append_only_u BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;
CREATE TRIGGER audit_is_append_only_d BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;
