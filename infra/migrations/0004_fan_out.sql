-- What follows from the logs in its own time: who has come how far, what was set aside, and the views.
-- Every view here is a sum, a minimum, a maximum or a union over events, so that their order does not matter.

-- Which process does a worker's work; another one takes over when the lease has run out.
CREATE TABLE leases (
    worker text PRIMARY KEY,           -- relay, projector
    holder uuid NOT NULL,              -- made at the process's start
    holder_name text NOT NULL,         -- host and process id, for people
    expires_at timestamptz NOT NULL,
    trouble text NOT NULL DEFAULT ''   -- what keeps the holder from working, in one line
);

-- How far each consumer has come in each log: all up to and including a position is applied, or set aside.
CREATE TABLE consumers (
    consumer text PRIMARY KEY,         -- relay, or a projection's name
    event_position bigint DEFAULT 0,   -- NULL: it does not follow this log
    usage_position bigint DEFAULT 0,
    moved_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

-- Events that a consumer could not apply: it went on without them.
CREATE TABLE dead_letters (
    consumer text NOT NULL,
    log text NOT NULL CHECK (log IN ('events', 'usage')),
    position bigint NOT NULL,
    error text NOT NULL,
    failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, log, position)
);

-- Usage counts. A use is a validation that succeeded or a heartbeat. Days and hours are those of UTC.
CREATE TABLE usage_hours (
    license_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    validations integer NOT NULL,
    failed_validations integer NOT NULL,
    heartbeats integer NOT NULL,
    PRIMARY KEY (license_id, hour)
) WITH (fillfactor = 85);

CREATE TABLE usage_days (
    day date NOT NULL,
    license_id uuid NOT NULL,
    validations integer NOT NULL,
    failed_validations integer NOT NULL,
    heartbeats integer NOT NULL,
    PRIMARY KEY (license_id, day)
) WITH (fillfactor = 85);
CREATE INDEX usage_days_day_idx ON usage_days (day);

CREATE TABLE usage_facets (
    license_id uuid NOT NULL,
    day date NOT NULL,
    dimension text NOT NULL,           -- country, app_version, reason, reason_hour
    value text NOT NULL,               -- '' where it is not known
    validations integer NOT NULL,
    failed_validations integer NOT NULL,
    heartbeats integer NOT NULL,
    PRIMARY KEY (license_id, day, dimension, value)
) WITH (fillfactor = 85);

-- The same over all licences, with what named no licence.
CREATE TABLE fleet_hours (
    hour timestamptz PRIMARY KEY,
    validations bigint NOT NULL,
    failed_validations bigint NOT NULL,
    heartbeats bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE fleet_facets (
    day date NOT NULL,
    dimension text NOT NULL,
    value text NOT NULL,
    validations bigint NOT NULL,
    failed_validations bigint NOT NULL,
    heartbeats bigint NOT NULL,
    PRIMARY KEY (day, dimension, value)
) WITH (fillfactor = 50);

-- Devices by their uses; what was refused is no use.
CREATE TABLE device_days (
    license_id uuid NOT NULL,
    day date NOT NULL,
    hardware_id text NOT NULL,
    validations integer NOT NULL,
    heartbeats integer NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (license_id, day, hardware_id)
) WITH (fillfactor = 85);

CREATE TABLE device_sightings (
    license_id uuid NOT NULL,
    hardware_id text NOT NULL,
    first_seen_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    PRIMARY KEY (license_id, hardware_id)
) WITH (fillfactor = 75);

-- Runs of a device's uses with no gap over 30 minutes.
CREATE TABLE device_sessions (
    license_id uuid NOT NULL,
    hardware_id text NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    PRIMARY KEY (license_id, hardware_id, started_at)
) WITH (fillfactor = 75);

CREATE TABLE fleet_device_days (
    day date PRIMARY KEY,
    unique_devices bigint NOT NULL     -- a machine with two licences counts twice, as it does in seats
) WITH (fillfactor = 50);

-- Seats: one row for each event that takes one, gives one up, or changes how many there are.
CREATE TABLE seat_changes (
    license_id uuid NOT NULL,
    position bigint NOT NULL,
    at timestamptz NOT NULL,
    activations integer NOT NULL,
    deactivations integer NOT NULL,
    allowed integer,                   -- the new max_devices; NULL where it did not change
    PRIMARY KEY (license_id, position)
);
CREATE INDEX seat_changes_at_idx ON seat_changes (at);

CREATE TABLE seat_days (
    day date PRIMARY KEY,
    activations bigint NOT NULL,
    deactivations bigint NOT NULL
) WITH (fillfactor = 50);

GRANT SELECT ON SEQUENCE usage_id_seq TO lizenzserver_service;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON leases, consumers, dead_letters, usage_hours, usage_days, usage_facets, fleet_hours, fleet_facets, device_days,
        device_sightings, device_sessions, fleet_device_days, seat_changes, seat_days
    TO lizenzserver_service;

-- As before, but a day stays until every consumer has passed it; one that has not moved for a week does not count.
CREATE OR REPLACE FUNCTION drop_usage_partitions(before date) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = lizenzserver, pg_temp AS $$
DECLARE
    part record;
    newest bigint;
    dropped integer := 0;
BEGIN
    -- A rebuild that is under way still needs the days it has not folded yet.
    IF NOT pg_try_advisory_xact_lock(hashtext('lizenzserver usage retention')) THEN
        RETURN 0;
    END IF;
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'lizenzserver.usage'::regclass
          AND to_date(right(c.relname, 8), 'YYYYMMDD') < least(before, current_date - 1)
    LOOP
        EXECUTE format('SELECT max(id) FROM lizenzserver.%I', part.relname) INTO newest;
        IF EXISTS (
            SELECT FROM consumers
            WHERE usage_position < newest AND moved_at > clock_timestamp() - interval '7 days'
        ) THEN
            CONTINUE;
        END IF;
        EXECUTE format('DROP TABLE lizenzserver.%I', part.relname);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$$;
