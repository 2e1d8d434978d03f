-- Money: one row is one payment with at most one signature. Amounts are whole lamports.
CREATE TABLE transfer (
    id          TEXT PRIMARY KEY,
    key         TEXT NOT NULL,
    run_id      TEXT NOT NULL,
    effect_id   TEXT NOT NULL,
    account     TEXT NOT NULL,
    source      TEXT NOT NULL,
    payee       TEXT NOT NULL,
    destination TEXT NOT NULL,
    amount      INTEGER NOT NULL CHECK (amount > 0),
    fee         INTEGER NOT NULL CHECK (fee >= 0),
    change      TEXT NOT NULL,
    state       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    reserved_at REAL NOT NULL,
    closed_at   REAL,
    signed      TEXT NOT NULL,
    signature   TEXT NOT NULL,
    slot        INTEGER,
    version     INTEGER NOT NULL
) WITHOUT ROWID;
-- A step pays once, and a wallet is paid once at a time, whatever any code believes.
CREATE UNIQUE INDEX transfer_key ON transfer (key) WHERE state IN ('reserved', 'live', 'needs_human', 'settled');
CREATE UNIQUE INDEX transfer_destination ON transfer (destination) WHERE state IN ('reserved', 'live', 'needs_human');
CREATE UNIQUE INDEX transfer_signature ON transfer (signature) WHERE signature <> '';
CREATE INDEX transfer_keys ON transfer (key, reserved_at);
CREATE INDEX transfer_landed ON transfer (destination, slot);
CREATE INDEX transfer_source ON transfer (source, closed_at);
CREATE INDEX transfer_effect ON transfer (effect_id) WHERE state = 'reserved';
-- The history of money is never removed and what was signed is never changed.
CREATE TRIGGER transfer_no_delete BEFORE DELETE ON transfer BEGIN SELECT RAISE(ABORT, 'transfers are never removed'); END;
CREATE TRIGGER transfer_closed BEFORE UPDATE ON transfer
WHEN OLD.state IN ('settled', 'failed', 'expired', 'released')
BEGIN SELECT RAISE(ABORT, 'a transfer that is closed is never changed'); END;
CREATE TRIGGER transfer_signed BEFORE UPDATE ON transfer
WHEN OLD.signature <> '' AND (NEW.signature <> OLD.signature OR NEW.signed <> OLD.signed)
    OR NEW.amount <> OLD.amount OR NEW.destination <> OLD.destination OR NEW.source <> OLD.source OR NEW.key <> OLD.key
BEGIN SELECT RAISE(ABORT, 'what a transfer pays and its signature are never changed'); END;
