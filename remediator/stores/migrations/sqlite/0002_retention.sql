-- What retention removes whole: a stretch of the audit's chain, of which the numbers and the last digest stay.
CREATE TABLE audit_segment (
    last       INTEGER PRIMARY KEY,
    first      INTEGER NOT NULL,
    head       TEXT NOT NULL,
    sealed_at  REAL NOT NULL,
    removed_at REAL NOT NULL
);
CREATE TRIGGER audit_segment_no_update BEFORE UPDATE ON audit_segment
BEGIN SELECT RAISE(ABORT, 'what was removed stays told'); END;
CREATE TRIGGER audit_segment_no_delete BEFORE DELETE ON audit_segment
BEGIN SELECT RAISE(ABORT, 'what was removed stays told'); END;

-- Segments follow each other without a gap from record 1, so what the last one ends with is all that may be gone.
DROP TRIGGER audit_no_delete;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
WHEN OLD.sequence > (SELECT coalesce(max(last), 0) FROM audit_segment)
BEGIN SELECT RAISE(ABORT, 'audit records are never removed'); END;

-- What is over, by when it was: retention finds the oldest without reading what stays.
CREATE INDEX run_over ON run (updated_at)
    WHERE state IN ('cancelled', 'denied', 'expired', 'failed', 'observed', 'succeeded');
CREATE INDEX incident_over ON incident (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX evidence_effect ON effect_evidence (effect_id);
