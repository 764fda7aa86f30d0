"""Read models: how events become rows, and the queries over them. Connections are handed in."""
