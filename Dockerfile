# The server without the Copilot CLI, whose licence does not let us ship it: mount .tools, or build with COPILOT=yes.
# Agents run in bubblewrap inside: docs/deploy/compose.yml has the options that it needs, docs/operations.md says why.
FROM debian:12-slim

ARG COPILOT=no
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git nodejs npm python3.11 python3.11-venv tini util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 interlock \
    && install --directory --owner=interlock --mode=0700 /data

WORKDIR /app
COPY --chown=interlock . .
RUN chown interlock /app
USER 10001
RUN if [ "$COPILOT" = yes ]; then python3.11 dev.py setup; else python3.11 dev.py setup --without-copilot; fi

# settings.yml is read from the working directory: it is kept with the data.
WORKDIR /data
ENV INTERLOCK_DATA_DIR=/data INTERLOCK_HOST=0.0.0.0
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["/app/.venv/bin/python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["tini", "--", "/app/.venv/bin/interlock"]
CMD ["serve"]
