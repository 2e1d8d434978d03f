-- Money: one row is one payment with at most one signature. Amounts are whole lamports.
CREATE TABLE transfer (
    id          text COLLATE "C" PRIMARY KEY,
    key         text COLLATE "C" NOT NULL,
    run_id      text COLLATE "C" NOT NULL,
    effect_id   text COLLATE "C" NOT NULL,
    account     text NOT NULL,
    source      text COLLATE "C" NOT NULL,
    payee       text NOT NULL,
    destination text COLLATE "C" NOT NULL,
    amount      bigint NOT NULL CHECK (amount > 0),
    fee         bigint NOT NULL CHECK (fee >= 0),
    change      text NOT NULL,
    state       text COLLATE "C" NOT NULL,
    reason      text NOT NULL,
    reserved_at double precision NOT NULL,
    closed_at   double precision,
    signed      text NOT NULL,
    signature   text COLLATE "C" NOT NULL,
    slot        bigint,
    version     bigint NOT NULL
);
-- A step pays once, and a wallet is paid once at a time, whatever any code believes.
CREATE UNIQUE INDEX transfer_key ON transfer (key) WHERE state IN ('reserved', 'live', 'needs_human', 'settled');
CREATE UNIQUE INDEX transfer_destination ON transfer (destination) WHERE state IN ('reserved', 'live', 'needs_human');
CREATE UNIQUE INDEX transfer_signature ON transfer (signature) WHERE signature <> '';
CREATE INDEX transfer_keys ON transfer (key, reserved_at);
CREATE INDEX transfer_landed ON transfer (destination, slot);
CREATE INDEX transfer_source ON transfer (source, closed_at);
CREATE INDEX transfer_effect ON transfer (effect_id) WHERE state = 'reserved';
-- The history of money is never removed and what was signed is never changed.
CREATE FUNCTION remediator_transfer_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR TG_OP = 'TRUNCATE' THEN
        RAISE EXCEPTION 'transfers are never removed';
    END IF;
    IF OLD.state IN ('settled', 'failed', 'expired', 'released') THEN
        RAISE EXCEPTION 'a transfer that is closed is never changed';
    END IF;
    IF OLD.signature <> '' AND (NEW.signature <> OLD.signature OR NEW.signed <> OLD.signed)
        OR NEW.amount <> OLD.amount OR NEW.destination <> OLD.destination OR NEW.source <> OLD.source
        OR NEW.key <> OLD.key THEN
        RAISE EXCEPTION 'what a transfer pays and its signature are never changed';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER transfer_kept BEFORE UPDATE OR DELETE ON transfer
    FOR EACH ROW EXECUTE FUNCTION remediator_transfer_kept();
CREATE TRIGGER transfer_not_emptied BEFORE TRUNCATE ON transfer
    FOR EACH STATEMENT EXECUTE FUNCTION remediator_transfer_kept();
