-- What guards keep until it is over or a person releases it: breakers that opened, a storm that began.
CREATE TABLE guard_state (
    guard TEXT NOT NULL,
    scope TEXT NOT NULL,
    open  INTEGER NOT NULL,
    since REAL NOT NULL,
    until REAL,
    why   TEXT NOT NULL,
    actor TEXT NOT NULL,
    PRIMARY KEY (guard, scope)
) WITHOUT ROWID;

-- Alerts that a licensed step makes fire, expected until some seconds after it ended, and how deep their chain is.
CREATE TABLE announcement (
    effect_id TEXT NOT NULL REFERENCES effect (id),
    alert     TEXT NOT NULL,
    run_id    TEXT NOT NULL,
    rule      TEXT NOT NULL,
    lasts     REAL NOT NULL,
    depth     INTEGER NOT NULL,
    PRIMARY KEY (effect_id, alert)
) WITHOUT ROWID;
CREATE INDEX announcement_alert ON announcement (alert);

-- How many problems are new: asked before every effect of a rule that watches for storms.
CREATE INDEX run_created ON run (created_at, incident_id, rule) WHERE kind = 'remedy';
