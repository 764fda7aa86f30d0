"""What the outer ring needs of the machine: settings, database, embedded PostgreSQL, keys, logs, metrics."""
