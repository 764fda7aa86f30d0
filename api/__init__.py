"""The HTTP side: two dialects over one set of orders and queries."""
