-- Runs that follow from a run: the way back of a change that is in force for a time, and people who must be told.
ALTER TABLE run ADD COLUMN kind TEXT NOT NULL DEFAULT 'remedy';
ALTER TABLE run ADD COLUMN about TEXT NOT NULL DEFAULT '';
DROP INDEX run_once;
-- One run for one rule and one incident, whatever is delivered twice.
CREATE UNIQUE INDEX run_once ON run (incident_id, rule) WHERE kind = 'remedy';
CREATE UNIQUE INDEX run_about ON run (kind, about) WHERE kind <> 'remedy';

-- What puts things back or tells people is licensed as well, but counts for no limit.
ALTER TABLE effect ADD COLUMN closing SMALLINT NOT NULL DEFAULT 0;
