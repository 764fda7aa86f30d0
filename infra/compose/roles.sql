-- The logins of compose.yaml, made once by PostgreSQL's superuser, when the volume is still empty.
-- The owner changes the schema (migrate); the services' login may do what lizenzserver_service may, and nothing else.
DO $roles$
DECLARE
    owner_password CONSTANT text := rtrim(pg_read_file('/run/secrets/postgres_owner_password'), E'\r\n');
    service_password CONSTANT text := rtrim(pg_read_file('/run/secrets/postgres_service_password'), E'\r\n');
    database CONSTANT text := current_database();
BEGIN
    IF '' IN (owner_password, service_password) THEN
        RAISE EXCEPTION 'a password in /run/secrets is empty';
    END IF;
    CREATE ROLE lizenzserver_service NOLOGIN;
    EXECUTE format('CREATE ROLE lizenzserver_owner LOGIN PASSWORD %L', owner_password);
    EXECUTE format('CREATE ROLE lizenzserver LOGIN PASSWORD %L', service_password);
    GRANT lizenzserver_service TO lizenzserver;
    EXECUTE format('ALTER DATABASE %I OWNER TO lizenzserver_owner', database);
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', database);
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO lizenzserver', database);
END
$roles$;
