"""Analytics: how licences are used."""

from __future__ import annotations

from api.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = ()
