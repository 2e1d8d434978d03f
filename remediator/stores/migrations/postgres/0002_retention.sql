-- What retention removes whole: a stretch of the audit's chain, of which the numbers and the last digest stay.
CREATE TABLE audit_segment (
    last       bigint PRIMARY KEY,
    first      bigint NOT NULL,
    head       text NOT NULL,
    sealed_at  double precision NOT NULL,
    removed_at double precision NOT NULL
);
CREATE TRIGGER audit_segment_no_change BEFORE UPDATE OR DELETE ON audit_segment
    FOR EACH ROW EXECUTE FUNCTION audit_is_final();
CREATE TRIGGER audit_segment_no_truncate BEFORE TRUNCATE ON audit_segment
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_final();
ALTER TABLE audit_segment ENABLE ALWAYS TRIGGER audit_segment_no_change;
ALTER TABLE audit_segment ENABLE ALWAYS TRIGGER audit_segment_no_truncate;

-- Segments follow each other without a gap from record 1, so what the last one ends with is all that may be gone.
CREATE FUNCTION audit_only_segments_go() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF OLD.sequence <= (SELECT coalesce(max(last), 0) FROM audit_segment) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit records are never changed or removed' USING ERRCODE = 'restrict_violation';
END
$$;
DROP TRIGGER audit_no_change ON audit;
CREATE TRIGGER audit_no_change BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_final();
CREATE TRIGGER audit_no_removal BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_segments_go();
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_change;
ALTER TABLE audit ENABLE ALWAYS TRIGGER audit_no_removal;

-- The only way for a service that does not own the schema: the oldest records, through one that is more than a day old
-- and that others follow.
CREATE FUNCTION audit_remove(through bigint, its_digest text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    start  bigint := (SELECT coalesce(max(last), 0) + 1 FROM audit_segment);
    sealed double precision := (SELECT at FROM audit WHERE sequence = through AND digest = its_digest);
BEGIN
    IF sealed IS NULL OR through < start OR sealed > remediator_now() - 86400
       OR NOT EXISTS (SELECT 1 FROM audit WHERE sequence > through) THEN
        RAISE EXCEPTION 'audit records are never changed or removed' USING ERRCODE = 'restrict_violation';
    END IF;
    INSERT INTO audit_segment (last, first, head, sealed_at, removed_at)
        VALUES (through, start, its_digest, sealed, remediator_now());
    DELETE FROM audit WHERE sequence BETWEEN start AND through;
END
$$;
REVOKE ALL ON FUNCTION audit_remove(bigint, text) FROM PUBLIC;

-- What is over, by when it was: retention finds the oldest without reading what stays.
CREATE INDEX run_over ON run (updated_at)
    WHERE state IN ('cancelled', 'denied', 'expired', 'failed', 'observed', 'succeeded');
CREATE INDEX incident_over ON incident (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX evidence_effect ON effect_evidence (effect_id);
