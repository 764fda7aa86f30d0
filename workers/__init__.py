"""What runs beside the services."""
