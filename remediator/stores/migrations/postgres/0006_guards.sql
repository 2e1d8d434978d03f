-- What guards keep until it is over or a person releases it: breakers that opened, a storm that began.
CREATE TABLE guard_state (
    guard text COLLATE "C" NOT NULL,
    scope text COLLATE "C" NOT NULL,
    open  bigint NOT NULL,
    since double precision NOT NULL,
    until double precision,
    why   text NOT NULL,
    actor text NOT NULL,
    PRIMARY KEY (guard, scope)
);

-- Alerts that a licensed step makes fire, expected until some seconds after it ended, and how deep their chain is.
CREATE TABLE announcement (
    effect_id text COLLATE "C" NOT NULL REFERENCES effect (id),
    alert     text COLLATE "C" NOT NULL,
    run_id    text COLLATE "C" NOT NULL,
    rule      text COLLATE "C" NOT NULL,
    lasts     double precision NOT NULL,
    depth     bigint NOT NULL,
    PRIMARY KEY (effect_id, alert)
);
CREATE INDEX announcement_alert ON announcement (alert);

-- How many problems are new: asked before every effect of a rule that watches for storms.
CREATE INDEX run_created ON run (created_at, incident_id, rule) WHERE kind = 'remedy';
