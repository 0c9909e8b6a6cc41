# Two stages: what compiles stays behind. The gateway runs as a user without rights, and needs nothing of the root
# file system to be writable: run it with --read-only. With REDIS_URL set nothing at all is written; without it the
# embedded Redis (from its wheel) has its socket in /tmp: add --tmpfs /tmp.
# No engine at hand? scripts/image-rehearsal does what stands here in a chroot, and tries the result.
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
# Asks http://127.0.0.1:8484/readyz, or on PORT if that is set; not with urllib, which would go through a proxy.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", "import http.client as h, os, sys; \
c = h.HTTPConnection('127.0.0.1', int(os.environ.get('PORT') or 8484), timeout=2); \
c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
# Exec form: SIGTERM reaches the server itself, which then drains.
ENTRYPOINT ["refrain"]
CMD ["serve", "--host", "0.0.0.0"]
