# One image for every process of Clarion: what a container is, its command line says.
FROM python:3.11-slim-bookworm

ENV CLARION_HOME=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin clarion
WORKDIR /app

# What changes rarely first. The lock constrains: of all that it names, only what the server needs is installed.
COPY pyproject.toml README.md requirements.lock ./
COPY clarion ./clarion
RUN pip install --constraint requirements.lock --editable ".[server]"

COPY workflows ./workflows
COPY activities ./activities
COPY workers ./workers
COPY starters ./starters

USER clarion
EXPOSE 9464
CMD ["clarion", "--help"]
