-- Read models written in the events' own transaction, and the plain tables beside the log.
-- Columns that end in _sealed hold ciphertext under the data subject's key.

CREATE TABLE data_subjects (
    subject_id uuid PRIMARY KEY,
    lookup_hash bytea UNIQUE,          -- HMAC of the customer id, else of the normalised e-mail; NULL once erased
    wrapped_key bytea,                 -- the data key under the service's key; NULL once erased
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE licenses (
    license_id uuid PRIMARY KEY,
    position bigint NOT NULL,          -- of the issuing event: a stable order for lists and cursors
    key_digest bytea NOT NULL,         -- SHA-256 of the normalised licence key
    key_sealed bytea NOT NULL,         -- the key itself under the service's key
    subject_id uuid NOT NULL,
    customer_id_sealed bytea,
    email_sealed bytea,
    metadata_sealed bytea,
    email_hash bytea,
    product text,
    edition text,
    max_devices integer NOT NULL,
    current_devices integer NOT NULL DEFAULT 0,
    features text[] NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    is_test boolean NOT NULL,
    floating boolean NOT NULL,
    epoch integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    CONSTRAINT licenses_key_digest_key UNIQUE (key_digest)
) WITH (fillfactor = 85);              -- room for in-page updates of current_devices

CREATE UNIQUE INDEX licenses_position_idx ON licenses (position);
CREATE INDEX licenses_subject_idx ON licenses (subject_id, position);
CREATE INDEX licenses_email_idx ON licenses (email_hash, position) WHERE email_hash IS NOT NULL;
CREATE INDEX licenses_created_idx ON licenses (created_at);
CREATE INDEX licenses_expires_idx ON licenses (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE devices (
    license_id uuid NOT NULL,
    device_digest bytea NOT NULL,      -- first 16 bytes of the SHA-256 of the hardware id
    hardware_id text NOT NULL,
    activation_id uuid NOT NULL,       -- id of the event that gave the seat
    is_active boolean NOT NULL,
    activated_at timestamptz NOT NULL,
    deactivated_at timestamptz,
    device_name_sealed bytea,
    os_info_sealed bytea,
    PRIMARY KEY (license_id, device_digest)
);

CREATE TABLE api_keys (
    key_id uuid PRIMARY KEY,
    position bigint NOT NULL,
    key_digest bytea NOT NULL,
    client_name text NOT NULL,
    allowed_endpoints text[] NOT NULL,
    requests_per_minute integer,
    requests_per_hour integer,
    product text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    CONSTRAINT api_keys_key_digest_key UNIQUE (key_digest)
);

CREATE TABLE idempotency (
    scope_hash bytea PRIMARY KEY,      -- of credential, resolved route and idempotency key
    body_hash bytea NOT NULL,
    answer_sealed bytea NOT NULL,      -- under a key derived from the idempotency key
    created_at timestamptz NOT NULL
);
CREATE INDEX idempotency_created_idx ON idempotency (created_at);

CREATE TABLE refresh_families (
    family_id uuid PRIMARY KEY,
    license_id uuid NOT NULL,
    current_jti uuid,                  -- the one refresh token that is good; NULL once the family is revoked
    expires_at timestamptz NOT NULL
);
CREATE INDEX refresh_families_expires_idx ON refresh_families (expires_at);

CREATE TABLE admin_keys (
    name text PRIMARY KEY,
    key_digest bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    removed_at timestamptz
);

GRANT SELECT, INSERT, UPDATE, DELETE
    ON data_subjects, licenses, devices, api_keys, idempotency, refresh_families, admin_keys
    TO lizenzserver_service;
