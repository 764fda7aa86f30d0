"""Where people live, how far apart that is, and how long a flight takes."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import NamedTuple

from bench.fleet.seeds import HOUR

EARTH_RADIUS_KM = 6371.0
CRUISE_KM_PER_HOUR = 780.0


class City(NamedTuple):
    """A place: its country, coordinates in degrees, hours ahead of UTC, and how many customers live there."""

    name: str
    country: str
    latitude: float
    longitude: float
    utc_offset: float
    weight: int


CITIES = (
    City("Berlin", "DE", 52.5, 13.4, 1, 9),
    City("Munich", "DE", 48.1, 11.6, 1, 7),
    City("Hamburg", "DE", 53.6, 10.0, 1, 6),
    City("Cologne", "DE", 50.9, 7.0, 1, 6),
    City("Vienna", "AT", 48.2, 16.4, 1, 5),
    City("Zurich", "CH", 47.4, 8.5, 1, 5),
    City("Paris", "FR", 48.9, 2.4, 1, 7),
    City("Lyon", "FR", 45.8, 4.8, 1, 3),
    City("Strasbourg", "FR", 48.6, 7.8, 1, 2),
    City("London", "GB", 51.5, -0.1, 0, 8),
    City("Manchester", "GB", 53.5, -2.2, 0, 3),
    City("Amsterdam", "NL", 52.4, 4.9, 1, 5),
    City("Brussels", "BE", 50.8, 4.4, 1, 3),
    City("Madrid", "ES", 40.4, -3.7, 1, 4),
    City("Barcelona", "ES", 41.4, 2.2, 1, 3),
    City("Lisbon", "PT", 38.7, -9.1, 0, 2),
    City("Milan", "IT", 45.5, 9.2, 1, 4),
    City("Rome", "IT", 41.9, 12.5, 1, 3),
    City("Warsaw", "PL", 52.2, 21.0, 1, 4),
    City("Prague", "CZ", 50.1, 14.4, 1, 3),
    City("Stockholm", "SE", 59.3, 18.1, 1, 3),
    City("Copenhagen", "DK", 55.7, 12.6, 1, 2),
    City("Bucharest", "RO", 44.4, 26.1, 2, 2),
    City("Kyiv", "UA", 50.5, 30.5, 2, 2),
    City("Istanbul", "TR", 41.0, 29.0, 3, 2),
    City("New York", "US", 40.7, -74.0, -5, 6),
    City("Chicago", "US", 41.9, -87.6, -6, 4),
    City("San Francisco", "US", 37.8, -122.4, -8, 5),
    City("Toronto", "CA", 43.7, -79.4, -5, 3),
    City("Mexico City", "MX", 19.4, -99.1, -6, 2),
    City("Sao Paulo", "BR", -23.6, -46.6, -3, 4),
    City("Buenos Aires", "AR", -34.6, -58.4, -3, 2),
    City("Lagos", "NG", 6.5, 3.4, 1, 1),
    City("Cairo", "EG", 30.0, 31.2, 2, 1),
    City("Dubai", "AE", 25.2, 55.3, 4, 1),
    City("Mumbai", "IN", 19.1, 72.9, 5.5, 4),
    City("Bangalore", "IN", 13.0, 77.6, 5.5, 3),
    City("Singapore", "SG", 1.4, 103.8, 8, 2),
    City("Jakarta", "ID", -6.2, 106.8, 7, 2),
    City("Hanoi", "VN", 21.0, 105.8, 7, 2),
    City("Shanghai", "CN", 31.2, 121.5, 8, 3),
    City("Seoul", "KR", 37.6, 127.0, 9, 2),
    City("Tokyo", "JP", 35.7, 139.7, 9, 3),
    City("Sydney", "AU", -33.9, 151.2, 10, 2),
)
WEIGHTS = tuple(city.weight for city in CITIES)
COUNTRIES = tuple(dict.fromkeys(city.country for city in CITIES))


def distance_km(a: City, b: City) -> float:
    """Return the great-circle distance."""
    latitude_a, latitude_b = radians(a.latitude), radians(b.latitude)
    half_chord = (
        sin((latitude_b - latitude_a) / 2) ** 2
        + cos(latitude_a) * cos(latitude_b) * sin(radians(b.longitude - a.longitude) / 2) ** 2
    )
    return 2 * EARTH_RADIUS_KM * asin(sqrt(half_chord))


def journey_seconds(a: City, b: City) -> float:
    """Return the time from door to door: by flight, with two and a half hours on the ground."""
    return (distance_km(a, b) / CRUISE_KM_PER_HOUR + 2.5) * HOUR
