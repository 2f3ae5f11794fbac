# Images from Debian bookworm packages:
#   strata (default)  the program and the libraries it loads; no shell, no package manager, not root
#   quickstart        that, with the quickstart's job and base model
#   setup             makes the keys and lays out the records for docker-compose.yml
#
#   docker build -t strata .
FROM debian:bookworm-slim AS build
RUN apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
      g++ cmake ninja-build ccache mold pkg-config libdnnl-dev libeigen3-dev nlohmann-json3-dev libcli11-dev libfmt-dev \
      libssl-dev libboost-dev libpcre2-dev libutf8proc-dev zlib1g-dev libpng-dev libturbojpeg0-dev \
      libexpected-dev librandom123-dev fortunes-min fortunes \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The compiler's cache outlives the layer, so that a changed file costs only itself.
RUN --mount=type=cache,target=/root/.cache/ccache \
    cmake --preset release -DSTRATA_BUILD_TESTS=OFF && ninja -C build/release strata
RUN configs/compose/collect build/release/strata /image && configs/quickstart/prepare /records

FROM build AS setup
RUN ln -s /source/build/release/strata /usr/bin/strata \
    && mkdir /volumes && cd /volumes && mkdir coordinator unix irc glossary verse stage surreal && chown 65532:65532 *
COPY configs/compose/setup /usr/bin/
USER 65532:65532
ENTRYPOINT ["/usr/bin/setup"]

FROM scratch AS strata
COPY --from=build /image /
USER 65532:65532
WORKDIR /site
ENTRYPOINT ["/usr/bin/strata"]

FROM strata AS quickstart
COPY configs/quickstart.json configs/compose/client.json /job/
COPY configs/quickstart/base /job/quickstart/base

FROM strata
