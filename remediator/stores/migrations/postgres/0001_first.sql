-- Everything the straight line keeps, with the same columns and texts as the embedded store. Instants are Unix seconds
-- by the clock of the database; JSON is text, because jsonb would refuse or rewrite what the audit has hashed.
-- Identifiers compare byte by byte (COLLATE "C"), so that they sort alike whatever the language of the database is.

-- The only clock of the store. Everything that leases, windows and expiry depend on asks this function, so no host's
-- clock can change a decision. Only the owner of the schema can replace it.
CREATE FUNCTION remediator_now() RETURNS double precision
    LANGUAGE sql VOLATILE AS 'SELECT extract(epoch FROM clock_timestamp())::double precision';

CREATE TABLE delivery (
    id          text COLLATE "C" PRIMARY KEY,
    source      text NOT NULL,
    received_at double precision NOT NULL,
    body_sha256 text NOT NULL,
    body        bytea NOT NULL
);

CREATE TABLE incident (
    id        text COLLATE "C" PRIMARY KEY,
    key       text COLLATE "C" NOT NULL,
    labels    text NOT NULL,
    members   text NOT NULL,
    opened_at double precision NOT NULL,
    seen_at   double precision NOT NULL,
    ended_at  double precision,
    -- Which of a key's incidents is newer must not depend on the clocks of the replicas that made their identifiers.
    ordinal   bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX incident_key ON incident (key, ordinal DESC);
CREATE INDEX incident_open ON incident (id DESC) WHERE ended_at IS NULL;

CREATE TABLE rule_version (
    digest  text COLLATE "C" PRIMARY KEY,
    body    text NOT NULL,
    seen_at double precision NOT NULL
);

CREATE TABLE run (
    id          text COLLATE "C" PRIMARY KEY,
    rule        text COLLATE "C" NOT NULL,
    rule_digest text NOT NULL,
    incident_id text COLLATE "C" NOT NULL REFERENCES incident (id),
    state       text COLLATE "C" NOT NULL,
    reason      text NOT NULL,
    message     text NOT NULL,
    mode        text NOT NULL,
    epoch       bigint NOT NULL,
    version     bigint NOT NULL,
    owner       text NOT NULL,
    lease_until double precision NOT NULL,
    wake_at     double precision NOT NULL,
    created_at  double precision NOT NULL,
    updated_at  double precision NOT NULL,
    due_at      double precision NOT NULL,
    locks       text COLLATE "C" NOT NULL,
    tries       bigint NOT NULL,
    progress    text NOT NULL
);
-- One run for one rule and one incident, whatever is delivered twice and to however many replicas.
CREATE UNIQUE INDEX run_once ON run (incident_id, rule);
CREATE INDEX run_due ON run (wake_at, id) WHERE state IN ('queued', 'held', 'verifying');
CREATE INDEX run_running ON run (id) WHERE state = 'running';
CREATE INDEX run_state ON run (state, id);

-- The ledger: the only permission to act, and what came of it. Limits are counted here.
CREATE TABLE effect (
    id           text COLLATE "C" PRIMARY KEY,
    run_id       text COLLATE "C" NOT NULL REFERENCES run (id),
    step         bigint NOT NULL,
    attempt      bigint NOT NULL,
    epoch        bigint NOT NULL,
    rule         text COLLATE "C" NOT NULL,
    incident_key text COLLATE "C" NOT NULL,
    action       text NOT NULL,
    target       text COLLATE "C" NOT NULL,
    subject      text NOT NULL,
    effect       text NOT NULL,
    state        text COLLATE "C" NOT NULL,
    change       text NOT NULL,
    outcome      text NOT NULL,
    licensed_at  double precision NOT NULL,
    finished_at  double precision,
    -- When the run that holds the licence ended; empty while it goes on. Cooldowns count from here.
    over_at      double precision,
    ordinal      bigint GENERATED ALWAYS AS IDENTITY,
    UNIQUE (run_id, step, attempt)
);
CREATE INDEX effect_rule ON effect (rule, over_at);
CREATE INDEX effect_target ON effect (target, over_at);
CREATE INDEX effect_incident ON effect (incident_key, over_at);
CREATE INDEX effect_over ON effect (over_at);

-- What an owner that had lost its run still had to say.
CREATE TABLE effect_evidence (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    effect_id text COLLATE "C" NOT NULL REFERENCES effect (id),
    state     text NOT NULL,
    outcome   text NOT NULL,
    at        double precision NOT NULL
);

CREATE TABLE approval (
    id           text COLLATE "C" PRIMARY KEY,
    run_id       text COLLATE "C" NOT NULL REFERENCES run (id),
    digest       text NOT NULL,
    changes      text NOT NULL,
    state        text COLLATE "C" NOT NULL,
    needed       bigint NOT NULL,
    requested_at double precision NOT NULL,
    expires_at   double precision NOT NULL,
    ordinal      bigint GENERATED ALWAYS AS IDENTITY
);
CREATE INDEX approval_run ON approval (run_id, ordinal DESC);
CREATE UNIQUE INDEX approval_open ON approval (run_id) WHERE state = 'pending';

CREATE TABLE approval_vote (
    approval_id text COLLATE "C" NOT NULL REFERENCES approval (id),
    actor       text COLLATE "C" NOT NULL,
    yes         boolean NOT NULL,
    comment     text NOT NULL,
    at          double precision NOT NULL,
    PRIMARY KEY (approval_id, actor)
);

CREATE TABLE pause (
    scope  text COLLATE "C" PRIMARY KEY,
    reason text NOT NULL,
    actor  text NOT NULL,
    since  double precision NOT NULL,
    until  double precision
);

CREATE TABLE audit (
    sequence bigint PRIMARY KEY,
    at       double precision NOT NULL,
    event    text COLLATE "C" NOT NULL,
    actor    text NOT NULL,
    run_id   text COLLATE "C" NOT NULL,
    rule     text COLLATE "C" NOT NULL,
    body     text NOT NULL,
    previous text NOT NULL,
    digest   text NOT NULL
);
CREATE INDEX audit_run ON audit (run_id, sequence) WHERE run_id <> '';

-- The end of the chain. Whoever appends locks this row last, so records stand in the order of their commits.
CREATE TABLE audit_head (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    sequence bigint NOT NULL,
    digest   text NOT NULL,
    at       double precision NOT NULL
);
INSERT INTO audit_head (sequence, digest, at) VALUES (0, repeat('0', 64), 0);

-- A row that a replica writes to prove that a commit is possible.
CREATE TABLE pulse (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    at  double precision NOT NULL
);
INSERT INTO pulse (at) VALUES (0);

CREATE FUNCTION audit_is_final() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit records are never changed or removed' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_no_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_final();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_is_final();
-- ALWAYS: also in a session that calls itself a replica, which skips ordinary triggers.
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_change;
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_truncate;

CREATE FUNCTION audit_head_rises() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.sequence > OLD.sequence AND NEW.at >= OLD.at THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the head of the audit only rises' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER audit_head_rises BEFORE UPDATE OR DELETE ON audit_head
    FOR EACH ROW EXECUTE FUNCTION audit_head_rises();
CREATE TRIGGER audit_head_stays BEFORE TRUNCATE ON audit_head FOR EACH STATEMENT EXECUTE FUNCTION audit_is_final();
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_rises;
ALTER TABLE audit_head ENABLE ALWAYS TRIGGER audit_head_stays;
