-- Erasing a data subject: its key is destroyed, and what was made with it is found.

-- Whom a kept answer shows: it goes with the first of them. NULL: nobody.
ALTER TABLE idempotency ADD COLUMN subject_ids uuid[];
CREATE INDEX idempotency_subjects_idx ON idempotency USING gin (subject_ids) WHERE subject_ids IS NOT NULL;

-- ANALYZE keeps samples of each column in a catalogue, where a key would outlive its row. A type that is set anew, the
-- same as before, does away with those that are there.
ALTER TABLE data_subjects
    ALTER COLUMN wrapped_key TYPE bytea, ALTER COLUMN wrapped_key SET STATISTICS 0,
    ALTER COLUMN lookup_hash SET STATISTICS 0;

-- Few are erased: this index is nearly empty, and is asked at every commit.
CREATE INDEX data_subjects_erased_idx ON data_subjects (subject_id) WHERE wrapped_key IS NULL;

-- Raises where a data subject was erased: nothing may be stored that is sealed under a key which nobody has.
CREATE FUNCTION require_keys(subjects uuid[]) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    erased text;
BEGIN
    SELECT string_agg(subject_id::text, ',') INTO erased
    FROM lizenzserver.data_subjects WHERE subject_id = ANY(subjects) AND wrapped_key IS NULL;
    IF erased IS NOT NULL THEN
        RAISE EXCEPTION 'the key of a data subject was destroyed'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'data_subjects_key', DETAIL = erased;
    END IF;
END
$$;

-- Raises where a data subject has a licence that is not among these: an erasure names all of them.
CREATE FUNCTION require_all_licenses(subject uuid, named uuid[]) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- Of the tables that come first on the search path: a rebuild has its own. Not by ANY, which compares each with all:
    -- everybody waits meanwhile.
    IF EXISTS (SELECT license_id FROM licenses WHERE subject_id = subject EXCEPT SELECT unnest(named)) THEN
        RAISE EXCEPTION 'a data subject has more licences than were named'
            USING ERRCODE = 'check_violation', CONSTRAINT = 'data_subjects_key', DETAIL = '';
    END IF;
END
$$;

REVOKE ALL ON FUNCTION require_keys(uuid[]), require_all_licenses(uuid, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION require_keys(uuid[]), require_all_licenses(uuid, uuid[]) TO lizenzserver_service;
