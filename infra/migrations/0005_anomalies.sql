-- Detection: what was found, what is remembered of each licence and address, and how far the logs were merged.

-- Written in the events' own transaction.
CREATE TABLE anomalies (
    anomaly_id uuid PRIMARY KEY,
    position bigint NOT NULL,          -- of the event that recorded it: a stable order for lists and cursors
    kind text NOT NULL,
    severity text NOT NULL,            -- low, medium, high, critical
    license_id uuid,                   -- NULL where it is about an address
    address_hash bytea,                -- keyed hash
    subject_id uuid,                   -- whose key seals: the licence's customer, or the day of the address
    address_sealed bytea,
    explanation text NOT NULL,
    evidence text[] NOT NULL,          -- ids of events and usage messages, the newest first
    found_at timestamptz NOT NULL,     -- when the observation occurred that completed it
    recorded_at timestamptz NOT NULL,
    status text NOT NULL,              -- open, acknowledged, dismissed
    resolved_at timestamptz,
    resolved_by text,
    reason_sealed bytea
) WITH (fillfactor = 85);
CREATE UNIQUE INDEX anomalies_position_idx ON anomalies (position);
CREATE INDEX anomalies_license_idx ON anomalies (license_id, position) WHERE license_id IS NOT NULL;
CREATE INDEX anomalies_open_idx ON anomalies (position) WHERE status = 'open';

-- What detection remembers of a licence, at most 4 KB, as of the positions of the consumer `anomaly`.
CREATE TABLE license_behaviour (
    license_id uuid PRIMARY KEY,
    state bytea NOT NULL
) WITH (fillfactor = 50, toast_tuple_target = 8160);
-- It is not worth compressing, and is read and written as a whole.
ALTER TABLE license_behaviour ALTER COLUMN state SET STORAGE EXTERNAL;

-- The same of addresses that sent keys which nobody has.
CREATE TABLE address_behaviour (
    address_hash bytea PRIMARY KEY,    -- keyed hash
    last_seen_at timestamptz NOT NULL,
    state bytea NOT NULL
) WITH (fillfactor = 50, toast_tuple_target = 8160);
ALTER TABLE address_behaviour ALTER COLUMN state SET STORAGE EXTERNAL;

-- The latest time of each log's rows up to the consumer's position: both logs are merged by it.
CREATE TABLE detection_clock (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    events_at double precision NOT NULL,   -- seconds since 1970
    usage_at double precision NOT NULL
) WITH (fillfactor = 50);

GRANT SELECT, INSERT, UPDATE, DELETE ON anomalies, license_behaviour, address_behaviour, detection_clock
    TO lizenzserver_service;
