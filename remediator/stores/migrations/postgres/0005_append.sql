-- The end of the chain is sealed where it lies: whoever appends holds its row for one statement and the commit, and not
-- while a replica computes digests.

-- Appends records with these events, actors, runs and rules. The body of each is `befores`, the time, `betweens`, the
-- number and a closing brace: the canonical JSON that remediator/audit.py hashes, and hashed here in the same way. With
-- enough digits a time is written so that it is read as the same number again, whatever the role is told.
CREATE FUNCTION audit_append(
    befores text[], betweens text[], events text[], actors text[], run_ids text[], rules text[]
) RETURNS void LANGUAGE plpgsql SET extra_float_digits = 1 AS $$
DECLARE
    head      audit_head%ROWTYPE;
    entry     record;
    told      text;
    body      text;
    previous  bytea;
    bodies    text[] := '{}';
    olds      text[] := '{}';
    digests   text[] := '{}';
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    head.at := greatest(head.at, remediator_now());
    told := head.at::text;
    IF told !~ '[.e]' THEN
        told := told || '.0';
    END IF;
    previous := decode(head.digest, 'hex');
    FOR entry IN SELECT u.* FROM unnest(befores, betweens) WITH ORDINALITY AS u (before, rest, number) LOOP
        body := entry.before || told || entry.rest || head.sequence + entry.number || '}';
        olds := olds || encode(previous, 'hex');
        previous := sha256('\x01'::bytea || previous || sha256('\x00'::bytea || convert_to(body, 'UTF8')));
        bodies := bodies || body;
        digests := digests || encode(previous, 'hex');
    END LOOP;
    INSERT INTO audit (sequence, at, event, actor, run_id, rule, body, previous, digest)
        SELECT head.sequence + u.number, head.at, u.event, u.actor, u.run_id, u.rule, u.body, u.previous, u.digest
        FROM unnest(events, actors, run_ids, rules, bodies, olds, digests) WITH ORDINALITY
            AS u (event, actor, run_id, rule, body, previous, digest, number);
    UPDATE audit_head SET sequence = head.sequence + cardinality(betweens), digest = encode(previous, 'hex'), at = head.at;
END
$$;

-- Keeps deliveries that told nothing new: every incident they speak of is open and as the replica has read it, and was
-- seen less than `within` seconds ago. Otherwise it writes nothing and says false. Whoever changes an incident appends to
-- the audit in the same transaction: with the head locked nobody can be doing so now, and what they have done is seen.
CREATE FUNCTION told_again(
    ids text[], versions xid[], seen double precision[], within double precision,
    deliveries text[], sources text[], received double precision[], digests text[], contents bytea[],
    befores text[], betweens text[], events text[], actors text[], run_ids text[], rules text[]
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    since double precision;
BEGIN
    PERFORM 1 FROM audit_head FOR UPDATE;
    since := remediator_now() - within;
    IF cardinality(ids) > (
        SELECT count(*) FROM unnest(ids, versions, seen) AS k (id, version, seen)
        JOIN incident AS i ON i.id = k.id AND i.xmin = k.version AND i.seen_at = k.seen
        WHERE i.ended_at IS NULL AND i.seen_at > since
    ) THEN
        RETURN false;
    END IF;
    INSERT INTO delivery (id, source, received_at, body_sha256, body)
        SELECT * FROM unnest(deliveries, sources, received, digests, contents);
    PERFORM audit_append(befores, betweens, events, actors, run_ids, rules);
    RETURN true;
END
$$;
