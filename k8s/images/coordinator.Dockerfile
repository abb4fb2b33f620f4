# syntax=docker/dockerfile:1
# From the root of the repository: docker build -f k8s/images/coordinator.Dockerfile -t accord-coordinator:0.1.0 .
# The same version as rust-toolchain.toml, so that no other is fetched.
FROM rust:1.95.0-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ python3 python3-pip && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# before the sources, so that a change of those does not fetch protoc anew
COPY .ci/setup .ci/
RUN .ci/setup
COPY . .
RUN cargo build --release --locked -p accord-coordinator && k8s/images/rootfs target/release/coordinator /rootfs

# no shell, no package manager: the coordinator and what it loads
FROM scratch
COPY --from=build /rootfs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/coordinator"]
