"""Shapes of requests and answers. They validate, encode, and become OpenAPI."""
