# Two stages: what compiles stays behind. The gateway runs as a user without rights, on a file system it need not write to.
FROM python:3.12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc make libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /opt/refrain && /opt/refrain/bin/pip install --no-cache-dir --require-hashes -r requirements/run.txt
COPY . .
RUN /opt/refrain/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
COPY --from=build /opt/refrain /opt/refrain
ENV PATH=/opt/refrain/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8484
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8484/readyz', timeout=2)"]
# Exec form: SIGTERM reaches the server itself, which then drains.
ENTRYPOINT ["refrain"]
CMD ["serve", "--host", "0.0.0.0"]
