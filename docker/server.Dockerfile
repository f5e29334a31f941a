# syntax=docker/dockerfile:1
# The server, for a machine with an NVIDIA driver of at least 580, or for one without a GPU.
#   docker build -f docker/server.Dockerfile -t openpi-flash-server .
#   docker build -f docker/server.Dockerfile -t openpi-flash-server:cpu --build-arg BASE=ubuntu:24.04 --build-arg EXTRAS=otel .
# docs/docker.md says how to run it.

# the smallest one: JAX's wheels hold CUDA's libraries
ARG BASE=nvidia/cuda:13.0.2-base-ubuntu24.04

FROM rust:1.88-slim-bookworm AS rust

FROM ${BASE} AS base
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/*

FROM base AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
# the toolchain alone: what it builds must run with the base's C library
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo \
    RUSTUP_HOME=/usr/local/rustup \
    PATH=/opt/uv/bin:/usr/local/cargo/bin:$PATH \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PROJECT_ENVIRONMENT=/opt/openpi-flash \
    UV_PYTHON=/usr/bin/python3 \
    UV_PYTHON_DOWNLOADS=never
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install --no-cache-dir uv==0.13.9
WORKDIR /source
COPY pyproject.toml uv.lock ./
COPY src/flash_transport/pyproject.toml src/flash_transport/
COPY src/openpi_flash_models/pyproject.toml src/openpi_flash_models/
COPY src/openpi_flash_robot/pyproject.toml src/openpi_flash_robot/
COPY src/openpi_flash_server/pyproject.toml src/openpi_flash_server/
COPY src/openpi_flash_training/pyproject.toml src/openpi_flash_training/
# extras of openpi_flash_server, separated by spaces
ARG EXTRAS="cuda otel"
# what others publish, in a layer of its own: it changes with uv.lock only
RUN --mount=type=cache,target=/root/.cache/uv \
    set -- && for extra in $EXTRAS; do set -- "$@" --extra "$extra"; done \
    && uv sync --frozen --no-default-groups --package openpi_flash_server --no-install-workspace "$@"
COPY Cargo.toml Cargo.lock LICENSE ./
COPY src/flash_transport src/flash_transport
COPY src/openpi_flash_models src/openpi_flash_models
COPY src/openpi_flash_server src/openpi_flash_server
RUN --mount=type=cache,target=/root/.cache/uv \
    set -- && for extra in $EXTRAS; do set -- "$@" --extra "$extra"; done \
    && uv sync --frozen --no-default-groups --package openpi_flash_server --no-editable "$@"

FROM base AS server
LABEL org.opencontainers.image.title="openpi-flash server" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 openpi-flash \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin openpi-flash \
    && install -d -o 10001 -g 10001 /data /state
COPY --from=build /opt/openpi-flash /opt/openpi-flash
COPY docker/healthcheck.py /usr/local/lib/openpi-flash/healthcheck.py
# /data can be made again (checkpoints, compiled programs); /state is the certificate that robots have pinned
ENV PATH=/opt/openpi-flash/bin:$PATH \
    HOME=/data \
    HF_HOME=/data/huggingface \
    INFERENCE_CONFIG_PATH=/etc/openpi-flash/config.json \
    OPENPI_DATA_HOME=/data/models \
    OPENPI_FLASH_COMPILE_CACHE=/data/compiled/jax \
    OPENPI_STATE_DIR=/state \
    PYTHONUNBUFFERED=1 \
    TORCHINDUCTOR_CACHE_DIR=/data/compiled/torch
VOLUME ["/data", "/state"]
USER 10001:10001
WORKDIR /data
# action and planner: WebSocket and QUIC; the operator's port
EXPOSE 8000/tcp 5555/udp 8002/tcp 5556/udp 8001/tcp
# the start takes as long as downloads and compilation; docker stop must leave 8 s for accepted requests
HEALTHCHECK --interval=10s --timeout=5s --start-period=30m --retries=3 \
    CMD ["python3", "/usr/local/lib/openpi-flash/healthcheck.py"]
ENTRYPOINT ["tini", "--", "openpi-flash"]
CMD ["serve"]
