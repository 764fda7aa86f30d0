"""Where countries are, roughly: enough to tell that nobody gets from one to the other in an hour.

A country is a circle: its centre, and the radius of a circle of its area, longer for long countries. A distance
between countries is between the edges of their circles, so neighbours are 0 km apart.
"""

from __future__ import annotations

from functools import lru_cache
from math import asin, cos, radians, sin, sqrt

EARTH_RADIUS_KM = 6371.0

Place = tuple[float, float]
"""Latitude and longitude in degrees."""

_TABLE = """
AD 42 2 12; AE 24 54 163; AF 33 65 456; AG 17 -62 12; AI 18 -63 10; AL 41 20 96; AM 40 45 97; AO -12 18 630; AQ -80
0 2000; AR -35 -65 1500; AS -14 -170 10; AT 47 13 163; AU -27 133 1565; AW 12 -70 10; AX 60 20 22; AZ 40 48 166; BA
44 18 128; BB 13 -60 12; BD 24 90 217; BE 51 4 99; BF 13 -2 295; BG 43 25 188; BH 26 51 16; BI -4 30 94; BJ 10 2
189; BL 18 -63 10; BM 32 -65 10; BN 4 115 43; BO -17 -65 591; BQ 12 -68 15; BR -10 -55 1646; BS 24 -76 67; BT 28 90
111; BW -22 24 430; BY 53 28 257; BZ 17 -89 86; CA 60 -95 1783; CC -12 97 10; CD 0 25 864; CF 7 21 445; CG -1 15
330; CH 47 8 115; CI 8 -5 320; CK -21 -160 10; CL -33 -71 1600; CM 6 12 389; CN 35 105 1752; CO 4 -72 603; CR 10 -84
128; CS 44 21 180; CU 22 -80 187; CV 16 -24 36; CW 12 -69 12; CX -10 106 10; CY 35 33 54; CZ 50 16 158; DE 51 9 337;
DJ 12 43 86; DK 56 10 117; DM 15 -61 15; DO 19 -71 124; DZ 28 3 871; EC -2 -78 297; EE 59 26 120; EG 27 30 565; EH
24 -13 291; ER 15 39 193; ES 40 -4 401; ET 8 38 593; FI 64 26 500; FJ -18 175 76; FK -52 -59 62; FM 7 158 15; FO 62
-7 21; FR 46 2 452; GA -1 12 292; GB 54 -2 450; GD 12 -62 10; GE 42 44 149; GF 4 -53 13; GG 49 -3 10; GH 8 -2 276;
GI 36 -5 10; GL 72 -40 830; GM 13 -17 60; GN 11 -10 280; GP 16 -62 13; GQ 2 10 94; GR 39 22 205; GS -54 -37 13; GT
16 -90 186; GU 13 145 13; GW 12 -15 107; GY 5 -59 262; HK 22 114 19; HM -53 73 11; HN 15 -86 189; HR 45 16 134; HT
19 -72 94; HU 47 20 172; ID -2 118 2200; IE 53 -8 150; IL 32 35 81; IM 54 -4 13; IN 20 77 1023; IO -6 72 10; IQ 33
44 374; IR 32 53 724; IS 65 -18 181; IT 43 12 550; JE 49 -2 10; JM 18 -77 59; JO 31 36 169; JP 36 138 900; KE 1 38
430; KG 41 75 252; KH 13 105 240; KI 1 173 16; KM -12 44 24; KN 17 -63 10; KP 40 127 196; KR 37 128 179; KW 30 46
75; KY 20 -80 10; KZ 48 68 931; LA 18 105 275; LB 34 36 58; LC 14 -61 14; LI 47 10 10; LK 7 81 145; LR 6 -10 188; LS
-30 28 98; LT 56 24 144; LU 50 6 29; LV 57 25 143; LY 25 17 748; MA 32 -5 377; MC 44 7 10; MD 47 29 104; ME 43 19
66; MF 18 -63 10; MG -20 47 432; MH 9 168 10; MK 42 22 90; ML 17 -4 628; MM 20 96 464; MN 46 105 706; MO 22 114 10;
MP 15 146 12; MQ 15 -61 13; MR 20 -12 573; MS 17 -62 10; MT 36 15 10; MU -20 58 25; MV 3 73 10; MW -14 34 194; MX 23
-102 791; MY 4 109 900; MZ -18 35 505; NA -22 17 513; NC -22 166 77; NE 16 8 635; NF -29 168 10; NG 10 8 542; NI 13
-85 204; NL 52 6 115; NO 65 14 850; NP 28 84 216; NR -1 167 10; NU -19 -170 10; NZ -41 174 700; OM 21 57 314; PA 9
-80 155; PE -10 -76 640; PF -15 -140 36; PG -6 147 384; PH 12 122 800; PK 30 70 530; PL 52 20 315; PM 47 -56 10; PN
-25 -130 10; PR 18 -66 53; PS 32 35 42; PT 39 -8 300; PW 8 134 12; PY -23 -58 360; QA 26 51 61; RE -21 56 13; RO 46
25 275; RS 44 21 125; RU 60 100 2335; RW -2 30 92; SA 25 45 827; SB -8 159 96; SC -5 56 12; SD 15 30 775; SE 62 15
700; SG 1 104 15; SH -16 -6 13; SI 46 15 80; SJ 78 20 13; SK 49 20 125; SL 8 -12 151; SM 44 12 10; SN 14 -14 250; SO
10 49 451; SR 4 -56 228; SS 7 30 444; ST 1 7 18; SV 14 -89 82; SX 18 -63 10; SY 35 38 243; SZ -26 32 74; TC 22 -72
17; TD 15 19 639; TF -49 69 50; TG 8 1 134; TH 15 100 404; TJ 39 71 213; TK -9 -172 10; TL -9 126 69; TM 40 60 394;
TN 34 9 228; TO -20 -175 15; TR 39 35 499; TT 11 -61 40; TV -8 178 10; TW 24 121 107; TZ -6 35 548; UA 49 32 438; UG
1 32 277; UM 19 167 10; US 39 -97 2300; UY -33 -56 240; UZ 41 64 377; VA 42 12 10; VC 13 -61 11; VE 8 -66 540; VG 18
-65 10; VI 18 -65 11; VN 16 106 800; VU -16 167 62; WF -13 -176 10; WS -14 -172 30; XK 43 21 59; YE 15 48 410; YT
-13 45 13; ZA -29 24 623; ZM -15 30 489; ZW -20 30 353
"""


def _parse(entry: str) -> tuple[str, tuple[float, float, float]]:
    code, latitude, longitude, radius = entry.split()
    return code, (float(latitude), float(longitude), float(radius))


COUNTRIES = dict(_parse(entry) for entry in _TABLE.split(";"))
"""ISO 3166-1 alpha-2 to latitude and longitude of the centre, in degrees, and radius in km."""


def kilometres(one: Place, other: Place) -> float:
    """Return the distance between two places along the earth's surface."""
    latitude, longitude = map(radians, one)
    other_latitude, other_longitude = map(radians, other)
    across = sin((other_latitude - latitude) / 2) ** 2
    along = cos(latitude) * cos(other_latitude) * sin((other_longitude - longitude) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(across + along)))


@lru_cache(4096)
def kilometres_between(country: str, other: str) -> float:
    """Return how far two countries are apart at least; 0 for neighbours and for codes that nobody knows."""
    found, other_found = COUNTRIES.get(country), COUNTRIES.get(other)
    if country == other or found is None or other_found is None:
        return 0.0
    between = kilometres(found[:2], other_found[:2])
    return max(0.0, between - found[2] - other_found[2])
