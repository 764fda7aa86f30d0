-- The event log: the truth. Its layout is the event-sourcing library's (9.5), so that the library can read it.
-- The service may read and append; nobody but the owner may change or delete.

CREATE TABLE licensing_events (
    originator_id uuid NOT NULL,
    originator_version bigint NOT NULL,
    topic text NOT NULL,
    state bytea NOT NULL,
    notification_id bigserial NOT NULL,
    CONSTRAINT licensing_events_pkey PRIMARY KEY (originator_id, originator_version)
) WITH (
    -- Insert-only: vacuum by inserts keeps the visibility map fresh for index-only scans.
    autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE UNIQUE INDEX licensing_events_notification_id_idx ON licensing_events (notification_id);

CREATE TYPE stored_event_uuid AS (originator_id uuid, originator_version bigint, topic text, state bytea);

GRANT SELECT, INSERT ON licensing_events TO lizenzserver_service;
GRANT USAGE ON SEQUENCE licensing_events_notification_id_seq TO lizenzserver_service;

-- Which service key sealed what this database holds: a process with another key must not start.
CREATE TABLE service_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    key_fingerprint text NOT NULL
);
GRANT SELECT, INSERT ON service_identity TO lizenzserver_service;
