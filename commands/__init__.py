"""Orders, and the one path by which facts reach the log: decide, save in groups, answer after the commit."""
