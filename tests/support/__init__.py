"""What tests share: a PostgreSQL of their own, a running service, and a client that talks to it."""
