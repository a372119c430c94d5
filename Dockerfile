# Two stages: the first builds the wheel and a virtual environment with it, the second has only Python and that.
# The base's own Python is used, so that the image gets its security updates from one place: Debian.
# Everything from Python's package index is pinned with its hashes; deploy/lock writes these files.
ARG BASE=debian:trixie-slim

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY deploy/requirements.txt deploy/requirements-build.txt ./deploy/
# --without-pip keeps pip out of what is shipped; the .pyc files are made here, for the user that runs it can't.
RUN python3 -m venv /opt/build \
 && /opt/build/bin/pip install --quiet --require-hashes --requirement=deploy/requirements-build.txt \
 && python3 -m venv --without-pip /opt/intarget-exporter \
 && /opt/build/bin/pip --python=/opt/intarget-exporter/bin/python install --quiet --compile \
    --require-hashes --requirement=deploy/requirements.txt
COPY . .
ARG REVISION=unknown
RUN echo "${REVISION}" >exporter/REVISION \
 && /opt/build/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir=/dist . \
 && /opt/build/bin/pip --python=/opt/intarget-exporter/bin/python install --quiet --compile --no-deps /dist/*.whl

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="intarget-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the campaign statistics of InTarget" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# Group 0 may write the state too: OpenShift runs every container as some user in that group.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && install --directory --owner=10095 --group=0 --mode=0770 /var/lib/intarget-exporter
COPY --from=build /opt/intarget-exporter /opt/intarget-exporter
ENV PATH=/opt/intarget-exporter/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONSAFEPATH=1
USER 10095:10095
# The state file's default path is relative to here.
WORKDIR /var/lib/intarget-exporter
VOLUME /var/lib/intarget-exporter
EXPOSE 10095
# Any HTTP answer will do, also the 401 of basic auth. With TLS or another port, give a --health-cmd of your own.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["python3", "-c", \
  "import http.client; c = http.client.HTTPConnection('127.0.0.1', 10095, timeout=4); c.request('GET', '/-/healthy'); c.getresponse()"]
ENTRYPOINT ["intarget-exporter"]
