"""The tree over the event log by which anybody can check that nothing was changed (RFC 6962), and what signs it."""
