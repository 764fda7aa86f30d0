"""Endpoints, a file for each group of routes. Each file ends with its table `ENDPOINTS`."""
