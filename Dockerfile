# Tech Assistant as one image: the application and its serving layer, no model. See docs/docker.md.
#
# The first stage builds the environment from uv.lock, with the uv that scripts/uv.txt pins; the second keeps the
# result and none of the tools. Both begin with the same image, so that the environment fits its Python.

FROM python:3.13-slim-bookworm AS build

WORKDIR /app
# In the order in which they change: what depends on the lock alone is built again only with the lock.
COPY scripts/uv.txt scripts/uv.txt
RUN python -m venv /uv \
    && /uv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes \
        --requirement scripts/uv.txt
COPY pyproject.toml uv.lock ./
# Compiled here, since nothing can be written where it runs; valid by content, as layers may change times.
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH
RUN UV_PYTHON_DOWNLOADS=never /uv/bin/uv sync --locked --no-dev --no-cache --compile-bytecode \
        --python /usr/local/bin/python3
COPY . .
RUN python -m compileall -q --invalidation-mode unchecked-hash app.py assistant prompts serving storage


FROM python:3.13-slim-bookworm

# The embedded engine computes with OpenMP. No version is pinned: Debian keeps none but the newest of a release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    # Spaces run every image as user 1000; /data must be theirs before it becomes a volume.
    && useradd --uid 1000 --create-home app \
    && install -d -o app -g app -m 0700 /data

COPY --from=build /app /app

# Options on the command line go before these. Nothing is written but under /data and /tmp.
ENV TECH_ASSISTANT_HOST=0.0.0.0 \
    TECH_ASSISTANT_PORT=7860 \
    TECH_ASSISTANT_DATA=/data \
    TECH_ASSISTANT_OPEN_BROWSER=false \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 1000
# Where models are looked for, and a file .env with settings: both are mounted.
WORKDIR /models
VOLUME /data
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['TECH_ASSISTANT_PORT']), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

# No shell in between, so that a signal reaches the application; it ends within seconds, its replies stored.
ENTRYPOINT ["/app/.venv/bin/python", "/app/app.py"]
