# Images of the agent, which is built by default, and of the operator.
#
#   docker build --tag honeygraph-agent:local .
#   docker build --target operator --tag honeygraph-operator:local .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag REGISTRY/honeygraph-agent:VERSION --push .
#
# The compiler always runs on the builder's own platform, as a cross compiler where the target is another one, and the
# last stage runs nothing: no platform is emulated. Both base images are exact versions; to pin a digest as well:
#   --build-arg RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:... --build-arg RUNTIME_IMAGE=debian:12.15-slim@sha256:...
# The version of Rust is that of rust-toolchain.toml. Both images are one Debian release, so that glibc fits.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm
ARG RUNTIME_IMAGE=debian:12.15-slim

# --- Tools, once for all targets
FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS tools
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN cargo install --locked cargo-chef@0.1.78
WORKDIR /src

# --- What the workspace depends on, as a file that changes only when that does
FROM tools AS plan
COPY . .
RUN cargo chef prepare --recipe-path /recipe.json

# --- The compiler for one target
FROM tools AS compiler
# Set by the builder: amd64 or arm64.
ARG TARGETARCH
# Debian's names of the compilers; the native one has such a name too.
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_PROFILE_RELEASE_STRIP=debuginfo
RUN case "${TARGETARCH:-$(dpkg --print-architecture)}" in \
        amd64) machine=x86_64 ;; \
        arm64) machine=aarch64 ;; \
        *) echo "TARGETARCH=${TARGETARCH}: not allowed; allowed: amd64, arm64" >&2; exit 64 ;; \
    esac; \
    echo "${machine}-unknown-linux-gnu" >/target; \
    rustup target add "$(cat /target)"; \
    if [[ "$(uname --machine)" != "$machine" ]]; then \
        apt-get update; \
        apt-get install --yes --no-install-recommends \
            "gcc-${machine//_/-}-linux-gnu" "libc6-dev-${TARGETARCH}-cross"; \
        rm --recursive --force /var/lib/apt/lists/*; \
    fi

# --- The agent
FROM compiler AS build-agent
# The layer of dependencies: built again only when Cargo.lock or a manifest changes.
COPY --from=plan /recipe.json /recipe.json
RUN cargo chef cook --locked --release --package honeygraph-agent --target "$(cat /target)" \
        --recipe-path /recipe.json
COPY . .
RUN cargo build --locked --release --package honeygraph-agent --target "$(cat /target)"; \
    install -D --mode=0755 "target/$(cat /target)/release/honeygraph-agent" /image/honeygraph-agent; \
    mkdir /image/data

# --- The operator
FROM compiler AS build-operator
COPY --from=plan /recipe.json /recipe.json
RUN cargo chef cook --locked --release --package honeygraph-operator --target "$(cat /target)" \
        --recipe-path /recipe.json
COPY . .
RUN cargo build --locked --release --package honeygraph-operator --target "$(cat /target)"; \
    install -D --mode=0755 "target/$(cat /target)/release/honeygraph-operator" /image/honeygraph-operator

# --- The image of the operator
FROM ${RUNTIME_IMAGE} AS operator
LABEL org.opencontainers.image.title="honeygraph-operator" \
      org.opencontainers.image.description="Runs replicas of honeycomb networks in Kubernetes" \
      org.opencontainers.image.source="https://github.com/honeygraph/honeygraph" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build-operator /image/honeygraph-operator /usr/local/bin/honeygraph-operator
USER 65532:65532
# Probes and metrics.
EXPOSE 8080
ENTRYPOINT ["honeygraph-operator"]
CMD ["run"]

# --- The image of the agent
FROM ${RUNTIME_IMAGE} AS agent
LABEL org.opencontainers.image.title="honeygraph-agent" \
      org.opencontainers.image.description="A verified, self-healing replica of one honeycomb network" \
      org.opencontainers.image.source="https://github.com/honeygraph/honeygraph" \
      org.opencontainers.image.licenses="Apache-2.0"
# For HTTPS to peers, honeycombs and gateways.
COPY --from=build-agent /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build-agent /image/honeygraph-agent /usr/local/bin/honeygraph-agent
# A new volume takes over this owner. Nothing else is written: the root may be read-only.
COPY --from=build-agent --chown=65532:65532 /image/data /data
VOLUME ["/data"]
ENV DATA_DIR=/data
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
# Public API, admin API, honeycombs, probes and metrics.
EXPOSE 3030 3031 4000 9100
# A new node looks for a checkpoint to start from before it is ready.
HEALTHCHECK --interval=15s --timeout=5s --start-period=2m --retries=3 CMD ["honeygraph-agent", "health"]
ENTRYPOINT ["honeygraph-agent"]
CMD ["run"]
