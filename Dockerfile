# syntax=docker/dockerfile:1
# The service (`kitaru serve`) and every command, in one image. From the folder of this file:
#
#   docker build --tag kitaru .
#   docker build --tag kitaru --build-arg EXTRAS=server,store,mcp,vertex .
#
# EXTRAS are the extras of pyproject.toml to install. A service that starts pipelines needs the extra
# of their target. PYTHON is the base image of both stages: name it with a digest to pin it.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
ARG EXTRAS=server,store,mcp
WORKDIR /source
COPY . .
# pip stays in this stage. It compiles the bytecode, which a read-only file system could not store.
RUN python -m venv --without-pip /opt/kitaru \
    && python -m pip --python /opt/kitaru/bin/python install --no-cache-dir \
        --disable-pip-version-check --constraint constraints.txt ".[${EXTRAS}]"

FROM ${PYTHON}
LABEL org.opencontainers.image.title="Kitaru" \
      org.opencontainers.image.description="Durable agent flows: the service and the commands" \
      org.opencontainers.image.licenses="Apache-2.0"
# A volume at /data takes over its owner. It is needed for a store in a file only.
RUN groupadd --gid 10001 kitaru \
    && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin kitaru \
    && install --directory --owner=kitaru --group=kitaru /data
COPY --from=build /opt/kitaru /opt/kitaru
# Only /tmp and /data are written. /tmp may be a volume, and /data is one if the store is in a file.
ENV PATH=/opt/kitaru/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# By number: Kubernetes can verify only a number not to be root.
USER 10001:10001
WORKDIR /data
EXPOSE 8088
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8088/healthz', timeout=4)"]
ENTRYPOINT ["kitaru"]
CMD ["serve", "--host", "0.0.0.0"]
