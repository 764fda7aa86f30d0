"""The licensing rules: licences, seats, API keys. Pure: no I/O, no clock, no SQL, no HTTP."""
