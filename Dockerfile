# smppd's image: the locked packages and smppd in one virtual environment, run as uid 10001 on a read-only root.
#
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges \
#     -v ./smppd.yaml:/etc/smppd/smppd.yaml:ro -v smppd:/var/lib/smppd -p 3550:3550 smppd
#
# `make docker-steps` tries these steps without Docker; a test holds the two together.
# Name the base by its digest for builds that must repeat: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim-bookworm
# The same Python with a C compiler, which compiles the modules on a message's path and stays behind.
ARG BUILD_IMAGE=python:3.13-bookworm

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY requirements/runtime.txt requirements/build.txt requirements/dev.txt requirements/
RUN python -m venv /opt/smppd
RUN /opt/smppd/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/runtime.txt
RUN python -m venv /opt/build
RUN /opt/build/bin/python -m pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements/runtime.txt -r requirements/build.txt -r requirements/dev.txt
COPY pyproject.toml setup.cfg setup.py LICENSE ./
COPY smppd smppd
COPY tools/compile.py tools/
RUN /opt/build/bin/python -m tools.compile
RUN /opt/build/bin/python -m pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels .
RUN /opt/smppd/bin/python -m pip install --no-cache-dir --no-deps --no-index --find-links /wheels smppd
RUN /opt/smppd/bin/python -m pip uninstall --yes pip
RUN /opt/smppd/bin/python -m compileall -q /opt/smppd/lib
RUN /opt/smppd/bin/smppd --version | grep compiled

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="smppd" \
    org.opencontainers.image.description="SMPP daemon between customers and carriers" \
    org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 smppd \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/smppd --shell /usr/sbin/nologin smppd \
    && install -d -o smppd -g smppd -m 0700 /var/lib/smppd
COPY --from=build /opt/smppd /opt/smppd
ENV PATH=/opt/smppd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/smppd
# The store and the keys. Nothing else is written.
VOLUME /var/lib/smppd
# SMPP over TLS, and /metrics (give http.address 0.0.0.0:9180 to reach that from outside the container).
EXPOSE 3550 9180
# Drains: no new messages, answers what was accepted, then leaves. Give it time: docker stop --time 60.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9180/healthz', timeout=4)"]
ENTRYPOINT ["smppd"]
CMD ["run", "--config", "/etc/smppd/smppd.yaml"]
