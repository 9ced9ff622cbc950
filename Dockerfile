# One image with the application and its serving layer, without a model. See docs/docker.md.
#
# The first stage builds the environment from uv.lock, with the uv that scripts/uv.txt pins. The second stage copies
# the result without the tools. Both start from the same image, so that the environment fits its Python.

FROM python:3.13-slim-bookworm AS build

WORKDIR /app
# What changes most comes last, so that the dependencies are installed again only when the lock changes.
COPY scripts/uv.txt scripts/uv.txt
RUN python -m venv /uv \
    && /uv/bin/pip install --no-cache-dir --disable-pip-version-check --only-binary :all: --require-hashes \
        --requirement scripts/uv.txt
COPY pyproject.toml uv.lock ./
# Compile here, because a running container may be read-only. Check by hash, because layers may change file times.
ENV PYC_INVALIDATION_MODE=UNCHECKED_HASH
RUN UV_PYTHON_DOWNLOADS=never /uv/bin/uv sync --locked --no-dev --no-cache --compile-bytecode \
        --python /usr/local/bin/python3
COPY . .
RUN python -m compileall -q --invalidation-mode unchecked-hash app.py assistant prompts serving storage


FROM python:3.13-slim-bookworm

# The embedded engine needs OpenMP. No version is pinned, because Debian keeps only the newest of each release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    # Hugging Face Spaces run every image as user 1000, which must own /data before it becomes a volume.
    && useradd --uid 1000 --create-home app \
    && install -d -o app -g app -m 0700 /data

COPY --from=build /app /app

# Command-line options override these. The container writes only to /data and /tmp.
ENV TECH_ASSISTANT_HOST=0.0.0.0 \
    TECH_ASSISTANT_PORT=7860 \
    TECH_ASSISTANT_DATA=/data \
    TECH_ASSISTANT_OPEN_BROWSER=false \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

USER 1000
# Mount model files here, and if you like a file .env with settings.
WORKDIR /models
VOLUME /data
EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --start-interval=1s \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['TECH_ASSISTANT_PORT']), timeout=4); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

# No shell, so that signals reach the application. It ends within seconds and stores its replies.
ENTRYPOINT ["/app/.venv/bin/python", "/app/app.py"]
