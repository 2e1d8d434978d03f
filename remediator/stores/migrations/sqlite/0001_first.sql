-- Everything the straight line keeps. Instants are Unix seconds; JSON columns are text.
CREATE TABLE delivery (
    id          TEXT PRIMARY KEY,
    source      TEXT NOT NULL,
    received_at REAL NOT NULL,
    body_sha256 TEXT NOT NULL,
    body        BLOB NOT NULL
);

CREATE TABLE incident (
    id        TEXT PRIMARY KEY,
    key       TEXT NOT NULL,
    labels    TEXT NOT NULL,
    members   TEXT NOT NULL,
    opened_at REAL NOT NULL,
    seen_at   REAL NOT NULL,
    ended_at  REAL
) WITHOUT ROWID;
CREATE INDEX incident_key ON incident (key, id DESC);
CREATE INDEX incident_open ON incident (id DESC) WHERE ended_at IS NULL;

CREATE TABLE rule_version (
    digest  TEXT PRIMARY KEY,
    body    TEXT NOT NULL,
    seen_at REAL NOT NULL
) WITHOUT ROWID;

CREATE TABLE run (
    id          TEXT PRIMARY KEY,
    rule        TEXT NOT NULL,
    rule_digest TEXT NOT NULL,
    incident_id TEXT NOT NULL REFERENCES incident (id),
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    message     TEXT NOT NULL,
    mode        TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    version     INTEGER NOT NULL,
    owner       TEXT NOT NULL,
    lease_until REAL NOT NULL,
    wake_at     REAL NOT NULL,
    created_at  REAL NOT NULL,
    updated_at  REAL NOT NULL,
    due_at      REAL NOT NULL,
    locks       TEXT NOT NULL,
    tries       INTEGER NOT NULL,
    progress    TEXT NOT NULL
) WITHOUT ROWID;
-- One run for one rule and one incident, whatever is delivered twice.
CREATE UNIQUE INDEX run_once ON run (incident_id, rule);
CREATE INDEX run_due ON run (wake_at) WHERE state IN ('queued', 'held', 'verifying');
CREATE INDEX run_running ON run (id) WHERE state = 'running';
CREATE INDEX run_state ON run (state, id);

-- The ledger: the only permission to act, and what came of it. Limits are counted here.
CREATE TABLE effect (
    id           TEXT PRIMARY KEY,
    run_id       TEXT NOT NULL REFERENCES run (id),
    step         INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    epoch        INTEGER NOT NULL,
    rule         TEXT NOT NULL,
    incident_key TEXT NOT NULL,
    action       TEXT NOT NULL,
    target       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    effect       TEXT NOT NULL,
    state        TEXT NOT NULL,
    change       TEXT NOT NULL,
    outcome      TEXT NOT NULL,
    licensed_at  REAL NOT NULL,
    finished_at  REAL,
    -- When the run that holds the licence ended; empty while it goes on. Cooldowns count from here.
    over_at      REAL,
    UNIQUE (run_id, step, attempt)
) WITHOUT ROWID;
CREATE INDEX effect_rule ON effect (rule, over_at);
CREATE INDEX effect_target ON effect (target, over_at);
CREATE INDEX effect_incident ON effect (incident_key, over_at);
CREATE INDEX effect_over ON effect (over_at);

-- What an owner that had lost its run still had to say.
CREATE TABLE effect_evidence (
    id        INTEGER PRIMARY KEY,
    effect_id TEXT NOT NULL REFERENCES effect (id),
    state     TEXT NOT NULL,
    outcome   TEXT NOT NULL,
    at        REAL NOT NULL
);

CREATE TABLE approval (
    id           TEXT PRIMARY KEY,
    run_id       TEXT NOT NULL REFERENCES run (id),
    digest       TEXT NOT NULL,
    changes      TEXT NOT NULL,
    state        TEXT NOT NULL,
    needed       INTEGER NOT NULL,
    requested_at REAL NOT NULL,
    expires_at   REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX approval_run ON approval (run_id, id DESC);
CREATE UNIQUE INDEX approval_open ON approval (run_id) WHERE state = 'pending';

CREATE TABLE approval_vote (
    approval_id TEXT NOT NULL REFERENCES approval (id),
    actor       TEXT NOT NULL,
    yes         INTEGER NOT NULL,
    comment     TEXT NOT NULL,
    at          REAL NOT NULL,
    PRIMARY KEY (approval_id, actor)
) WITHOUT ROWID;

CREATE TABLE pause (
    scope  TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    actor  TEXT NOT NULL,
    since  REAL NOT NULL,
    until  REAL
) WITHOUT ROWID;

CREATE TABLE audit (
    sequence INTEGER PRIMARY KEY,
    at       REAL NOT NULL,
    event    TEXT NOT NULL,
    actor    TEXT NOT NULL,
    run_id   TEXT NOT NULL,
    rule     TEXT NOT NULL,
    body     TEXT NOT NULL,
    previous TEXT NOT NULL,
    digest   TEXT NOT NULL
);
CREATE INDEX audit_run ON audit (run_id, sequence) WHERE run_id <> '';
CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'audit records are never changed'); END;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'audit records are never removed'); END;
