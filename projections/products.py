"""Narrowing what is read to the licences for one product."""

from __future__ import annotations


def of_product(product: str | None) -> str:
    """Return the condition that picks rows of the product's licences, for the parameter `product`; '' picks all."""
    if product is None:
        return ""
    return "AND license_id IN (SELECT license_id FROM licenses WHERE product = %(product)s)"
