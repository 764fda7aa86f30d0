"""A plain licence server as most teams would write it: `python -m bench.baselines.crud_server PORT CONNINFO`.

FastAPI, SQLAlchemy's ORM with asyncpg, one uvicorn process with uvloop and httptools. The API key is looked up and one
usage row is inserted for each validation; an activation locks the licence, counts its devices and inserts one.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from pydantic import BaseModel
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from bench.baselines.crud_tables import ApiKey, Device, License, Usage, address, key_hash

CONNECTIONS = 20

engine = create_async_engine(address(sys.argv[2], "asyncpg"), pool_size=CONNECTIONS, max_overflow=0)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI()


class ValidateRequest(BaseModel):
    license_key: str
    hardware_id: str
    app_version: str | None = None


class Limits(BaseModel):
    max_devices: int
    current_devices: int


class ValidAnswer(BaseModel):
    valid: bool
    license_id: int
    expires_at: datetime | None
    features: list[str]
    limits: Limits
    product: str | None
    edition: str | None
    validated_at: datetime


class ActivateRequest(BaseModel):
    license_key: str
    hardware_id: str
    device_name: str | None = None
    app_version: str | None = None


class ActivationAnswer(BaseModel):
    license_id: int
    hardware_id: str
    activated_at: datetime
    features: list[str]
    limits: Limits


async def session() -> AsyncIterator[AsyncSession]:
    async with sessions() as opened:
        yield opened


Database = Annotated[AsyncSession, Depends(session)]


async def caller(database: Database, x_api_key: Annotated[str, Header()]) -> ApiKey:
    found = await database.scalar(select(ApiKey).where(ApiKey.key_hash == key_hash(x_api_key)))
    if found is None or not found.is_active:
        raise HTTPException(401, "invalid API key")
    return found


Caller = Annotated[ApiKey, Depends(caller)]


def check(license: License | None) -> License:
    if license is None:
        raise HTTPException(404, "licence not found")
    if not license.is_active or (license.expires_at is not None and license.expires_at < datetime.now(UTC)):
        raise HTTPException(403, "licence inactive or expired")
    return license


async def seats_in_use(database: AsyncSession, license: License) -> int:
    count = select(func.count()).select_from(Device).where(Device.license_id == license.id, Device.is_active)
    return await database.scalar(count) or 0


@app.get("/health/live")
async def alive() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/api/v1/license/validate")
async def validate(body: ValidateRequest, request: Request, database: Database, api_key: Caller) -> ValidAnswer:
    license = check(await database.scalar(select(License).where(License.license_key == body.license_key)))
    device = await database.scalar(
        select(Device).where(Device.license_id == license.id, Device.hardware_id == body.hardware_id)
    )
    if device is None or not device.is_active:
        raise HTTPException(403, "device not activated")
    in_use = await seats_in_use(database, license)
    came_from = request.client.host if request.client else ""
    database.add(Usage(license_id=license.id, api_key_id=api_key.id, hardware_id=body.hardware_id, address=came_from))
    await database.commit()
    return ValidAnswer(
        valid=True,
        license_id=license.id,
        expires_at=license.expires_at,
        features=license.features,
        limits=Limits(max_devices=license.max_devices, current_devices=in_use),
        product=license.product,
        edition=license.edition,
        validated_at=datetime.now(UTC),
    )


@app.post("/api/v1/license/activate", status_code=201)
async def activate(body: ActivateRequest, database: Database, _: Caller) -> ActivationAnswer:
    license = check(
        await database.scalar(select(License).where(License.license_key == body.license_key).with_for_update())
    )
    known = await database.scalar(
        select(Device).where(Device.license_id == license.id, Device.hardware_id == body.hardware_id)
    )
    if known is not None:
        raise HTTPException(409, "already activated")
    in_use = await seats_in_use(database, license)
    if in_use >= license.max_devices:
        raise HTTPException(409, "no seat is free")
    device = Device(license_id=license.id, hardware_id=body.hardware_id, is_active=True, activated_at=datetime.now(UTC))
    database.add(device)
    await database.commit()
    return ActivationAnswer(
        license_id=license.id,
        hardware_id=device.hardware_id,
        activated_at=device.activated_at,
        features=license.features,
        limits=Limits(max_devices=license.max_devices, current_devices=in_use + 1),
    )


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
