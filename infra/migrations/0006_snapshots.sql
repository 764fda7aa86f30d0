-- Licences as the log had them at a version, so that a long history is not read as a whole. A cache: it may be emptied.
CREATE TABLE license_snapshots (
    license_id uuid PRIMARY KEY,
    version bigint NOT NULL,           -- of the last event that is in it
    form integer NOT NULL,             -- of the state's layout; another than the program's is not read
    state bytea NOT NULL               -- MessagePack; devices by digest, no personal data
);

GRANT SELECT, INSERT, UPDATE, DELETE ON license_snapshots TO lizenzserver_service;
