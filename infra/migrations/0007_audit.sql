-- The tree over the event log (RFC 6962), and what was signed of it. Rows are never changed: the service may only append.

-- Whole tiles of 256 hashes. They follow from the events: with none of them left, the notary makes all anew.
CREATE TABLE audit_tiles (
    level smallint NOT NULL,           -- 0: of events; 1: of tiles of level 0; …
    index bigint NOT NULL,             -- from 0 on, without gaps
    first_position bigint NOT NULL,    -- of the events that it spans
    last_position bigint NOT NULL,
    root bytea NOT NULL,               -- over its 256 hashes
    hashes bytea NOT NULL,             -- 256 of 32 bytes
    event_marks integer[],             -- level 0: CRC-32 of each event's id, in order: which tile may hold an event
    PRIMARY KEY (level, index)
);
-- Random bytes are not worth compressing.
ALTER TABLE audit_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;
-- Each look reads all of the list of what is not in the index proper yet: so it is kept short (kilobytes).
CREATE INDEX audit_tiles_event_marks_idx ON audit_tiles USING gin (event_marks) WITH (gin_pending_list_limit = 256);

CREATE TABLE audit_checkpoints (
    size bigint PRIMARY KEY,           -- events in the tree
    position bigint NOT NULL,          -- of the last of them
    root bytea NOT NULL,
    note text NOT NULL,                -- what is handed out: size and root with their signature
    signed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The public keys that have signed.
CREATE TABLE audit_keys (
    verifier_key text PRIMARY KEY,
    first_used_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT, INSERT ON audit_tiles, audit_checkpoints, audit_keys TO lizenzserver_service;
