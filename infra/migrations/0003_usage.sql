-- The usage log: validations and heartbeats, one partition a day; retention drops partitions.

CREATE TABLE usage (
    id bigint GENERATED ALWAYS AS IDENTITY,
    occurred_at timestamptz NOT NULL,
    type text NOT NULL,                -- license.validated, license.validation.failed, device.heartbeat
    operation text NOT NULL,           -- validate, activate, heartbeat
    license_id uuid,                   -- NULL where the key is unknown
    key_digest bytea,                  -- set where the key is unknown
    subject_id uuid,                   -- whose key seals: a data subject, or the day for unknown keys
    hardware_id text,
    api_key_id uuid,
    reason text,                       -- the refusal's code
    app_version text,
    client_time timestamptz,
    country text,                      -- ISO 3166 alpha-2
    network bytea,                     -- keyed hash of the address's /24 or /48
    details_sealed bytea,              -- address, os, os_version
    session_sealed bytea,              -- a heartbeat's session data
    PRIMARY KEY (id, occurred_at)
) PARTITION BY RANGE (occurred_at);

CREATE INDEX usage_license_idx ON usage (license_id, occurred_at);

-- The service has no right to change the schema, but a day's partition must be there before its first row.
CREATE FUNCTION ensure_usage_partitions(first date, last date) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lizenzserver, pg_temp AS $$
DECLARE
    day date := first;
BEGIN
    IF last - first > 3660 THEN
        RAISE EXCEPTION 'too many days';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('lizenzserver usage partitions'));
    WHILE day <= last LOOP
        IF to_regclass(format('lizenzserver.usage_%s', to_char(day, 'YYYYMMDD'))) IS NULL THEN
            EXECUTE format(
                'CREATE TABLE lizenzserver.usage_%s PARTITION OF lizenzserver.usage FOR VALUES FROM (%L) TO (%L)',
                to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
        END IF;
        day := day + 1;
    END LOOP;
END
$$;

-- Drops whole days that ended before the given one; yesterday and today can't be dropped. Returns how many.
CREATE FUNCTION drop_usage_partitions(before date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lizenzserver, pg_temp AS $$
DECLARE
    part record;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'lizenzserver.usage'::regclass
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < least(before, current_date - 1)
    LOOP
        EXECUTE format('DROP TABLE lizenzserver.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;

-- The last round that each process has stored, so that after a lost reply nothing is stored twice.
CREATE TABLE usage_writers (
    writer_id uuid PRIMARY KEY,
    last_round bigint NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

REVOKE ALL ON FUNCTION ensure_usage_partitions(date, date), drop_usage_partitions(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_usage_partitions(date, date), drop_usage_partitions(date) TO lizenzserver_service;
GRANT SELECT, INSERT ON usage TO lizenzserver_service;
GRANT SELECT, INSERT, UPDATE, DELETE ON usage_writers TO lizenzserver_service;
